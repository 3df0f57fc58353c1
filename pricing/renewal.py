"""Renewal after a change of price: the proration of the period before, settled on the next invoice in advance."""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from pricing.money import EXACT, Currency, round_to_currency
from pricing.proration import prorated


@dataclass(frozen=True, slots=True)
class Renewal:
    """An invoice that begins a period: the fee of the period and the proration of a change in the one before."""

    fee: Decimal
    proration: Decimal

    @property
    def total(self) -> Decimal:
        """What the invoice comes to."""
        return EXACT.add(self.fee, self.proration)


def nearest_share(part: Fraction, parts: int) -> Fraction:
    """Round a share to the nearest of so many equal parts, a tie up: 17 of 31 days are one of two half months."""
    return Fraction((2 * part * parts + 1) // 2, parts)


def renewal_after_change(old: Decimal, fresh: Decimal, part: Fraction, unit: Currency) -> Renewal:
    """Return the renewal at a fresh price that also settles the change: what was left of the period at either price.

    The charge at the fresh price and the credit at the old one are rounded each on its own.
    """
    charge = round_to_currency(prorated(fresh, part), unit)
    credit = round_to_currency(prorated(old, part), unit)
    return Renewal(fresh, EXACT.subtract(charge, credit))
