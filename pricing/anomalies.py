"""Anomalies: whether an hour's usage fits what was used at the same hour before, and whether a group is suddenly there.

The baseline is the median, and its band a multiple of the median absolute deviation: some attacked hours among many
do not move them (Hampel's identifier). Every judgement looks only at what lies before its hour, so that it is the same
in whatever order usage arrives.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from zoneinfo import ZoneInfo

from pricing.calendar import local_date, local_midnight
from pricing.money import EXACT, ZERO, total
from pricing.thresholds import percent_left

WEEKS = 8
HISTORY = timedelta(weeks=WEEKS)
"""How far a baseline looks back."""

HOUR = timedelta(hours=1)
NEW = timedelta(days=3)
"""A customer is new until its first usage is so long ago."""

SEEN = timedelta(days=28)
"""A group is new that was not used in so long before its day; if it was only on the last day of those, it still is.

So one that comes late in an evening is not missed when the next day shows how much it uses.
"""

STILL_NEW = timedelta(hours=25)
"""The day before is that long ago at most: where clocks go back, it has an hour more."""

LEAST_WEEKS = 4
LEAST_DAYS = 3
LEAST_PEERS = 3
LEAST_EVENTS = 20
"""An hour, or a group on a day, of fewer events raises nothing: tiny counts differ from each other by chance."""

TO_DEVIATION = Decimal("1.4826")
"""A median absolute deviation times this is the standard deviation, where figures are normally distributed."""

LEAST_SPREAD = Decimal("0.1")
"""The spread is at least this share of what is expected: a figure that never varied may begin to."""

HALF = Decimal("0.5")


@dataclass(frozen=True, slots=True)
class Judgement:
    """A figure beside what is expected, and the band from `low` to `high`, both inclusive, in which it is usual."""

    observed: Decimal
    expected: Decimal
    low: Decimal
    high: Decimal

    @property
    def is_anomalous(self) -> bool:
        """Whether the figure is outside the band, on either side."""
        return not self.low <= self.observed <= self.high

    @property
    def is_above(self) -> bool:
        """Whether the figure is more than is usual."""
        return self.observed > self.high


@dataclass(frozen=True, slots=True)
class HourlyUsage:
    """What was used by hour (its start, UTC) and in how many events; an hour that is not there used nothing.

    `peers` are the same figures of other customers by hour, of those who used anything in it. Hours of the day and of
    the week are those of `zone`.
    """

    figures: Mapping[datetime, Decimal]
    events: Mapping[datetime, int]
    zone: str
    peers: Mapping[datetime, Sequence[Decimal]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JudgedHour:
    """An hour with its judgement; `is_raised` says that it is above its band and not of tiny count."""

    hour: datetime
    judgement: Judgement
    is_raised: bool


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A group that was not there before: its key and value, and what percentage of a day's usage it makes."""

    key: str
    value: str
    percent: Decimal


@dataclass(frozen=True, slots=True)
class GroupUsage:
    """What a group used, all of them together where the key is empty, and in how many events."""

    figure: Decimal
    events: int


def judged(observed: Decimal, history: Sequence[Decimal], sensitivity: Decimal, *, floor: Decimal = ZERO) -> Judgement:
    """Judge a figure by comparable ones, of which there is at least one, in whatever order.

    The band reaches `sensitivity` times the spread to both sides of their median, but not below zero. The spread is
    their median absolute deviation as a standard deviation, at least a tenth of the median, and at least `floor`.
    Raises `ValueError` without history.
    """
    expected = median(history)
    deviation = median([abs(EXACT.subtract(figure, expected)) for figure in history])
    least = EXACT.multiply(abs(expected), LEAST_SPREAD)
    reach = EXACT.multiply(max(EXACT.multiply(deviation, TO_DEVIATION), least, floor), sensitivity)
    low = EXACT.subtract(expected, reach)
    return Judgement(observed, expected, min(expected, max(ZERO, low)), EXACT.add(expected, reach))


def median(figures: Iterable[Decimal]) -> Decimal:
    """Return the middle figure, exactly, of an even number the mean of the two; raise `ValueError` for none."""
    ordered = sorted(figures)
    if not ordered:
        raise ValueError("there are no figures, so they have no median; give at least one")
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return EXACT.multiply(EXACT.add(ordered[middle - 1], ordered[middle]), HALF)


def judged_hours(usage: HourlyUsage, hours: Iterable[datetime], sensitivity: Decimal) -> Iterator[JudgedHour]:
    """Yield the judgement of each hour, given in order of time, that there is something to compare with.

    A customer is new in the three days after its first usage in the last eight weeks, and then compared with its peers.
    """
    used = sorted(usage.figures)
    for day, own in groupby(hours, key=lambda hour: local_date(hour, usage.zone)):
        begins = local_midnight(day, usage.zone)
        floor = usual_spread(usage, begins, since=_first_use(used, begins))
        for hour in own:
            since = _first_use(used, hour)
            is_new = hour - since < NEW
            history = _peers(usage, hour) if is_new else comparable(usage, hour, since=since)
            if history:
                observed = usage.figures.get(hour, ZERO)
                judgement = judged(observed, history, sensitivity, floor=ZERO if is_new else floor)
                counts = usage.events.get(hour, 0) >= LEAST_EVENTS
                yield JudgedHour(hour, judgement, judgement.is_above and counts)


def comparable(usage: HourlyUsage, hour: datetime, *, since: datetime) -> tuple[Decimal, ...]:
    """Return what an hour is compared with, from the first usage `since` on; nothing where too little is known.

    That is the same hour of the week in up to eight weeks, of the day where four weeks are not there yet, and of all
    hours where not even three days are. Where most of those had no usage at all, it is the hours that had any: then
    usage comes in bursts, and a usual figure of nothing says nothing about how large one is.
    """
    for count, step, least in ((WEEKS, 7, LEAST_WEEKS), (WEEKS * 7, 1, LEAST_DAYS)):
        moments = _earlier(hour, usage.zone, count, step)
        found = [usage.figures.get(moment, ZERO) for moment in moments if moment >= since]
        if len(found) >= least:
            break
    else:
        found = [usage.figures.get(moment, ZERO) for moment in _hours(max(since, hour - HISTORY), hour)]
    if found and not median(found):
        found = [figure for moment, figure in usage.figures.items() if hour - HISTORY <= moment < hour and figure]
        return tuple(found) if len(found) >= LEAST_WEEKS else ()
    return tuple(found)


def usual_spread(usage: HourlyUsage, before: datetime, *, since: datetime) -> Decimal:
    """Return how far an hour usually is from the median of its hour of the week, over the eight weeks before a moment.

    As a standard deviation; by hour of the day where four weeks are not there yet, and 0 where there is no history. It
    is the least spread of each single hour, whose own few values may lie close together by chance.
    """
    if since >= before:
        return ZERO
    zone = ZoneInfo(usage.zone)
    by_week = before - since >= timedelta(weeks=LEAST_WEEKS)
    alike: dict[tuple[int, int], list[Decimal]] = defaultdict(list)
    for hour in _hours(since, before):
        local = hour.astimezone(zone)
        alike[local.weekday() if by_week else 0, local.hour].append(usage.figures.get(hour, ZERO))
    distances: list[Decimal] = []
    for figures in alike.values():
        middle = median(figures)
        distances += [abs(EXACT.subtract(figure, middle)) for figure in figures]
    return EXACT.multiply(median(distances), TO_DEVIATION)


def newcomer(
    groups: Mapping[tuple[str, str], GroupUsage], *, seen: Collection[tuple[str, str]], usual: Decimal
) -> Newcomer | None:
    """Return the group that was not seen before and makes most of a day's usage; None where there is no such group.

    The percentage is of all usage of the day so far (the empty key) or of a `usual` day, whichever is more: early in
    the day everything would be a large part of little.
    """
    whole = max(groups[ALL].figure if ALL in groups else ZERO, usual)
    found = [
        Newcomer(*group, percent_left(used.figure, whole))
        for group, used in groups.items()
        if group != ALL and group not in seen and used.events >= LEAST_EVENTS
    ]
    return max(found, key=lambda one: (one.percent, one.key, one.value), default=None)


ALL = ("", "")
"""Stands for all groups together."""

GroupsByMoment = Mapping[datetime, Mapping[tuple[str, str], GroupUsage]]


def newcomer_on(by_day: GroupsByMoment, day: datetime, so_far: Mapping[tuple[str, str], GroupUsage]) -> Newcomer | None:
    """Return the newcomer of a day as it stands so far, compared with the days before; None also of a new customer.

    Days are given by their first moment.
    """
    before = {one: groups for one, groups in by_day.items() if day - SEEN <= one < day}
    if not before or day - min(before) < NEW:
        return None
    seen = {group for one, groups in before.items() if day - one > STILL_NEW for group in groups}
    return newcomer(so_far, seen=seen, usual=median([groups[ALL].figure for groups in before.values()]))


def newcomers_by_hour(by_hour: GroupsByMoment, zone: str) -> Iterator[tuple[datetime, datetime, Newcomer | None]]:
    """Yield for each hour with usage its start, the first moment of its day, and the newcomer as that hour ended."""
    by_day: dict[datetime, Mapping[tuple[str, str], GroupUsage]] = {}
    for date, hours in groupby(sorted(by_hour), key=lambda hour: local_date(hour, zone)):
        day = local_midnight(date, zone)
        so_far: Mapping[tuple[str, str], GroupUsage] = {}
        for hour in hours:
            so_far = _added(so_far, by_hour[hour])
            yield hour, day, newcomer_on(by_day, day, so_far)
        by_day[day] = so_far


def _added(
    one: Mapping[tuple[str, str], GroupUsage], other: Mapping[tuple[str, str], GroupUsage]
) -> Mapping[tuple[str, str], GroupUsage]:
    nothing = GroupUsage(ZERO, 0)
    return {
        group: GroupUsage(
            total([one.get(group, nothing).figure, other.get(group, nothing).figure]),
            one.get(group, nothing).events + other.get(group, nothing).events,
        )
        for group in {*one, *other}
    }


def _peers(usage: HourlyUsage, hour: datetime) -> Sequence[Decimal]:
    found = usage.peers.get(hour, ())
    return found if len(found) >= LEAST_PEERS else ()


def _first_use(used: Sequence[datetime], before: datetime) -> datetime:
    """Return the first hour with usage in the eight weeks before a moment, that moment itself where there is none."""
    position = bisect_left(used, before - HISTORY)
    return min(used[position], before) if position < len(used) else before


def _hours(start: datetime, end: datetime) -> Iterator[datetime]:
    while start < end:
        yield start
        start += HOUR


def _earlier(hour: datetime, zone: str, count: int, step: int) -> Iterator[datetime]:
    """Yield the same hour by the clock of a zone on each `step`th day before, in UTC."""
    local = hour.astimezone(ZoneInfo(zone))
    for number in range(1, count + 1):
        earlier = (local - timedelta(days=number * step)).astimezone(UTC)
        yield earlier.replace(minute=0, second=0, microsecond=0)
