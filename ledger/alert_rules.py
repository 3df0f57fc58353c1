"""Alert rules: thresholds on spend, usage and balances of a contract, of a customer's contracts, or of all contracts.

A rule is never changed: it is disabled, and another one takes its place. `ledger.alerts` says what its rules observe.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.checks import check_aware, check_slug, check_text
from ledger.contracts import Contract, get_contract, list_contracts, lots_of, terms_of
from ledger.customers import get_customer
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.transfers import LEDGER_PLACES, WHOLE_DIGITS
from pricing.money import EXACT, ZERO, to_ledger_scale
from pricing.terms import ProductPrice
from pricing.thresholds import HUNDRED, MOST_DAYS, Threshold

RuleKind = Literal[
    "spend", "usage", "balance_amount", "balance_percent", "balance_days", "commit_used", "anomaly", "new_group"
]
Span = Literal["period", "day", "hour", "term"]
BALANCES: Sequence[RuleKind] = ("balance_amount", "balance_percent", "balance_days")
OF_LOTS: Sequence[RuleKind] = (*BALANCES, "commit_used")
ADDED_UP: Sequence[RuleKind] = ("spend", "usage")
OF_USAGE: Sequence[RuleKind] = ("usage", "anomaly", "new_group")
MOST_OBSERVED = {"balance_percent": HUNDRED, "balance_days": MOST_DAYS, "commit_used": HUNDRED, "new_group": HUNDRED}
"""The largest figures that can be observed, where there are such."""


@dataclass(frozen=True, slots=True)
class AlertRule:
    """A threshold and what it is on: one contract, all of a customer's, or with neither named all there are.

    `threshold` and `rearm` are in the contract's currency for `spend` and `balance_amount`, in the product's unit for
    `usage`, in per cent and in days for the others. `product_id` None means all products; `lot_id` is the lot of
    `commit_used`. Spend and usage are added up over each billing `period` or each `day` of the entity; what is left or
    used of lots is that of the whole `term`. Of an `anomaly`, seen by `hour`, the threshold says how many times the
    usual spread an hour may be above the usual; of a `new_group` it is a percentage of a day's usage.
    """

    rule_id: str
    kind: RuleKind
    contract_id: str | None
    customer_id: str | None
    product_id: str | None
    lot_id: str | None
    span: Span
    threshold: Decimal
    rearm: Decimal
    created_by: str
    created_at: datetime
    disabled_at: datetime | None

    @property
    def bounds(self) -> Threshold:
        """The threshold with its direction: balances fall, all else rises."""
        return Threshold(self.threshold, self.rearm, "falling" if self.kind in BALANCES else "rising")


def create_rule(
    connection: sa.Connection,
    rule_id: str,
    *,
    kind: RuleKind,
    threshold: Decimal,
    rearm: Decimal = ZERO,
    span: Span | None = None,
    contract_id: str | None = None,
    customer_id: str | None = None,
    product_id: str | None = None,
    lot_id: str | None = None,
    by: str,
) -> AlertRule:
    """Record a rule, which holds from the next accrual of each contract on, and return it.

    `span` None is the period, for lots the term, for an anomaly the hour, for a new group the day. The same rule again
    is harmless; another one under its id is a `ConflictError`, and the same when it is disabled a `StateError`. Raises
    `InvalidError` for a threshold that can never raise or never clear, and `NotFoundError` for a contract or customer
    that does not exist.
    """
    check_slug("rule", rule_id)
    check_text("by", by, longest=256)
    wanted = {
        "rule_id": rule_id,
        "kind": kind,
        "contract_id": contract_id,
        "customer_id": customer_id,
        "product_id": product_id or "",
        "lot_id": lot_id,
        "span": span or _usual_span(kind),
        "threshold": threshold,
        "rearm": rearm,
    }
    problems = [*_figure_problems(kind, threshold, rearm), *_scope_problems(wanted)]
    if not problems:
        problems = [
            *_product_problems(connection, kind, contract_id, customer_id, product_id),
            *_lot_problems(connection, contract_id, lot_id),
        ]
    if problems:
        raise InvalidError(f"alert rule {rule_id}: {'; '.join(problems)}")
    row = insert(_RULES).values(created_by=by, **wanted).on_conflict_do_nothing()
    connection.execute(row)
    return _same(get_rule(connection, rule_id), wanted)


def get_rule(connection: sa.Connection, rule_id: str) -> AlertRule:
    """Return a rule; raise `NotFoundError`."""
    row = connection.execute(_SELECT.where(_RULE.rule_id == rule_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"alert rule {rule_id} does not exist; create it first, or list those that do")
    return _from_row(row)


def disable_rule(connection: sa.Connection, rule_id: str, *, at: datetime) -> AlertRule:
    """Let a rule raise and clear nothing any more; it keeps the time when it was first disabled.

    Raises `NotFoundError`.
    """
    check_aware("at", at)
    connection.execute(
        _RULES.update().where(_RULE.rule_id == rule_id).values(disabled_at=sa.func.coalesce(_RULE.disabled_at, at))
    )
    return get_rule(connection, rule_id)


def list_rules(connection: sa.Connection, *, contract_id: str | None = None) -> tuple[AlertRule, ...]:
    """Return all rules by id, disabled ones too; with a contract those that are on it, however they name it.

    Raises `NotFoundError` for a contract that does not exist.
    """
    query = _SELECT.order_by(_RULE.rule_id)
    if contract_id is not None:
        query = query.where(sa.or_(*_scopes(get_contract(connection, contract_id))))
    return tuple(_from_row(row) for row in connection.execute(query))


def rules_on(connection: sa.Connection, contract: Contract) -> tuple[AlertRule, ...]:
    """Return the rules in force on a contract, by id, in one statement of three look-ups by index."""
    ways = [_SELECT.where(scope, _RULE.disabled_at.is_(None)) for scope in _scopes(contract)]
    return tuple(sorted((_from_row(row) for row in connection.execute(sa.union_all(*ways))), key=lambda r: r.rule_id))


def _scopes(contract: Contract) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the ways to name a contract: itself, its customer, or nothing."""
    return (
        _RULE.contract_id == contract.contract_id,
        _RULE.customer_id == contract.customer_id,
        sa.and_(_RULE.contract_id.is_(None), _RULE.customer_id.is_(None)),
    )


def _usual_span(kind: RuleKind) -> Span:
    own: dict[RuleKind, Span] = {"anomaly": "hour", "new_group": "day"}
    return own.get(kind, "term" if kind in OF_LOTS else "period")


# --- what is refused ----------------------------------------------------------------------------------------------


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
    if rearm < 0:
        yield f"rearm {rearm:f} must be 0 or more: it says how far the figure must go back"
    elif kind == "anomaly" and rearm:
        yield f"rearm {rearm:f} does not fit anomaly: its band is a margin already; leave it away"
    elif kind not in BALANCES and rearm and rearm >= threshold:
        yield f"rearm {rearm:f} must be below the threshold {threshold:f}, else the alert could never clear"
    elif kind in BALANCES and most is not None and rearm and EXACT.add(threshold, rearm) >= most:
        yield f"threshold and rearm must together be below {most:f}, else the alert could never clear"


def _fits(figure: Decimal) -> bool:
    if not figure.is_finite() or figure.adjusted() >= WHOLE_DIGITS:
        return False
    return to_ledger_scale(figure) == figure


def _scope_problems(wanted: dict[str, Any]) -> Iterator[str]:
    if wanted["contract_id"] is not None and wanted["customer_id"] is not None:
        yield "it names a contract and a customer; name one, or neither for all contracts"
    of_lots = wanted["kind"] in OF_LOTS
    if of_lots and wanted["span"] != "term":
        yield f"span {wanted['span']} does not fit {wanted['kind']}: lots stand for the whole term; leave it away"
    if wanted["kind"] in ADDED_UP and wanted["span"] not in ("period", "day"):
        yield f"span {wanted['span']} does not fit {wanted['kind']}: use period or day"
    if wanted["kind"] in ("anomaly", "new_group") and wanted["span"] != _usual_span(wanted["kind"]):
        yield f"span {wanted['span']} does not fit {wanted['kind']}: it is seen by {_usual_span(wanted['kind'])}"
    if of_lots and wanted["product_id"]:
        yield f"product {wanted['product_id']} does not fit {wanted['kind']}: lots are watched whole; leave it away"
    if wanted["kind"] == "commit_used" and (wanted["contract_id"] is None or wanted["lot_id"] is None):
        yield "commit_used is of one lot; name the lot and its contract"
    if wanted["kind"] != "commit_used" and wanted["lot_id"] is not None:
        yield f"lot {wanted['lot_id']} does not fit {wanted['kind']}: only commit_used is of one lot; leave it away"
    if wanted["kind"] == "usage" and not wanted["product_id"]:
        yield "usage needs a product: units of several products do not add up"


def _product_problems(
    connection: sa.Connection,
    kind: RuleKind,
    contract_id: str | None,
    customer_id: str | None,
    product_id: str | None,
) -> Iterator[str]:
    """Yield why a rule would never see its product; raise `NotFoundError` for what it is on."""
    if contract_id is not None:
        contracts, who = [get_contract(connection, contract_id)], f"contract {contract_id}"
    elif customer_id is not None:
        get_customer(connection, customer_id)
        contracts, who = [*list_contracts(connection, customer_id=customer_id)], f"a contract of customer {customer_id}"
    else:
        if product_id is not None and not connection.execute(_IS_SOLD, {"product_id": product_id}).scalar_one():
            yield f"product {product_id} is not sold by any contract or rate card; check its id"
        return
    if product_id is None:
        return
    sold = [price for one in contracts for price in _sold(connection, one) if price.product_id == product_id]
    if not sold:
        yield f"product {product_id} is not sold by {who}; name one that is"
    elif kind in OF_USAGE and all(price.metric_id is None for price in sold):
        yield f"product {product_id} counts no usage; watch its spend, or name a product with a metric"


def _lot_problems(connection: sa.Connection, contract_id: str | None, lot_id: str | None) -> Iterator[str]:
    if contract_id is None or lot_id is None:
        return
    known = [lot.lot_id for lot in lots_of(connection, contract_id)]
    if lot_id not in known:
        yield f"lot {lot_id} is none of contract {contract_id}, which has {', '.join(known) or 'no lots'}"


def _sold(connection: sa.Connection, contract: Contract) -> Iterator[ProductPrice]:
    for version in terms_of(connection, contract.contract_id):
        yield from version.prices


def _same(recorded: AlertRule, wanted: dict[str, Any]) -> AlertRule:
    before = {name: getattr(recorded, name) or "" for name in wanted}
    differing = [name for name, value in wanted.items() if before[name] != (value or "")]
    if differing:
        raise ConflictError(
            f"alert rule {recorded.rule_id} exists with another {', another '.join(differing)}; "
            "disable it, and give the other one another id"
        )
    if recorded.disabled_at is not None:
        raise StateError(
            f"alert rule {recorded.rule_id} is disabled since {recorded.disabled_at.isoformat()}; "
            "create it under another id"
        )
    return recorded


# --- rows ---------------------------------------------------------------------------------------------------------

_RULES = schema.alert_rule
_RULE = _RULES.c
_SELECT = sa.select(*(_RULE[name] for name in AlertRule.__dataclass_fields__))

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


def _from_row(row: sa.Row[*tuple[Any, ...]]) -> AlertRule:
    stored = {**row._mapping}  # noqa: SLF001 - public in all but name
    return AlertRule(**{**stored, "product_id": row.product_id or None})
