"""Allotment: how many units of a product are free in each of its windows, and what of them rolls over."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from pricing.allowances import carried_over, free_units
from pricing.calendar import Period
from pricing.money import ZERO
from pricing.quantities import billable
from pricing.seats import seats_in_force
from pricing.segments import terms_in_force
from pricing.terms import ProductPrice, Reading, Terms
from pricing.usage import Usage, measure_of


class Allotment:
    """The free units of one product and group, window by window in order of time.

    What a window leaves rolls over to the next one; the billing periods before the first one are gone through by the
    earlier readings, which are cut at them, each with the allowance that was in force when it began.
    """

    def __init__(self, terms: Sequence[Terms], period: Period, usage: Usage, earlier: Sequence[Reading]) -> None:
        self._terms = terms
        self._period = period
        self._usage = usage
        self._earlier = earlier
        self._carried: Decimal | None = None

    def granted(self, product: ProductPrice) -> Decimal:
        """Return the free units of the next window of the period."""
        if product.allowance is None:
            return ZERO
        if self._carried is None:
            self._carried = self._carried_before(product)
        return free_units(product.allowance, self._counted(product, self._period.start), self._carried)

    def end_window(self, product: ProductPrice, granted: Decimal, used: Decimal) -> None:
        """Keep what the window leaves of its free units."""
        self._carried = ZERO if product.allowance is None else carried_over(product.allowance, granted, used)

    def _carried_before(self, product: ProductPrice) -> Decimal:
        if product.allowance is None or product.allowance.rollover_cap is None or product.tier_period == "contract":
            return ZERO
        parts: dict[datetime, list[Reading]] = {}
        for reading in self._earlier:
            parts.setdefault(reading.start, []).append(reading)
        carried = ZERO
        for start, readings in parts.items():
            agreed = self._agreed(product, start)
            used = billable(measure_of(readings).quantity, agreed, ZERO)
            if agreed.allowance is None:
                carried = ZERO
                continue
            granted = free_units(agreed.allowance, self._counted(agreed, start), carried)
            carried = carried_over(agreed.allowance, granted, used)
        return carried

    def _agreed(self, product: ProductPrice, moment: datetime) -> ProductPrice:
        """Return the product as it was agreed at a moment; before it first was, as it is."""
        in_force = terms_in_force(self._terms, moment)
        found = (p for p in in_force.prices if p.product_id == product.product_id) if in_force else iter(())
        return next(found, product)

    def _counted(self, product: ProductPrice, start: datetime) -> Decimal:
        """Return how often the allowance is granted, where it goes by a metric or by seats."""
        allowance = product.allowance
        if allowance is not None and allowance.per_metric is not None:
            return self._usage.total_of(allowance.per_metric, start)
        if allowance is not None and allowance.per_seats is not None:
            return seats_in_force(self._terms, allowance.per_seats, start)
        return ZERO
