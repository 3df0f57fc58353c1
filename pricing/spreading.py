"""Spreading an amount over several in proportion, to the last digit: the method of largest remainder."""

from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal

from pricing.money import EXACT, WIDE, ZERO, total

LEDGER_PLACES = 12


def spread(amount: Decimal, weights: Sequence[Decimal], places: int = LEDGER_PLACES) -> tuple[Decimal, ...]:
    """Split an amount (>= 0) over weights (>= 0) in proportion, in steps of so many decimal places.

    The shares add up to the amount exactly, and none is above its weight as long as the amount is not above the sum of
    the weights. Each share is cut; what is left goes, step by step, to the largest remainders, of equal ones to the
    first. What is finer than a step goes to the largest weight. Raises `ValueError` for a weight below zero, or nothing
    to spread over.
    """
    whole = total(weights)
    if any(weight < 0 for weight in weights) or amount < 0:
        raise ValueError(f"cannot spread {amount} over {[str(w) for w in weights]}; neither may be below zero")
    if not amount:
        return tuple(ZERO for _ in weights)
    if not whole:
        raise ValueError(f"cannot spread {amount} over weights that are all zero; give one above zero")
    step = Decimal(1).scaleb(-places)
    exact = [WIDE.divide(EXACT.multiply(amount, weight), whole) for weight in weights]
    shares = [_cut(share, step) for share in exact]
    left = EXACT.subtract(amount, total(shares))
    remainders = sorted(range(len(weights)), key=lambda n: (shares[n] - exact[n], n))
    for n in remainders:
        if left < step:
            break
        if EXACT.add(shares[n], step) <= weights[n] or amount > whole:
            shares[n] = EXACT.add(shares[n], step)
            left = EXACT.subtract(left, step)
    for n in sorted(range(len(weights)), key=lambda n: EXACT.subtract(shares[n], weights[n])):
        if left:
            room = left if amount > whole else min(left, max(EXACT.subtract(weights[n], shares[n]), ZERO))
            shares[n] = EXACT.add(shares[n], room)
            left = EXACT.subtract(left, room)
    return tuple(shares)


def _cut(share: Decimal, step: Decimal) -> Decimal:
    return share.quantize(step, rounding=ROUND_FLOOR, context=WIDE)
