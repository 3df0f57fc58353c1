"""Prices by packages and blocks: units are charged by the batch in which they come.

Each counts the batches of the cumulative quantity and charges what the usage adds to them, so that a package that
earlier usage began is charged once.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from pricing.money import EXACT, ZERO
from pricing.prices import Block, Package
from pricing.quantities import divided
from pricing.rated import Step
from pricing.steps import step
from pricing.tiers import beyond_last
from pricing.wording import counted, unit_price_text


def package_step(price: Package, usage: Decimal, before: Decimal, unit: str) -> Step:
    """Charge the packages that the usage adds to those of the units before it."""
    end = EXACT.add(before, usage)
    added = EXACT.subtract(packages(price, end), packages(price, before))
    free = f", after {counted(price.free_units, unit)} free" if price.free_units else ""
    text = f"{counted(added, 'package')} of {counted(price.size, unit)} at {unit_price_text(price.package_price)}{free}"
    return step(text, added, price.package_price)


def packages(price: Package, quantity: Decimal) -> Decimal:
    """Return how many packages a cumulative quantity comes to; a package that is exactly full opens no other."""
    charged = max(EXACT.subtract(quantity, price.free_units), ZERO)
    return divided(charged, price.size, price.rounding)


def packaged_units(price: Package, quantity: Decimal) -> Decimal:
    """Return how many units the charged packages of a cumulative quantity hold, full or not."""
    return EXACT.multiply(packages(price, quantity), price.size)


def graduated_block_steps(blocks: Sequence[Block], usage: Decimal, before: Decimal, unit: str) -> Iterator[Step]:
    """Charge the blocks that the usage begins, tier by tier; raise `PricingError` for units that no tier holds."""
    end, capacity = EXACT.add(before, usage), ZERO
    for tier_number, (block, (over, up_to)) in enumerate(zip(blocks, _bounds(blocks), strict=True), start=1):
        begun = EXACT.subtract(_begun(block, over, up_to, end), _begun(block, over, up_to, before))
        if begun:
            yield _block_step(block, begun, unit, over=over, up_to=up_to, tier=tier_number)
        if up_to is None or end <= up_to:
            return
        capacity = up_to
    raise beyond_last(end, capacity)


def volume_block_step(blocks: Sequence[Block], usage: Decimal, before: Decimal, whole: Decimal, unit: str) -> Step:
    """Charge all blocks at the tier whose end the whole does not pass; the last tier takes what passes its end.

    Kill Bill's rule for its top tier: what lies above all capacities is charged at the last tier's size and price.
    """
    bounds = list(_bounds(blocks))
    fits = (position for position, (_, up_to) in enumerate(bounds) if up_to is None or whole <= up_to)
    position = next(fits, len(blocks) - 1)
    block, (over, up_to) = blocks[position], bounds[position]
    end = EXACT.add(before, usage)
    begun = EXACT.subtract(divided(end, block.size, "up"), divided(before, block.size, "up"))
    return _block_step(block, begun, unit, over=over, up_to=up_to, tier=position + 1)


def _bounds(blocks: Sequence[Block]) -> Iterator[tuple[Decimal, Decimal | None]]:
    """Yield where each tier begins and ends, in units."""
    over = ZERO
    for block in blocks:
        up_to = None if block.most_blocks is None else EXACT.add(over, EXACT.multiply(block.size, block.most_blocks))
        yield over, up_to
        over = over if up_to is None else up_to


def _begun(block: Block, over: Decimal, up_to: Decimal | None, quantity: Decimal) -> Decimal:
    held = max(quantity if up_to is None else min(quantity, up_to), over)
    return divided(EXACT.subtract(held, over), block.size, "up")


def _block_step(block: Block, begun: Decimal, unit: str, *, over: Decimal, up_to: Decimal | None, tier: int) -> Step:
    text = f"{counted(begun, 'block')} of {counted(block.size, unit)} at {unit_price_text(block.block_price)}"
    return step(text, begun, block.block_price, over=over, up_to=up_to, tier=tier)
