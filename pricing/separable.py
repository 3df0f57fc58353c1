"""Separable usage: a charge depends on the readings of one product and group alone, and so can be rated alone.

Then what a change of usage costs is found from the series that changed. Lots need no series either, as long as they
tell products apart, not groups: drawing what a product comes to in each interval then draws the same from each lot.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from pricing.adjustments import adjusted
from pricing.agreements import usage_products
from pricing.calendar import Period
from pricing.charges import usage_charges
from pricing.draws import draw_from_lots
from pricing.models import ANY_VALUE, wants_values
from pricing.money import EXACT, ZERO
from pricing.prices import Composite, Matrix
from pricing.product_checks import group_keys
from pricing.rated import Charge, ChargeSlice
from pricing.rating import slice_cuts, wants_history
from pricing.segments import intervals_between, terms_in_force
from pricing.series import Frame, series_of
from pricing.terms import Lot, ProductPrice, Reading, Terms
from pricing.usage import Groups, usage_of

Amounts = Mapping[datetime, tuple[Decimal, Decimal]]
"""Quantity and amount by the start of each interval that has any."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What tells the series of a product apart: its metric, and the group keys by which it is split."""

    metric_id: str
    keys: tuple[str, ...]

    def series(self, groups: Groups) -> Groups:
        """Return the group values of the series in which a metric's usage of these group values is counted."""
        return tuple((key, value) for key, value in groups if key in self.keys)


@dataclass(frozen=True, slots=True)
class Separated:
    """A period whose products are rated series by series; `products` are in the order in which they are drawn.

    `version` is the one of the terms that are in force in the period.
    """

    frame: Frame
    version: int
    products: Mapping[str, Counted]


def separated(
    terms: Sequence[Terms],
    lots: Sequence[Lot],
    period: Period,
    entity_time_zone: str,
    *,
    time_zone: str,
    is_over: bool,
) -> Separated | None:
    """Return how a period is rated series by series; None where something reaches over series.

    Such are bounds, fixed discounts, composites, tiers and allowances that go by other usage or back over periods,
    prices of single events, and lots of the period that pay for some group values only; and several versions of terms,
    because a charge names one.
    """
    if any(lot.groups and lot.start < period.end and (lot.end is None or period.start < lot.end) for lot in lots):
        return None
    intervals = intervals_between(slice_cuts(terms, lots, period, entity_time_zone, time_zone=time_zone))
    in_force = _in_force(terms, intervals)
    if len({version.version for version in in_force}) != 1 or wants_history(terms):
        return None
    if not all(_is_separable(version, is_over=is_over) for version in in_force):
        return None
    products: dict[str, Counted] = {}
    for version in sorted(terms, key=lambda version: version.version):
        for product in version.prices:
            products.setdefault(product.product_id, Counted("", ()))
    counted = {name: set(_counted(in_force, name)) for name in products}
    if any(len(found) > 1 for found in counted.values()):
        return None
    frame = Frame(terms, period, intervals, time_zone, is_over)
    return Separated(frame, in_force[0].version, {name: found.pop() for name, found in counted.items() if found})


def series_amounts(parts: Separated, product_id: str, readings: Sequence[Reading]) -> Amounts:
    """Rate readings that make whole series of a product, and return what they add to it in each interval.

    Raises `MissingPriceError` and `NegativeQuantityError`.
    """
    frame = parts.frame
    narrow = replace(frame, terms=tuple(_narrowed(version, product_id, readings) for version in frame.terms))
    agreed = [
        reading for reading in readings if (version := terms_in_force(narrow.terms, reading.start)) and version.prices
    ]
    charges = usage_charges(narrow, series_of(narrow, usage_of(agreed, frame.intervals, frame.period)))
    found: dict[datetime, tuple[Decimal, Decimal]] = {}
    for charge in adjusted(charges, narrow.terms, frame.period, frame.intervals[-1], is_over=frame.is_over):
        for part in charge.slices:
            quantity, amount = found.get(part.start, (ZERO, ZERO))
            found[part.start] = EXACT.add(quantity, part.quantity), EXACT.add(amount, part.amount)
    return found


def draw_products(
    parts: Separated, amounts: Mapping[tuple[str, datetime], Decimal], lots: Sequence[Lot]
) -> tuple[Mapping[tuple[str, str, datetime], Decimal], Mapping[str, Decimal]]:
    """Draw what products come to in each interval, given by product and start, from lots as at the period's start.

    Returns what is drawn by lot, product and start of interval, and what each lot still holds. It is what drawing every
    slice alone comes to: slices of one product and interval are served by the same lots, one after the other.
    """
    charges = [_whole(parts, product_id, amounts) for product_id in parts.products]
    draws, left = draw_from_lots(charges, lots, parts.frame.terms)
    return {(draw.lot_id, draw.product_id, draw.start): draw.amount for draw in draws}, left


def _in_force(terms: Sequence[Terms], intervals: Sequence[Period]) -> tuple[Terms, ...]:
    found = {id(version): version for i in intervals if (version := terms_in_force(terms, i.start)) is not None}
    return tuple(found.values())


def _counted(versions: Sequence[Terms], product_id: str) -> Iterator[Counted]:
    for version in versions:
        for product in usage_products(version):
            if product.product_id == product_id:
                yield Counted(product.metric_id or "", group_keys(product))


def _is_separable(version: Terms, *, is_over: bool) -> bool:
    if version.maximum is not None or (is_over and version.minimum is not None):
        return False
    if any(discount.kind == "fixed" for discount in version.discounts):
        return False
    if any(isinstance(product.price, Composite) for product in version.prices):
        return False
    return all(_stands_alone(product, is_over=is_over) for product in version.prices)


def _stands_alone(product: ProductPrice, *, is_over: bool) -> bool:
    if product.tier_group is not None or product.maximum is not None or (is_over and product.minimum is not None):
        return False
    allowance = product.allowance
    if allowance is not None and (allowance.per_metric is not None or allowance.per_seats is not None):
        return False
    return not wants_values(product.price)


def _has_prices(terms: Sequence[Terms], moment: datetime) -> bool:
    in_force = terms_in_force(terms, moment)
    return in_force is not None and bool(in_force.prices)


def _narrowed(version: Terms, product_id: str, readings: Sequence[Reading]) -> Terms:
    """Leave only what prices these readings: looking through all products and cells is dear where there are many."""
    own = [product for product in version.prices if product.product_id == product_id]
    return replace(version, prices=tuple(_narrowed_product(product, readings) for product in own))


def _narrowed_product(product: ProductPrice, readings: Sequence[Reading]) -> ProductPrice:
    price = product.price
    if not isinstance(price, Matrix):
        return product
    wanted = [[dict(reading).get(key) for key in price.keys] for reading in {one.groups for one in readings}]
    cells = [cell for cell in price.cells if any(_fits(cell.values, values) for values in wanted)]
    return replace(product, price=replace(price, cells=tuple(cells)))


def _fits(cell: Sequence[str], values: Sequence[str | None]) -> bool:
    return all(word in (ANY_VALUE, value) for word, value in zip(cell, values, strict=True))


def _whole(parts: Separated, product_id: str, amounts: Mapping[tuple[str, datetime], Decimal]) -> Charge:
    slices = [
        ChargeSlice(interval.start, interval.end, ZERO, amounts[product_id, interval.start])
        for interval in parts.frame.intervals
        if (product_id, interval.start) in amounts
    ]
    return Charge(
        product_id=product_id,
        name=product_id,
        unit="",
        segment=parts.frame.period,
        terms_version=parts.version,
        price=None,
        quantity=ZERO,
        amount=ZERO,
        steps=(),
        slices=tuple(slices),
    )
