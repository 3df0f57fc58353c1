"""Proration: what a part of a period costs, and what a change within a period credits and charges.

A share is an exact fraction of a period. An amount times a share keeps 96 digits, to be rounded by whoever books it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_UP, Context, Decimal
from fractions import Fraction
from typing import Literal

from pricing.calendar import Period, local_days
from pricing.money import EXACT, WIDE, ZERO, total
from pricing.prices import Cadence, Proration

RoundingMode = Literal["half_up", "half_even", "up", "down", "ceiling", "floor"]

ROUNDING_MODES = {
    "half_up": ROUND_HALF_UP,
    "half_even": ROUND_HALF_EVEN,
    "up": ROUND_UP,
    "down": ROUND_DOWN,
    "ceiling": ROUND_CEILING,
    "floor": ROUND_FLOOR,
}

NOMINAL_DAYS: dict[Cadence, int] = {
    "day": 1,
    "week": 7,
    "two_weeks": 14,
    "month": 30,
    "quarter": 91,
    "half_year": 182,
    "year": 365,
}
"""The length of a price's own period where that is not the period in which it changes (Meteroid's)."""

NOMINAL_TOLERANCE = Fraction(1, 4)
"""By how much of its nominal length a period may differ and still be the price's own (Meteroid's)."""

MICROSECOND = timedelta(microseconds=1)


def share(part: Period, whole: Period, basis: Proration, time_zone: str) -> Fraction:
    """Return which share of a whole period a part of it is charged: by its local days, its time, or 1 for `none`.

    Days are half-open: the day on which the part begins counts, the day on which it ends does not, so that the shares
    of the parts of a period add up to 1. A whole period within one day is shared by time. Raises `ValueError` for a
    part that reaches beyond the whole.
    """
    if part.start < whole.start or part.end > whole.end or part.end < part.start:
        raise ValueError(
            f"the part from {part.start.isoformat()} to {part.end.isoformat()} reaches beyond the period from "
            f"{whole.start.isoformat()} to {whole.end.isoformat()}; cut it at the period's bounds"
        )
    if basis == "none":
        return Fraction(1)
    whole_days = local_days(whole, time_zone)
    if basis == "day" and whole_days:
        return Fraction(local_days(part, time_zone), whole_days)
    if whole.end == whole.start:
        return Fraction(1)
    return Fraction((part.end - part.start) // MICROSECOND, (whole.end - whole.start) // MICROSECOND)


def moment_at(period: Period, part: Fraction) -> datetime:
    """Return the moment at which a part of a period, 0 to 1, has passed, cut to the microsecond."""
    return period.start + MICROSECOND * int(part * ((period.end - period.start) // MICROSECOND))


def prorated(amount: Decimal, part: Fraction) -> Decimal:
    """Return a share of an amount, exact to 96 digits."""
    return WIDE.divide(EXACT.multiply(amount, Decimal(part.numerator)), Decimal(part.denominator))


def rounded(value: Decimal, places: int, mode: RoundingMode = "half_up") -> Decimal:
    """Round to `places` decimals; `up` is away from zero, `ceiling` towards plus infinity."""
    context = Context(prec=WIDE.prec, rounding=ROUNDING_MODES[mode])
    return value.quantize(Decimal(1).scaleb(-places), context=context)


# --- a change within a period -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Agreed:
    """What one price costs for a whole period: a quantity at a unit amount, less a discount.

    `charged` says what of it a change within the period touches: a price by time is shared by time, a one-off is
    charged whole where it is added, and usage and what is billed in arrears is settled when its period is over.
    """

    unit_amount: Decimal
    quantity: Decimal = Decimal(1)
    percent_off: Decimal = ZERO
    amount_off: Decimal = ZERO
    charged: Literal["by_time", "whole", "later"] = "by_time"
    cadence: Cadence | None = None
    """The price's own period; None: that in which it changes."""

    def amount(self, places: int) -> Decimal:
        """Return the amount for a whole period, its discount rounded to `places` and never more than the amount."""
        full = EXACT.multiply(self.quantity, self.unit_amount)
        percent = WIDE.divide(EXACT.multiply(full, self.percent_off), Decimal(100))
        return EXACT.subtract(full, min(EXACT.add(rounded(percent, places), self.amount_off), max(full, ZERO)))


@dataclass(frozen=True, slots=True)
class Change:
    """What a change bills: credits (below zero) and charges, one for each price that it touches."""

    credits: tuple[Decimal, ...]
    charges: tuple[Decimal, ...]

    @property
    def credit(self) -> Decimal:
        """The sum of the credits, zero or below."""
        return total(self.credits)

    @property
    def charge(self) -> Decimal:
        """The sum of the charges."""
        return total(self.charges)

    @property
    def net(self) -> Decimal:
        """What is to be paid (or, below zero, given back) for the change."""
        return EXACT.add(self.credit, self.charge)


@dataclass(frozen=True, slots=True)
class ChangeRule:
    """How a change is prorated and rounded: each credit and charge on its own, to `places` decimals."""

    basis: Proration
    time_zone: str = "UTC"
    places: int = 2
    rounding: RoundingMode = "half_up"


def change(
    old: Sequence[Agreed],
    fresh: Sequence[Agreed],
    rest: Period,
    whole: Period,
    rule: ChangeRule,
    *,
    already_paid: Decimal | None = None,
    starts_cycle: bool = False,
) -> Change:
    """Return what the change from old prices to fresh ones bills for the `rest` of the `whole` period.

    The old prices are credited, together at most what was `already_paid` (None: all of it), and the fresh ones charged
    for the rest; with `starts_cycle` the fresh ones begin a period of their own and are charged whole.
    """
    credited: list[Decimal] = []
    left = already_paid
    for agreed in old:
        if agreed.charged != "by_time":
            continue
        exact = prorated(agreed.amount(rule.places), _share_of(agreed, rest, whole, rule))
        taken = exact if left is None else max(min(exact, left), ZERO)
        left = None if left is None else WIDE.subtract(left, taken)
        credited.append(-rounded(taken, rule.places, rule.rounding))
    charged = [
        rounded(
            prorated(
                agreed.amount(rule.places),
                Fraction(1) if starts_cycle or agreed.charged == "whole" else _share_of(agreed, rest, whole, rule),
            ),
            rule.places,
            rule.rounding,
        )
        for agreed in fresh
        if agreed.charged != "later"
    ]
    return Change(tuple(amount for amount in credited if amount), tuple(amount for amount in charged if amount))


def quantity_change(
    unit_amount: Decimal, old: Decimal, fresh: Decimal, rest: Period, whole: Period, *, rule: ChangeRule
) -> Decimal:
    """Return what more units cost for the rest of a period, or (below zero) what fewer give back, rounded once."""
    agreed = Agreed(unit_amount, EXACT.subtract(fresh, old))
    return change((), (agreed,), rest, whole, rule).charge


def _share_of(agreed: Agreed, rest: Period, whole: Period, rule: ChangeRule) -> Fraction:
    """Return the share of a price's own period that the rest is, at most 1: by nominal days where that is another."""
    exact = share(rest, whole, rule.basis, rule.time_zone)
    if agreed.cadence is None or rule.basis == "none":
        return exact
    nominal = NOMINAL_DAYS[agreed.cadence]
    if abs(_length(whole, rule) - nominal) <= nominal * NOMINAL_TOLERANCE:
        return exact
    return min(_length(rest, rule) / nominal, Fraction(1))


def _length(period: Period, rule: ChangeRule) -> Fraction:
    """Return the length of a period in days, whole ones where days are what is counted."""
    if rule.basis == "day":
        return Fraction(local_days(period, rule.time_zone))
    return Fraction((period.end - period.start) // MICROSECOND, timedelta(days=1) // MICROSECOND)
