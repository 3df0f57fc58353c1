"""Billing cycles in whole local days: how many of them a service is billed, and which of them a date bills.

Cycles turn on the billing day, counted from the month of the service's start (see `calendar.cycle_day`); days are
half-open ranges of dates. The rules and figures are those of Kill Bill (`billing_cycles`) and of Meteroid (the others).
"""

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from typing import Literal

from pricing.calendar import DAYS, MONTHS, Anchor, cycle_day
from pricing.money import EXACT, WIDE, ZERO
from pricing.prices import Cadence
from pricing.proration import RoundingMode, rounded


@dataclass(frozen=True, slots=True)
class DayRange:
    """The days [start, end)."""

    start: date
    end: date

    @property
    def days(self) -> int:
        """How many days the range has."""
        return (self.end - self.start).days


@dataclass(frozen=True, slots=True)
class DayShare:
    """So many days of a whole of so many: 15 of 31."""

    days: int
    of: int


def day_share(part: DayRange, whole: DayRange) -> DayShare | None:
    """Return which share of a whole cycle a part of it is; None where it is the whole, which is not prorated."""
    return None if part == whole else DayShare(part.days, whole.days)


@dataclass(frozen=True, slots=True)
class Cycles:
    """The cycles of a service that starts on a day; `billing_day` is None where they turn on the start's own day."""

    start: date
    cadence: Cadence
    billing_day: int | None

    def turn(self, n: int) -> date:
        """Return the n-th day on which a cycle begins, the 0th being that in the month of the start."""
        anchor = None if self.billing_day is None or self.cadence in DAYS else Anchor(self.billing_day)
        return cycle_day(self.start, self.cadence, anchor, n)

    def first_after(self, day: date) -> int:
        """Return the number of the first turn later than a day."""
        return next(n for n in count() if self.turn(n) > day)

    def first_from(self, day: date) -> int:
        """Return the number of the first turn on or after a day."""
        return next(n for n in count() if self.turn(n) >= day)


def billing_cycles(
    cycles: Cycles,
    end: date | None,
    target: date,
    *,
    timing: Literal["advance", "arrears"] = "advance",
    places: int = 9,
    rounding: RoundingMode = "half_up",
) -> Decimal:
    """Return how many cycles of a service are billed through `target` (inclusive) before it ends (exclusive).

    In advance a cycle is billed once it has begun, in arrears once it is over. A partial cycle, before the first turn
    or up to the end, counts by its days, each rounded to `places`; as in Kill Bill the cycle that it is a part of is
    measured from the very day at which the part ends or begins, so that the month before 28 February begins on 28
    January also where cycles turn on the 31st.
    """

    def partial(part: DayRange, whole: DayRange) -> Decimal:
        return rounded(WIDE.divide(Decimal(part.days), Decimal(whole.days)), places, rounding)

    start, cadence = cycles.start, cycles.cadence
    until = _billed_until(cycles, end, target, timing)
    if until is None or until <= start:
        return ZERO
    first = cycles.first_from(start)
    short_end = min(until, cycles.turn(first))
    leading = ZERO
    if short_end > start:
        leading = partial(DayRange(start, short_end), DayRange(_shifted(short_end, cadence, -1), short_end))
    if short_end == until:
        return leading
    last = cycles.first_after(until) - 1
    last_turn = cycles.turn(last)
    trailing = partial(DayRange(last_turn, until), DayRange(last_turn, _shifted(last_turn, cadence, 1)))
    return EXACT.add(EXACT.add(leading, Decimal(last - first)), trailing)


def cumulative_windows(cycles: Cycles, asked: DayRange) -> tuple[DayRange, ...]:
    """Return for each day asked for the days over which its cumulative figure runs: from its cycle's start to its end.

    Figures begin anew with each cycle, also where the first one began before the days asked for (Orb's rule).
    """
    days = (asked.start + timedelta(days=n) for n in range(asked.days))
    return tuple(DayRange(cycles.turn(cycles.first_after(day) - 1), day + timedelta(days=1)) for day in days)


def elapsed_cycles(cycles: Cycles, target: date) -> int:
    """Return how many cycles have begun after the start and by `target`, inclusive."""
    return max(cycles.first_after(target) - cycles.first_after(cycles.start), 0) if target >= cycles.start else 0


def cycle_in_advance(invoice_date: date, cadence: Cadence, billing_day: int | None, *, is_first: bool) -> DayRange:
    """Return the cycle that an invoice of a date bills in advance: up to the next turn.

    Only the first may be a short one; a later one is whole, up to the billing day of the following cycle's month.
    """
    cycles = Cycles(invoice_date, cadence, billing_day)
    return DayRange(invoice_date, cycles.turn(cycles.first_after(invoice_date) if is_first else 1))


def cycle_in_arrears(cycles: Cycles, invoice_date: date) -> DayRange:
    """Return the cycle that an invoice of a date bills in arrears: it ends on that date.

    It begins with the turn before, or with the service where that starts later.
    """
    before = cycles.turn(cycles.first_from(invoice_date) - 1)
    return DayRange(max(before, cycles.start), invoice_date)


def first_cycle_share(cycles: Cycles) -> DayShare | None:
    """Return which share of its cycle the first, perhaps short one is; None where it is whole."""
    following = cycles.first_after(cycles.start)
    end = cycles.turn(following)
    return day_share(DayRange(cycles.start, end), DayRange(cycles.turn(following - 1), end))


def _billed_until(cycles: Cycles, end: date | None, target: date, timing: Literal["advance", "arrears"]) -> date | None:
    """Return the day before which all is billed by a target date; None where nothing is yet."""
    if target < cycles.start:
        return None
    if end is not None and end <= target:
        return end
    if timing == "arrears":
        last = cycles.turn(cycles.first_after(target) - 1)
        return last if last > cycles.start else None
    following = cycles.turn(cycles.first_after(target))
    return following if end is None else min(end, following)


def _shifted(day: date, cadence: Cadence, by: int) -> date:
    """Return the day that is `by` cycles later, or for a month that is too short its last day."""
    if cadence in MONTHS:
        return cycle_day(day, cadence, None, by)
    return day + timedelta(days=by * DAYS[cadence])
