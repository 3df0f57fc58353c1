"""Prices and what belongs to them in words, as a person reads a contract."""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import assert_never

from admin.plain import decimal_text
from admin.screen import moment
from pricing.calendar import Anchor
from pricing.prices import (
    Block,
    Cadence,
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
    PerUnit,
    Price,
    Proration,
    Rounding,
    Seats,
    StairStep,
    Tier,
    Volume,
    VolumeBlocks,
)
from pricing.terms import Allowance, Discount, Override, ProductPrice, Terms, WindowedCommitment
from pricing.wording import counted

CADENCES: dict[Cadence, str] = {
    "day": "day", "week": "week", "two_weeks": "two weeks", "month": "month", "quarter": "quarter",
    "half_year": "half year", "year": "year",
}  # fmt: skip
PACKAGES: dict[Rounding, str] = {
    "up": "begun", "down": "filled", "half_up": "more than half filled", "none": "or the part of it",
}  # fmt: skip
PRORATIONS: dict[Proration, str] = {"none": "", "day": "by the day", "second": "by the second"}


def price_text(price: Price, unit: str) -> str:
    """Say a price in words."""
    match price:
        case Matrix(keys, cells, default):
            told = [f"{' and '.join(cell.values)}: {_cell_text(cell.price, unit)}" for cell in cells]
            rest = [] if default is None else [f"otherwise {_cell_text(default, unit)}"]
            return f"by {' and '.join(keys)}: {'; '.join([*told, *rest])}"
        case Composite():
            bounds = _bounds(price.minimum, price.maximum)
            return _listed([f"{_percent(price.rate_percent)} of what {', '.join(price.products)} come to", *bounds])
        case FixedFee():
            return _recurring(f"{decimal_text(price.amount)} a {_cadence(price.cadence)}", price)
        case Seats():
            fall = ["removed seats are credited"] if price.credit_removals else []
            what = f"{counted(price.quantity, 'seat')} a {_cadence(price.cadence)}, {_cell_text(price.price, 'seat')}"
            return _listed([_recurring(what, price), *fall])
        case OneOff(amount, due):
            return f"{decimal_text(amount)} once, on {moment(due)}"
        case _:
            return _cell_text(price, unit)


def product_text(product: ProductPrice) -> str:
    """Say the price of a product with everything that changes how its quantity is counted."""
    return _listed([price_text(product.price, product.unit), *_options(product)])


def other_facts(terms: Terms) -> Iterator[tuple[str, str]]:
    """Yield what terms say beside products and commits, each with its name."""
    if terms.card is not None:
        named = f"alias {terms.card.alias}" if terms.card.card_id is None else terms.card.card_id
        yield "rate card", named
    for override in terms.overrides:
        yield f"override {override.override_id}", _override(override)
    for discount in terms.discounts:
        yield f"discount {discount.discount_id}", _discount(discount)
    for unit in terms.units:
        yield f"unit {unit.code}", f"{decimal_text(unit.money_per_unit)} {terms.currency.code} each"
    for name, bound in (("minimum", terms.minimum), ("maximum", terms.maximum)):
        if bound is not None:
            yield name, f"{decimal_text(bound)} a billing period"


def periods_text(cadence: Cadence, anchor: Anchor | None) -> str:
    """Say how a contract's billing periods follow each other."""
    turn = "from the day of the start" if anchor is None else f"from day {anchor.day}"
    month = "" if anchor is None or anchor.month is None else f" of month {anchor.month}"
    return f"each {CADENCES[cadence]}, {turn}{month}"


# --- prices of usage ----------------------------------------------------------------------------------------------


def _cell_text(price: CellPrice, unit: str) -> str:  # noqa: C901, PLR0911 - one branch per price model
    match price:
        case PerUnit(unit_price):
            return f"{decimal_text(unit_price)} per {unit}"
        case Package():
            free = [f"the first {counted(price.free_units, unit)} free"] if price.free_units else []
            package = f"{decimal_text(price.package_price)} per {counted(price.size, unit)} {PACKAGES[price.rounding]}"
            return _listed([package, *free])
        case Graduated(tiers, at_zero):
            return f"graduated: {_joined(_tiers(tiers, unit), at_zero)}"
        case Volume(tiers, at_zero):
            return f"by volume: {_joined(_tiers(tiers, unit), at_zero)}"
        case StairStep(stairs, at_zero):
            told = (f"{decimal_text(stair.amount)} {_until(stair.up_to)}" for stair in stairs)
            return f"one amount by volume: {_joined(told, at_zero)}"
        case GraduatedBlocks(blocks):
            return f"graduated, in whole blocks: {'; '.join(_blocks(blocks, unit))}"
        case VolumeBlocks(blocks):
            return f"by volume, in whole blocks: {'; '.join(_blocks(blocks, unit))}"
        case Percentage():
            return _listed([f"{_percent(price.rate_percent)} of the amount", *_of_events(price)])
        case GraduatedPercentage(percent_tiers, at_zero):
            shares = (
                f"{_percent(tier.rate_percent)} {_until(tier.up_to)}{_plus(tier.flat_fee)}" for tier in percent_tiers
            )
            return f"graduated: {_joined(shares, at_zero)}"
        case Dynamic(multiplier, source):
            what = "the amount that the events carry" if source == "event_amount" else "the quantity"
            return f"{decimal_text(multiplier)} times {what}"
        case _:
            assert_never(price)


def _tiers(tiers: Sequence[Tier], unit: str) -> Iterator[str]:
    for tier in tiers:
        if tier.unit_price is None:
            yield f"{decimal_text(tier.flat_fee)} in all {_until(tier.up_to)}{_at_most(tier.maximum)}"
        else:
            price = f"{decimal_text(tier.unit_price)} per {unit} {_until(tier.up_to)}"
            yield f"{price}{_plus(tier.flat_fee)}{_at_most(tier.maximum)}"


def _blocks(blocks: Sequence[Block], unit: str) -> Iterator[str]:
    for block in blocks:
        most = "" if block.most_blocks is None else f", at most {decimal_text(block.most_blocks)} of them"
        yield f"{decimal_text(block.block_price)} per {counted(block.size, unit)}{most}"


def _of_events(price: Percentage) -> Iterator[str]:
    if price.fee_per_event:
        yield f"plus {decimal_text(price.fee_per_event)} per event"
    for word, bound in (("at least", price.minimum_per_event), ("at most", price.maximum_per_event)):
        if bound is not None:
            yield f"{word} {decimal_text(bound)} per event"
    if price.free_events is not None:
        yield f"the first {counted(Decimal(price.free_events), 'event')} free"
    if price.free_amount is not None:
        yield f"the first {decimal_text(price.free_amount)} free"


# --- options and other terms --------------------------------------------------------------------------------------


def _options(product: ProductPrice) -> Iterator[str]:
    if product.pricing_unit is not None:
        yield f"in {product.pricing_unit}"
    if product.group_by:
        yield f"for each {' and '.join(product.group_by)}"
    if product.rounding is not None:
        yield f"quantity rounded {product.rounding.rounding.replace('_', ' ')} to {product.rounding.places} places"
    if product.conversion is not None:
        verb = "divided" if product.conversion.operation == "divide" else "multiplied"
        rounded = "" if product.conversion.rounding == "none" else f", rounded {product.conversion.rounding}"
        yield f"quantity {verb} by {decimal_text(product.conversion.factor)}{rounded}"
    if product.allowance is not None:
        yield _allowance(product.allowance, product.unit)
    if product.tier_period != "billing_period":
        yield f"tiers counted by the {product.tier_period}"
    if product.tier_group is not None:
        yield f"tiers shared with {product.tier_group}"
    yield from _bounds(product.minimum, product.maximum)
    if product.commitment is not None:
        yield _commitment(product.commitment, product.unit)
    if product.source:
        yield f"from {product.source}"


def _allowance(allowance: Allowance, unit: str) -> str:
    per = allowance.per_metric or allowance.per_seats
    kept = "" if allowance.rollover_cap is None else f", at most {decimal_text(allowance.rollover_cap)} kept over"
    return f"{counted(allowance.units, unit)} free{f' per {per}' if per else ''}{kept}"


def _commitment(commitment: WindowedCommitment, unit: str) -> str:
    if commitment.amount is not None:
        committed = decimal_text(commitment.amount)
    elif commitment.quantity is not None:
        committed = counted(commitment.quantity, unit)
    else:
        committed = "nothing"
    true_up = ", charged also where it is not used" if commitment.true_up else ""
    ranges = " and ".join(f"{hours.start} to {hours.end} o'clock" for hours in commitment.hours)
    other = f", other figures from {ranges}" if ranges else ""
    beyond = f"beyond it {decimal_text(commitment.overage_factor)} times the price"
    return f"{committed} committed per {commitment.window}, {beyond}{true_up}{other}"


def _override(override: Override) -> str:
    if override.price is not None:
        what = price_text(override.price, "unit")
    else:
        what = f"{decimal_text(override.multiplier or Decimal(1))} times the card's price"
    groups = [f"where {' and '.join(f'{key} is {value}' for key, value in override.groups)}"] if override.groups else []
    return _listed([f"{what}, for {', '.join(override.products)}", *groups, *_window(override)])


def _discount(discount: Discount) -> str:
    off = decimal_text(discount.value) if discount.kind == "fixed" else _percent(discount.value)
    served = f" {', '.join(discount.products)}" if discount.products else " all usage"
    each = " a billing period" if discount.kind == "fixed" else ""
    return _listed([f"{discount.name}: {off} off{served}{each}", *_window(discount)])


def _window(dated: Override | Discount) -> Iterator[str]:
    if dated.start is not None:
        yield f"from {moment(dated.start)}"
    if dated.end is not None:
        yield f"until {moment(dated.end)}"


def _recurring(what: str, price: FixedFee | Seats) -> str:
    timing = "in advance" if price.timing == "advance" else "in arrears"
    part = PRORATIONS[price.proration]
    return _listed([what, timing, *([f"a part of it {part}"] if part else [])])


def _cadence(cadence: Cadence | None) -> str:
    return "period" if cadence is None else CADENCES[cadence]


def _bounds(minimum: Decimal | None, maximum: Decimal | None) -> Iterator[str]:
    if minimum is not None:
        yield f"at least {decimal_text(minimum)}"
    if maximum is not None:
        yield f"at most {decimal_text(maximum)}"


def _until(up_to: Decimal | None) -> str:
    return "beyond" if up_to is None else f"up to {decimal_text(up_to)}"


def _at_most(maximum: Decimal | None) -> str:
    return "" if maximum is None else f", at most {decimal_text(maximum)}"


def _plus(flat_fee: Decimal) -> str:
    return f" plus {decimal_text(flat_fee)}" if flat_fee else ""


def _percent(rate: Decimal) -> str:
    return f"{decimal_text(rate)}%"


def _joined(parts: Iterable[str], at_zero: bool) -> str:
    return "; ".join([*parts, *(["the first also without usage"] if at_zero else [])])


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(parts)
