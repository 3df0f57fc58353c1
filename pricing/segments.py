"""Segments: the stretches of a period in which a product's price stays the same, with the usage in them."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

from pricing.calendar import Period
from pricing.errors import MissingPriceError, NegativeQuantityError
from pricing.money import EXACT, ZERO, total
from pricing.prices import FixedFee, UsagePrice
from pricing.terms import ProductPrice, Reading, Terms

Usage = Mapping[tuple[Period, str], Decimal]
"""The quantity per interval and metric; a pair without usage is absent."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A product's price over consecutive intervals; name, unit and version are those at its start."""

    product: ProductPrice
    price: UsagePrice
    metric_id: str
    terms_version: int
    period: Period
    quantities: tuple[tuple[Period, Decimal], ...]
    """The intervals with usage, in time order, and the quantity of each (> 0)."""

    @property
    def quantity(self) -> Decimal:
        """The units of the whole segment."""
        return total([quantity for _, quantity in self.quantities])


def terms_in_force(terms: Sequence[Terms], moment: datetime) -> Terms | None:
    """Return the greatest version in effect at a moment, or None before the first takes effect."""
    return max((t for t in terms if t.effective_from <= moment), key=lambda t: t.version, default=None)


def intervals_between(cuts: Sequence[datetime]) -> tuple[Period, ...]:
    """Return the intervals between neighbouring cuts."""
    return tuple(Period(start, end) for start, end in pairwise(cuts))


def usage_by_interval(readings: Sequence[Reading], intervals: Sequence[Period]) -> Usage:
    """Add up the readings of each metric in each interval; raise `ValueError` for one that lies in none of them."""
    starts = [interval.start for interval in intervals]
    usage: dict[tuple[Period, str], Decimal] = {}
    for reading in readings:
        position = bisect_right(starts, reading.start) - 1
        if position < 0 or not reading.start < reading.end <= intervals[position].end:
            raise ValueError(
                f"the reading of metric {reading.metric_id!r} from {reading.start.isoformat()} to "
                f"{reading.end.isoformat()} does not lie between neighbouring cuts; cut readings at slice_cuts()"
            )
        place = (intervals[position], reading.metric_id)
        usage[place] = EXACT.add(usage.get(place, ZERO), reading.quantity)
    return {place: quantity for place, quantity in usage.items() if quantity}


def require_prices(terms: Sequence[Terms], usage: Usage) -> None:
    """Raise for the earliest usage that is below zero or that no product in force prices; it is never left out."""
    for (interval, metric_id), quantity in sorted(usage.items()):
        in_force = terms_in_force(terms, interval.start)
        where = (
            f"metric {metric_id!r} from {interval.start.isoformat()} to {interval.end.isoformat()} "
            f"of contract {terms[0].contract_id!r}"
        )
        if in_force is None or all(metric_id != metric for _, _, metric in _usage_products(in_force)):
            found = "no terms are in force" if in_force is None else f"terms version {in_force.version} has no price"
            raise MissingPriceError(
                f"{quantity:f} units were used of {where}, but {found}; "
                f"amend the contract with a product on this metric, effective by {interval.start.isoformat()}"
            )
        if quantity < 0:
            raise NegativeQuantityError(
                f"the usage of {where} adds up to {quantity:f}; correct the events so that it is zero or more"
            )


def segments_by_product(
    terms: Sequence[Terms], usage: Usage, intervals: Sequence[Period]
) -> tuple[tuple[Segment, ...], ...]:
    """Return each product's segments in time order, the products in the order in which the versions name them.

    An amendment that leaves a product's price and metric as they were does not cut it.
    """
    found: dict[str, list[Segment]] = {}
    for version in sorted(terms, key=lambda t: t.version):
        for product in version.prices:
            found.setdefault(product.product_id, [])
    for interval in intervals:
        in_force = terms_in_force(terms, interval.start)
        if in_force is None:
            continue
        for product, price, metric_id in _usage_products(in_force):
            quantity = usage.get((interval, metric_id))
            quantities = () if quantity is None else ((interval, quantity),)
            segments = found[product.product_id]
            if segments and _continues(segments[-1], price, metric_id, interval):
                so_far = segments[-1]
                period = Period(so_far.period.start, interval.end)
                segments[-1] = replace(so_far, period=period, quantities=so_far.quantities + quantities)
            else:
                segments.append(Segment(product, price, metric_id, in_force.version, interval, quantities))
    return tuple(tuple(segments) for segments in found.values())


def _continues(segment: Segment, price: UsagePrice, metric_id: str, interval: Period) -> bool:
    return (segment.price, segment.metric_id, segment.period.end) == (price, metric_id, interval.start)


def _usage_products(terms: Terms) -> Iterator[tuple[ProductPrice, UsagePrice, str]]:
    for product in terms.prices:
        if not isinstance(product.price, FixedFee) and product.metric_id is not None:
            yield product, product.price, product.metric_id
