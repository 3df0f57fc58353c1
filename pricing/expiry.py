"""Expiry: when a lot is over, what becomes of what it has left, and how long it will last."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from pricing.money import EXACT, WIDE, ZERO, to_ledger_scale, total

LONGEST_FORECAST = timedelta(days=36_525)


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of a lot's amount: it is drawn, expired, voided or left, and nothing else."""

    drawn: Decimal
    expired: Decimal
    voided: Decimal
    left: Decimal


@dataclass(frozen=True, slots=True)
class Supply:
    """What a lot has left, and its first day without use; None: it has no end."""

    left: Decimal
    until: date | None


def next_boundary(moment: datetime, bucket_minutes: int) -> datetime:
    """Return the first moment from `moment` on, in UTC, at which a bucket of usage begins, counted from midnight."""
    utc = moment.astimezone(UTC)
    midnight = utc.replace(hour=0, minute=0, second=0, microsecond=0)
    width = timedelta(minutes=bucket_minutes)
    return midnight - (midnight - utc) // width * width


def end_of(end: datetime | None, term_end: datetime | None) -> datetime | None:
    """Return when nothing can be drawn any more: at the end of the lot or of its contract, whichever comes first."""
    return min((moment for moment in (end, term_end) if moment is not None), default=None)


def is_settled(end: datetime | None, grace: timedelta, at: datetime) -> bool:
    """Say whether a lot with this end is settled: late usage has had its `grace`. One without an end never is."""
    return end is not None and end <= at - grace


def figures_of(amount: Decimal, drawn: Decimal, *, is_over: bool, is_voided: bool) -> Figures:
    """Part a lot's amount: what is not drawn is left, until the lot is settled; then it is expired or voided."""
    rest = EXACT.subtract(amount, drawn)
    if not is_over:
        return Figures(drawn, ZERO, ZERO, rest)
    return Figures(drawn, ZERO, rest, ZERO) if is_voided else Figures(drawn, rest, ZERO, ZERO)


def average_draw(drawn: Sequence[Decimal]) -> Decimal | None:
    """Return the mean of what was drawn on full days, at ledger scale; None where there is no day or no draw."""
    amount = total(drawn)
    if amount <= 0:
        return None
    return to_ledger_scale(WIDE.divide(amount, Decimal(len(drawn))))


def exhausted_on(supplies: Sequence[Supply], average: Decimal | None, today: date) -> date | None:
    """Return the day on which nothing is left, if each day from `today` on draws the average.

    What ends first is drawn first; what a lot has left at its end is lost. None: nothing is drawn, or it lasts for more
    than a hundred years.
    """
    if average is None or average <= 0:
        return None
    days = ZERO
    for supply in sorted(supplies, key=lambda one: one.until or date.max):
        used_up = WIDE.add(days, WIDE.divide(max(supply.left, ZERO), average))
        if supply.until is not None:
            used_up = min(used_up, max(Decimal((supply.until - today).days), days))
        days = used_up
    return None if days > LONGEST_FORECAST.days else today + timedelta(days=int(days))
