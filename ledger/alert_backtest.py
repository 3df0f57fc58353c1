"""Backtest: what a rule would have raised and cleared on a contract, replayed from the figures of now.

Each day of the entity is seen as it stood in its last instant, and rules on what is unusual see each hour as it ended.
Usage counts where it belongs, however late it came, so that what was raised and cleared within one day, or by late
usage, does not appear.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby

import sqlalchemy as sa

from ledger.alert_groups import used_by
from ledger.alert_lots import PACE_DAYS, LotBalance, lot_figure
from ledger.alert_observations import full_days
from ledger.alert_rules import AlertRule, get_rule
from ledger.anomalies import hours_replayed, newcomers_replayed
from ledger.contracts import Contract, get_contract, lots_of
from ledger.errors import InvalidError
from ledger.periods import list_periods
from pricing.anomalies import HOUR
from pricing.calendar import Period, local_date, local_midnight
from pricing.detections import Score, scored
from pricing.money import EXACT, ZERO, total
from pricing.thresholds import Crossing, crossing, forecast

DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
Seen = tuple[date, datetime, Decimal]


@dataclass(frozen=True, slots=True)
class Replayed:
    """A crossing that a rule would have had on a day, the `number`th in the span from `span_start`.

    `at` is the moment as of which it is seen: the end of the day, or of the hour.
    """

    day: date
    at: datetime
    span_start: datetime
    number: int
    state: Crossing
    observed: Decimal


def backtest(connection: sa.Connection, rule_id: str, contract_id: str) -> tuple[Replayed, ...]:
    """Return the crossings of a rule, also a disabled one or one on other contracts, on a contract, in order of time.

    Nothing is written. Raises `NotFoundError`, and `InvalidError` for a rule whose figures of the past are not kept.
    """
    rule, contract = get_rule(connection, rule_id), get_contract(connection, contract_id)
    _refuse(rule)
    if rule.kind == "anomaly":
        return tuple(_of_hours(connection, contract, rule))
    if rule.kind == "new_group":
        return tuple(_of_groups(connection, contract, rule))
    if rule.kind == "invoice_total":
        return tuple(_of_invoices(connection, contract, rule))
    if rule.kind == "forecast":
        return tuple(_crossings(rule, _forecasts(connection, contract, rule)))
    seen = {"period": _in_periods, "day": _in_days, "term": _of_lots}[rule.span](connection, contract, rule)
    zone = contract.entity_zone
    moments = ((day, local_midnight(day + DAY, zone), span_start, figure) for day, span_start, figure in seen)
    return tuple(_crossings(rule, moments))


def scored_alarms(
    connection: sa.Connection, rule_id: str, contract_id: str, attacks: Sequence[Period]
) -> tuple[tuple[Replayed, ...], Score]:
    """Return the crossings of a rule and how those that raise compare with known attacks.

    An alarm of an anomaly is about its hour, any other about its day up to the moment as of which it is seen.
    """
    found = backtest(connection, rule_id, contract_id)
    zone, by_hour = get_contract(connection, contract_id).entity_zone, get_rule(connection, rule_id).span == "hour"
    alarms = [
        Period(one.span_start if by_hour else local_midnight(one.day, zone), one.at)
        for one in found
        if one.state == "raised"
    ]
    return found, scored(alarms, attacks)


def _refuse(rule: AlertRule) -> None:
    why = {
        "usage_silent": "when usage came is not known by day",
        "payment_failed": "which invoices were paid at the time is not known by day",
    }.get(rule.kind)
    if rule.kind == "spend" and rule.group_key is not None:
        why = "the books do not know what a group cost by day; replay a usage rule of that group"
    if why is not None:
        raise InvalidError(f"alert rule {rule.rule_id} on {rule.kind} cannot be replayed: {why}")


def _crossings(rule: AlertRule, seen: Iterable[tuple[date, datetime, datetime, Decimal]]) -> Iterator[Replayed]:
    numbers: dict[datetime, int] = defaultdict(int)
    for day, at, span_start, figure in seen:
        state = crossing(rule.bounds, figure, raised=numbers[span_start] % 2 == 1)
        if state is not None:
            numbers[span_start] += 1
            yield Replayed(day, at, span_start, numbers[span_start], state, figure)


def _of_hours(connection: sa.Connection, contract: Contract, rule: AlertRule) -> Iterator[Replayed]:
    for one in hours_replayed(connection, contract, rule):
        if one.is_raised:
            day = local_date(one.hour, contract.entity_zone)
            yield Replayed(day, one.hour + HOUR, one.hour, 1, "raised", one.judgement.observed)


def _of_groups(connection: sa.Connection, contract: Contract, rule: AlertRule) -> Iterator[Replayed]:
    yield from _crossings(
        rule,
        (
            (local_date(hour, contract.entity_zone), hour + HOUR, day, found.percent if found else ZERO)
            for hour, day, found in newcomers_replayed(connection, contract, rule)
        ),
    )


def _in_periods(connection: sa.Connection, contract: Contract, rule: AlertRule) -> Iterator[Seen]:
    reached: dict[datetime, Decimal] = defaultdict(Decimal)
    for day, period_start, figure in _parts(connection, contract, rule):
        reached[period_start] = EXACT.add(reached[period_start], figure)
        yield day, period_start, reached[period_start]


def _in_days(connection: sa.Connection, contract: Contract, rule: AlertRule) -> Iterator[Seen]:
    for day, parts in groupby(_parts(connection, contract, rule), key=lambda part: part[0]):
        yield day, local_midnight(day, contract.entity_zone), total([figure for _, _, figure in parts])


def _parts(connection: sa.Connection, contract: Contract, rule: AlertRule) -> Iterator[Seen]:
    """Yield what each day adds to each period, in order of days."""
    if rule.group_key is not None:
        periods = [one.period for one in list_periods(connection, contract.contract_id)]
        for used in (used for period in periods for used in used_by(connection, contract, rule, period)):
            yield used.day, used.period_start, used.figure
        return
    facts = {"contract_id": contract.contract_id, "product_id": rule.product_id}
    for row in connection.execute(_BY_DAY, facts):
        yield row.day, row.period_start, row.quantity if rule.kind == "usage" else row.amount


def _of_lots(connection: sa.Connection, contract: Contract, rule: AlertRule) -> Iterator[Seen]:
    zone = contract.entity_zone
    draws: dict[str, dict[date, Decimal]] = defaultdict(dict)
    for row in connection.execute(_DRAWS, {"contract_id": contract.contract_id}):
        draws[row.lot_id][row.day] = row.amount
    lots = lots_of(connection, contract.contract_id)
    if not lots or contract.accrued_at is None:
        return
    day, last = local_date(min(lot.start for lot in lots), zone), local_date(contract.accrued_at, zone)
    drawn: dict[str, Decimal] = defaultdict(Decimal)
    while day <= last:
        at = local_midnight(day + DAY, zone) - INSTANT
        lately = [day - n * DAY for n in range(1, PACE_DAYS + 1)]
        balances = []
        for lot in lots:
            own = draws[lot.lot_id]
            drawn[lot.lot_id] = EXACT.add(drawn[lot.lot_id], own.get(day, ZERO))
            if lot.start <= at:
                pace = total([own[earlier] for earlier in lately if earlier in own])
                window = lot.start, lot.end
                balances.append(LotBalance(lot.lot_id, lot.amount, *window, drawn[lot.lot_id], pace, lot.is_postpaid))
        figure = lot_figure(rule, contract, balances, as_of=at)
        if figure is not None:
            yield day, contract.start_at, figure
        day += DAY


def _of_invoices(connection: sa.Connection, contract: Contract, rule: AlertRule) -> Iterator[Replayed]:
    numbers: dict[datetime, int] = defaultdict(int)
    for row in connection.execute(_INVOICES, {"contract_id": contract.contract_id}):
        if crossing(rule.bounds, row.total, raised=False) == "raised":
            numbers[row.period_start] += 1
            day = local_date(row.created_at, contract.entity_zone)
            number = 2 * numbers[row.period_start] - 1
            yield Replayed(day, row.created_at, row.period_start, number, "raised", row.total)


def _forecasts(
    connection: sa.Connection, contract: Contract, rule: AlertRule
) -> Iterator[tuple[date, datetime, datetime, Decimal]]:
    """Yield the forecast of the period that runs in the last instant of each day."""
    zone = contract.entity_zone
    spent: dict[tuple[date, datetime], Decimal] = defaultdict(Decimal)
    for day, period_start, figure in _parts(connection, contract, rule):
        spent[day, period_start] = EXACT.add(spent[day, period_start], figure)
    if contract.accrued_at is None or contract.accrued_at < contract.start_at:
        return
    day, last = local_date(contract.start_at, zone), local_date(contract.accrued_at, zone)
    while day <= last and (contract.end_at is None or local_midnight(day, zone) < contract.end_at):
        end = local_midnight(day + DAY, zone)
        running, days = contract.periods(end - INSTANT)[-1], full_days(contract, end - INSTANT)
        reached = total([part for (on, start), part in spent.items() if start == running.start and on <= day])
        lately = total([part for (on, _), part in spent.items() if day - days * DAY <= on < day])
        yield day, end, running.start, forecast(reached, lately, days=days, left=running.end - end)
        day += DAY


_INVOICES = sa.text("""
select created_at, period_start, total from invoice where contract_id = :contract_id order by created_at, invoice_id
""")

_BY_DAY = sa.text("""
select day, period_start, sum(amount) as amount, coalesce(sum(quantity) filter (where kind = 'usage'), 0) as quantity
from accrued
where contract_id = :contract_id and kind <> 'breakage'
    and (cast(:product_id as text) is null or product_id = :product_id)
group by day, period_start order by day, period_start
""")

_DRAWS = sa.text("""
select lot_id, day, sum(amount) as amount from accrued
where contract_id = :contract_id and lot_id <> '' and kind = 'usage' group by lot_id, day
""")
