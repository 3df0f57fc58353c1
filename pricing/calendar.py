"""Billing periods: half-open intervals in UTC, computed in the contract's time zone from its anchor.

Moments are aware datetimes in UTC; a day is a local calendar day of the time zone named beside it. Naive datetimes are
refused with `ValueError`, an unknown zone with `zoneinfo.ZoneInfoNotFoundError`.
"""

import calendar
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import count
from zoneinfo import ZoneInfo

from pricing.prices import Cadence

MONTHS_PER_YEAR = 12
DAYS_PER_WEEK = 7
LAST_DAY_OF_MONTH = 31

MONTHS: Mapping[Cadence, int] = {"month": 1, "quarter": 3, "half_year": 6, "year": 12}
DAYS: Mapping[Cadence, int] = {"day": 1, "week": 7, "two_weeks": 14}


@dataclass(frozen=True, slots=True)
class Anchor:
    """The day on which periods turn, where that is not the anniversary of the start; the first period is then short.

    `day` is the day of the month, 1 to 31, or for weeks the day of the week, 1 being Monday. `month`, 1 to 12, places
    quarters, half years and years in the calendar; without it they are counted from the month of the start.
    """

    day: int
    month: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.day <= LAST_DAY_OF_MONTH:
            raise ValueError(f"the anchor's day {self.day} is no day of a month; give one from 1 to 31")
        if self.month is not None and not 1 <= self.month <= MONTHS_PER_YEAR:
            raise ValueError(f"the anchor's month {self.month} is no month; give one from 1 to 12")


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """A half-open interval [start, end) in UTC, so that no instant is billed twice or never."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


def period_starting(
    start_at: datetime, time_zone: str, n: int, *, cadence: Cadence = "month", anchor: Anchor | None = None
) -> Period:
    """Return the n-th period (0 is the first) of a contract that starts at `start_at`.

    The first period starts at `start_at`; every later one at the local midnight of the anniversary of the local start
    day, or of the anchor's day, which makes the first period a short one. A day that a month does not have (31, 30,
    29) becomes that month's last, and comes back where it exists. With the cadence of a day, the period of a day that
    the zone skipped is empty.
    """
    start_day = local_date(start_at, time_zone)
    first = _first_turn(start_at, start_day, time_zone, cadence, anchor)
    end = local_midnight(cycle_day(start_day, cadence, anchor, first + n), time_zone)
    if n == 0:
        return Period(start_at, end)
    return Period(local_midnight(cycle_day(start_day, cadence, anchor, first + n - 1), time_zone), end)


def whole_period(
    start_at: datetime, time_zone: str, n: int, *, cadence: Cadence = "month", anchor: Anchor | None = None
) -> Period:
    """Return the n-th period as it would be had the contract begun with it: what a short first one is a part of.

    A first period that begins on a day of the anchor's is whole, whatever its hour.
    """
    period = period_starting(start_at, time_zone, n, cadence=cadence, anchor=anchor)
    if n > 0:
        return period
    start_day = local_date(start_at, time_zone)
    first = _first_turn(start_at, start_day, time_zone, cadence, anchor)
    turn = cycle_day(start_day, cadence, anchor, first - 1)
    return period if turn == start_day else Period(local_midnight(turn, time_zone), period.end)


def periods(
    start_at: datetime,
    end_at: datetime | None,
    time_zone: str,
    until: datetime,
    *,
    cadence: Cadence = "month",
    anchor: Anchor | None = None,
) -> tuple[Period, ...]:
    """Return, in order, all periods of a contract's term [start_at, end_at) that have begun by `until` (inclusive).

    They tile the term without gap or overlap; where `end_at` is no boundary, the last one is cut there.
    """
    found: list[Period] = []
    for n in count():
        period = period_starting(start_at, time_zone, n, cadence=cadence, anchor=anchor)
        if period.start > until or (end_at is not None and period.start >= end_at):
            return tuple(found)
        if period.start < period.end:
            found.append(period if end_at is None else Period(period.start, min(period.end, end_at)))
    raise AssertionError("count() has no end")


def period_number(
    start_at: datetime, time_zone: str, moment: datetime, *, cadence: Cadence = "month", anchor: Anchor | None = None
) -> int:
    """Return which period of an open-ended contract contains a moment; `ValueError` when it lies before the start."""
    if moment < start_at:
        raise ValueError(f"{moment.isoformat()} is before the contract's start {start_at.isoformat()}")
    first, then = local_date(start_at, time_zone), local_date(moment, time_zone)
    if cadence in MONTHS:
        guess = ((then.year - first.year) * MONTHS_PER_YEAR + then.month - first.month) // MONTHS[cadence]
    else:
        guess = (then - first).days // DAYS[cadence]
    for n in range(max(guess - 1, 0), guess + 3):
        if moment in period_starting(start_at, time_zone, n, cadence=cadence, anchor=anchor):
            return n
    raise AssertionError(f"no period of the contract from {start_at} contains {moment}")


def period_containing(
    start_at: datetime, time_zone: str, moment: datetime, *, cadence: Cadence = "month", anchor: Anchor | None = None
) -> Period:
    """Return the period of an open-ended contract that contains a moment; `ValueError` when it lies before the start.

    Its bounds are also the two boundaries nearest to the moment.
    """
    n = period_number(start_at, time_zone, moment, cadence=cadence, anchor=anchor)
    return period_starting(start_at, time_zone, n, cadence=cadence, anchor=anchor)


def cycle_day(start: date, cadence: Cadence, anchor: Anchor | None, n: int) -> date:
    """Return the n-th of the days on which the cycles of something that starts on a day turn.

    Without an anchor the 0th is the start itself. With one it is the anchor's day in the month (or week) of the start,
    before, on or after it; with the anchor's month, in the last such month that begins no later than the start.
    """
    if cadence in DAYS:
        return _turn_of_weeks(start, cadence, anchor, n)
    if anchor is None:
        return _day_of_month(start.year, start.month + n * MONTHS[cadence], start.day)
    behind = 0 if anchor.month is None else (start.month - anchor.month) % MONTHS[cadence]
    return _day_of_month(start.year, start.month - behind + n * MONTHS[cadence], anchor.day)


def local_days(period: Period, time_zone: str) -> int:
    """Count the local days of a period from its start's, inclusive, to its end's, exclusive.

    A day that the zone skipped does not count.
    """
    first, end = local_date(period.start, time_zone), local_date(period.end, time_zone)
    by_date = (end - first).days
    lasted = local_midnight(end, time_zone) - local_midnight(first, time_zone)
    return by_date - max(round((timedelta(days=by_date) - lasted) / timedelta(days=1)), 0)


@lru_cache(maxsize=8192)
def local_midnight(day: date, time_zone: str) -> datetime:
    """Return the first instant of a local day as UTC; where clocks skip midnight, the instant after the skip."""
    zone = ZoneInfo(time_zone)
    midnight = datetime.combine(day, time(), tzinfo=zone)
    late = midnight.astimezone(UTC)
    if late.astimezone(zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return late
    early = midnight.replace(fold=1).astimezone(UTC) - timedelta(seconds=1)
    while late - early > timedelta(seconds=1):
        middle = early + timedelta(seconds=(late - early) // timedelta(seconds=2))
        if local_date(middle, time_zone) >= day:
            late = middle
        else:
            early = middle
    return late


def local_date(moment: datetime, time_zone: str) -> date:
    """Return the calendar day of a moment in a time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; give one, for example +00:00")
    return moment.astimezone(ZoneInfo(time_zone)).date()


def days(period: Period, time_zone: str) -> list[tuple[date, Period]]:
    """Cut a period at local midnights: each local day that it touches, with the part of the period on that day."""
    found = []
    day, start = local_date(period.start, time_zone), period.start
    while start < period.end:
        following = day + timedelta(days=1)
        end = min(local_midnight(following, time_zone), period.end)
        if end > start:  # a day that the zone skipped has no part
            found.append((day, Period(start, end)))
        day, start = following, end
    return found


def is_on_grid(moment: datetime, bucket_minutes: int) -> bool:
    """Say whether a moment is the start of a usage bucket of `bucket_minutes` (15 or 60), counted from midnight UTC."""
    utc = moment.astimezone(UTC)
    return (utc.hour * 60 + utc.minute) % bucket_minutes == 0 and utc.second == 0 and utc.microsecond == 0


def needs_quarter_hours(time_zones: Iterable[str], *, since: datetime) -> bool:
    """Say whether a zone has an offset that is no whole hour in the ten years from `since`.

    Then usage must be kept in buckets of 15 minutes, because a bucket of an hour would straddle a local midnight.
    """
    moments = [since + timedelta(weeks=4 * step) for step in range(130)]
    zones = [ZoneInfo(name) for name in set(time_zones)]
    return any(
        (moment.astimezone(zone).utcoffset() or timedelta()) % timedelta(hours=1)
        for zone in zones
        for moment in moments
    )


def _first_turn(start_at: datetime, start_day: date, time_zone: str, cadence: Cadence, anchor: Anchor | None) -> int:
    """Return the number of the first cycle day whose midnight is after the start."""
    if anchor is None:
        return 1
    return 0 if local_midnight(cycle_day(start_day, cadence, anchor, 0), time_zone) > start_at else 1


def _turn_of_weeks(start: date, cadence: Cadence, anchor: Anchor | None, n: int) -> date:
    first = start
    if anchor is not None:
        if cadence == "day" or anchor.day > DAYS_PER_WEEK or anchor.month is not None:
            raise ValueError(
                f"a period of a {cadence} cannot be anchored at {anchor}; "
                "a week takes the days 1 (Monday) to 7 and no month, a day takes no anchor"
            )
        first = start + timedelta(days=anchor.day - start.isoweekday())
    return first + timedelta(days=n * DAYS[cadence])


def _day_of_month(year: int, month: int, day: int) -> date:
    """Return a day, or the month's last; months count on across years, so that 13 is January of the next one."""
    year, month = year + (month - 1) // MONTHS_PER_YEAR, (month - 1) % MONTHS_PER_YEAR + 1
    return date(year, month, min(day, calendar.monthrange(year, month)[1]))
