"""What alert rules are refused for: a threshold that could never raise or never clear, an option that does not fit.

Each check yields its problems as sentences, so that a person sees all of them at once.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

import sqlalchemy as sa

from ledger.alert_kinds import (
    BALANCES,
    MOST_OBSERVED,
    OF_USAGE,
    SPANS,
    WITHOUT_MARGIN,
    WITHOUT_PRODUCT,
    RuleKind,
    WantedRule,
)
from ledger.contracts import Contract, get_contract, list_contracts, lots_of, terms_of
from ledger.customers import get_customer
from ledger.intake.rules import read_rules
from ledger.transfers import LEDGER_PLACES, WHOLE_DIGITS
from pricing.money import EXACT, to_ledger_scale
from pricing.product_checks import group_keys
from pricing.terms import ProductPrice

MOST_DAYS_AHEAD = 3_650
LONGEST = 256
ADDING = ("sum", "count")


def rule_problems(connection: sa.Connection, wanted: WantedRule) -> list[str]:
    """Return all that keeps a rule from being of use; raise `NotFoundError` for what it is on."""
    problems = [*_figure_problems(wanted.kind, wanted.threshold, wanted.rearm), *_scope_problems(wanted)]
    problems += [*_option_problems(wanted)]
    if problems:
        return problems
    return [*_product_problems(connection, wanted), *_lot_problems(connection, wanted.contract_id, wanted.lot_id)]


def _figure_problems(kind: RuleKind, threshold: Decimal, rearm: Decimal) -> Iterator[str]:
    figures = {"threshold": threshold, "rearm": rearm}
    unfit = [name for name, figure in figures.items() if not _fits(figure)]
    for name in unfit:
        yield (
            f"{name} {figures[name]} must be a number of at most {WHOLE_DIGITS} digits before and {LEDGER_PLACES} "
            "after the point"
        )
    if unfit:
        return
    most = MOST_OBSERVED.get(kind)
    if threshold <= 0:
        yield f"threshold {threshold:f} must be above 0: one that is not would be crossed always or never"
    elif most is not None and threshold > most:
        yield f"threshold {threshold:f} must be at most {most:f}, as the figure itself is"
    if kind == "payment_failed" and any(figure != figure.to_integral_value() for figure in figures.values()):
        yield f"threshold {threshold:f} and rearm {rearm:f} must be whole: attempts to pay are counted"
    if rearm < 0:
        yield f"rearm {rearm:f} must be 0 or more: it says how far the figure must go back"
    elif kind in WITHOUT_MARGIN and rearm:
        yield f"rearm {rearm:f} does not fit {kind}: {WITHOUT_MARGIN[kind]}; leave it away"
    elif kind not in BALANCES and rearm and rearm >= threshold:
        yield f"rearm {rearm:f} must be below the threshold {threshold:f}, else the alert could never clear"
    elif kind in BALANCES and most is not None and rearm and EXACT.add(threshold, rearm) >= most:
        yield f"threshold and rearm must together be below {most:f}, else the alert could never clear"


def _fits(figure: Decimal) -> bool:
    if not figure.is_finite() or figure.adjusted() >= WHOLE_DIGITS:
        return False
    return to_ledger_scale(figure) == figure


def _scope_problems(wanted: WantedRule) -> Iterator[str]:
    kind = wanted.kind
    if wanted.contract_id is not None and wanted.customer_id is not None:
        yield "it names a contract and a customer; name one, or neither for all contracts"
    if wanted.span not in SPANS[kind]:
        fitting = SPANS[kind]
        how = f"use {' or '.join(fitting)}" if len(fitting) > 1 else f"it is seen by {fitting[0]}; leave it away"
        yield f"span {wanted.span} does not fit {kind}: {how}"
    if wanted.product_id and kind in WITHOUT_PRODUCT:
        yield f"product {wanted.product_id} does not fit {kind}: {WITHOUT_PRODUCT[kind]}; leave it away"
    if kind == "commit_used" and (wanted.contract_id is None or wanted.lot_id is None):
        yield "commit_used is of one lot; name the lot and its contract"
    if kind != "commit_used" and wanted.lot_id is not None:
        yield f"lot {wanted.lot_id} does not fit {kind}: only commit_used is of one lot; leave it away"
    if kind == "usage" and not wanted.product_id:
        yield "usage needs a product: units of several products do not add up"


def _option_problems(wanted: WantedRule) -> Iterator[str]:
    kind, days = wanted.kind, wanted.days
    if wanted.group_key is not None or wanted.group_value is not None:
        group = f"group {wanted.group_key}={wanted.group_value}"
        if kind not in ("spend", "usage"):
            yield f"{group} does not fit {kind}: only spend and usage are known by group; leave it away"
        if not all(0 < len(part or "") <= LONGEST for part in (wanted.group_key, wanted.group_value)):
            yield f"{group} must name a key and a value of 1 to {LONGEST} characters each"
    if kind == "credit_expiring" and days is None:
        yield "credit_expiring looks ahead; say how many days"
    if kind != "credit_expiring" and days is not None:
        yield f"days {days} does not fit {kind}: only credit_expiring looks ahead; leave it away"
    if days is not None and not 1 <= days <= MOST_DAYS_AHEAD:
        yield f"days {days} must be from 1 to {MOST_DAYS_AHEAD}"
    if wanted.action == "cap" and kind != "spend":
        yield f"action cap does not fit {kind}: only spend can be capped; use notify or hold_gate"
    if wanted.action == "cap" and wanted.group_key is not None:
        yield (
            f"action cap does not fit group {wanted.group_key}: a gate does not know for which group it is asked; "
            "use notify or hold_gate"
        )


def _product_problems(connection: sa.Connection, wanted: WantedRule) -> Iterator[str]:
    """Yield why a rule would never see its product or its group."""
    product_id = wanted.product_id
    if wanted.contract_id is not None:
        contracts, who = [get_contract(connection, wanted.contract_id)], f"contract {wanted.contract_id}"
    elif wanted.customer_id is not None:
        get_customer(connection, wanted.customer_id)
        contracts = [*list_contracts(connection, customer_id=wanted.customer_id)]
        who = f"a contract of customer {wanted.customer_id}"
    else:
        if product_id and not connection.execute(_IS_SOLD, {"product_id": product_id}).scalar_one():
            yield f"product {product_id} is not sold by any contract or rate card; check its id"
        return
    if not product_id and wanted.group_key is None:
        return
    prices = [price for one in contracts for price in _sold(connection, one)]
    sold = [price for price in prices if product_id in ("", price.product_id)]
    if not sold:
        yield f"product {product_id} is not sold by {who}; name one that is"
    elif wanted.kind in OF_USAGE and all(price.metric_id is None for price in sold):
        yield f"product {product_id} counts no usage; watch its spend, or name a product with a metric"
    elif wanted.group_key is not None:
        yield from _group_problems(connection, wanted, sold, wanted.group_key)


def _group_problems(
    connection: sa.Connection, wanted: WantedRule, sold: Sequence[ProductPrice], key: str
) -> Iterator[str]:
    what = f"product {wanted.product_id}" if wanted.product_id else "any product"
    if wanted.kind == "spend":
        known = {one for price in sold for one in group_keys(price)}
        if key not in known:
            yield (
                f"group {key}: the price of {what} is not by that key, so that its spend is not known by it; it is by "
                f"{', '.join(sorted(known)) or 'none'}: watch the usage, or group the price"
            )
        return
    metric_ids = {price.metric_id for price in sold}
    versions = [rule.version for rule in read_rules(connection) if rule.metric_id in metric_ids]
    known = {one for version in versions for one in version.group_keys}
    if key not in known:
        yield f"group {key}: the metric of {what} has no such group key, but {', '.join(sorted(known)) or 'none'}"
    elif all(version.aggregation not in ADDING for version in versions):
        yield f"group {key}: the metric of {what} does not add up, so that it has no figure by group; watch its spend"


def _lot_problems(connection: sa.Connection, contract_id: str | None, lot_id: str | None) -> Iterator[str]:
    if contract_id is None or lot_id is None:
        return
    known = [lot.lot_id for lot in lots_of(connection, contract_id)]
    if lot_id not in known:
        yield f"lot {lot_id} is none of contract {contract_id}, which has {', '.join(known) or 'no lots'}"


def _sold(connection: sa.Connection, contract: Contract) -> Iterator[ProductPrice]:
    for version in terms_of(connection, contract.contract_id):
        yield from version.prices


_IS_SOLD = sa.text("""
select exists (
    select from contract_terms
    where jsonb_path_exists(terms, '$.**.product_id ? (@ == $id)', jsonb_build_object('id', cast(:product_id as text)))
) or exists (
    select from rate_card_version
    where jsonb_path_exists(content, '$.**.product_id ? (@ == $id)',
        jsonb_build_object('id', cast(:product_id as text)))
)
""")
