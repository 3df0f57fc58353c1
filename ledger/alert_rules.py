"""Alert rules: what is watched on a contract, on all contracts of a customer, or on all there are.

A rule is never changed: it is disabled, and another one takes its place. `ledger.alerts` says what its rules observe.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.alert_checks import rule_problems
from ledger.alert_kinds import BALANCES, SPANS, Action, RuleKind, Span, WantedRule
from ledger.checks import check_aware, check_slug, check_text
from ledger.contracts import Contract, get_contract
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.holding import holding_rule
from ledger.intake.attribution import mark_contract
from pricing.money import ZERO
from pricing.thresholds import Threshold


@dataclass(frozen=True, slots=True)
class AlertRule:
    """A threshold and what it is on: one contract, all of a customer's, or with neither named all there are.

    `threshold` and `rearm` are in the contract's currency for spend, balances, invoices and what expires, in the
    product's unit for `usage`, in per cent, days, hours or attempts for the others. `product_id` None means all
    products; `lot_id` is the lot of `commit_used`, `days` how far `credit_expiring` looks ahead. With a group, spend
    and usage are those of one value of a key. They are added up over each billing `period` or each `day` of the entity;
    what is left or used of lots is that of the whole `term`. Of an `anomaly`, seen by `hour`, the threshold says how
    many times the usual spread an hour may be above the usual; of a `new_group` it is a percentage of a day's usage.
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
    group_key: str | None
    group_value: str | None
    days: int | None
    action: Action

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
    group: tuple[str, str] | None = None,
    days: int | None = None,
    action: Action = "notify",
    by: str,
) -> AlertRule:
    """Record a rule, which holds from the next accrual of each contract on, and return it.

    `span` None is the one that is usual for the kind; `group` is a key and its value. A cap counts at gates from the
    next answer on. The same rule again is harmless; another one under its id is a `ConflictError`, and the same when it
    is disabled a `StateError`. Raises `InvalidError` for a threshold that can never raise or never clear and for what
    does not fit the kind, and `NotFoundError` for a contract or customer that does not exist.
    """
    check_slug("rule", rule_id)
    check_text("by", by, longest=256)
    group_key, group_value = group or (None, None)
    wanted = WantedRule(
        rule_id=rule_id,
        kind=kind,
        contract_id=contract_id,
        customer_id=customer_id,
        product_id=product_id or "",
        lot_id=lot_id,
        span=span or SPANS[kind][0],
        threshold=threshold,
        rearm=rearm,
        group_key=group_key,
        group_value=group_value,
        days=days,
        action=action,
    )
    problems = rule_problems(connection, wanted)
    if problems:
        raise InvalidError(f"alert rule {rule_id}: {'; '.join(problems)}")
    row = insert(_RULES).values(created_by=by, **asdict(wanted)).on_conflict_do_nothing()
    is_made = connection.execute(row.returning(_RULE.rule_id)).first() is not None
    rule = _same(get_rule(connection, rule_id), wanted)
    if is_made and action == "cap":
        _turn_gates(connection, rule)
    return rule


def get_rule(connection: sa.Connection, rule_id: str) -> AlertRule:
    """Return a rule; raise `NotFoundError`."""
    row = connection.execute(_SELECT.where(_RULE.rule_id == rule_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"alert rule {rule_id} does not exist; create it first, or list those that do")
    return _from_row(row)


def disable_rule(connection: sa.Connection, rule_id: str, *, at: datetime) -> AlertRule:
    """Let a rule raise, clear, hold and cap nothing any more; it keeps the time when it was first disabled.

    Raises `NotFoundError`.
    """
    check_aware("at", at)
    connection.execute(
        _RULES.update().where(_RULE.rule_id == rule_id).values(disabled_at=sa.func.coalesce(_RULE.disabled_at, at))
    )
    rule = get_rule(connection, rule_id)
    if rule.action == "cap":
        _turn_gates(connection, rule)
    elif rule.action == "hold_gate":
        connection.execute(_OPEN_GATES, {"rule_id": rule_id})
    return rule


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


def _turn_gates(connection: sa.Connection, rule: AlertRule) -> None:
    """Let the gates that a cap is on be written anew before they answer again, and have their contracts accrued."""
    facts = {"contract_id": rule.contract_id, "customer_id": rule.customer_id}
    contracts = {*connection.execute(_TURN, facts).scalars()}
    for contract_id in sorted(contracts):
        mark_contract(connection, contract_id)


def _same(recorded: AlertRule, wanted: WantedRule) -> AlertRule:
    asked = asdict(wanted)
    differing = [name for name, value in asked.items() if (getattr(recorded, name) or "") != (value or "")]
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

# Gates are locked in the order in which everybody locks them, so that nobody waits in a circle.
_TURN = sa.text("""
with turned as (
    select customer_id, feature_id from gate
    where (cast(:contract_id as text) is null or contract_id = :contract_id)
        and (cast(:customer_id as text) is null or customer_id = :customer_id)
    order by customer_id, feature_id for update
)
update gate g set valid_until = g.watermark from turned
where g.customer_id = turned.customer_id and g.feature_id = turned.feature_id
returning g.contract_id
""")

_OPEN_GATES = sa.text(f"""
with stopped as (
    select customer_id, feature_id from gate where stopped_by = :rule_id order by customer_id, feature_id for update
)
update gate g set stopped_by = {holding_rule("g.customer_id")} from stopped
where g.customer_id = stopped.customer_id and g.feature_id = stopped.feature_id
""")  # noqa: S608 - an expression of ours


def _from_row(row: sa.Row[*tuple[Any, ...]]) -> AlertRule:
    stored = {**row._mapping}  # noqa: SLF001 - public in all but name
    return AlertRule(**{**stored, "product_id": row.product_id or None})
