"""The price models: how a quantity becomes an amount, step by step, exactly."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import assert_never

from pricing.money import EXACT, ZERO
from pricing.prices import Graduated, Package, PerUnit, Tier, UsagePrice, Volume
from pricing.rated import Step
from pricing.wording import counted, number, price_text


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a segment's units stand among all units of the period, because tiers run over the whole period."""

    before: Decimal
    """The units of earlier segments; the segment's own stand on top of them."""
    whole: Decimal
    """The units of the whole period, which decide the tier of a volume price."""
    owes_flat_fee: bool
    """Whether the flat fee of the reached volume tier is still to be charged in this period."""


def price_steps(price: UsagePrice, quantity: Decimal, standing: Standing, unit: str) -> tuple[Step, ...]:
    """Return the steps by which the first `quantity` (> 0) units of a segment come to their amount."""
    match price:
        case PerUnit(unit_price):
            return (_step(f"{counted(quantity, unit)} at {price_text(unit_price)}", quantity, unit_price),)
        case Package():
            return (_package_step(price, quantity, standing.before, unit),)
        case Graduated(tiers):
            return tuple(_graduated_steps(tiers, quantity, standing.before, unit))
        case Volume(tiers):
            return (_volume_step(tiers, quantity, standing, unit),)
        case _:
            assert_never(price)


def packages_begun(quantity: Decimal, size: Decimal) -> Decimal:
    """Return how many packages of `size` units a quantity opens; a package that is exactly full opens no other."""
    full, rest = EXACT.divmod(quantity, size)
    return EXACT.add(full, Decimal(rest > 0))


def _package_step(price: Package, quantity: Decimal, before: Decimal, unit: str) -> Step:
    opened = packages_begun(before, price.size)
    packages = EXACT.subtract(packages_begun(EXACT.add(before, quantity), price.size), opened)
    text = f"{counted(packages, 'package')} of {counted(price.size, unit)} at {price_text(price.package_price)}"
    return _step(text, packages, price.package_price)


def _graduated_steps(tiers: tuple[Tier, ...], quantity: Decimal, before: Decimal, unit: str) -> Iterator[Step]:
    end = EXACT.add(before, quantity)
    for over, tier in _with_lower_bounds(tiers):
        first = max(over, before)
        last = end if tier.up_to is None else min(end, tier.up_to)
        if last <= first:
            continue
        units = EXACT.subtract(last, first)
        flat_fee = tier.flat_fee if before <= over else ZERO  # else an earlier segment has entered the tier
        order = "first" if first == ZERO else "next"
        text = f"{order} {counted(units, unit)} at {price_text(tier.unit_price)}"
        yield _step(text, units, tier.unit_price, flat_fee=flat_fee, over=over, up_to=tier.up_to)


def _volume_step(tiers: tuple[Tier, ...], quantity: Decimal, standing: Standing, unit: str) -> Step:
    over, tier = next(
        (over, tier) for over, tier in _with_lower_bounds(tiers) if tier.up_to is None or standing.whole <= tier.up_to
    )
    flat_fee = tier.flat_fee if standing.owes_flat_fee else ZERO
    text = f"{counted(quantity, unit)} at {price_text(tier.unit_price)} for a volume of {number(standing.whole)}"
    return _step(text, quantity, tier.unit_price, flat_fee=flat_fee, over=over, up_to=tier.up_to)


def _with_lower_bounds(tiers: tuple[Tier, ...]) -> Iterator[tuple[Decimal, Tier]]:
    over = ZERO
    for tier in tiers:
        yield over, tier
        over = tier.up_to if tier.up_to is not None else over


def _step(
    text: str,
    quantity: Decimal,
    unit_price: Decimal,
    *,
    flat_fee: Decimal = ZERO,
    over: Decimal | None = None,
    up_to: Decimal | None = None,
) -> Step:
    amount = EXACT.add(EXACT.multiply(quantity, unit_price), flat_fee)
    with_fee = f"{text}, plus {price_text(flat_fee)}" if flat_fee else text
    return Step(with_fee, quantity, unit_price, amount, flat_fee, over, up_to)
