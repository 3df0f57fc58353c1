"""Recharge: when a prepaid balance is low, and what filling it up costs."""

from dataclasses import dataclass
from decimal import Decimal

from pricing.money import EXACT, Currency, round_to_currency


@dataclass(frozen=True, slots=True)
class Recharge:
    """A recharge: what the balance gains, and what is charged for it."""

    granted: Decimal
    charged: Decimal


def is_low(balance: Decimal, threshold: Decimal) -> bool:
    """Say whether a balance has reached the threshold from above: it is at it or below."""
    return balance <= threshold


def recharge(amount: Decimal, discount_fraction: Decimal, unit: Currency) -> Recharge:
    """Return the recharge by an amount at a discount (0.1 is a tenth): granted in full, charged at less."""
    if not 0 <= discount_fraction <= 1:
        raise ValueError(f"the discount {discount_fraction:f} is no fraction; give one from 0 to 1")
    factor = EXACT.subtract(Decimal(1), discount_fraction)
    return Recharge(amount, round_to_currency(EXACT.multiply(amount, factor), unit))
