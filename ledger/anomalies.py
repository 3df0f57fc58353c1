"""Anomalies of a contract: its usage by hour and by group, read from the rollup and judged by its own past.

With a product it is the units that its metric adds up, or the events of a metric that does not add up. Without one it
is the events of all metrics that the contract prices; an event that two of them count counts twice, as it did before.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa

from ledger.alert_rules import AlertRule
from ledger.contract_checks import metrics_of
from ledger.contracts import Contract, terms_of
from ledger.intake.rules import read_rules
from pricing.anomalies import (
    ALL,
    HISTORY,
    HOUR,
    NEW,
    SEEN,
    GroupsByMoment,
    GroupUsage,
    HourlyUsage,
    JudgedHour,
    Newcomer,
    judged_hours,
    newcomer_on,
    newcomers_by_hour,
)
from pricing.calendar import Period, local_date, local_midnight
from pricing.money import ZERO, to_ledger_scale
from pricing.segments import terms_in_force

WATCHED_HOURS = 48
"""So many complete hours are judged again as each new one is complete: usage of them may come late or be corrected."""

MOST_WATCHED = timedelta(weeks=2)
WATCHED_DAYS = 2
MOST_PEERS = 100
"""So many other customers, the first by id, stand for all in what a new one is compared with."""

ADDING = ("sum", "count")


@dataclass(frozen=True, slots=True)
class Counted:
    """What is counted of a contract: these metrics, of which some add units up; `unit` is what a figure is in."""

    metric_ids: Sequence[str]
    adding: Collection[str]
    unit: str


def is_due(contract: Contract, as_of: datetime) -> bool:
    """Say whether an hour has become complete since the contract was accrued last."""
    return contract.accrued_at is None or contract.accrued_at < _full_hour(as_of)


def hours_watched(
    connection: sa.Connection, contract: Contract, rule: AlertRule, *, as_of: datetime
) -> tuple[JudgedHour, ...]:
    """Return the judgements of the last complete hours within the contract, in order of time.

    They go back to the last accrual, so that a worker that was away misses none, but not beyond two weeks.
    """
    end = min(_full_hour(as_of), contract.end_at or as_of)
    since = max(min(contract.accrued_at or end, end - WATCHED_HOURS * HOUR), end - MOST_WATCHED)
    return _judged(connection, contract, rule, max(contract.start_at, _full_hour(since)), end)


def hours_replayed(connection: sa.Connection, contract: Contract, rule: AlertRule) -> tuple[JudgedHour, ...]:
    """Return the judgements of all complete hours of the contract, by the usage of now."""
    if contract.accrued_at is None:
        return ()
    end = min(_full_hour(contract.accrued_at), contract.end_at or contract.accrued_at)
    return _judged(connection, contract, rule, contract.start_at, end)


def newcomers_watched(
    connection: sa.Connection, contract: Contract, rule: AlertRule, *, as_of: datetime
) -> Iterator[tuple[datetime, Newcomer | None]]:
    """Yield the first moment of the last days of the entity, today's too, with the newcomer on each, so far."""
    zone = contract.entity_zone
    today = local_date(as_of, zone)
    since = local_midnight(today - (WATCHED_DAYS - 1) * timedelta(days=1) - SEEN, zone)
    by_day = _groups(connection, contract, rule, ("day", zone), Period(since, _full_hour(as_of)))
    for days in reversed(range(WATCHED_DAYS)):
        day = local_midnight(today - timedelta(days=days), zone)
        if day >= contract.start_at and (contract.end_at is None or day < contract.end_at):
            yield day, newcomer_on(by_day, day, by_day.get(day, {}))


def newcomers_replayed(
    connection: sa.Connection, contract: Contract, rule: AlertRule
) -> Iterator[tuple[datetime, datetime, Newcomer | None]]:
    """Yield each hour with usage of the contract, the first moment of its day, and the newcomer as it ended."""
    if contract.accrued_at is None:
        return
    window = Period(contract.start_at - SEEN, _full_hour(contract.accrued_at))
    by_hour = _groups(connection, contract, rule, ("hour", "UTC"), window)
    for hour, day, found in newcomers_by_hour(by_hour, contract.entity_zone):
        if contract.start_at <= day and (contract.end_at is None or day < contract.end_at):
            yield hour, day, found


def counted_of(connection: sa.Connection, contract: Contract, product_id: str | None, *, at: datetime) -> Counted:
    """Return what a rule counts of a contract under the terms in force at a moment; nothing where they do not say."""
    terms = terms_in_force(terms_of(connection, contract.contract_id), max(at, contract.start_at))
    if product_id is None:
        return Counted(sorted(metrics_of(terms)), (), "event")
    prices = [one for one in terms.prices if one.product_id == product_id] if terms else []
    metric_ids = sorted({one.metric_id for one in prices if one.metric_id is not None})
    others = {one.metric_id for one in read_rules(connection) if one.version.aggregation not in ADDING}
    adding = [metric_id for metric_id in metric_ids if metric_id not in others]
    return Counted(metric_ids, adding, prices[0].unit if adding else "event")


# --- what was used ------------------------------------------------------------------------------------------------


def _judged(
    connection: sa.Connection, contract: Contract, rule: AlertRule, start: datetime, end: datetime
) -> tuple[JudgedHour, ...]:
    start = _full_hour(start + HOUR - timedelta(microseconds=1))
    if start >= end:
        return ()
    counted = counted_of(connection, contract, rule.product_id, at=end)
    facts = {"metric_ids": [*counted.metric_ids], "adding": [*counted.adding], "since": start - HISTORY, "until": end}
    rows = connection.execute(_BY_HOUR, {**facts, "customer_id": contract.customer_id}).all()
    figures = {row.hour: to_ledger_scale(row.figure) for row in rows}
    events = {row.hour: int(row.events) for row in rows}
    since = min(figures, default=end)
    peers: dict[datetime, list[Decimal]] = defaultdict(list)
    if start < since + NEW:
        new = {"since": max(since, start), "until": min(since + NEW, end), "entity_id": contract.entity_id}
        of_others = {"customer_id": contract.customer_id, "most": MOST_PEERS}
        for row in connection.execute(_OF_PEERS, {**facts, **new, **of_others}):
            peers[row.hour].append(to_ledger_scale(row.figure))
    usage = HourlyUsage(figures, events, contract.time_zone, peers)
    hours = [start + number * HOUR for number in range(-(-(end - start) // HOUR))]
    return tuple(judged_hours(usage, hours, rule.threshold))


def _groups(
    connection: sa.Connection,
    contract: Contract,
    rule: AlertRule,
    span: tuple[str, str],
    window: Period,
) -> GroupsByMoment:
    """Return what each group used in each day or hour of a zone, and all together."""
    counted = counted_of(connection, contract, rule.product_id, at=window.end)
    unit, zone = span
    facts = {
        "customer_id": contract.customer_id,
        "metric_ids": [*counted.metric_ids],
        "adding": [*counted.adding],
        "since": window.start,
        "until": window.end,
        "unit": unit,
        "zone": zone,
    }
    found: dict[datetime, dict[tuple[str, str], GroupUsage]] = {}
    for row in connection.execute(_BY_GROUP, facts):
        groups = found.setdefault(row.moment, {ALL: GroupUsage(ZERO, 0)})
        groups[row.key, row.value] = GroupUsage(to_ledger_scale(row.figure), int(row.events))
    return found


def _full_hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


_FIGURE = "sum(case when r.metric_id = any(:adding) then r.quantity else r.events end) as figure"

_BY_HOUR = sa.text(f"""
select date_trunc('hour', r.bucket_start, 'UTC') as hour, {_FIGURE}, sum(r.events) as events
from usage_rollup r
where r.customer_id = :customer_id and r.metric_id = any(:metric_ids)
    and r.bucket_start >= :since and r.bucket_start < :until
group by hour having sum(r.events) > 0
""")  # noqa: S608 - a constant of this module

_OF_PEERS = sa.text(f"""
with peer as (
    select distinct customer_id from contract
    where entity_id = :entity_id and customer_id <> :customer_id order by customer_id limit :most
)
select date_trunc('hour', r.bucket_start, 'UTC') as hour, peer.customer_id, {_FIGURE}
from peer join usage_rollup r on r.customer_id = peer.customer_id
where r.metric_id = any(:metric_ids) and r.bucket_start >= :since and r.bucket_start < :until
group by hour, peer.customer_id having sum(r.events) > 0
""")  # noqa: S608 - a constant of this module

_BY_GROUP = sa.text(f"""
select date_trunc(:unit, r.bucket_start, :zone) as moment, g.key, g.value, {_FIGURE}, sum(r.events) as events
from usage_rollup r cross join lateral (
    select '' as key, '' as value union all select key, value from jsonb_each_text(r.groups) where value is not null
) g
where r.customer_id = :customer_id and r.metric_id = any(:metric_ids)
    and r.bucket_start >= :since and r.bucket_start < :until
group by moment, g.key, g.value having sum(r.events) > 0
""")  # noqa: S608 - a constant of this module
