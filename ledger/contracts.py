"""Contracts: who buys what from whom on which terms; started, amended and ended, never edited.

Whoever changes what a contract says locks the customer first and the contract second, and marks it for accrual.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.checks import check_aware, check_text
from ledger.contract_checks import (
    commit_moments,
    commit_term_problems,
    differences,
    grant_moments,
    grant_problems,
    grid_problems,
    metric_problems,
    overlap_problems,
    priced_spans,
    spans_of_customer,
    taken_problems,
)
from ledger.database import sha256_of
from ledger.definitions import ContractDefinition, Policy
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.intake.attribution import mark_contract, rebuild_customer
from ledger.periods import frozen_until, list_periods, record_periods
from ledger.rate_cards import with_prices
from ledger.terms_codec import (
    definition_content,
    digest_of,
    policy_from_json,
    policy_to_json,
    terms_from_json,
    terms_to_json,
)
from pricing.calendar import Anchor, Period, needs_quarter_hours, periods
from pricing.checks import check_versions
from pricing.commits import lots_of_commit
from pricing.errors import TermsError
from pricing.money import currency
from pricing.prices import Cadence
from pricing.terms import Commit, Lot, Terms

HOUR, QUARTER_HOUR = 60, 15
FIRST_REASON = "start of the contract"


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract of the term [start_at, end_at) in UTC; `problem` says why rating stopped, None while all is well.

    `time_zone`, `cadence` and `anchor` (None: the anniversary of the start) decide its periods; the days of the books
    are those of `entity_zone`. `accrued_at` is the moment that its balance is accrued to; None: not yet.
    """

    contract_id: str
    customer_id: str
    entity_id: str
    entity_zone: str
    currency: str
    time_zone: str
    start_at: datetime
    end_at: datetime | None
    cadence: Cadence
    anchor: Anchor | None
    policy: Policy
    problem: str | None
    accrued_at: datetime | None
    created_at: datetime

    def periods(self, until: datetime) -> tuple[Period, ...]:
        """Return all periods that have begun by `until` (inclusive), in order."""
        return periods(self.start_at, self.end_at, self.time_zone, until, cadence=self.cadence, anchor=self.anchor)


def create_contract(
    connection: sa.Connection, definition: ContractDefinition, *, by: str
) -> Literal["created", "exists"]:
    """Record a contract with its terms and lots, and have the customer's usage in its term counted.

    The same definition again is harmless, also after amendments; another one under the same id is a `ConflictError`
    that names what differs. Raises `InvalidError` with everything that keeps it from being started.
    """
    check_text("by", by)
    bucket_minutes = _lock_customer(connection, definition.customer_id)
    if _is_recorded(connection, definition):
        return "exists"
    terms = priced(connection, f"contract {definition.contract_id} cannot be started", [definition.terms])
    zones = _entity_zone(connection, definition.entity_id)
    width = bucket_minutes
    if zones and needs_quarter_hours([definition.time_zone, *zones], since=definition.start_at):
        width = QUARTER_HOUR
    refuse(
        f"contract {definition.contract_id} cannot be started",
        _start_problems(connection, definition, terms, bucket_minutes=width, entity_exists=bool(zones)),
    )
    if not _insert_contract(connection, definition):
        return _compared(connection, definition)  # it came into being meanwhile, for another customer
    insert_terms(connection, definition.terms, reason=FIRST_REASON, by=by)
    insert_lots(connection, definition.contract_id, definition.terms.commits)
    if width is not None and width != bucket_minutes:
        customer = schema.customer
        connection.execute(
            customer.update().where(customer.c.customer_id == definition.customer_id).values(bucket_minutes=width)
        )
        rebuild_customer(connection, definition.customer_id)
    mark_contract(connection, definition.contract_id)
    return "created"


def get_contract(connection: sa.Connection, contract_id: str) -> Contract:
    """Return a contract; raise `NotFoundError`."""
    return _one(connection, _CONTRACTS.where(_CONTRACT.c.contract_id == contract_id), contract_id)


def lock_customer_of(connection: sa.Connection, contract_id: str) -> Contract:
    """Lock a contract's customer, then the contract, and return it: intake for the customer waits.

    Raises `NotFoundError`.
    """
    return lock_both(connection, contract_id)[0]


def lock_contract(connection: sa.Connection, contract_id: str) -> Contract:
    """Return a contract and keep it for this transaction alone, without holding up intake; raise `NotFoundError`."""
    locked = _CONTRACTS.where(_CONTRACT.c.contract_id == contract_id).with_for_update(of=_CONTRACT, key_share=True)
    return _one(connection, locked, contract_id)


def list_contracts(
    connection: sa.Connection, *, customer_id: str | None = None, entity_id: str | None = None
) -> tuple[Contract, ...]:
    """Return contracts by id, of one customer or entity where that is given."""
    query = _CONTRACTS.order_by(_CONTRACT.c.contract_id)
    if customer_id is not None:
        query = query.where(_CONTRACT.c.customer_id == customer_id)
    if entity_id is not None:
        query = query.where(_CONTRACT.c.entity_id == entity_id)
    return tuple(_from_row(row) for row in connection.execute(query))


def terms_of(connection: sa.Connection, contract_id: str) -> tuple[Terms, ...]:
    """Return a contract's terms in order, with the prices of its rate cards and overrides in place.

    Raises `NotFoundError`, and `TermsError` for a card that does not exist.
    """
    return with_prices(connection, agreed_terms(connection, contract_id))


def agreed_terms(connection: sa.Connection, contract_id: str) -> tuple[Terms, ...]:
    """Return all versions of a contract's terms in order, as they were agreed; raise `NotFoundError`."""
    rows = connection.execute(
        sa.select(_TERMS.c.terms).where(_TERMS.c.contract_id == contract_id).order_by(_TERMS.c.version)
    ).scalars()
    versions = tuple(terms_from_json(encoded) for encoded in rows)
    if not versions:
        raise NotFoundError(_unknown(contract_id))
    return versions


def lots_of(connection: sa.Connection, contract_id: str) -> tuple[Lot, ...]:
    """Return the lots of a contract by id, each with the whole amount that it began with, and its window of now."""
    lot, change = schema.lot.c, schema.lot_change.c
    last = sa.select(change.end_at).where(change.lot_id == lot.lot_id).order_by(change.change_id.desc()).limit(1)
    ends_at = sa.func.coalesce(last.scalar_subquery(), lot.end_at).label("ends_at")
    rows = connection.execute(sa.select(schema.lot, ends_at).where(lot.contract_id == contract_id).order_by(lot.lot_id))
    return tuple(
        Lot(
            r.lot_id, r.name, r.amount, r.start_at, r.ends_at, tuple(r.products), r.priority, r.cost_basis,
            tuple(sorted(r.groups.items())), r.kind == "postpaid", r.instalments_of, r.paid,
        )
        for r in rows
    )  # fmt: skip


def voided_lots(connection: sa.Connection, contract_id: str) -> frozenset[str]:
    """Return the ids of a contract's lots that a person ended."""
    lot, change = schema.lot.c, schema.lot_change.c
    voids = sa.select(change.lot_id).join(schema.lot).where(lot.contract_id == contract_id, change.kind == "void")
    return frozenset(connection.execute(voids).scalars())


def recorded_definition(connection: sa.Connection, contract_id: str) -> ContractDefinition:
    """Return what a contract was started as, with its end of now; raise `NotFoundError`."""
    contract = get_contract(connection, contract_id)
    return ContractDefinition(
        contract_id=contract.contract_id,
        customer_id=contract.customer_id,
        entity_id=contract.entity_id,
        currency=currency(contract.currency),
        time_zone=contract.time_zone,
        start_at=contract.start_at,
        end_at=contract.end_at,
        policy=contract.policy,
        terms=agreed_terms(connection, contract_id)[0],
        cadence=contract.cadence,
        anchor=contract.anchor,
    )


def set_problem(connection: sa.Connection, contract_id: str, problem: str | None) -> None:
    """Record why a contract's rating stopped, or None when it goes on; raise `NotFoundError`."""
    changed = connection.execute(
        _CONTRACT.update().where(_CONTRACT.c.contract_id == contract_id).values(problem=problem)
    )
    if changed.rowcount == 0:
        raise NotFoundError(_unknown(contract_id))


def end_contract(connection: sa.Connection, contract_id: str, *, end_at: datetime, by: str, reason: str) -> Contract:
    """Set when a contract ends; the same again is harmless, and another end moves it.

    Raises `InvalidError` for a moment that cannot be an end, `StateError` when what follows it is billed already.
    """
    check_aware("end_at", end_at)
    check_text("reason", reason)
    check_text("by", by)
    contract, bucket_minutes = lock_both(connection, contract_id)
    if contract.end_at == end_at:
        return contract
    others = spans_of_customer(connection, contract.customer_id, but=contract_id)
    own = priced_spans(terms_of(connection, contract_id), contract.start_at, end_at)
    problems = [*grid_problems({"end_at": end_at}, bucket_minutes), *overlap_problems(own, others)]
    if end_at <= contract.start_at:
        problems.append(f"end_at {end_at.isoformat()} must come after the start {contract.start_at.isoformat()}")
    refuse(f"contract {contract_id} cannot end then", problems)
    frozen = frozen_until(connection, contract_id)
    if frozen is not None and frozen == contract.end_at:
        raise StateError(f"contract {contract_id} has ended at {frozen.isoformat()} and is invoiced; start a new one")
    if frozen is not None and end_at < frozen:
        raise StateError(f"contract {contract_id} is invoiced until {frozen.isoformat()}; end it then or later")
    if frozen is not None and end_at == frozen:
        _refuse_unbilled(connection, contract, frozen)
    billed = last_billed_fee(connection, contract_id)
    if billed is not None and end_at <= billed:
        raise StateError(
            f"contract {contract_id} has billed the fees of the period from {billed.isoformat()}; end it after that"
        )
    connection.execute(
        _CONTRACT.update()
        .where(_CONTRACT.c.contract_id == contract_id)
        .values(end_at=end_at, ended_by=by, end_reason=reason)
    )
    recorded = list_periods(connection, contract_id)
    if recorded:
        last = recorded[-1].period.start
        record_periods(connection, contract_id, replace(contract, end_at=end_at).periods(last))
    mark_contract(connection, contract_id)
    return get_contract(connection, contract_id)


def _refuse_unbilled(connection: sa.Connection, contract: Contract, frozen: datetime) -> None:
    """Refuse an end up to which all is invoiced where it makes more of commits due, which no invoice would hold."""
    voided = voided_lots(connection, contract.contract_id)
    lots = lots_of(connection, contract.contract_id)
    due = {
        lot.lot_id
        for lot in lots
        if lot.is_postpaid and lot.lot_id not in voided and lot.start < frozen < (lot.end or frozen)
    }
    if any(lot.instalments_of is not None for lot in lots):
        due |= {
            f"{contract.contract_id}.{commit.commit_id}"
            for terms in agreed_terms(connection, contract.contract_id)
            for commit in terms.commits
            for one in commit.invoices
            if one.on > frozen
        }
    if due:
        raise StateError(
            f"contract {contract.contract_id} is invoiced until {frozen.isoformat()} already, and commit "
            f"{', '.join(sorted(due))} would be due then; end it later, so that its last invoice holds that"
        )


# --- what is refused ----------------------------------------------------------------------------------------------


def refuse(what: str, problems: Iterator[str] | Sequence[str]) -> None:
    """Raise `InvalidError` with all problems, if there are any."""
    found = [*problems]
    if found:
        raise InvalidError(f"{what}: {'; '.join(found)}")


def priced(connection: sa.Connection, what: str, versions: Sequence[Terms]) -> tuple[Terms, ...]:
    """Return terms with their prices in place, checked; refuse cards and overrides that lead nowhere."""
    try:
        found = with_prices(connection, versions)
        check_versions(found)
    except TermsError as error:
        raise InvalidError(f"{what}: {error}") from error
    return found


def _start_problems(
    connection: sa.Connection,
    definition: ContractDefinition,
    terms: Sequence[Terms],
    *,
    bucket_minutes: int | None,
    entity_exists: bool,
) -> Iterator[str]:
    if bucket_minutes is None:
        yield f"customer {definition.customer_id} does not exist; create it first"
    if not entity_exists:
        yield f"entity {definition.entity_id} does not exist; create it first"
    yield from metric_problems(connection, terms)
    yield from commit_term_problems(definition.terms.commits, definition.start_at, definition.end_at)
    grants = definition.policy.credits
    yield from grant_problems(grants, terms)
    yield from taken_problems(connection, definition.contract_id, grants)
    moments = {"start": definition.start_at, "end": definition.end_at, **commit_moments(definition.terms.commits)}
    yield from grid_problems({**moments, **grant_moments(grants)}, bucket_minutes or QUARTER_HOUR)
    yield from overlap_problems(
        priced_spans(terms, definition.start_at, definition.end_at),
        spans_of_customer(connection, definition.customer_id, but=definition.contract_id),
    )


def last_billed_fee(connection: sa.Connection, contract_id: str) -> datetime | None:
    """Return the start of the last period whose fees stand on an invoice; they are billed in advance."""
    invoice, line = schema.invoice, schema.invoice_line
    start: datetime | None = connection.execute(
        sa.select(sa.func.max(line.c.service_start))
        .join(invoice, invoice.c.invoice_id == line.c.invoice_id)
        .where(invoice.c.contract_id == contract_id, line.c.kind == "fee")
    ).scalar_one()
    return start


# --- rows ---------------------------------------------------------------------------------------------------------

_CONTRACT = schema.contract
_TERMS = schema.contract_terms
_CONTRACTS = sa.select(
    _CONTRACT.c.contract_id,
    _CONTRACT.c.customer_id,
    _CONTRACT.c.entity_id,
    schema.entity.c.time_zone.label("entity_zone"),
    _CONTRACT.c.currency,
    _CONTRACT.c.time_zone,
    _CONTRACT.c.start_at,
    _CONTRACT.c.end_at,
    _CONTRACT.c.cadence,
    _CONTRACT.c.anchor_day,
    _CONTRACT.c.anchor_month,
    _CONTRACT.c.policy,
    _CONTRACT.c.problem,
    _CONTRACT.c.accrued_at,
    _CONTRACT.c.created_at,
).join(schema.entity)


def _one(connection: sa.Connection, query: sa.Select[*tuple[Any, ...]], contract_id: str) -> Contract:
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(_unknown(contract_id))
    return _from_row(row)


def _from_row(row: sa.Row[*tuple[Any, ...]]) -> Contract:
    stored = {**row._mapping}  # noqa: SLF001 - public in all but name
    day, month = stored.pop("anchor_day"), stored.pop("anchor_month")
    anchor = None if day is None else Anchor(day, month)
    return Contract(**{**stored, "anchor": anchor, "policy": policy_from_json(row.policy)})


def _unknown(contract_id: str) -> str:
    return f"contract {contract_id} does not exist; start it first, or list those that do"


def _lock_customer(connection: sa.Connection, customer_id: str) -> int | None:
    """Lock a customer against intake and return its bucket width; None when it does not exist."""
    customer = schema.customer
    bucket_minutes: int | None = connection.execute(
        sa.select(customer.c.bucket_minutes).where(customer.c.customer_id == customer_id).with_for_update()
    ).scalar_one_or_none()
    return bucket_minutes


def lock_both(connection: sa.Connection, contract_id: str) -> tuple[Contract, int]:
    """Lock a contract's customer and the contract; return it and the width of its buckets in minutes."""
    customer_id = get_contract(connection, contract_id).customer_id  # a contract never leaves its customer
    bucket_minutes = _lock_customer(connection, customer_id)
    return lock_contract(connection, contract_id), bucket_minutes or HOUR


def _entity_zone(connection: sa.Connection, entity_id: str) -> Sequence[str]:
    entity = schema.entity
    return connection.execute(sa.select(entity.c.time_zone).where(entity.c.entity_id == entity_id)).scalars().all()


def _is_recorded(connection: sa.Connection, definition: ContractDefinition) -> bool:
    row = connection.execute(
        sa.select(_CONTRACT.c.definition, _CONTRACT.c.definition_sha256).where(
            _CONTRACT.c.contract_id == definition.contract_id
        )
    ).one_or_none()
    if row is None:
        return False
    content = definition_content(definition)
    if bytes(row.definition_sha256) != sha256_of(content):
        raise ConflictError(
            f"contract {definition.contract_id} exists with other content; these differ: "
            f"{', '.join(differences(row.definition, content))}; amend it, or choose another id"
        )
    return True


def _compared(connection: sa.Connection, definition: ContractDefinition) -> Literal["exists"]:
    if not _is_recorded(connection, definition):
        raise AssertionError(f"contract {definition.contract_id} is neither new nor recorded")
    return "exists"


def _insert_contract(connection: sa.Connection, definition: ContractDefinition) -> bool:
    content = definition_content(definition)
    row = insert(_CONTRACT).values(
        contract_id=definition.contract_id,
        customer_id=definition.customer_id,
        entity_id=definition.entity_id,
        currency=definition.currency.code,
        time_zone=definition.time_zone,
        start_at=definition.start_at,
        end_at=definition.end_at,
        cadence=definition.cadence,
        anchor_day=None if definition.anchor is None else definition.anchor.day,
        anchor_month=None if definition.anchor is None else definition.anchor.month,
        policy=policy_to_json(definition.policy),
        definition=content,
        definition_sha256=sha256_of(content),
    )
    return connection.execute(row.on_conflict_do_nothing().returning(_CONTRACT.c.contract_id)).first() is not None


def insert_terms(connection: sa.Connection, terms: Terms, *, reason: str, by: str) -> None:
    """Record a version of terms; the caller has checked it."""
    connection.execute(
        _TERMS.insert().values(
            contract_id=terms.contract_id,
            version=terms.version,
            effective_from=terms.effective_from,
            terms=terms_to_json(terms),
            terms_sha256=digest_of(terms),
            reason=reason,
            created_by=by,
        )
    )


def insert_lots(connection: sa.Connection, contract_id: str, commits: Sequence[Commit]) -> None:
    """Record the lots that commits grant; the caller has checked them. Raises `ConflictError` for a taken id."""
    rows = [
        {
            "lot_id": lot.lot_id,
            "contract_id": contract_id,
            "name": lot.name,
            "amount": lot.amount,
            "start_at": lot.start,
            "end_at": lot.end,
            "products": list(lot.products),
            "groups": dict(lot.groups),
            "priority": lot.priority,
            "cost_basis": lot.cost_basis,
            "kind": "postpaid" if lot.is_postpaid else "commit",
            "instalments_of": lot.instalments_of,
            "paid": lot.paid,
        }
        for commit in commits
        for lot in lots_of_commit(commit, f"{contract_id}.{commit.commit_id}")
    ]
    if not rows:
        return
    lot_ids = [row["lot_id"] for row in rows]
    taken = connection.execute(sa.select(schema.lot.c.lot_id).where(schema.lot.c.lot_id.in_(lot_ids))).scalars().all()
    if taken:
        raise ConflictError(f"lot {', '.join(sorted(taken))} exists already; give the commit another id")
    connection.execute(schema.lot.insert(), rows)
