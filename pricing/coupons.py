"""Coupons: discounts of a whole document, spread over its lines, and what is left of them for later documents."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction
from typing import Literal

from pricing.money import EXACT, WIDE, ZERO, Currency, round_to_currency, share_of_percent, total
from pricing.spreading import spread


@dataclass(frozen=True, slots=True)
class Coupon:
    """A fixed amount or a percentage off. `currency` limits a fixed one to documents of that currency.

    With `remaining_periods` it applies in so many more periods, each time in full; without, a percentage applies once
    and a fixed amount until it is used up (Lago's semantics).
    """

    kind: Literal["percentage", "fixed"]
    value: Decimal
    remaining_periods: int | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """What a coupon took off each line of a document, and the coupon afterwards; None when it is used up."""

    discount: Decimal
    line_discounts: tuple[Decimal, ...]
    left: Coupon | None


def apply_coupon(coupon: Coupon, lines: Sequence[Decimal], currency: Currency) -> Applied | None:
    """Apply a coupon to the lines of a document (each >= 0); None where it is of another currency.

    The discount never exceeds the document, and is spread over the lines in proportion by largest remainder. What Lago
    keeps instead, the exact share of each line, is `exact_shares`.
    """
    if coupon.currency is not None and coupon.currency != currency.code:
        return None
    whole = total(lines)
    if coupon.kind == "percentage":
        share = share_of_percent(coupon.value)
        discount = min(round_to_currency(EXACT.multiply(whole, share), currency), whole)
    else:
        discount = min(coupon.value, whole)
    return Applied(discount, spread(discount, lines, currency.exponent), _left(coupon, discount))


def exact_shares(discount: Decimal, lines: Sequence[Decimal]) -> tuple[Fraction, ...]:
    """Return the exact share of each line in a discount, in proportion; zero where the lines come to nothing."""
    whole = total(lines)
    return tuple(Fraction(discount) * Fraction(line) / Fraction(whole) if whole else Fraction(0) for line in lines)


def discount_of(coupons: Sequence[Coupon], subtotal: Decimal, currency: Currency) -> Decimal:
    """Return what several coupons take off a subtotal together, never more than that.

    Percentages come before fixed amounts whatever their order, each of what the ones before have left (Meteroid's).
    """
    left = subtotal
    for coupon in sorted(coupons, key=lambda coupon: coupon.kind == "fixed"):
        applied = apply_coupon(coupon, [left], currency)
        left = left if applied is None else EXACT.subtract(left, applied.discount)
    return EXACT.subtract(subtotal, left)


def spread_to_last(discount: Decimal, lines: Sequence[Decimal], currency: Currency) -> tuple[Decimal, ...]:
    """Spread a discount over lines (each >= 0) in proportion, each share cut, the last line taking the rest.

    Meteroid's rule. A discount above the sum of the lines takes all of them; a rest above what the last line comes to
    goes on to the line before it, so that none falls below zero.
    """
    whole = total(lines)
    capped = min(discount, whole)
    step = Decimal(1).scaleb(-currency.exponent)
    shares: list[Decimal] = []
    for line in lines:
        exact = WIDE.divide(EXACT.multiply(capped, line), whole) if whole else ZERO
        shares.append(exact.quantize(step, rounding=ROUND_FLOOR, context=WIDE))
    rest = EXACT.subtract(capped, total(shares))
    for n in reversed(range(len(lines))):
        taken = min(rest, EXACT.subtract(lines[n], shares[n]))
        shares[n] = EXACT.add(shares[n], taken)
        rest = EXACT.subtract(rest, taken)
    return tuple(shares)


def _left(coupon: Coupon, discount: Decimal) -> Coupon | None:
    if coupon.remaining_periods is not None:
        later = coupon.remaining_periods - 1
        return replace(coupon, remaining_periods=later) if later > 0 else None
    if coupon.kind == "percentage":
        return None
    left = EXACT.subtract(coupon.value, discount)
    return replace(coupon, value=left) if left else None
