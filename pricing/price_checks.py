"""Checks of prices: what makes one price contradict itself, each fault with its path below the price."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import assert_never

from pricing.money import WIDE, ZERO
from pricing.prices import (
    Block,
    CellPrice,
    Composite,
    Dynamic,
    FixedFee,
    Graduated,
    GraduatedBlocks,
    GraduatedPercentage,
    Matrix,
    OneOff,
    Package,
    Percentage,
    PercentTier,
    PerUnit,
    Price,
    Seats,
    StairStep,
    Tier,
    Volume,
    VolumeBlocks,
)

Problem = tuple[str, str]
"""A path such as `products[1].price.tiers[0].up_to`, and a sentence that says what must change."""

LEDGER_DECIMALS = 12
MOST_DIGITS = 24
"""Before and after the point of a price, so that its product with any quantity of 38 digits is exact."""


def price_problems(path: str, price: Price) -> Iterator[Problem]:
    """Yield every contradiction within one price that stands at `path`."""
    match price:
        case Matrix():
            yield from _matrix_problems(path, price)
        case Composite():
            yield from number_problems(f"{path}.rate_percent", price.rate_percent)
            yield from bounds_problems(f"{path}.", "minimum", price.minimum, "maximum", price.maximum)
        case FixedFee() | OneOff():
            yield from money_problems(f"{path}.amount", price.amount)
        case Seats():
            yield from number_problems(f"{path}.quantity", price.quantity)
            yield from _cell_price_problems(f"{path}.price", price.price)
        case _:
            yield from _cell_price_problems(path, price)


def number_problems(
    path: str, value: Decimal, *, above_zero: bool = False, most_decimals: int = MOST_DIGITS
) -> Iterator[Problem]:
    """Yield what keeps a value from being a number, of bearable length, that is zero or more."""
    if not value.is_finite():
        yield path, f"is {value}; it must be a number"
    elif value.adjusted() >= MOST_DIGITS:
        yield path, f"is {value}; it may have at most {MOST_DIGITS} digits before the point"
    elif value < 0 or (above_zero and value == 0):
        yield path, f"is {value:f}; it must be {'above zero' if above_zero else 'zero or more'}"
    elif value != value.quantize(Decimal(1).scaleb(-most_decimals), context=WIDE):
        yield path, f"is {value:f}; it may have at most {most_decimals} decimals"


def money_problems(path: str, amount: Decimal | None, *, above_zero: bool = False) -> Iterator[Problem]:
    """Yield what keeps an amount, if there is one, from standing in the ledger."""
    if amount is not None:
        yield from number_problems(path, amount, above_zero=above_zero, most_decimals=LEDGER_DECIMALS)


def bounds_problems(
    prefix: str, low_name: str, low: Decimal | None, high_name: str, high: Decimal | None
) -> Iterator[Problem]:
    """Yield what is wrong with two amounts that bound another from below and above; `prefix` begins their paths."""
    problems = [*money_problems(f"{prefix}{low_name}", low), *money_problems(f"{prefix}{high_name}", high)]
    yield from problems
    if not problems and low is not None and high is not None and low > high:
        message = f"is {low:f}, above {high_name}, which is {high:f}; lower the one or raise the other"
        yield f"{prefix}{low_name}", message


def _cell_price_problems(path: str, price: CellPrice) -> Iterator[Problem]:  # noqa: C901, one branch per price model
    match price:
        case PerUnit(unit_price):
            yield from number_problems(f"{path}.unit_price", unit_price)
        case Package():
            yield from number_problems(f"{path}.size", price.size, above_zero=True)
            yield from number_problems(f"{path}.package_price", price.package_price)
            yield from number_problems(f"{path}.free_units", price.free_units)
        case Graduated(tiers) | Volume(tiers):
            yield from _ends_problems(f"{path}.tiers", "tier", [tier.up_to for tier in tiers])
            for n, tier in enumerate(tiers):
                yield from _tier_problems(f"{path}.tiers[{n}]", tier)
        case GraduatedPercentage(percent_tiers):
            yield from _ends_problems(f"{path}.tiers", "tier", [tier.up_to for tier in percent_tiers])
            for n, percent_tier in enumerate(percent_tiers):
                yield from _percent_tier_problems(f"{path}.tiers[{n}]", percent_tier)
        case StairStep(stairs):
            yield from _ends_problems(f"{path}.stairs", "stair", [stair.up_to for stair in stairs])
            for n, stair in enumerate(stairs):
                yield from number_problems(f"{path}.stairs[{n}].amount", stair.amount)
        case GraduatedBlocks(blocks) | VolumeBlocks(blocks):
            yield from _blocks_problems(f"{path}.blocks", blocks)
        case Percentage():
            yield from _percentage_problems(path, price)
        case Dynamic(multiplier=multiplier):
            yield from number_problems(f"{path}.multiplier", multiplier)
        case _:
            assert_never(price)


def _ends_problems(path: str, word: str, ends: Sequence[Decimal | None]) -> Iterator[Problem]:
    if not ends:
        yield path, f"is empty; give at least one {word}, the last without up_to"
    over = ZERO
    for n, up_to in enumerate(ends):
        here, is_last = f"{path}[{n}].up_to", n == len(ends) - 1
        if up_to is None:
            if not is_last:
                yield here, f"is missing; only the last {word} may be without end"
        elif unusable := list(number_problems(here, up_to)):
            yield from unusable
        elif up_to <= over:
            yield here, f"is {up_to:f}; it must be above {over:f}, where the {word} before ends"
        elif is_last:
            yield here, f"is {up_to:f}; leave it out, because the last {word} has no end"
        else:
            over = up_to


def _tier_problems(path: str, tier: Tier) -> Iterator[Problem]:
    if tier.unit_price is not None:
        yield from number_problems(f"{path}.unit_price", tier.unit_price)
    yield from number_problems(f"{path}.flat_fee", tier.flat_fee)
    if tier.maximum is not None:
        yield from number_problems(f"{path}.maximum", tier.maximum)


def _percent_tier_problems(path: str, tier: PercentTier) -> Iterator[Problem]:
    yield from number_problems(f"{path}.rate_percent", tier.rate_percent)
    yield from number_problems(f"{path}.flat_fee", tier.flat_fee)


def _blocks_problems(path: str, blocks: Sequence[Block]) -> Iterator[Problem]:
    if not blocks:
        yield path, "is empty; give at least one tier of blocks"
    for n, block in enumerate(blocks):
        here = f"{path}[{n}]"
        yield from number_problems(f"{here}.size", block.size, above_zero=True)
        yield from number_problems(f"{here}.block_price", block.block_price)
        if block.most_blocks is not None:
            yield from number_problems(f"{here}.most_blocks", block.most_blocks, above_zero=True, most_decimals=0)
        elif n < len(blocks) - 1:
            yield f"{here}.most_blocks", "is missing; only the last tier may hold any number of blocks"


def _percentage_problems(path: str, price: Percentage) -> Iterator[Problem]:
    yield from number_problems(f"{path}.rate_percent", price.rate_percent)
    yield from number_problems(f"{path}.fee_per_event", price.fee_per_event)
    if price.free_events is not None and price.free_events < 0:
        yield f"{path}.free_events", f"is {price.free_events}; it must be zero or more"
    if price.free_amount is not None:
        yield from number_problems(f"{path}.free_amount", price.free_amount)
    yield from bounds_problems(
        f"{path}.", "minimum_per_event", price.minimum_per_event, "maximum_per_event", price.maximum_per_event
    )


def _matrix_problems(path: str, matrix: Matrix) -> Iterator[Problem]:
    if not matrix.keys:
        yield f"{path}.keys", "is empty; name the group keys whose values the cells give"
    for n, key in enumerate(matrix.keys):
        if key in matrix.keys[:n]:
            yield f"{path}.keys[{n}]", f"repeats {key!r}; name each key once"
    if not matrix.cells:
        yield f"{path}.cells", "is empty; give a price for at least one combination of values"
    earlier = [cell.values for cell in matrix.cells]
    for n, cell in enumerate(matrix.cells):
        here = f"{path}.cells[{n}]"
        if len(cell.values) != len(matrix.keys):
            yield (
                f"{here}.values",
                f"has {len(cell.values)} values for {len(matrix.keys)} keys; give one for each of {list(matrix.keys)}",
            )
        elif cell.values in earlier[:n]:
            yield f"{here}.values", f"repeats {list(cell.values)}; give each combination of values one price"
        yield from _cell_price_problems(f"{here}.price", cell.price)
    if matrix.default is not None:
        yield from _cell_price_problems(f"{path}.default", matrix.default)
