"""Readings counted from the single events, as they counted at a moment of the past: the proof of what the totals say.

`ledger.intake.readings` reads the same figures from totals, but only as they are now.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import groupby, pairwise
from uuid import UUID

import sqlalchemy as sa

from ledger.intake.counting import EPOCH, Cell, Clock, Series, joined, running_quantities, runs_of
from ledger.intake.events import PropertyValue, properties_of
from ledger.intake.rules import Measure, Rule, UnmeasurableError, groups_of, measure
from pricing.aggregation import MICROSECOND, Groups
from pricing.calendar import Period, days
from pricing.metrics import MeasuredEvent
from pricing.money import EXACT, ZERO
from pricing.terms import Reading

EVENTS_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Counted:
    """An event that counted, with what a rule makes of it. `ended_batch_id` says until which batch (None: on)."""

    timestamp: datetime
    key_hash: UUID
    revision: int
    source: str
    key: str
    batch_id: int
    counted_from_batch_id: int
    ended_batch_id: int | None
    received_at: datetime
    measure: Measure
    groups: Groups


@dataclass(frozen=True, slots=True)
class Usage:
    """Whose usage is counted, by which rules, and as of which batch (None: as it counts now).

    Readings of the metrics in `values_of` have each event's value.
    """

    customer_id: str
    rules: tuple[Rule, ...]
    time_zone: str
    as_of: int | None = None
    values_of: frozenset[str] = frozenset()


def count_events(
    connection: sa.Connection, usage: Usage, cuts: Sequence[datetime], *, until: datetime
) -> tuple[Reading, ...]:
    """Return what each metric counted between neighbouring cuts of one billing period, for each group.

    The rules of counting are those of `ledger.intake.readings.read_metrics`; levels last until `until`.
    """
    found: list[Reading] = []
    by_metric = {name: tuple(own) for name, own in groupby(usage.rules, key=lambda rule: rule.metric_id)}
    marks = _marks(usage, cuts, until)
    for (metric_id, groups), series in sorted(_series(connection, usage, cuts, marks).items(), key=lambda one: one[0]):
        runs = runs_of(by_metric[metric_id])
        period, before = Period(cuts[0], cuts[-1]), ZERO
        reached = running_quantities(runs, series.series(marks), period, cuts[1:], Clock(usage.time_zone, until))
        for (start, end), quantity in zip(pairwise(cuts), reached, strict=True):
            cells = [cell for n, cell in series.cells.items() if start <= marks[n] < end]
            events = sum(cell.events for cell in cells)
            values = tuple(value for at, value in series.all_values if start <= at < end)
            if quantity != before or events:
                added = EXACT.subtract(quantity, before)
                amount = ZERO
                for cell in cells:
                    amount = EXACT.add(amount, cell.amount)
                found.append(Reading(metric_id, start, end, added, groups, events, amount, values))
            before = quantity
    return tuple(found)


def events_between(
    connection: sa.Connection, usage: Usage, span: Period, *, after: tuple[datetime, UUID, int] | None = None
) -> Generator[tuple[Rule, Counted]]:
    """Yield the events of a span that counted, in the order of time, key and revision, with each rule that counts it.

    `after` is the place of an event behind which to begin.
    """
    yield from _counted(connection, usage, span, _WHERE_NOW if usage.as_of is None else _WHERE_AS_OF, after=after)


def events_changed(
    connection: sa.Connection,
    usage: Usage,
    span: Period,
    *,
    since: int,
    after: tuple[datetime, UUID, int] | None = None,
) -> Generator[tuple[Rule, Counted]]:
    """Yield the events of a span that began or ceased to count after batch `since`, up to the state of `usage`."""
    where = _CHANGED_NOW if usage.as_of is None else _CHANGED_AS_OF
    yield from _counted(connection, usage, span, where, after=after, since=since)


# --- series -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Gathered:
    """What is kept of the events of one metric and group: totals by stretch; members and values where they count."""

    cells: dict[int, Cell] = field(default_factory=dict)
    members: list[MeasuredEvent] = field(default_factory=list)
    values: list[MeasuredEvent] = field(default_factory=list)
    all_values: list[tuple[datetime, Decimal]] = field(default_factory=list)

    def series(self, marks: Sequence[datetime]) -> Series:
        cells = [cell for n, cell in sorted(self.cells.items()) if marks[n] < marks[-1]]
        return Series(cells, self.members, self.values)


def _marks(usage: Usage, cuts: Sequence[datetime], until: datetime) -> tuple[datetime, ...]:
    """Return the moments at which totals are cut, so that everything that is counted begins and ends on one."""
    marks = {*cuts, min(until, cuts[-1])}
    marks |= {rule.version.effective_from for rule in usage.rules if rule.version.effective_from is not None}
    if any(rule.version.granularity == "day" for rule in usage.rules):
        marks |= {part.start for _, part in days(Period(cuts[0], cuts[-1]), usage.time_zone)}
    return tuple(sorted(mark for mark in marks if mark <= cuts[-1]))


def _series(
    connection: sa.Connection, usage: Usage, cuts: Sequence[datetime], marks: Sequence[datetime]
) -> Mapping[tuple[str, Groups], _Gathered]:
    found: dict[tuple[str, Groups], _Gathered] = defaultdict(_Gathered)
    carries = any(rule.version.carry_over for rule in usage.rules)
    span = Period(EPOCH if carries else cuts[0], cuts[-1])
    for rule, one in events_between(connection, usage, span):
        if one.timestamp < cuts[0] and not rule.version.carry_over:
            continue
        gathered = found[rule.metric_id, one.groups]
        n = bisect_right(marks, one.timestamp) - 1
        start, end = (None, marks[0]) if n < 0 else (marks[n], marks[n + 1])
        cell = _cell(start, end, one)
        gathered.cells[n] = joined(gathered.cells[n], cell) if n in gathered.cells else cell
        event = MeasuredEvent(
            one.timestamp,
            None if rule.member is not None else one.measure.value,
            one.measure.member,
            one.groups,
            one.measure.operation,
            str(one.key_hash),
        )
        if rule.member is not None:
            gathered.members.append(event)
        elif rule.version.aggregation == "percentile":
            gathered.values.append(event)
        if rule.metric_id in usage.values_of and one.timestamp >= cuts[0]:
            gathered.all_values.append((one.timestamp, one.measure.value))
    return found


def _cell(start: datetime | None, end: datetime, one: Counted) -> Cell:
    value = one.measure.value
    passed = Decimal((one.timestamp - EPOCH) // MICROSECOND).scaleb(-6, context=EXACT)
    return Cell(
        start,
        end,
        value,
        1,
        one.measure.amount or ZERO,
        value,
        value,
        EXACT.multiply(value, passed),
        (one.timestamp, one.key_hash, value),
    )


# --- from the database --------------------------------------------------------------------------------------------


def _counted(
    connection: sa.Connection,
    usage: Usage,
    span: Period,
    where: str,
    *,
    after: tuple[datetime, UUID, int] | None = None,
    since: int | None = None,
) -> Generator[tuple[Rule, Counted]]:
    place = "" if after is None else "and (e.ts, e.key_hash, e.revision) > (:after_ts, :after_key, :after_revision)"
    facts: dict[str, object] = {
        "customer_id": usage.customer_id,
        "types": sorted({rule.version.event_type for rule in usage.rules}),
        "first": span.start if after is None else max(span.start, after[0]),
        "last": span.end,
        "as_of": usage.as_of,
        "since": since,
    }
    if after is not None:
        facts |= {"after_ts": after[0], "after_key": after[1], "after_revision": after[2]}
    query = sa.text(_EVENTS.format(where=where, place=place)).execution_options(yield_per=EVENTS_AT_ONCE)
    with connection.execute(query, facts) as rows:  # a reader of a page leaves the rest
        for row in rows:
            properties = properties_of(row.properties)
            for rule in usage.rules:
                if rule.version.event_type == row.type and rule.covers(row.ts):
                    one = _measured(rule, row, properties)
                    if one is not None:
                        yield rule, one


def _measured(rule: Rule, row: sa.Row[tuple[object, ...]], properties: Mapping[str, PropertyValue]) -> Counted | None:
    try:
        found = measure(rule, properties)
    except UnmeasurableError:
        return None  # the event came before the metric that cannot measure it
    if found is None:
        return None
    return Counted(
        timestamp=row.ts,
        key_hash=row.key_hash,
        revision=row.revision,
        source=row.source,
        key=row.key,
        batch_id=row.batch_id,
        counted_from_batch_id=row.counted_from,
        ended_batch_id=row.ended_batch_id,
        received_at=row.received_at,
        measure=found,
        groups=groups_of(rule, properties),
    )


_EVENTS = """
select e.ts, e.key_hash, e.revision, e.source, e.key, e.batch_id, e.ended_batch_id, e.received_at, e.type,
    coalesce(e.attributed_batch_id, e.batch_id) as counted_from, e.properties::text as properties
from usage_event e
where e.customer_id = :customer_id and e.type = any(:types) and e.ts >= :first and e.ts < :last and {where} {place}
order by e.ts, e.key_hash, e.revision
"""

_WHERE_NOW = "e.ended_batch_id is null"

_WHERE_AS_OF = (
    "coalesce(e.attributed_batch_id, e.batch_id) <= :as_of and (e.ended_batch_id is null or e.ended_batch_id > :as_of)"
)

# Rows that count at exactly one of the two moments.
_CHANGED_NOW = """(
    coalesce(e.attributed_batch_id, e.batch_id) > :since and e.ended_batch_id is null
    or coalesce(e.attributed_batch_id, e.batch_id) <= :since and e.ended_batch_id > :since
)"""

_CHANGED_AS_OF = """(
    coalesce(e.attributed_batch_id, e.batch_id) > :since and coalesce(e.attributed_batch_id, e.batch_id) <= :as_of
        and (e.ended_batch_id is null or e.ended_batch_id > :as_of)
    or coalesce(e.attributed_batch_id, e.batch_id) <= :since and e.ended_batch_id > :since
        and e.ended_batch_id <= :as_of
)"""
