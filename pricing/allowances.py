"""Allowances: how many units are free in a window, and how many of them roll over to the next."""

from decimal import Decimal

from pricing.money import EXACT, ZERO
from pricing.terms import Allowance


def free_units(allowance: Allowance, counted: Decimal, carried: Decimal = ZERO) -> Decimal:
    """Return the free units of a window: for each of what is `counted`, plus those carried over.

    `counted` is the quantity of the metric or the seats that the allowance names; it does not matter where it names
    neither.
    """
    is_per_unit = allowance.per_metric is not None or allowance.per_seats is not None
    granted = EXACT.multiply(allowance.units, max(counted, ZERO)) if is_per_unit else allowance.units
    return EXACT.add(granted, carried)


def left_over(free: Decimal, used: Decimal) -> Decimal:
    """Return how many free units were not used."""
    return max(EXACT.subtract(free, used), ZERO)


def carried_over(allowance: Allowance, free: Decimal, used: Decimal) -> Decimal:
    """Return how many unused units the next window begins with: none without rollover, at most the cap with it."""
    return ZERO if allowance.rollover_cap is None else min(left_over(free, used), allowance.rollover_cap)
