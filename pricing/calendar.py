"""Billing periods: half-open intervals in UTC, computed in the contract's time zone from its anchor.

Moments are aware datetimes in UTC; a day is a local calendar day of the time zone named beside it. Naive datetimes are
refused with `ValueError`, an unknown zone with `zoneinfo.ZoneInfoNotFoundError`.
"""

import calendar
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import count
from zoneinfo import ZoneInfo

MONTHS_PER_YEAR = 12


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """A half-open interval [start, end) in UTC, so that no instant is billed twice or never."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


def period_starting(start_at: datetime, time_zone: str, n: int) -> Period:
    """Return the n-th monthly period (0 is the first) of a contract that starts at `start_at`.

    The first period starts at `start_at`; every later one at the local midnight of the anniversary of the local start
    day. A day that a month does not have (31, 30, 29) becomes that month's last, and comes back where it exists.
    """
    return Period(_boundary(start_at, time_zone, n), _boundary(start_at, time_zone, n + 1))


def periods(start_at: datetime, end_at: datetime | None, time_zone: str, until: datetime) -> tuple[Period, ...]:
    """Return, in order, all periods of a contract's term [start_at, end_at) that have begun by `until` (inclusive).

    They tile the term without gap or overlap; where `end_at` is no boundary, the last one is cut there.
    """
    found: list[Period] = []
    for n in count():
        period = period_starting(start_at, time_zone, n)
        if period.start > until or (end_at is not None and period.start >= end_at):
            return tuple(found)
        found.append(period if end_at is None else Period(period.start, min(period.end, end_at)))
    raise AssertionError("count() has no end")


def period_containing(start_at: datetime, time_zone: str, moment: datetime) -> Period:
    """Return the period of an open-ended contract that contains a moment; `ValueError` when it lies before the start.

    Its bounds are also the two boundaries nearest to the moment.
    """
    if moment < start_at:
        raise ValueError(f"{moment.isoformat()} is before the contract's start {start_at.isoformat()}")
    first, then = local_date(start_at, time_zone), local_date(moment, time_zone)
    guess = (then.year - first.year) * MONTHS_PER_YEAR + then.month - first.month
    for n in range(max(guess - 1, 0), guess + 2):
        period = period_starting(start_at, time_zone, n)
        if moment in period:
            return period
    raise AssertionError(f"no period of the contract from {start_at} contains {moment}")


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


def _boundary(start_at: datetime, time_zone: str, n: int) -> datetime:
    if n == 0:
        return start_at
    anchor = local_date(start_at, time_zone)
    months = anchor.month - 1 + n
    year, month = anchor.year + months // MONTHS_PER_YEAR, months % MONTHS_PER_YEAR + 1
    last_day = calendar.monthrange(year, month)[1]
    return local_midnight(date(year, month, min(anchor.day, last_day)), time_zone)
