"""Alerts: the crossings of the rules on a contract, found in its accrual, each written once and put out.

A span is a billing period, a day of the entity, an hour, or for lots the contract's whole term. In each the crossings
of a rule are numbered, and odd ones raise. Periods are observed until they are invoiced, with all their days: late
usage may raise an alert of an earlier day, and a correction may clear one. What the invoice holds changes no alert.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa

from ledger import schema
from ledger.alert_rules import ADDED_UP, AlertRule, RuleKind, Span, rules_on
from ledger.anomalies import counted_of, hours_watched, is_due, newcomers_watched
from ledger.checks import check_aware
from ledger.contracts import Contract, get_contract, terms_of
from ledger.database import Json
from ledger.outbox import put_out
from pricing.calendar import local_date, local_midnight
from pricing.money import EXACT, ZERO, to_ledger_scale, total
from pricing.thresholds import Crossing, Threshold, crossing, days_left, percent_left

PACE_DAYS = 7
"""Over so many full days of the entity the pace of draws is taken, fewer where the lots are younger."""

UNITS = {"balance_percent": "percent", "balance_days": "day", "commit_used": "percent", "new_group": "percent"}


@dataclass(frozen=True, slots=True)
class Alert:
    """A crossing: the `number`th of a rule on a contract in the span from `span_start`; its figures never change.

    `observed` and `threshold` are in `currency` for spend and balance amounts (None for the other kinds). The threshold
    of an anomaly is the upper end of the hour's band.
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


def raise_alerts(connection: sa.Connection, contract: Contract, *, as_of: datetime) -> int:
    """Write and put out what the rules on a contract cross as it stands accrued, and return how many crossings.

    The caller holds the contract and has posted its accrual to `as_of` in this transaction; doing it twice writes
    nothing. Rules on other contracts cost nothing; without a rule it is one statement.
    """
    check_aware("as_of", as_of)
    rules = rules_on(connection, contract)
    if not rules:
        return 0
    observed = [*_in_periods(connection, contract, rules), *_in_days(connection, contract, rules)]
    observed += _of_lots(connection, contract, rules, as_of)
    if is_due(contract, as_of):
        observed += [*_in_hours(connection, contract, rules, as_of), *_of_groups(connection, contract, rules, as_of)]
    last = _last_numbers(connection, contract, observed)
    crossings = []
    for one in observed:
        number = last.get((one.rule.rule_id, one.span_start), 0)
        state = crossing(one.bounds, one.figure, raised=number % 2 == 1)
        if state is not None:
            crossings.append(_Crossed(one, number + 1, state))
    if crossings:
        _write(connection, contract, crossings, as_of)
    return len(crossings)


def list_alerts(
    connection: sa.Connection, *, contract_id: str | None = None, open_only: bool = False, limit: int = 1_000
) -> tuple[Alert, ...]:
    """Return the latest crossings, newest first, of one contract where that is given; raise `NotFoundError`.

    `open_only` leaves those that raised and were not cleared since, whose rule is not disabled, and whose span is not
    invoiced yet.
    """
    if contract_id is not None:
        get_contract(connection, contract_id)
    facts = {"contract_id": contract_id, "open_only": open_only, "limit": limit}
    return tuple(Alert(*row) for row in connection.execute(_LIST, facts))


# --- what is observed ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Observed:
    """What a rule sees in the span that begins at a moment."""

    rule: AlertRule
    span_start: datetime
    figure: Decimal
    bounds: Threshold
    details: Mapping[str, Json] = field(default_factory=dict)
    """What is told beside the figure."""


@dataclass(frozen=True, slots=True)
class _ProductFigures:
    """A product's amount and units of usage in the span that begins at a moment, or in a part of it."""

    span_start: datetime
    product_id: str
    amount: Decimal
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class LotBalance:
    """A lot that has begun, with all that was drawn from it, and the part of the last `PACE_DAYS` full days."""

    lot_id: str
    amount: Decimal
    start_at: datetime
    ends_at: datetime | None
    drawn: Decimal
    drawn_lately: Decimal


def _added_up(rules: Sequence[AlertRule], parts: Iterable[_ProductFigures]) -> Iterator[_Observed]:
    """Yield what each rule observes in each span, from the figures of the products in it."""
    amounts: dict[str | None, dict[datetime, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    quantities: dict[str | None, dict[datetime, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for part in parts:
        for product_id in (part.product_id, None):
            amounts[product_id][part.span_start] = EXACT.add(amounts[product_id][part.span_start], part.amount)
        units = quantities[part.product_id]
        units[part.span_start] = EXACT.add(units[part.span_start], part.quantity)
    for rule in rules:
        figures = quantities if rule.kind == "usage" else amounts
        yield from (_Observed(rule, start, figure, rule.bounds) for start, figure in figures[rule.product_id].items())


def lot_figure(rule: AlertRule, lots: Sequence[LotBalance], *, as_of: datetime, zone: str) -> Decimal | None:
    """Return what a rule observes of lots at a moment; None where the lot, or any lot, has not begun.

    So a contract that pays as it goes has no balance that could fall. The days are those of the entity's zone.
    """
    if rule.kind == "commit_used":
        return next((percent_left(lot.drawn, lot.amount) for lot in lots if lot.lot_id == rule.lot_id), None)
    return _balances(lots, as_of=as_of, zone=zone).get(rule.kind)


def _balances(lots: Sequence[LotBalance], *, as_of: datetime, zone: str) -> Mapping[str, Decimal]:
    """Return what is left in the lots in force, by kind of rule; nothing where no lot has begun."""
    if not lots:
        return {}
    in_force = [lot for lot in lots if lot.ends_at is None or as_of < lot.ends_at]
    granted = total([lot.amount for lot in in_force])
    left = EXACT.subtract(granted, total([lot.drawn for lot in in_force]))
    since = as_of - timedelta(days=PACE_DAYS)
    recent = [lot.start_at for lot in lots if lot.ends_at is None or since < lot.ends_at]
    full_days = (local_date(as_of, zone) - local_date(min(recent, default=as_of), zone)).days
    return {
        "balance_amount": left,
        "balance_percent": percent_left(left, granted),
        "balance_days": days_left(left, total([lot.drawn_lately for lot in lots]), days=min(PACE_DAYS, full_days)),
    }


def _in_periods(connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule]) -> Iterator[_Observed]:
    own = [rule for rule in rules if rule.span == "period"]
    if own:
        rows = connection.execute(_BY_PERIOD, {"contract_id": contract.contract_id})
        yield from _added_up(own, [_ProductFigures(*row) for row in rows])


def _in_days(connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule]) -> Iterator[_Observed]:
    own = [rule for rule in rules if rule.span == "day" and rule.kind in ADDED_UP]
    if own:
        zone = contract.entity_zone
        rows = connection.execute(_BY_DAY, {"contract_id": contract.contract_id, "zone": zone})
        yield from _added_up(own, [_ProductFigures(local_midnight(day, zone), *figures) for day, *figures in rows])


def _of_lots(
    connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule], as_of: datetime
) -> Iterator[_Observed]:
    own = [rule for rule in rules if rule.span == "term"]
    if not own:
        return
    today = local_date(as_of, contract.entity_zone)
    facts = {"contract_id": contract.contract_id, "as_of": as_of, "today": today, "days": PACE_DAYS}
    lots = [LotBalance(*row) for row in connection.execute(_LOTS, facts)]
    for rule in own:
        figure = lot_figure(rule, lots, as_of=as_of, zone=contract.entity_zone)
        if figure is not None:
            yield _Observed(rule, contract.start_at, figure, rule.bounds)


def _in_hours(
    connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule], as_of: datetime
) -> Iterator[_Observed]:
    for rule in rules:
        if rule.kind == "anomaly":
            for one in hours_watched(connection, contract, rule, as_of=as_of):
                band = {name: to_ledger_scale(getattr(one.judgement, name)) for name in ("expected", "low", "high")}
                figure = one.judgement.observed
                # few events may use whatever they use
                bound = band["high"] if one.is_raised else max(band["high"], figure)
                yield _Observed(rule, one.hour, figure, Threshold(bound, ZERO, "above"), band)


def _of_groups(
    connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule], as_of: datetime
) -> Iterator[_Observed]:
    for rule in rules:
        if rule.kind == "new_group":
            for day, found in newcomers_watched(connection, contract, rule, as_of=as_of):
                group: dict[str, Json] = {"group_key": None, "group_value": None}
                if found is not None:
                    group = {"group_key": found.key, "group_value": found.value}
                yield _Observed(rule, day, found.percent if found else ZERO, rule.bounds, group)


# --- what is written ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Crossed:
    observed: _Observed
    number: int
    state: Crossing


def _last_numbers(
    connection: sa.Connection, contract: Contract, observed: Sequence[_Observed]
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


def _write(connection: sa.Connection, contract: Contract, crossings: Sequence[_Crossed], as_of: datetime) -> None:
    rows: list[dict[str, Json]] = [
        {
            "rule_id": one.observed.rule.rule_id,
            "contract_id": contract.contract_id,
            "span_start": one.observed.span_start,
            "number": one.number,
            "state": one.state,
            "observed": one.observed.figure,
            "threshold": one.observed.bounds.bound,
            "at": as_of,
        }
        for one in crossings
    ]
    connection.execute(schema.alert.insert(), rows)
    counts = any(one.observed.rule.kind == "usage" for one in crossings)
    versions = terms_of(connection, contract.contract_id) if counts else ()
    units = {price.product_id: price.unit for version in versions for price in version.prices}

    def _counted_in(rule: AlertRule) -> str:
        if rule.kind == "anomaly":
            return counted_of(connection, contract, rule.product_id, at=as_of).unit
        return units[rule.product_id or ""]

    for one, row in zip(crossings, rows, strict=True):
        rule = one.observed.rule
        currency = _currency(rule, contract)
        start = one.observed.span_start.astimezone(UTC).isoformat().replace("+00:00", "Z")
        put_out(
            connection,
            key=f"alert/{rule.rule_id}/{contract.contract_id}/{start}/{one.number}",
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
                **one.observed.details,
            },
        )


def _currency(rule: AlertRule, contract: Contract) -> str | None:
    return contract.currency if rule.kind in ("spend", "balance_amount") else None


# --- statements ---------------------------------------------------------------------------------------------------

_BY_PERIOD = sa.text("""
select period_start, product_id, sum(amount) as amount,
    coalesce(sum(quantity) filter (where kind = 'usage'), 0) as quantity
from accrued
where contract_id = :contract_id and kind <> 'breakage' and period_start >= (
    select min(start_at) from contract_period where contract_id = :contract_id and state <> 'invoiced'
)
group by period_start, product_id
""")

# A day may stand in two periods where the contract has another zone than the entity: its part of the period before
# the first that is not invoiced counts too.
_BY_DAY = sa.text("""
with first as (
    select min(start_at) as start_at from contract_period where contract_id = :contract_id and state <> 'invoiced'
), before as (
    select max(start_at) as start_at from contract_period
    where contract_id = :contract_id and start_at < (select start_at from first)
)
select day, product_id, sum(amount) as amount, coalesce(sum(quantity) filter (where kind = 'usage'), 0) as quantity
from accrued
where contract_id = :contract_id and kind <> 'breakage'
    and period_start >= (select coalesce(before.start_at, first.start_at) from first, before)
    and (period_start >= (select start_at from first)
        or day >= (select cast(start_at at time zone :zone as date) from first))
group by day, product_id
""")

_LOTS = sa.text("""
select l.lot_id, l.amount, l.start_at, coalesce(changed.end_at, l.end_at) as ends_at,
    coalesce(draws.amount, 0) as drawn, coalesce(draws.lately, 0) as drawn_lately
from lot l
left join lateral (
    select end_at from lot_change where lot_id = l.lot_id order by change_id desc limit 1
) changed on true
left join (
    select lot_id, sum(amount) as amount,
        sum(amount) filter (where day < :today and day >= cast(:today as date) - cast(:days as integer)) as lately
    from accrued where contract_id = :contract_id and lot_id <> '' and kind = 'usage' group by lot_id
) draws on draws.lot_id = l.lot_id
where l.contract_id = :contract_id and l.start_at <= :as_of
""")

_LIST = sa.text("""
select a.rule_id, r.kind, a.contract_id, c.customer_id, nullif(r.product_id, '') as product_id, r.lot_id, r.span,
    a.span_start, a.number, a.state, a.observed, a.threshold,
    case when r.kind in ('spend', 'balance_amount') then c.currency end as currency, a.at
from alert a
join alert_rule r on r.rule_id = a.rule_id
join contract c on c.contract_id = a.contract_id
join entity e on e.entity_id = c.entity_id
where (cast(:contract_id as text) is null or a.contract_id = :contract_id)
    and (not :open_only or (a.state = 'raised' and r.disabled_at is null
        and not exists (
            select from alert later where later.rule_id = a.rule_id and later.contract_id = a.contract_id
                and later.span_start = a.span_start and later.number > a.number
        )
        and (r.span = 'term' or (a.span_start at time zone e.time_zone)::date >= (
            select (min(p.start_at) at time zone e.time_zone)::date from contract_period p
            where p.contract_id = a.contract_id and p.state <> 'invoiced'
        ))))
order by a.at desc, a.contract_id, a.rule_id, a.span_start desc, a.number desc limit :limit
""")
