"""Readings: what a customer used of each metric between chosen moments, for every combination of group values.

What a metric counts from the start of a billing period to a moment is as `pricing.aggregation` says; a reading is what
an interval adds to it, and may be below zero. The totals of buckets give it, so that reading does not grow with the
events; only percentiles, and single values where they are asked for, are read from the events.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from itertools import groupby, pairwise
from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa

from ledger.intake.counting import Cell, Clock, Run, Series, joined, running_quantities, runs_of, summed
from ledger.intake.events import properties_of
from ledger.intake.rollup import BOOKS, Totals
from ledger.intake.rules import Rule, UnmeasurableError, groups_of, measure, read_rules, text_of
from pricing.aggregation import Groups
from pricing.calendar import Period, days, is_on_grid
from pricing.metrics import MeasuredEvent
from pricing.money import EXACT, ZERO
from pricing.terms import Reading

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class MetricReadings:
    """The readings of one metric, by groups and in order of time; an interval that adds nothing has none."""

    metric_id: str
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What is read of a customer: usage between neighbouring cuts, as `read_metrics` explains."""

    customer_id: str
    cuts: tuple[datetime, ...]
    restarts: tuple[datetime, ...] = ()
    time_zone: str = "UTC"
    until: datetime | None = None
    values_of: frozenset[str] = frozenset()
    groups: frozenset[tuple[str, UUID]] | None = None

    def periods(self) -> tuple[Period, ...]:
        """Return the billing periods, each of which counts from zero."""
        bounds = sorted({self.cuts[0], *self.restarts, self.cuts[-1]})
        return tuple(Period(start, end) for start, end in pairwise(bounds))


def read_metrics(
    connection: sa.Connection,
    customer_id: str,
    cuts: Sequence[datetime],
    *,
    restarts: Sequence[datetime] = (),
    time_zone: str = "UTC",
    until: datetime | None = None,
    values_of: Collection[str] = (),
    groups: Collection[tuple[str, UUID]] | None = None,
) -> tuple[MetricReadings, ...]:
    """Return, by metric, what a customer used between neighbouring cuts, for each combination of group values.

    Counting begins anew at the first cut and at each of `restarts`, the starts of billing periods among the cuts; what
    carries over goes on from all that came before. Levels that last are counted until `until` (None: the last cut), and
    whole days are those of `time_zone`. Readings of the metrics in `values_of` have each event's value. Cuts ascend and
    stand on the customer's buckets, as `until` does, else `ValueError`: a bucket cannot be split. A metric without
    anything between the first and the last cut is left out. `groups` are the metrics and group hashes to read (None:
    all).
    """
    only = None if groups is None else frozenset(groups)
    request = Request(customer_id, tuple(cuts), tuple(restarts), time_zone, until, frozenset(values_of), only)
    return read_by_rules(connection, request, read_rules(connection))


def read_by_rules(
    connection: sa.Connection, request: Request, rules: Sequence[Rule], *, totals: Totals = BOOKS
) -> tuple[MetricReadings, ...]:
    """Read as `read_metrics` does, by rules that may be on trial, from the totals that these rules have made."""
    _check_cuts(connection, request)
    if len(request.cuts) <= 1:
        return ()
    wanted = None if request.groups is None else {metric_id for metric_id, _ in request.groups}
    by_metric = {
        name: tuple(own)
        for name, own in groupby(rules, key=lambda rule: rule.metric_id)
        if wanted is None or name in wanted
    }
    runs = {metric_id: runs_of(own) for metric_id, own in by_metric.items()}
    series = _series(connection, request, by_metric, totals)
    found: dict[str, list[Reading]] = {}
    for (metric_id, groups), one in sorted(series.items(), key=lambda item: item[0]):
        found.setdefault(metric_id, []).extend(_readings(request, metric_id, groups, one, runs[metric_id]))
    return tuple(MetricReadings(metric_id, tuple(readings)) for metric_id, readings in found.items() if readings)


def _check_cuts(connection: sa.Connection, request: Request) -> None:
    facts = {"customer_id": request.customer_id}
    bucket_minutes = connection.execute(_BUCKET_MINUTES, facts).scalar_one()
    for before, after in pairwise(request.cuts):
        if before >= after:
            raise ValueError(f"cuts must ascend, but {before.isoformat()} comes before {after.isoformat()}")
    for cut in (*request.cuts, *([] if request.until is None else [request.until])):
        if not is_on_grid(cut, bucket_minutes):
            raise ValueError(
                f"cut {cut.isoformat()} splits a bucket of {bucket_minutes} minutes of {request.customer_id}"
            )
    if not {*request.restarts} <= {*request.cuts}:
        raise ValueError("restarts must be cuts, because a billing period begins with an interval")


def _readings(
    request: Request, metric_id: str, groups: Groups, series: Series, runs: Sequence[Run]
) -> Iterator[Reading]:
    """Yield what each interval adds to what its billing period has counted so far."""
    clock = Clock(request.time_zone, request.until)
    cells = _by_interval(request.cuts, series.cells, [cell.start for cell in series.cells])
    values = _by_interval(request.cuts, series.values, [event.at for event in series.values])
    for period in request.periods():
        first = request.cuts.index(period.start)
        moments = request.cuts[first + 1 : request.cuts.index(period.end) + 1]
        before = ZERO
        for n, reached in enumerate(running_quantities(runs, series, period, moments, clock), start=first):
            quantity, before = EXACT.subtract(reached, before), reached
            events, amount = summed(cells.get(n, ()))
            if quantity or events:
                own = values.get(n, ()) if metric_id in request.values_of else ()
                each = tuple(event.value for event in own if event.value is not None)
                yield Reading(metric_id, request.cuts[n], request.cuts[n + 1], quantity, groups, events, amount, each)


def _by_interval(
    cuts: Sequence[datetime], items: Sequence[Item], moments: Sequence[datetime | None]
) -> Mapping[int, list[Item]]:
    found: dict[int, list[Item]] = defaultdict(list)
    for item, moment in zip(items, moments, strict=True):
        if moment is not None and moment >= cuts[0]:
            found[bisect_right(cuts, moment) - 1].append(item)
    return found


# --- from the database --------------------------------------------------------------------------------------------


def _series(
    connection: sa.Connection, request: Request, rules: Mapping[str, Sequence[Rule]], totals: Totals
) -> dict[tuple[str, Groups], Series]:
    every = [rule for own in rules.values() for rule in own]
    marks = _marks(request, every)
    facts: dict[str, object] = {
        "customer_id": request.customer_id,
        "marks": list(marks),
        "first": request.cuts[0],
        "last": request.cuts[-1],
        "metrics": list(rules),
        "by_moment": sorted({rule.metric_id for rule in every if rule.version.aggregation == "time_weighted"}),
    }
    carrying = sorted({rule.metric_id for rule in every if rule.version.carry_over})
    if carrying:  # else the beginning of the span is left to the index
        facts["carrying"] = carrying
    if request.groups is not None:
        facts["only_metrics"] = [metric_id for metric_id, _ in request.groups]
        facts["only_groups"] = [group_hash for _, group_hash in request.groups]
    found: dict[tuple[str, Groups], Series] = defaultdict(Series)
    _add_cells(connection, found, marks, facts, totals)
    if any(rule.member is not None for rule in every):
        _add_members(connection, found, facts, totals)
    by_event = [r for r in every if r.version.aggregation == "percentile" or r.metric_id in request.values_of]
    if by_event:
        _add_values(connection, found, by_event, request)
    return found


def _marks(request: Request, rules: Sequence[Rule]) -> tuple[datetime, ...]:
    """Return the moments at which totals must be cut, so that everything that is counted begins and ends on one."""
    marks = {*request.cuts, *([] if request.until is None else [request.until])}
    marks |= {rule.version.effective_from for rule in rules if rule.version.effective_from is not None}
    if any(rule.version.granularity == "day" for rule in rules):
        span = Period(request.cuts[0], request.cuts[-1])
        marks |= {part.start for _, part in days(span, request.time_zone)}
    return tuple(sorted(mark for mark in marks if mark <= request.cuts[-1]))


def _add_cells(
    connection: sa.Connection,
    found: dict[tuple[str, Groups], Series],
    marks: Sequence[datetime],
    facts: Mapping[str, object],
    totals: Totals,
) -> None:
    for row in connection.execute(sa.text(_CELLS.format(rows=_rows(totals.rollup, "bucket_start", facts))), facts):
        latest = None if row.latest_at is None else (row.latest_at, row.latest_key, row.latest_value)
        cell = Cell(
            None if row.n == 0 else marks[row.n - 1],
            marks[row.n],
            row.quantity,
            row.events,
            row.amount or ZERO,
            row.highest,
            row.lowest,
            row.weighted or ZERO,
            latest,
        )
        cells = found[row.metric_id, groups_of_text(row.groups)].cells
        if cells and cells[-1].end == cell.end:  # the text of 1 and "1" is the same
            cells[-1] = joined(cells[-1], cell)
        else:
            cells.append(cell)


def _add_members(
    connection: sa.Connection,
    found: dict[tuple[str, Groups], Series],
    facts: Mapping[str, object],
    totals: Totals,
) -> None:
    groups = {
        (metric_id, group_hash): groups_of_text(text)
        for metric_id, group_hash, text in connection.execute(
            sa.text(_MEMBER_GROUPS.format(rows=_rows(totals.rollup, None, facts), member=totals.member)), facts
        )
    }
    for row in connection.execute(sa.text(_MEMBERS.format(rows=_rows(totals.member, "slot_start", facts))), facts):
        key = groups[row.metric_id, row.group_hash]
        members = found[row.metric_id, key].members
        event = MeasuredEvent(row.at, member=str(row.member_hash), groups=key, order=str(row.key))
        if row.last_is_addition:
            members.append(event)
            continue
        if row.additions:  # who came and went in one slot was there
            members.append(event)
        members.append(replace(event, operation="remove", order=f"{row.key}-"))


def _add_values(
    connection: sa.Connection, found: dict[tuple[str, Groups], Series], rules: Sequence[Rule], request: Request
) -> None:
    types = sorted({rule.version.event_type for rule in rules})
    facts = {"customer_id": request.customer_id, "types": types, "first": request.cuts[0], "last": request.cuts[-1]}
    for row in connection.execute(_EVENTS, facts):
        properties = properties_of(row.properties)
        for rule in rules:
            if rule.version.event_type != row.type or not rule.covers(row.ts):
                continue
            try:
                measured = measure(rule, properties)
            except UnmeasurableError:
                continue  # the event came before the metric that cannot measure it
            if measured is not None:
                groups = groups_of(rule, properties)
                event = MeasuredEvent(row.ts, measured.value, groups=groups, order=str(row.key_hash))
                found[rule.metric_id, groups].values.append(event)


def _rows(table: str, column: str | None, facts: Mapping[str, object]) -> str:
    """Return the rows of totals that are read, from the first cut to the last where a column says their time."""
    span = ""
    if column is not None:
        carried = " or metric_id = any(:carrying)" if "carrying" in facts else ""
        span = f"and {column} < :last and ({column} >= :first{carried})"
    return (_ROWS_OF_GROUPS if "only_groups" in facts else _ROWS).format(table=table, span=span)


@lru_cache(maxsize=8192)
def groups_of_text(text: str) -> Groups:
    """Return the groups that a rollup's JSON stands for, their values as text."""
    return tuple((key, text_of(value)) for key, value in sorted(properties_of(text).items()))


_BUCKET_MINUTES = sa.text("select bucket_minutes from customer where customer_id = :customer_id")

_ROWS = "(select * from {table} where customer_id = :customer_id and metric_id = any(:metrics) {span})"

# Group by group, whatever the planner thinks of a customer with many hours: by the key each is found at once.
_ROWS_OF_GROUPS = """(
    select one.* from unnest(cast(:only_metrics as text[]), cast(:only_groups as uuid[])) o (name, hash)
    cross join lateral (
        select * from {table}
        where customer_id = :customer_id and metric_id = o.name and group_hash = o.hash {span}
        offset 0
    ) one
)"""

_CELLS = """
select metric_id, groups::text as groups, width_bucket(bucket_start, cast(:marks as timestamptz[])) as n,
    sum(quantity) as quantity, sum(events)::bigint as events, sum(amount) as amount,
    max(highest) as highest, min(lowest) as lowest, sum(weighted) as weighted, max(latest_at) as latest_at,
    (array_agg(latest_key order by latest_at desc, latest_key desc) filter (where latest_at is not null))[1]
        as latest_key,
    (array_agg(latest_value order by latest_at desc, latest_key desc) filter (where latest_at is not null))[1]
        as latest_value
from {rows} r
group by metric_id, r.groups, n
order by metric_id, n
"""

_MEMBER_GROUPS = """
select distinct metric_id, group_hash, groups::text as groups from {rows} r
where exists (
    select from {member} u where (u.customer_id, u.metric_id, u.group_hash) = (r.customer_id, r.metric_id, r.group_hash)
)
"""

_MEMBERS = """
select metric_id, group_hash, member_hash, sum(additions) as additions, max(last_at) as at,
    (array_agg(last_is_addition order by last_at desc, last_key desc))[1] as last_is_addition,
    (array_agg(last_key order by last_at desc, last_key desc))[1] as key
from {rows} r
group by metric_id, group_hash, member_hash, width_bucket(slot_start, cast(:marks as timestamptz[])),
    case when metric_id = any(:by_moment) then slot_start end
order by at, key
"""

_EVENTS = sa.text("""
select ts, key_hash, type, properties::text as properties from usage_event
where customer_id = :customer_id and type = any(:types) and ts >= :first and ts < :last and ended_batch_id is null
order by ts, key_hash
""")
