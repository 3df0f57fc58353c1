"""Series: what a product counted in each interval, on its way to the units that its price applies to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from pricing.allowances import carried_over, free_units
from pricing.calendar import Period
from pricing.errors import MissingPriceError, NegativeQuantityError
from pricing.measures import NOTHING, Measure, joined
from pricing.models import cell_price
from pricing.money import EXACT, ZERO, total
from pricing.prices import CellPrice, Composite, FixedFee, OneOff, Seats
from pricing.product_checks import group_keys
from pricing.quantities import billable, settled
from pricing.seats import seats_in_force
from pricing.segments import terms_in_force
from pricing.terms import Allowance, ProductPrice, Reading, Terms
from pricing.usage import Groups, Usage, by_group, groups_for
from pricing.windows import tier_period_of, window_start


@dataclass(frozen=True, slots=True)
class Frame:
    """What all products of a period are rated in: its terms, intervals and zone, and whether it is over."""

    terms: Sequence[Terms]
    period: Period
    intervals: Sequence[Period]
    time_zone: str
    is_over: bool


@dataclass(frozen=True, slots=True)
class Count:
    """What a product counted in one interval: `used` are units as they are priced, `charged` those beyond free ones.

    `price` is the price for the group values, and `window` the start of the window that the interval lies in.
    """

    interval: Period
    product: ProductPrice
    price: CellPrice
    terms_version: int
    window: datetime
    used: Decimal = ZERO
    charged: Measure = NOTHING


@dataclass(frozen=True, slots=True)
class Series:
    """A product's counts for one combination of group values, in order of time, also where nothing was used.

    `earlier` is what was charged before the period, where the tiers of the product go back before it.
    """

    product_id: str
    metric_id: str
    groups: Groups
    counts: tuple[Count, ...]
    earlier: Measure = NOTHING


def series_of(frame: Frame, usage: Usage) -> tuple[Series, ...]:
    """Return the series of all products, in the order in which the versions name them.

    Raises `MissingPriceError` for usage that no product prices, and `NegativeQuantityError` where more is taken back
    than was used.
    """
    _require_products(frame, usage)
    ids = [p.product_id for version in sorted(frame.terms, key=lambda t: t.version) for p in version.prices]
    found: list[Series] = []
    for product_id in dict.fromkeys(ids):
        raw = _additions(frame, usage, product_id)
        for (metric_id, groups), additions in raw.items():
            found.append(_series(frame, usage, product_id, (metric_id, groups), additions))
    return tuple(found)


def usage_products(terms: Terms | None) -> Iterator[ProductPrice]:
    """Yield the products of terms that a metric counts."""
    for product in terms.prices if terms else ():
        if product.metric_id is not None and not isinstance(product.price, Composite | FixedFee | Seats | OneOff):
            yield product


_Addition = tuple[Period, ProductPrice, int, Measure]


def _additions(frame: Frame, usage: Usage, product_id: str) -> Mapping[tuple[str, Groups], list[_Addition]]:
    """Return what a product counted in each interval in which it is agreed, by metric and group values."""
    agreed: list[tuple[Period, ProductPrice, int, Mapping[Groups, Measure]]] = []
    for interval in frame.intervals:
        in_force = terms_in_force(frame.terms, interval.start)
        for product in usage_products(in_force):
            if product.product_id == product_id and product.metric_id is not None and in_force is not None:
                counted = by_group(product, usage.of(product.metric_id, interval))
                agreed.append((interval, product, in_force.version, counted))
    found: dict[tuple[str, Groups], list[_Addition]] = {}
    for _, product, _, by_groups in agreed:
        for groups in by_groups if group_keys(product) else ((),):
            found.setdefault((product.metric_id or "", groups), [])
    for interval, product, version, by_groups in agreed:
        for (metric_id, groups), additions in found.items():
            if metric_id == product.metric_id and groups == groups_for(product, groups):
                additions.append((interval, product, version, by_groups.get(groups, NOTHING)))
    return found


def _series(
    frame: Frame, usage: Usage, product_id: str, place: tuple[str, Groups], additions: Sequence[_Addition]
) -> Series:
    metric_id, groups = place
    windows: dict[datetime, list[_Addition]] = {}
    for addition in additions:
        interval, product, _, _ = addition
        start = window_start(interval.start, tier_period_of(product), frame.period, frame.time_zone)
        windows.setdefault(start, []).append(addition)
    earlier = [r for r in usage.earlier.get(metric_id, ()) if groups_for(additions[0][1], r.groups) == groups]
    free = _FreeUnits(frame, usage, earlier)
    counts: list[Count] = []
    for start, in_window in windows.items():
        counts += _counts_of_window(frame, groups, start, in_window, free)
    before = NOTHING
    if additions and additions[0][1].tier_period == "contract":
        whole = joined(_measure(reading) for reading in earlier)
        before = replace(whole, quantity=billable(whole.quantity, additions[0][1], ZERO))
    return Series(product_id, metric_id, groups, tuple(counts), before)


def _counts_of_window(
    frame: Frame, groups: Groups, start: datetime, additions: Sequence[_Addition], free: "_FreeUnits"
) -> Iterator[Count]:
    reached = settled([measure.quantity for _, _, _, measure in additions])
    if reached[-1] < 0:
        interval, product, _, _ = additions[-1]
        raise NegativeQuantityError(
            f"the usage of {_where(frame, product.metric_id or '', groups, Period(start, interval.end))} adds up to "
            f"{reached[-1]:f}; correct the events so that it is zero or more"
        )
    first = additions[0][1]
    granted = free.granted(first)
    before = ZERO
    for (interval, product, version, measure), cumulative in zip(additions, reached, strict=True):
        used = EXACT.subtract(billable(cumulative, product, ZERO), billable(before, product, ZERO))
        charged = EXACT.subtract(billable(cumulative, product, granted), billable(before, product, granted))
        price = _price_of(frame, product, groups, interval, is_used=bool(measure.quantity or measure.events))
        if price is not None:
            yield Count(interval, product, price, version, start, used, replace(measure, quantity=charged))
        before = cumulative
    free.use(first, billable(reached[-1], first, ZERO))


def _price_of(
    frame: Frame, product: ProductPrice, groups: Groups, interval: Period, *, is_used: bool
) -> CellPrice | None:
    """Return the price of a product's usage; None only where there is no usage that needs one."""
    if isinstance(product.price, Composite | FixedFee | Seats | OneOff):
        raise TypeError(f"product {product.product_id!r} counts no usage")
    price = cell_price(product.price, dict(groups))
    if price is None and is_used:
        raise MissingPriceError(
            f"usage of {_where(frame, product.metric_id or '', groups, interval)} has no price: the matrix of product "
            f"{product.product_id!r} has no cell for it and no default; add a cell for it, effective by "
            f"{interval.start.isoformat()}"
        )
    return price


def _require_products(frame: Frame, usage: Usage) -> None:
    """Raise for the earliest usage that no product in force prices; it is never left out."""
    for (metric_id, interval), counted in sorted(usage.in_intervals.items(), key=lambda item: (item[0][1], item[0][0])):
        in_force = terms_in_force(frame.terms, interval.start)
        known = {product.metric_id for product in usage_products(in_force)} | _counting_metrics(in_force)
        quantity = total([measure.quantity for measure in counted.values()])
        if metric_id in known or not any(measure.quantity for measure in counted.values()):
            continue
        found = "no terms are in force" if in_force is None else f"terms version {in_force.version} has no price"
        raise MissingPriceError(
            f"{quantity:f} units were used of {_where(frame, metric_id, (), interval)}, but {found}; "
            f"amend the contract with a product on this metric, effective by {interval.start.isoformat()}"
        )


def _counting_metrics(terms: Terms | None) -> set[str]:
    """Return the metrics that only multiply allowances, and need no price of their own."""
    allowances = (product.allowance for product in terms.prices) if terms else ()
    return {allowance.per_metric for allowance in allowances if allowance and allowance.per_metric}


def _where(frame: Frame, metric_id: str, groups: Groups, interval: Period) -> str:
    values = "".join(f", {key} {value!r}" for key, value in groups)
    return (
        f"metric {metric_id!r}{values} from {interval.start.isoformat()} to {interval.end.isoformat()} "
        f"of contract {frame.terms[0].contract_id!r}"
    )


class _FreeUnits:
    """How many units are free in each window of a series, in order; what is left of them rolls over up to the cap."""

    def __init__(self, frame: Frame, usage: Usage, earlier: Sequence[Reading]) -> None:
        self._frame = frame
        self._usage = usage
        self._earlier = earlier
        self._carried: Decimal | None = None

    def granted(self, product: ProductPrice) -> Decimal:
        """Return the free units of the next window."""
        if product.allowance is None:
            return ZERO
        if self._carried is None:
            self._carried = self._carried_before(product)
        return free_units(product.allowance, self._counted(product.allowance), self._carried)

    def use(self, product: ProductPrice, used: Decimal) -> None:
        """End a window in which so many units were used, free ones included."""
        if product.allowance is not None:
            self._carried = carried_over(product.allowance, self.granted(product), used)

    def _carried_before(self, product: ProductPrice) -> Decimal:
        """Let each earlier billing period use up its own, the readings being cut at these."""
        self._carried = ZERO
        periods: dict[datetime, list[Measure]] = {}
        for reading in self._earlier:
            periods.setdefault(reading.start, []).append(_measure(reading))
        for found in periods.values():
            self.use(product, billable(joined(found).quantity, product, ZERO))
        return self._carried

    def _counted(self, allowance: Allowance) -> Decimal:
        """Return what the units are granted for each of: a metric's quantity in the period, or seats at its start."""
        if allowance.per_metric is not None:
            counted = [self._usage.of(allowance.per_metric, interval) for interval in self._frame.intervals]
            return settled([joined(groups.values()).quantity for groups in counted])[-1]
        if allowance.per_seats is not None:
            return seats_in_force(self._frame.terms, allowance.per_seats, self._frame.period.start)
        return ZERO


def _measure(reading: Reading) -> Measure:
    return Measure(reading.quantity, reading.events, reading.amount, reading.values)
