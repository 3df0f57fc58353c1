"""Translating the price terms of a case into our price models; its `first_tier_flat...` is our `flat_fee_at_zero`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from pricing.money import Currency, currency
from pricing.prices import (
    Block,
    CellPrice,
    Dynamic,
    Graduated,
    GraduatedBlocks,
    GraduatedPercentage,
    Package,
    Percentage,
    PercentTier,
    PerUnit,
    Stair,
    StairStep,
    Tier,
    Volume,
    VolumeBlocks,
)
from pricing.terms import Conversion
from tests.conformance.case import Unsupported
from tests.conformance.read import ROUNDINGS, decimal, decimal_or_none

Terms = Mapping[str, Any]
ANY_CURRENCY = Currency("XXX", 2)
"""What lines are rounded to where a case names no currency."""


def price_of(terms: Terms) -> CellPrice:
    """Return the price that a case's terms mean."""
    model = terms.get("model")
    if not isinstance(model, str) or model not in MODELS:
        raise Unsupported(f"no price model is called {model!r}")
    return MODELS[model](terms)


def currency_of(terms: Terms) -> Currency | None:
    """Return the currency that a case names; None where it wants exact amounts."""
    return currency(terms["currency"]) if terms.get("currency") else None


def conversion_of(terms: Terms) -> Conversion | None:
    """Return the unit conversion of a case."""
    given = terms.get("unit_conversion")
    if given is None:
        return None
    return Conversion(given["operation"], decimal(given["factor"]), ROUNDINGS[given.get("rounding") or "none"])


def charging_at_zero(price: CellPrice) -> CellPrice:
    """Return a price whose first tier's flat fee is due without usage."""
    return replace(price, flat_fee_at_zero=True) if isinstance(price, Graduated | Volume) else price


def _tiers(terms: Terms) -> tuple[Tier, ...]:
    return tuple(
        Tier(
            decimal_or_none(tier.get("up_to")),
            decimal_or_none(tier.get("unit_amount")),
            decimal_or_none(tier.get("flat_amount")) or Decimal(0),
            decimal_or_none(tier.get("tier_cap")),
        )
        for tier in terms["tiers"]
    )


def _at_zero(terms: Terms) -> bool:
    return bool(terms.get("first_tier_flat_at_zero_usage"))


def _package(terms: Terms) -> Package:
    return Package(
        decimal(terms["package_size"]),
        decimal_or_none(terms.get("package_amount")) or Decimal(0),
        ROUNDINGS[terms.get("rounding") or terms.get("round") or "ceiling"],
        decimal_or_none(terms.get("free_units")) or Decimal(0),
    )


def _percentage(terms: Terms) -> Percentage:
    free_events = terms.get("free_events")
    return Percentage(
        decimal(terms["rate_percent"]),
        decimal_or_none(terms.get("fixed_fee_per_event")) or Decimal(0),
        decimal_or_none(terms.get("per_event_min")),
        decimal_or_none(terms.get("per_event_max")),
        None if free_events is None else int(free_events),
        decimal_or_none(terms.get("free_amount")),
    )


def _graduated_percentage(terms: Terms) -> GraduatedPercentage:
    tiers = tuple(
        PercentTier(
            decimal_or_none(tier.get("up_to")),
            decimal(tier["rate_percent"]),
            decimal_or_none(tier.get("flat_amount")) or Decimal(0),
        )
        for tier in terms["tiers"]
    )
    return GraduatedPercentage(tiers, _at_zero(terms))


def _dynamic(terms: Terms) -> Dynamic:
    multiplier = decimal_or_none(terms.get("multiplier"))
    source = "event_amount" if terms.get("amount_source") == "event" else "quantity"
    return Dynamic(Decimal(1) if multiplier is None else multiplier, source)  # type: ignore[arg-type] # one of the two


def blocks_of(given: list[Terms]) -> tuple[Block, ...]:
    """Return block tiers."""
    return tuple(
        Block(decimal(block["block_size"]), decimal(block["block_amount"]), decimal_or_none(block.get("max_blocks")))
        for block in given
    )


def _stairs(terms: Terms) -> StairStep:
    stairs = tuple(Stair(decimal_or_none(step.get("up_to")), decimal(step["amount"])) for step in terms["steps"])
    return StairStep(stairs)


MODELS: Mapping[str, Callable[[Terms], CellPrice]] = {
    "per_unit": lambda terms: PerUnit(decimal(terms["unit_amount"])),
    "package": _package,
    "graduated": lambda terms: Graduated(_tiers(terms), _at_zero(terms)),
    "volume": lambda terms: Volume(_tiers(terms), _at_zero(terms)),
    "stairstep": _stairs,
    "graduated_blocks": lambda terms: GraduatedBlocks(blocks_of(terms["blocks"])),
    "volume_blocks": lambda terms: VolumeBlocks(blocks_of(terms["blocks"])),
    "percentage": _percentage,
    "graduated_percentage": _graduated_percentage,
    "dynamic": _dynamic,
}
