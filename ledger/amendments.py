"""Amendments: other terms of a running contract from a moment on; what is billed stays as it is."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from ledger import schema
from ledger.checks import check_aware, check_text
from ledger.contract_checks import (
    commit_moments,
    commit_term_problems,
    grant_moments,
    grant_problems,
    grid_problems,
    kind_problems,
    metric_problems,
    overlap_problems,
    priced_spans,
    spans_of_customer,
    taken_problems,
)
from ledger.contracts import (
    Contract,
    agreed_terms,
    get_contract,
    insert_lots,
    insert_terms,
    last_billed_fee,
    lock_both,
    priced,
    refuse,
)
from ledger.definitions import ContractDefinition
from ledger.errors import StateError
from ledger.files.contracts import parse_contract
from ledger.intake.attribution import mark_contract
from ledger.periods import frozen_until
from ledger.rate_cards import with_prices
from ledger.terms_codec import digest_of, policy_to_json
from pricing.grants import Grant
from pricing.prices import FixedFee
from pricing.segments import terms_in_force
from pricing.terms import Commit, Terms


def read_amendment(connection: sa.Connection, contract_id: str, text: str) -> ContractDefinition:
    """Return what the changed file of a running contract defines; the start stays the contract's, whatever it says.

    Raises `FileError` and `NotFoundError`.
    """
    return parse_contract(text, start=get_contract(connection, contract_id).start_at.isoformat())


def amend_contract(
    connection: sa.Connection,
    contract_id: str,
    definition: ContractDefinition,
    *,
    effective_from: datetime,
    reason: str,
    by: str,
) -> int:
    """Record the definition's products and commits as the terms from a moment on, and return their version.

    They replace whatever was agreed for that moment and later; credits that are added are agreed from then on. Terms
    that are in force at that moment already are not recorded again. Raises `InvalidError` with everything that cannot
    be, `StateError` for what is billed already.
    """
    check_aware("effective_from", effective_from)
    check_text("reason", reason)
    check_text("by", by)
    contract, bucket_minutes = lock_both(connection, contract_id)
    versions = agreed_terms(connection, contract_id)
    terms = replace(definition.terms, version=versions[-1].version + 1, effective_from=effective_from)
    in_place = priced(connection, f"contract {contract_id} cannot be amended", [terms])
    in_force = terms_in_force(versions, effective_from)
    same = in_force is not None and in_force.effective_from == effective_from
    added, grants = _added(versions, terms), _added_grants(contract, definition)
    if in_force is not None and same and digest_of(in_force) == digest_of(terms) and not grants:
        return in_force.version
    refuse(
        f"contract {contract_id} cannot be amended",
        (
            *_amendment_problems(contract, definition, versions, terms),
            *metric_problems(connection, in_place),
            *grant_problems(definition.policy.credits, in_place),
            *taken_problems(connection, contract_id, grants),
            *grid_problems(
                {"effective_from": effective_from, **commit_moments(added), **grant_moments(grants)}, bucket_minutes
            ),
            *overlap_problems(
                priced_spans(with_prices(connection, (*versions, terms)), contract.start_at, contract.end_at),
                spans_of_customer(connection, contract.customer_id, but=contract_id),
            ),
        ),
    )
    _refuse_billed(connection, contract, versions, terms)
    insert_terms(connection, terms, reason=reason, by=by)
    insert_lots(connection, contract_id, added)
    _agree_on(connection, contract, grants)
    mark_contract(connection, contract_id)
    return terms.version


def _amendment_problems(
    contract: Contract, definition: ContractDefinition, versions: Sequence[Terms], terms: Terms
) -> Iterator[str]:
    given = {
        "contract": (definition.contract_id, contract.contract_id),
        "customer": (definition.customer_id, contract.customer_id),
        "entity": (definition.entity_id, contract.entity_id),
        "currency": (definition.currency.code, contract.currency),
        "time_zone": (definition.time_zone, contract.time_zone),
        "cadence": (definition.cadence, contract.cadence),
        "anchor": (definition.anchor, contract.anchor),
        "invoicing": (definition.policy.invoicing, contract.policy.invoicing),
        "collection": (definition.policy.collection, contract.policy.collection),
        "recharge": (definition.policy.recharge, contract.policy.recharge),
        "credit_approval_above": (definition.policy.credit_approval_above, contract.policy.credit_approval_above),
    }
    for name, (new, old) in given.items():
        if new != old:
            yield f"{name} is {new} instead of {old}; an amendment changes products and adds commits and credits only"
    if terms.burn_order != versions[0].burn_order:
        yield (
            f"burn_order is {terms.burn_order} instead of {versions[0].burn_order}; in which order lots burn is agreed "
            "for the whole term, end the contract and begin another"
        )
    if definition.end_at is not None and definition.end_at != contract.end_at:
        yield f"end is {definition.end_at.isoformat()}; an amendment does not end a contract, end it by itself"
    if terms.effective_from < contract.start_at:
        yield f"effective_from must not be before the contract's start {contract.start_at.isoformat()}"
    if contract.end_at is not None and terms.effective_from >= contract.end_at:
        yield f"effective_from must be before the contract's end {contract.end_at.isoformat()}"
    yield from kind_problems(versions, terms)
    yield from _commit_problems(versions, terms)
    yield from commit_term_problems(_added(versions, terms), contract.start_at, contract.end_at)
    yield from _grant_problems(contract, definition, terms)


def _commit_problems(versions: Sequence[Terms], terms: Terms) -> Iterator[str]:
    agreed = {commit.commit_id: commit for version in versions for commit in version.commits}
    given = {commit.commit_id: commit for commit in terms.commits}
    for commit_id, commit in agreed.items():
        if commit_id not in given:
            yield f"commit {commit_id} is missing; what is agreed and billed stays, put it back"
        elif given[commit_id] != commit:
            yield f"commit {commit_id} is changed; what is agreed and billed stays, add another commit instead"
    for commit in _added(versions, terms):
        if commit.start < terms.effective_from:
            yield (
                f"commit {commit.commit_id} would start at {commit.start.isoformat()}, before the amendment; "
                "give it a start of its own"
            )


def _grant_problems(contract: Contract, definition: ContractDefinition, terms: Terms) -> Iterator[str]:
    given = {grant.grant_id: grant for grant in definition.policy.credits}
    for agreed in contract.policy.credits:
        if agreed.grant_id not in given:
            yield f"credit {agreed.grant_id} is missing; what is agreed stays, put it back"
        elif given[agreed.grant_id] != agreed:
            yield f"credit {agreed.grant_id} is changed; what is agreed stays, add another credit instead"
    for grant in _added_grants(contract, definition):
        if grant.starts < terms.effective_from:
            yield (
                f"credit {grant.grant_id} would start at {grant.starts.isoformat()}, before the amendment; "
                "give it starts of its own"
            )


def _added_grants(contract: Contract, definition: ContractDefinition) -> tuple[Grant, ...]:
    known = {grant.grant_id for grant in contract.policy.credits}
    return tuple(grant for grant in definition.policy.credits if grant.grant_id not in known)


def _agree_on(connection: sa.Connection, contract: Contract, grants: Sequence[Grant]) -> None:
    """Record further recurring credits, which the next accrual grants."""
    if grants:
        policy = replace(contract.policy, credits=(*contract.policy.credits, *grants))
        own = schema.contract.c.contract_id == contract.contract_id
        connection.execute(schema.contract.update().where(own).values(policy=policy_to_json(policy)))


def _added(versions: Sequence[Terms], terms: Terms) -> tuple[Commit, ...]:
    known = {commit.commit_id for version in versions for commit in version.commits}
    return tuple(commit for commit in terms.commits if commit.commit_id not in known)


def _refuse_billed(connection: sa.Connection, contract: Contract, versions: Sequence[Terms], terms: Terms) -> None:
    """Refuse terms for a time whose usage, or whose fees, an invoice holds already."""
    frozen = frozen_until(connection, contract.contract_id)
    if frozen is not None and terms.effective_from < frozen:
        raise StateError(
            f"contract {contract.contract_id} is invoiced until {frozen.isoformat()}; amend it from then or later"
        )
    billed = last_billed_fee(connection, contract.contract_id)
    if billed is None or billed < terms.effective_from:
        return
    if _fees(terms_in_force(versions, billed)) != _fees(terms):
        raise StateError(
            f"contract {contract.contract_id} has billed the fees of the period from {billed.isoformat()}; "
            "a changed fee takes effect after that moment"
        )


def _fees(terms: Terms | None) -> dict[str, FixedFee]:
    return {p.product_id: p.price for p in (terms.prices if terms else ()) if isinstance(p.price, FixedFee)}
