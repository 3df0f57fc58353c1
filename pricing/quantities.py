"""Quantities on their way from what a metric counted to what a price applies to: settled, rounded, converted.

Every function of a quantity here is monotone, so that what an interval adds to the billable quantity is never below
zero.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import assert_never

from pricing.money import EXACT, WIDE, ZERO
from pricing.prices import Rounding
from pricing.terms import Conversion, ProductPrice, QuantityRounding

QUOTIENT_PLACES = Decimal("1e-20")
"""Where a quotient without end is cut, half up: far below the ledger's scale, yet exact in any product with a price."""


def settled(additions: Sequence[Decimal]) -> tuple[Decimal, ...]:
    """Return what the quantity stands at after each addition, once every fall has taken back the latest units first.

    It never falls: at each place it is the lowest sum that this or a later place reaches. The last one is the total,
    which is below zero where more is taken back than was counted; the caller refuses that.
    """
    sums, reached = [], ZERO
    for addition in additions:
        reached = EXACT.add(reached, addition)
        sums.append(reached)
    lowest: list[Decimal] = []
    for sum_here in reversed(sums):
        lowest.append(min(sum_here, lowest[-1]) if lowest else sum_here)
    return tuple(reversed(lowest))


def billable(quantity: Decimal, product: ProductPrice, free: Decimal) -> Decimal:
    """Return the units to charge of a product's cumulative quantity: rounded, converted, less `free` units.

    Never below zero.
    """
    counted = quantity if product.rounding is None else rounded(quantity, product.rounding)
    in_units = counted if product.conversion is None else converted(counted, product.conversion)
    return max(EXACT.subtract(in_units, free), ZERO)


def rounded(quantity: Decimal, rounding: QuantityRounding) -> Decimal:
    """Round to the decimals that a metric or product names; negative places round to tens, hundreds."""
    scale = Decimal(1).scaleb(-rounding.places)
    return EXACT.multiply(divided(quantity, scale, rounding.rounding), scale)


def converted(quantity: Decimal, conversion: Conversion) -> Decimal:
    """Turn a metric's unit into the price's, then round to whole units where the conversion says so."""
    match conversion.operation:
        case "divide":
            return divided(quantity, conversion.factor, conversion.rounding)
        case "multiply":
            return round_whole(EXACT.multiply(quantity, conversion.factor), conversion.rounding)
        case _:
            assert_never(conversion.operation)


def divided(quantity: Decimal, divisor: Decimal, rounding: Rounding) -> Decimal:
    """Return how many times a divisor (> 0) goes into a quantity, in whole numbers unless `rounding` is `none`."""
    whole, rest = EXACT.divmod(quantity, divisor)
    if not rest:
        return whole
    if rounding == "none":
        return _quotient(quantity, divisor)
    below = EXACT.subtract(whole, Decimal(rest < 0))  # divmod cuts towards zero
    above_it = EXACT.add(rest, divisor) if rest < 0 else rest
    match rounding:
        case "up":
            return EXACT.add(below, Decimal(1))
        case "down":
            return below
        case "half_up":
            return EXACT.add(below, Decimal(EXACT.multiply(above_it, Decimal(2)) >= divisor))
        case _:
            assert_never(rounding)


def round_whole(value: Decimal, rounding: Rounding) -> Decimal:
    """Round to a whole number; `none` leaves the value as it is."""
    return divided(value, Decimal(1), rounding)


def _quotient(quantity: Decimal, divisor: Decimal) -> Decimal:
    quotient = WIDE.divide(quantity, divisor)
    cut = quotient.quantize(QUOTIENT_PLACES, context=WIDE)
    return cut.normalize(WIDE)
