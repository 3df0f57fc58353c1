"""Completeness: what came from each source for each hour, beside what the source says that it made.

Counted from the tally and the outcomes, never from the events. Hours are whole ones in UTC: those of usage by the
events' own time, those of arrival by when they came.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from ledger.checks import check_aware, check_text
from ledger.errors import InvalidError
from ledger.intake.status import REASON

HOUR = timedelta(hours=1)
LOOKED_BACK = timedelta(days=30)
USUAL_SHARE = 0.99
SILENT_AFTER = 2
"""A source is silent after so many times its usual gap."""


@dataclass(frozen=True, slots=True)
class HourOfUsage:
    """The events of a source of one hour of usage: accepted are those that are rated, unmatched or withdrawn.

    `declared` is what the source says that it made (None: nothing); `missing` is below zero where more came than that.
    """

    source: str
    hour: datetime
    accepted: int
    rated: int
    unmatched: int
    withdrawn: int
    declared: int | None
    declared_by: str | None
    declared_at: datetime | None
    missing: int | None


@dataclass(frozen=True, slots=True)
class HourOfArrival:
    """What a source sent in one hour, whatever hours it was of."""

    source: str
    hour: datetime
    accepted: int
    duplicate: int
    conflict: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch [start, end) of hours without usage, between hours of the source that have some."""

    source: str
    start: datetime
    end: datetime

    @property
    def hours(self) -> int:
        """How many hours it lasts."""
        return (self.end - self.start) // HOUR


@dataclass(frozen=True, slots=True)
class Silence:
    """A source from which nothing came since the hour `last_hour`, longer than is usual for it.

    `usual_hours` is the gap between arrivals that 99 of 100 of its gaps in the 30 days before did not exceed; a source
    is silent after `factor` times that.
    """

    source: str
    last_hour: datetime
    silent_hours: int
    usual_hours: int
    factor: int


@dataclass(frozen=True, slots=True)
class Completeness:
    """Usage of [start, end) by source and hour, what arrived in the same hours, and what looks wrong."""

    start: datetime
    end: datetime
    usage: tuple[HourOfUsage, ...]
    arrivals: tuple[HourOfArrival, ...]
    gaps: tuple[Gap, ...]
    silences: tuple[Silence, ...]

    @property
    def incomplete(self) -> tuple[HourOfUsage, ...]:
        """The hours of which more was declared than came, or more came than was declared."""
        return tuple(one for one in self.usage if one.missing)


@dataclass(frozen=True, slots=True)
class Declaration:
    """How many events a source says that it made in the hour of usage that begins at `hour`."""

    source: str
    hour: datetime
    events: int


def declare_usage(connection: sa.Connection, declared: Sequence[Declaration], *, by: str, at: datetime) -> int:
    """Record what sources say of themselves, and return how many values are new; another value replaces the one before.

    Raises `InvalidError` for what is no whole hour of UTC, or a number below zero.
    """
    check_text("by", by)
    check_aware("at", at)
    for one in declared:
        check_text("source", one.source, longest=256)
        check_aware("hour", one.hour)
        if one.hour.timestamp() % HOUR.total_seconds():
            raise InvalidError(f"hour {one.hour.isoformat()} is no whole hour; declare what was made from hour to hour")
        if one.events < 0:
            raise InvalidError(f"events {one.events} is below zero; declare how many were made, 0 for none")
    rows = [
        {"source": one.source, "hour": one.hour, "events": one.events, "by": by, "at": at}
        for one in {(one.source, one.hour): one for one in declared}.values()
    ]
    return sum(connection.execute(_DECLARE, row).rowcount for row in rows)


def completeness(
    connection: sa.Connection, *, start: datetime, end: datetime, now: datetime, source: str | None = None
) -> Completeness:
    """Return what came of the usage of [start, end), of all sources or one; silence is told as of `now`.

    Raises `InvalidError` when the span is none.
    """
    for name, moment in (("start", start), ("end", end), ("now", now)):
        check_aware(name, moment)
    if start >= end:
        raise InvalidError(f"end {end.isoformat()} is not after start {start.isoformat()}; give a span of time")
    facts = {"start": start, "end": end, "source": source}
    usage = tuple(HourOfUsage(*row) for row in connection.execute(_USAGE, facts))
    return Completeness(
        start=start,
        end=end,
        usage=usage,
        arrivals=tuple(HourOfArrival(*row) for row in connection.execute(_ARRIVALS, facts)),
        gaps=tuple(_gaps(usage)),
        silences=tuple(_silences(connection, source, now)),
    )


def _gaps(usage: Sequence[HourOfUsage]) -> Iterator[Gap]:
    before: dict[str, datetime] = {}
    for one in sorted(usage, key=lambda one: (one.source, one.hour)):
        if not one.accepted:
            continue
        last = before.get(one.source)
        if last is not None and one.hour > last + HOUR:
            yield Gap(one.source, last + HOUR, one.hour)
        before[one.source] = one.hour


def _silences(connection: sa.Connection, source: str | None, now: datetime) -> Iterator[Silence]:
    for row in connection.execute(_RHYTHM, {"source": source, "back": LOOKED_BACK, "share": USUAL_SHARE}):
        silent_hours = (now - row.last_hour) // HOUR
        if silent_hours > SILENT_AFTER * row.usual_hours:
            yield Silence(row.source, row.last_hour, silent_hours, row.usual_hours, SILENT_AFTER)


# One statement, so that all its figures are of one instant.
_TEXT = """
with counted as (
    select t.source, date_trunc('hour', t.bucket_start, 'UTC') as hour, t.events, {reason} is null as is_rated
    from usage_tally t left join customer_alias a on a.alias = t.customer_alias
    where t.bucket_start >= :start and t.bucket_start < :end
        and (cast(:source as text) is null or t.source = :source)
),
last as (
    select distinct on (key_hash) key_hash, payload_hash, ts, batch_id from usage_correction
    order by key_hash, revision desc
),
every as (
    select source, hour, sum(events) filter (where is_rated) as rated, sum(events) filter (where not is_rated)
        as unmatched, null::bigint as withdrawn from counted group by source, hour
    union all
    select e.source, date_trunc('hour', l.ts, 'UTC'), null, null, count(*)
    from last l join usage_event e on e.ts = l.ts and e.key_hash = l.key_hash and e.ended_batch_id = l.batch_id
    where l.payload_hash is null and l.ts >= :start and l.ts < :end
        and (cast(:source as text) is null or e.source = :source)
    group by 1, 2
),
came as (
    select source, hour, coalesce(sum(rated), 0)::bigint as rated, coalesce(sum(unmatched), 0)::bigint as unmatched,
        coalesce(sum(withdrawn), 0)::bigint as withdrawn,
        (coalesce(sum(rated), 0) + coalesce(sum(unmatched), 0) + coalesce(sum(withdrawn), 0))::bigint as accepted
    from every group by source, hour
),
declared as (
    select * from usage_declared
    where hour >= :start and hour < :end and (cast(:source as text) is null or source = :source)
)
select coalesce(c.source, d.source) as source, coalesce(c.hour, d.hour) as hour, coalesce(c.accepted, 0),
    coalesce(c.rated, 0), coalesce(c.unmatched, 0), coalesce(c.withdrawn, 0), d.events, d.declared_by, d.declared_at,
    d.events - coalesce(c.accepted, 0)
from came c full join declared d on d.source = c.source and d.hour = c.hour
where c.accepted > 0 or d.source is not null
order by source, hour
"""
_USAGE = sa.text(_TEXT.format(reason=REASON))

_ARRIVALS = sa.text("""
select source, received_hour, accepted, duplicate, conflict, rejected from usage_outcome
where received_hour >= :start and received_hour < :end and (cast(:source as text) is null or source = :source)
order by source, received_hour
""")

_RHYTHM = sa.text("""
with hours as (
    select source, received_hour, max(received_hour) over (partition by source) as last_hour,
        lag(received_hour) over (partition by source order by received_hour) as before
    from usage_outcome where source <> '' and (cast(:source as text) is null or source = :source)
)
select source, last_hour, coalesce(
    percentile_disc(:share) within group (order by extract(epoch from received_hour - before)) / 3600, 1)::int
    as usual_hours
from hours where received_hour > last_hour - cast(:back as interval)
group by source, last_hour order by source
""")

_DECLARE = sa.text("""
insert into usage_declared as d (source, hour, events, declared_by, declared_at)
values (:source, :hour, :events, :by, :at)
on conflict (source, hour) do update set
    events = excluded.events, declared_by = excluded.declared_by, declared_at = excluded.declared_at
where d.events <> excluded.events
""")
