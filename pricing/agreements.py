"""Agreements: which usage products the terms in force price in each interval."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pricing.calendar import Period
from pricing.prices import Composite, FixedFee, OneOff, Seats
from pricing.segments import terms_in_force
from pricing.terms import ProductPrice, Terms


@dataclass(frozen=True, slots=True)
class Agreement:
    """A usage product as the terms in force in an interval have it."""

    interval: Period
    terms: Terms
    product: ProductPrice


def usage_products(terms: Terms | None) -> Iterator[ProductPrice]:
    """Yield the products of terms that a metric counts."""
    for product in terms.prices if terms else ():
        if product.metric_id is not None and not isinstance(product.price, Composite | FixedFee | Seats | OneOff):
            yield product


def terms_by_interval(terms: Sequence[Terms], intervals: Sequence[Period]) -> Mapping[Period, Terms | None]:
    """Return the terms in force in each interval; None before the first take effect."""
    return {interval: terms_in_force(terms, interval.start) for interval in intervals}


def agreements_by_product(
    terms: Sequence[Terms], in_force: Mapping[Period, Terms | None]
) -> Mapping[str, Sequence[Agreement]]:
    """Return the agreements on each product in order of time; the products in the order in which versions name them."""
    found: dict[str, list[Agreement]] = {
        product.product_id: [] for version in sorted(terms, key=lambda t: t.version) for product in version.prices
    }
    for interval, version in in_force.items():
        if version is not None:
            for product in usage_products(version):
                found[product.product_id].append(Agreement(interval, version, product))
    return found
