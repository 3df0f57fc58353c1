"""Vendors' examples of a price: one quantity after the other at a price model, each alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from pricing.blocks import packaged_units, packages
from pricing.measures import NOTHING, Measure, joined
from pricing.models import Standing, price_steps
from pricing.money import currency, round_to_currency, total
from pricing.prices import CellPrice, Graduated, Package, Percentage, PerUnit, Stair, StairStep, Tier, Volume
from tests.conformance.case import Case, Unsupported
from tests.conformance.read import ROUNDINGS, Json, decimal, decimal_or_none

Row = Mapping[str, object]

PRICE_KEYS = {
    "model", "tiers", "steps", "unit_amount", "package_size", "package_amount", "round", "bps", "per_unit_maximum",
    "per_unit_minimum", "currency",
}  # fmt: skip
TIER_KEYS = {"up_to", "maximum_units", "first_unit", "last_unit", "unit_amount", "flat_amount"}
BASIS_POINTS_SCALE = -2
"""A basis point is a hundredth of a per cent."""


def price_of(given: Json) -> CellPrice:
    """Translate a price; `Unsupported` for a model or an option that has no translation."""
    refuse_others(given, PRICE_KEYS, "option of a price")
    match given["model"]:
        case "unit" | "per_unit":
            return PerUnit(decimal(given["unit_amount"]))
        case "package":
            rounding = ROUNDINGS[given.get("round", "up")]
            return Package(decimal(given["package_size"]), decimal(given["package_amount"]), rounding)
        case "graduated" | "tiered":
            return Graduated(tiers_of(given["tiers"]))
        case "volume" | "bulk":
            return Volume(tiers_of(given["tiers"]))
        case "stairstep" | "stair_step":
            stairs = given["steps"] if "steps" in given else given["tiers"]
            return StairStep(tuple(Stair(decimal_or_none(one["up_to"]), decimal(one["amount"])) for one in stairs))
        case "bps":
            return Percentage(
                decimal(given["bps"]).scaleb(BASIS_POINTS_SCALE),
                minimum_per_event=decimal_or_none(given.get("per_unit_minimum")),
                maximum_per_event=decimal_or_none(given.get("per_unit_maximum")),
            )
        case other:
            raise Unsupported(f"the price model {other} is not translated")


def tiers_of(given: Iterable[Json]) -> tuple[Tier, ...]:
    """Translate tiers, whose end is inclusive and called `up_to`, `maximum_units` or `last_unit`."""
    found: list[Tier] = []
    for tier in given:
        refuse_others(tier, TIER_KEYS, "option of a tier")
        end = next((tier[key] for key in ("up_to", "maximum_units", "last_unit") if key in tier), None)
        if "first_unit" in tier and decimal(tier["first_unit"]) != (found[-1].up_to if found else 0):
            raise Unsupported("tiers with units between them have no price there")
        price = decimal_or_none(tier.get("unit_amount"))
        found.append(Tier(decimal_or_none(end), price, decimal(tier.get("flat_amount", 0))))
    return tuple(found)


def exact_amount(price: CellPrice, quantity: Decimal) -> Decimal:
    """Return what a quantity, in one event and alone in its period, costs exactly."""
    usage = Measure(quantity, 1, values=(quantity,))
    return total([step.amount for step in price_steps(price, usage, Standing(NOTHING, usage), "unit")])


def priced(case: Case) -> Sequence[Row]:
    """Answer each quantity with the figures of its price that are asked for."""
    unit = currency(case.pricing.get("currency", "USD"))
    rows = []
    for event, asked in zip(case.input, case.expected, strict=True):
        key, quantity = _quantity(event)
        figures = dict(_figures(case.pricing, key, quantity, lambda amount: round_to_currency(amount, unit)))
        rows.append({name: figure_of(figures, name)() for name in asked if name not in ("note", "basis")})
    return rows


def figure_of(figures: Mapping[str, Callable[[], object]], name: str) -> Callable[[], object]:
    """Return a figure by its name; `Unsupported` where there is none such."""
    if name not in figures:
        raise Unsupported(f"no figure is known for {name}")
    return figures[name]


def refuse_others(given: Json, known: set[str], what: str) -> None:
    """Raise `Unsupported` for options that nothing translates."""
    others = sorted(given.keys() - known)
    if others:
        raise Unsupported(f"the {what} {', '.join(others)} is not translated")


def _quantity(event: Json) -> tuple[str, Decimal]:
    keys = [key for key in event if key != "unit"]
    if len(keys) != 1:
        raise Unsupported(f"which of {', '.join(keys)} is the quantity is not known")
    return keys[0], decimal(event[keys[0]])


def _figures(
    given: Json, key: str, quantity: Decimal, rounded: Callable[[Decimal], Decimal]
) -> Iterator[tuple[str, Callable[[], object]]]:
    yield key, lambda: quantity
    if "model" not in given:  # both readings of the same tiers
        tiers = tiers_of(given["tiers"])
        yield "graduated", lambda: rounded(exact_amount(Graduated(tiers), quantity))
        yield "volume", lambda: rounded(exact_amount(Volume(tiers), quantity))
        return
    price = price_of(given)
    yield "amount", lambda: rounded(exact_amount(price, quantity))
    yield "invoiced", lambda: rounded(exact_amount(price, quantity))
    yield "exact", lambda: exact_amount(price, quantity)
    if isinstance(price, Package):
        package = price
        yield "packages", lambda: packages(package, quantity)
        yield "billed_units", lambda: packaged_units(package, quantity)


# --- records of usage that are priced together --------------------------------------------------------------------


def grouped(case: Case) -> Sequence[Row]:
    """Price records of usage together in each month: all of them, those of a group or a file, or each alone."""
    price = price_of(case.pricing)
    return [_grouped_by(price, asked, case.input) for asked in case.expected]


def _grouped_by(price: CellPrice, asked: Json, records: Iterable[Json]) -> Row:
    by_month: dict[str, list[Json]] = {}
    for record in records:
        by_month.setdefault(record["date"][:7], []).append(record)
    found: dict[str, object] = {"group_by": asked["group_by"]}
    for month, own in by_month.items():
        match asked["group_by"]:
            case "billing period":
                found[month] = _together(price, own)
            case "group id" | "group":
                found[month] = _by_value(price, own, "group")
            case "usage file" | "file" | "upload":
                found[month] = _by_value(price, own, "file")
            case "record" | "usage record":
                found[month] = [_together(price, [record]) for record in own]
            case other:
                raise Unsupported(f"grouping by {other} is not translated")
    return found


def _by_value(price: CellPrice, records: Iterable[Json], key: str) -> dict[str, Decimal]:
    found: dict[str, list[Json]] = {}
    for record in records:
        found.setdefault(str(record[key]), []).append(record)
    return {value: _together(price, own) for value, own in found.items()}


def _together(price: CellPrice, records: Iterable[Json]) -> Decimal:
    usage = joined(Measure(decimal(record["q"])) for record in records)
    return round_to_currency(exact_amount(price, usage.quantity), currency("USD"))
