"""Putting the price of a case to a month of usage, so that all its options meet the one function that rates."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from pricing.adjustments import net_amount
from pricing.calendar import Period
from pricing.measures import Measure
from pricing.money import currency, round_to_currency, total
from pricing.prices import CellPrice
from pricing.rated import RatedPeriod, Step
from pricing.rating import rate_period
from pricing.terms import Allowance, Discount, ProductPrice, Reading, Terms
from tests.conformance.prices import ANY_CURRENCY, conversion_of
from tests.conformance.read import decimal, decimal_or_none

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DAYS = 31
ZONE = "UTC"
GROUP = "group"
EARLIER, NOW = START, START + DAY
"""When a prior quantity is used, and when the quantity of the case."""

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Month:
    """What the usage of a case comes to in its period."""

    rated: RatedPeriod
    names_currency: bool
    has_earlier: bool

    @property
    def amount(self) -> Decimal:
        """What the case's own usage adds: exactly, or as it is invoiced where the case names a currency."""
        if self.has_earlier:
            parts = [part for charge in self.rated.charges for part in charge.slices if part.start >= NOW]
            added = total([part.amount for part in parts])
            return round_to_currency(added, self.rated.currency) if self.names_currency else added
        if self.names_currency:
            return total([line.amount for line in self.rated.lines])
        return total([net_amount(charge) for charge in self.rated.charges])

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of all charges."""
        return tuple(step for charge in self.rated.charges for step in charge.steps)


def rate_month(options: Options, usage: Mapping[str, tuple[CellPrice, Sequence[Reading]]]) -> Month:
    """Rate readings of metrics, each with its price; the options of the case hold for all of them."""
    readings = [reading for _, of_metric in usage.values() for reading in of_metric]
    products = [_product(metric, price, of_metric, options) for metric, (price, of_metric) in usage.items()]
    terms = Terms(
        contract_id="case",
        version=1,
        effective_from=START,
        currency=currency(options["currency"]) if options.get("currency") else ANY_CURRENCY,
        prices=tuple(products),
        discounts=tuple(_discounts(options)),
        minimum=decimal_or_none(options.get("minimum_amount")),
        maximum=decimal_or_none(options.get("maximum_amount")),
    )
    end = max([START + DAYS * DAY, *(reading.end for reading in readings)])
    rated = rate_period([terms], readings, (), Period(START, end), entity_time_zone=ZONE)
    has_earlier = any(reading.start == EARLIER and reading.end == NOW for reading in readings)
    return Month(rated, names_currency=bool(options.get("currency")), has_earlier=has_earlier)


def used(metric: str, measure: Measure, before: Decimal = Decimal(0)) -> Iterator[Reading]:
    """Yield the usage of a case, after what was used earlier in the period."""
    if before:
        yield Reading(metric, EARLIER, NOW, before)
    yield Reading(metric, NOW, NOW + DAY, measure.quantity, (), measure.events, measure.amount, measure.values)


def used_in_buckets(metric: str, buckets: Sequence[object]) -> Iterator[Reading]:
    """Yield a reading per bucket of an hour; a bucket is a quantity, or a list of those of its groups."""
    for position, bucket in enumerate(buckets):
        whole = Reading(metric, START + position * HOUR, START + (position + 1) * HOUR, Decimal(0))
        if isinstance(bucket, list):
            yield from (replace(one, start=whole.start, end=whole.end) for one in used_by_groups(metric, bucket))
        else:
            yield replace(whole, quantity=decimal(bucket))


def used_by_groups(metric: str, quantities: Sequence[object]) -> Iterator[Reading]:
    """Yield a reading per group."""
    for position, quantity in enumerate(quantities):
        yield Reading(metric, NOW, NOW + DAY, decimal(quantity), ((GROUP, str(position)),))


def _product(metric: str, price: CellPrice, readings: Sequence[Reading], options: Options) -> ProductPrice:
    free = decimal_or_none(options.get("usage_discount_quantity"))
    return ProductPrice(
        product_id=metric,
        name=metric,
        price=price,
        metric_id=metric,
        group_by=(GROUP,) if any(reading.groups for reading in readings) else (),
        conversion=conversion_of(options),
        allowance=Allowance(free) if free else None,
        tier_period="hour" if options.get("bucketed") else "billing_period",
    )


def _discounts(options: Options) -> Iterator[Discount]:
    percent = decimal_or_none(options.get("percentage_discount"))
    if percent:
        yield Discount("discount", "Discount", "percentage", percent)
