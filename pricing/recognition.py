"""Recognition: in which month a prepaid amount becomes revenue, and what it adds to and takes off deferred revenue."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from pricing.calendar import cycle_day
from pricing.cycles import DayRange
from pricing.money import EXACT, WIDE, ZERO, Currency, round_to_currency


@dataclass(frozen=True, slots=True)
class RecognisedMonth:
    """What one calendar month, named by its first day, recognises of an amount."""

    month: date
    revenue: Decimal
    deferred: Decimal
    """What deferred revenue grows by: what the month bills less what it earns."""


def recognised_months(amount: Decimal, service: DayRange, billed_on: date, unit: Currency) -> Iterator[RecognisedMonth]:
    """Yield, from the first month that bills or serves to the last, what each recognises; every day earns the same.

    Revenue is rounded as it adds up, so that over all months it is the amount. Raises `ValueError` for a service
    without a day.
    """
    if service.days <= 0:
        raise ValueError(f"the service from {service.start} to {service.end} has no day; let it end after its start")
    first = min(service.start, billed_on).replace(day=1)
    earned, n = ZERO, 0
    while (month := cycle_day(first, "month", None, n)) < service.end or month <= billed_on:
        n += 1
        following = cycle_day(first, "month", None, n)
        reached = _earned_before(following, amount, service, unit)
        billed = amount if month <= billed_on < following else ZERO
        revenue = EXACT.subtract(reached, earned)
        yield RecognisedMonth(month, revenue, EXACT.subtract(billed, revenue))
        earned = reached


def _earned_before(day: date, amount: Decimal, service: DayRange, unit: Currency) -> Decimal:
    days = max((min(day, service.end) - service.start).days, 0)
    return round_to_currency(WIDE.divide(EXACT.multiply(amount, Decimal(days)), Decimal(service.days)), unit)
