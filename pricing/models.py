"""The price models: how a quantity becomes an amount, step by step, exactly.

One `match` over all models; the arithmetic of each family stands in `tiers`, `blocks` and `percentages`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import assert_never

from pricing import percentages
from pricing.blocks import graduated_block_steps, package_step, volume_block_step
from pricing.errors import NegativeQuantityError
from pricing.measures import Measure
from pricing.money import EXACT, ZERO
from pricing.prices import (
    CellPrice,
    Dynamic,
    Graduated,
    GraduatedBlocks,
    GraduatedPercentage,
    Matrix,
    Package,
    Percentage,
    PerUnit,
    Price,
    StairStep,
    Tier,
    UsagePrice,
    Volume,
    VolumeBlocks,
)
from pricing.quantities import divided
from pricing.rated import Step
from pricing.steps import step
from pricing.tiers import flat_fee_at_zero, graduated_steps, stair_step, volume_step
from pricing.wording import counted, number, unit_price_text

ANY_VALUE = "*"
"""What a matrix cell says where any group value fits."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where usage stands among all usage of its tier window, because tiers run over the whole window."""

    before: Measure
    """The usage earlier in the window; the rated usage stands on top of it."""
    whole: Measure
    """The usage of the whole window, which decides the tier of a volume price."""
    owes_flat_fee: bool = True
    """Whether the flat fee of the reached volume tier or stair is still to be charged in this window."""


def price_steps(price: CellPrice, usage: Measure, standing: Standing, unit: str) -> tuple[Step, ...]:
    """Return the steps by which the usage that follows `standing.before` comes to its amount.

    Each step is exact: its quantity times its unit price (None: nothing) plus its flat fee is its amount. Where the
    whole window has no usage, the steps are what is due without any, if the price says so. Raises
    `NegativeQuantityError` for usage below zero and `PricingError` for units above all tiers.
    """
    if usage.quantity < ZERO and not isinstance(price, Percentage):
        raise NegativeQuantityError(
            f"a quantity of {number(usage.quantity)} {unit} cannot be priced; settle corrections before rating"
        )
    if not usage.quantity and not standing.whole.quantity:
        return _steps_without_usage(price, standing)
    match price:
        case Percentage():
            return tuple(percentages.percentage_steps(price, usage, standing.before, standing.whole))
        case Dynamic():
            return tuple(percentages.dynamic_steps(price, usage, standing.before, unit))
        case _:
            return _steps_of_quantity(price, usage.quantity, standing, unit) if usage.quantity else ()


def cell_price(price: UsagePrice, groups: Mapping[str, str]) -> CellPrice | None:
    """Return the price for usage of these group values: the first cell of a matrix that fits, else its default.

    None means that the matrix has no price for them.
    """
    if not isinstance(price, Matrix):
        return price
    values = [groups.get(key) for key in price.keys]
    for cell in price.cells:
        if all(wanted in (ANY_VALUE, value) for wanted, value in zip(cell.values, values, strict=True)):
            return cell.price
    return price.default


def steps_unit(price: CellPrice, step: Step, unit: str) -> str:
    """Return what the quantity of a price's step counts: its packages or blocks, its events, else its units."""
    match price:
        case Package():
            return "package"
        case GraduatedBlocks() | VolumeBlocks():
            return "block"
        case Percentage() if step.unit_price and step.unit_price != percentages.share_of(price):
            return "event"
        case _:
            return unit


def effective_unit_price(amount: Decimal, units: Decimal) -> Decimal:
    """Return what one unit of an amount costs on average, to twenty decimals; zero without units."""
    return divided(amount, units, "none") if units else ZERO


def wants_values(price: Price) -> bool:
    """Tell whether a price must see each event's own value, so that readings must carry them."""
    match price:
        case Matrix(cells=cells, default=default):
            return any(wants_values(cell.price) for cell in cells) or (default is not None and wants_values(default))
        case Percentage():
            return percentages.wants_values(price)
        case _:
            return False


def scaled(price: CellPrice, factor: Decimal) -> CellPrice:  # noqa: PLR0911, one return per price model
    """Return a price with every amount times `factor`: of percentages the rate, the fees and their bounds."""
    match price:
        case PerUnit(unit_price):
            return PerUnit(EXACT.multiply(unit_price, factor))
        case Package(package_price=package_price):
            return replace(price, package_price=EXACT.multiply(package_price, factor))
        case Graduated() | Volume():
            return _scaled_tiers(price, factor)
        case StairStep(stairs):
            return replace(price, stairs=tuple(replace(s, amount=EXACT.multiply(s.amount, factor)) for s in stairs))
        case GraduatedBlocks(blocks) | VolumeBlocks(blocks):
            dearer = tuple(replace(b, block_price=EXACT.multiply(b.block_price, factor)) for b in blocks)
            return replace(price, blocks=dearer)
        case Percentage():
            return replace(
                price,
                rate_percent=EXACT.multiply(price.rate_percent, factor),
                fee_per_event=EXACT.multiply(price.fee_per_event, factor),
                minimum_per_event=_times(price.minimum_per_event, factor),
                maximum_per_event=_times(price.maximum_per_event, factor),
            )
        case GraduatedPercentage():
            return _scaled_percent_tiers(price, factor)
        case Dynamic(multiplier=multiplier):
            return replace(price, multiplier=EXACT.multiply(multiplier, factor))
        case _:
            assert_never(price)


def _steps_of_quantity(  # noqa: PLR0911, one return per price model
    price: PerUnit | Package | Graduated | Volume | StairStep | GraduatedBlocks | VolumeBlocks | GraduatedPercentage,
    usage: Decimal,
    standing: Standing,
    unit: str,
) -> tuple[Step, ...]:
    before, whole, owes = standing.before.quantity, standing.whole.quantity, standing.owes_flat_fee
    match price:
        case PerUnit(unit_price):
            return (step(f"{counted(usage, unit)} at {unit_price_text(unit_price)}", usage, unit_price),)
        case Package():
            return (package_step(price, usage, before, unit),)
        case Graduated(tiers):

            def words(order: str, units: Decimal, unit_price: Decimal) -> str:
                return f"{order} {counted(units, unit)} at {unit_price_text(unit_price)}"

            return tuple(graduated_steps(tiers, usage, before, words, unit))
        case Volume(tiers):
            return (volume_step(tiers, usage, before, whole, unit, owes_flat_fee=owes),)
        case StairStep(stairs):
            return (stair_step(stairs, usage, whole, unit, owes_flat_fee=owes),)
        case GraduatedBlocks(blocks):
            return tuple(graduated_block_steps(blocks, usage, before, unit))
        case VolumeBlocks(blocks):
            return (volume_block_step(blocks, usage, before, whole, unit),)
        case GraduatedPercentage(percent_tiers):
            return tuple(percentages.graduated_percentage_steps(percent_tiers, usage, before, unit))
        case _:
            assert_never(price)


def _steps_without_usage(price: CellPrice, standing: Standing) -> tuple[Step, ...]:
    if not standing.owes_flat_fee:
        return ()
    match price:
        case Graduated(tiers, flat_fee_at_zero=True) | Volume(tiers, flat_fee_at_zero=True):
            return tuple(flat_fee_at_zero(tiers[0]))
        case GraduatedPercentage(percent_tiers, flat_fee_at_zero=True):
            return tuple(percentages.percentage_flat_fee_at_zero(percent_tiers[0]))
        case StairStep(stairs, amount_at_zero=True):
            return tuple(flat_fee_at_zero(Tier(stairs[0].up_to, None, stairs[0].amount)))
        case _:
            return ()


def _scaled_tiers(price: Graduated | Volume, factor: Decimal) -> Graduated | Volume:
    return replace(
        price,
        tiers=tuple(
            replace(
                t,
                unit_price=_times(t.unit_price, factor),
                flat_fee=EXACT.multiply(t.flat_fee, factor),
                maximum=_times(t.maximum, factor),
            )
            for t in price.tiers
        ),
    )


def _scaled_percent_tiers(price: GraduatedPercentage, factor: Decimal) -> GraduatedPercentage:
    return replace(
        price,
        tiers=tuple(
            replace(
                t,
                rate_percent=EXACT.multiply(t.rate_percent, factor),
                flat_fee=EXACT.multiply(t.flat_fee, factor),
            )
            for t in price.tiers
        ),
    )


def _times(amount: Decimal | None, factor: Decimal) -> Decimal | None:
    return None if amount is None else EXACT.multiply(amount, factor)
