"""Alerts: the crossings of the rules on a contract, each written once and put out, in the transaction that causes it.

That is an accrual, the draft of an invoice or an attempt to collect one that failed. A span is a billing period, a day
of the entity, an hour, or for lots and silence the contract's whole term. In each the crossings of a rule are numbered,
and odd ones raise. Periods are observed until they are invoiced, with all their days: late usage may raise an alert of
an earlier day, and a correction may clear one. What the invoice holds changes no alert.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from ledger import schema
from ledger.alert_actions import crossing_key, hold_gates
from ledger.alert_kinds import IN_MONEY, UNITS, Action, RuleKind, Span
from ledger.alert_observations import Observed, observe, of_payments
from ledger.alert_rules import AlertRule, rules_on
from ledger.anomalies import counted_of
from ledger.checks import check_aware
from ledger.contracts import Contract, get_contract, lock_contract, terms_of
from ledger.database import Json
from ledger.holding import STANDS
from ledger.outbox import put_out
from pricing.thresholds import Crossing, crossing


@dataclass(frozen=True, slots=True)
class Alert:
    """A crossing: the `number`th of a rule on a contract in the span from `span_start`; its figures never change.

    `observed` and `threshold` are in `currency` for amounts (None for the other kinds). The threshold of an anomaly is
    the upper end of the hour's band. `released_at` is when a person released the gates that it holds.
    """

    rule_id: str
    kind: RuleKind
    contract_id: str
    customer_id: str
    product_id: str | None
    lot_id: str | None
    span: Span
    span_start: datetime
    number: int
    state: Crossing
    observed: Decimal
    threshold: Decimal
    currency: str | None
    at: datetime
    group_key: str | None
    group_value: str | None
    action: Action
    released_at: datetime | None


@dataclass(frozen=True, slots=True)
class Looked:
    """How many crossings were written, and when rules are to look again though nothing happens (None: they are not)."""

    crossings: int
    look_again_at: datetime | None


NOTHING_SEEN = Looked(0, None)


def raise_alerts(connection: sa.Connection, contract: Contract, *, as_of: datetime) -> Looked:
    """Write and put out what the rules on a contract cross as it stands accrued.

    The caller holds the contract and has posted its accrual to `as_of` in this transaction; doing it twice writes
    nothing. Rules on other contracts cost nothing; without a rule it is one statement.
    """
    check_aware("as_of", as_of)
    rules = rules_on(connection, contract)
    if not rules:
        return NOTHING_SEEN
    seen = observe(connection, contract, rules, as_of=as_of)
    return Looked(_cross(connection, contract, seen.figures, as_of), seen.look_again_at)


def raise_for_invoice(
    connection: sa.Connection,
    contract: Contract,
    invoice_id: str,
    *,
    amount: Decimal,
    period_start: datetime,
    at: datetime,
) -> int:
    """Write and put out that an invoice is drafted whose total reaches a threshold; return how many rules say so.

    The caller holds the contract and drafts the invoice, once, in this transaction. Each such invoice raises under an
    odd number of its period, and none clears.
    """
    rules = [rule for rule in rules_on(connection, contract) if rule.kind == "invoice_total"]
    details: dict[str, Json] = {"invoice_id": invoice_id}
    seen = [Observed(rule, period_start, amount, rule.bounds, details) for rule in rules]
    return _cross(connection, contract, seen, at, ever_clears=False)


def watching_payments(connection: sa.Connection, contract_id: str) -> Contract | None:
    """Return the contract, locked, where a rule watches its payments; None: none does.

    Whoever settles an attempt asks before it locks the invoice, because who issues invoices locks in that order.
    """
    return lock_contract(connection, contract_id) if is_watched(connection, contract_id) else None


def is_watched(connection: sa.Connection, contract_id: str) -> bool:
    """Say whether a rule watches the payments of a contract."""
    rules = rules_on(connection, get_contract(connection, contract_id))
    return any(rule.kind == "payment_failed" for rule in rules)


def raise_for_payments(connection: sa.Connection, contract: Contract, *, at: datetime) -> int:
    """Write and put out what failed attempts to collect cross, in the transaction that settles one; return how many."""
    return _cross(connection, contract, [*of_payments(connection, contract, rules_on(connection, contract))], at)


def list_alerts(
    connection: sa.Connection, *, contract_id: str | None = None, open_only: bool = False, limit: int = 1_000
) -> tuple[Alert, ...]:
    """Return the latest crossings, newest first, of one contract where that is given; raise `NotFoundError`.

    `open_only` leaves those that raised and were neither cleared nor released since, whose rule is not disabled, and
    whose span is not invoiced yet unless they hold gates.
    """
    if contract_id is not None:
        get_contract(connection, contract_id)
    facts = {"contract_id": contract_id, "open_only": open_only, "limit": limit, "in_money": [*IN_MONEY]}
    return tuple(Alert(*row) for row in connection.execute(_LIST, facts))


# --- what is written ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Crossed:
    observed: Observed
    number: int
    state: Crossing


def _cross(
    connection: sa.Connection, contract: Contract, seen: Sequence[Observed], at: datetime, *, ever_clears: bool = True
) -> int:
    """Write which figures cross their threshold, given what was written before, and return how many.

    Figures that never clear raise again, each under an odd number.
    """
    last = _last_numbers(connection, contract, seen)
    crossings = []
    for one in seen:
        number = last.get((one.rule.rule_id, one.span_start), 0)
        is_raised = number % 2 == 1
        state = crossing(one.bounds, one.figure, raised=is_raised and ever_clears)
        if state is not None:
            step = 2 if is_raised and state == "raised" else 1
            crossings.append(_Crossed(one, number + step, state))
    if crossings:
        _write(connection, contract, crossings, at)
    return len(crossings)


def _last_numbers(
    connection: sa.Connection, contract: Contract, observed: Sequence[Observed]
) -> Mapping[tuple[str, datetime], int]:
    if not observed:
        return {}
    alert = schema.alert.c
    rows = connection.execute(
        sa.select(alert.rule_id, alert.span_start, sa.func.max(alert.number))
        .where(
            alert.contract_id == contract.contract_id,
            alert.rule_id == sa.any_(sa.literal(sorted({one.rule.rule_id for one in observed}), sa.ARRAY(sa.Text))),
            alert.span_start >= min(one.span_start for one in observed),
        )
        .group_by(alert.rule_id, alert.span_start)
    )
    return {(rule_id, span_start): number for rule_id, span_start, number in rows}


def _write(connection: sa.Connection, contract: Contract, crossings: Sequence[_Crossed], at: datetime) -> None:
    rows: list[dict[str, Json]] = [
        {
            "rule_id": one.observed.rule.rule_id,
            "contract_id": contract.contract_id,
            "span_start": one.observed.span_start,
            "number": one.number,
            "state": one.state,
            "observed": one.observed.figure,
            "threshold": one.observed.bounds.bound,
            "at": at,
        }
        for one in crossings
    ]
    connection.execute(schema.alert.insert(), rows)
    counts = any(one.observed.rule.kind == "usage" for one in crossings)
    versions = terms_of(connection, contract.contract_id) if counts else ()
    units = {price.product_id: price.unit for version in versions for price in version.prices}

    def _counted_in(rule: AlertRule) -> str:
        if rule.kind == "anomaly":
            return counted_of(connection, contract, rule.product_id, at=at).unit
        return units[rule.product_id or ""]

    for one, row in zip(crossings, rows, strict=True):
        rule = one.observed.rule
        currency = _currency(rule, contract)
        put_out(
            connection,
            key=crossing_key(rule.rule_id, contract.contract_id, one.observed.span_start, one.number),
            kind=f"alert.{one.state}",
            contract_id=contract.contract_id,
            payload={
                **row,
                "kind": rule.kind,
                "customer_id": contract.customer_id,
                "product_id": rule.product_id,
                "lot_id": rule.lot_id,
                "span": rule.span,
                "rearm": rule.rearm,
                "currency": currency,
                "unit": currency or UNITS.get(rule.kind) or _counted_in(rule),
                **({"days": rule.days} if rule.days is not None else {}),
                **({"action": rule.action} if rule.action != "notify" else {}),
                **one.observed.details,
            },
        )
    if any(one.observed.rule.action == "hold_gate" for one in crossings):
        hold_gates(connection, contract.customer_id)


def _currency(rule: AlertRule, contract: Contract) -> str | None:
    return contract.currency if rule.kind in IN_MONEY else None


_LIST = sa.text(f"""
select a.rule_id, r.kind, a.contract_id, c.customer_id, nullif(r.product_id, '') as product_id, r.lot_id, r.span,
    a.span_start, a.number, a.state, a.observed, a.threshold,
    case when r.kind = any(:in_money) then c.currency end as currency, a.at, r.group_key, r.group_value, r.action,
    e.released_at
from alert a
join alert_rule r on r.rule_id = a.rule_id
join contract c on c.contract_id = a.contract_id
join entity n on n.entity_id = c.entity_id
left join alert_release e on (e.rule_id, e.contract_id, e.span_start, e.number)
    = (a.rule_id, a.contract_id, a.span_start, a.number)
where (cast(:contract_id as text) is null or a.contract_id = :contract_id)
    and (not :open_only or ({STANDS} and r.disabled_at is null and e.released_at is null
        and (r.span = 'term' or r.action = 'hold_gate' or (a.span_start at time zone n.time_zone)::date >= (
            select (min(p.start_at) at time zone n.time_zone)::date from contract_period p
            where p.contract_id = a.contract_id and p.state <> 'invoiced'
        ))))
order by a.at desc, a.contract_id, a.rule_id, a.span_start desc, a.number desc limit :limit
""")  # noqa: S608 - an expression of ours
