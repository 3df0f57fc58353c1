"""Blocks of prepaid credits: what they cost, what using them up recognises, and how their expiry is moved.

Each block keeps its own cost basis, the money paid for one of its credits. The rules are Orb's credit ledger's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from pricing.errors import PricingError
from pricing.money import EXACT, ZERO, Currency, round_to_currency, total
from pricing.quantities import divided


@dataclass(frozen=True, slots=True)
class CreditBlock:
    """Credits bought together; `expires_on` is the first day on which they no longer serve, None being never."""

    credits: Decimal
    cost_basis: Decimal
    expires_on: date | None = None


@dataclass(frozen=True, slots=True)
class CreditUse:
    """The blocks after credits were used, and the revenue that the use recognises."""

    blocks: tuple[CreditBlock, ...]
    revenue: Decimal


def cost_basis(paid: Decimal, granted: Decimal) -> Decimal:
    """Return the money paid per unit granted; a quotient without end is cut at twenty decimals."""
    if granted <= ZERO:
        raise PricingError(f"a grant of {granted:f} has no cost basis; grant more than zero")
    return divided(paid, granted, "none")


def discount_share(paid: Decimal, granted: Decimal) -> Decimal:
    """Return by which share of a grant the price paid for it is lower: 0.2 where 8,000 buy 10,000."""
    return EXACT.subtract(Decimal(1), cost_basis(paid, granted))


def purchase_amount(block: CreditBlock, unit: Currency) -> Decimal:
    """Return what a block costs when it is bought, rounded to the currency."""
    return round_to_currency(EXACT.multiply(block.credits, block.cost_basis), unit)


def balance(blocks: Sequence[CreditBlock]) -> Decimal:
    """Return how many credits all blocks hold."""
    return total([block.credits for block in blocks])


def used(blocks: Sequence[CreditBlock], credits_used: Decimal) -> CreditUse:
    """Take credits from the blocks, those that expire first and of these the cheapest first.

    The revenue is exact: each credit at its block's cost basis. Raises `PricingError` where the blocks hold too little.
    """
    owed, revenue = credits_used, ZERO
    left: list[CreditBlock] = []
    for block in sorted(blocks, key=lambda block: (block.expires_on or date.max, block.cost_basis)):
        taken = min(owed, block.credits)
        owed = EXACT.subtract(owed, taken)
        revenue = EXACT.add(revenue, EXACT.multiply(taken, block.cost_basis))
        left.append(replace(block, credits=EXACT.subtract(block.credits, taken)))
    if owed > ZERO:
        raise PricingError(f"{credits_used:f} credits cannot be used, {owed:f} are lacking; grant credits first")
    return CreditUse(tuple(left), revenue)


def expiry_moved(
    blocks: Sequence[CreditBlock], credits_moved: Decimal, expires_on: date | None, target: date | None
) -> tuple[CreditBlock, ...]:
    """Move credits of the blocks that expire on a day into one that expires on another, at the same cost basis.

    Raises `PricingError` where fewer credits expire on that day.
    """
    owed = credits_moved
    found: list[CreditBlock] = []
    for block in blocks:
        moved = min(owed, block.credits) if block.expires_on == expires_on else ZERO
        owed = EXACT.subtract(owed, moved)
        found.append(replace(block, credits=EXACT.subtract(block.credits, moved)))
        if moved:
            found.append(replace(block, credits=moved, expires_on=target))
    if owed:
        raise PricingError(
            f"the expiry of {credits_moved:f} credits cannot be moved, {owed:f} of them do not expire on {expires_on}"
        )
    return tuple(found)
