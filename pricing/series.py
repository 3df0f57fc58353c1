"""Series: what a product counted in each interval, on its way to the units that its price applies to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from pricing.agreements import Agreement, agreements_by_product, terms_by_interval, usage_products
from pricing.allotment import Allotment
from pricing.calendar import Period
from pricing.errors import MissingPriceError, NegativeQuantityError
from pricing.measures import NOTHING, Measure
from pricing.models import cell_price
from pricing.money import EXACT, ZERO, total
from pricing.prices import CellPrice, Composite, Dynamic, FixedFee, OneOff, Seats
from pricing.product_checks import group_keys
from pricing.quantities import billable
from pricing.settling import settled_measures
from pricing.terms import Reading, Terms
from pricing.usage import Groups, Usage, by_group, groups_for, measure_of
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

    agreement: Agreement
    price: CellPrice
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


@dataclass(frozen=True, slots=True)
class _Addition:
    agreement: Agreement
    measure: Measure


def series_of(frame: Frame, usage: Usage) -> tuple[Series, ...]:
    """Return the series of all products, in the order in which the versions name them.

    Raises `MissingPriceError` for usage that no product prices, and `NegativeQuantityError` where more is taken back
    than was used.
    """
    in_force = terms_by_interval(frame.terms, frame.intervals)
    _require_products(frame, usage, in_force)
    found: list[Series] = []
    for product_id, agreements in agreements_by_product(frame.terms, in_force).items():
        earlier: dict[tuple[str, tuple[str, ...]], Mapping[Groups, Sequence[Reading]]] = {}
        for (metric_id, groups), additions in sorted(_additions(usage, agreements).items(), key=lambda item: item[0]):
            product = additions[0].agreement.product
            place = (metric_id, group_keys(product))
            if place not in earlier:
                earlier[place] = by_group(product, usage.earlier.get(metric_id, ()))
            counts, before = _counts(frame, usage, groups, additions, earlier[place].get(groups, ()))
            found.append(Series(product_id, metric_id, groups, counts, before))
    return tuple(found)


def _additions(usage: Usage, agreements: Sequence[Agreement]) -> Mapping[tuple[str, Groups], list[_Addition]]:
    """Return what a product counted in each interval in which it is agreed, by metric and group values."""
    counted = [by_group(a.product, usage.of(a.product.metric_id or "", a.interval)) for a in agreements]
    found: dict[tuple[str, Groups], list[_Addition]] = {}
    for agreement, by_groups in zip(agreements, counted, strict=True):
        for groups in by_groups if group_keys(agreement.product) else ((),):
            found.setdefault((agreement.product.metric_id or "", groups), [])
    for agreement, by_groups in zip(agreements, counted, strict=True):
        for (metric_id, groups), additions in found.items():
            if metric_id == agreement.product.metric_id and groups == groups_for(agreement.product, groups):
                additions.append(_Addition(agreement, measure_of(by_groups.get(groups, ()))))
    return found


def _counts(
    frame: Frame, usage: Usage, groups: Groups, additions: Sequence[_Addition], earlier: Sequence[Reading]
) -> tuple[tuple[Count, ...], Measure]:
    """Return the counts of all windows, and what was charged before them, where their tiers go back so far."""
    windows: dict[datetime, list[_Addition]] = {}
    for addition in additions:
        agreed = addition.agreement
        start = window_start(agreed.interval.start, tier_period_of(agreed.product), frame.period, frame.time_zone)
        windows.setdefault(start, []).append(addition)
    allotment = Allotment(frame.terms, frame.period, usage, earlier)
    before = measure_of(earlier)
    counts: list[Count] = []
    charged_before = NOTHING
    for start, added in windows.items():
        in_window = _under_one_commitment(added)
        product = in_window[0].agreement.product
        opening = before if tier_period_of(product) == "contract" else NOTHING
        granted = allotment.granted(product)
        if opening != NOTHING:
            charged_before = replace(opening, quantity=billable(opening.quantity, product, granted))
        measures = _settled(frame, groups, start, in_window)
        counts += _counts_of_window(frame, groups, start, (in_window, measures), (opening.quantity, granted))
        used = total([opening.quantity, *(measure.quantity for measure in measures)])
        allotment.end_window(product, granted, billable(used, product, ZERO))
    return tuple(counts), charged_before


def _under_one_commitment(additions: Sequence[_Addition]) -> Sequence[_Addition]:
    """Rate a committed window whole by the terms in which it begins: it has one commitment, whatever changes in it."""
    first = additions[0].agreement
    if first.product.commitment is None:
        return additions
    return [replace(one, agreement=replace(first, interval=one.agreement.interval)) for one in additions]


def _settled(frame: Frame, groups: Groups, start: datetime, additions: Sequence[_Addition]) -> tuple[Measure, ...]:
    """Let what falls take back the latest usage of the window; refuse a window that comes to less than nothing."""
    last = additions[-1].agreement
    whole = Period(start, last.interval.end)
    quantity = total([addition.measure.quantity for addition in additions])
    if quantity < 0:
        raise NegativeQuantityError(
            f"the usage of {_where(frame, last.product.metric_id or '', groups, whole)} adds up to "
            f"{quantity:f}; correct the events so that it is zero or more"
        )
    carried = total([addition.measure.amount for addition in additions])
    if carried < 0 and any(_prices_carried(addition, groups) for addition in additions):
        raise NegativeQuantityError(
            f"the money that events carry for {_where(frame, last.product.metric_id or '', groups, whole)} adds up to "
            f"{carried:f}; correct the events so that it is zero or more"
        )
    return settled_measures([addition.measure for addition in additions])


def _prices_carried(addition: _Addition, groups: Groups) -> bool:
    product = addition.agreement.product
    if isinstance(product.price, Composite | FixedFee | Seats | OneOff):
        return False
    price = cell_price(product.price, dict(groups))
    return isinstance(price, Dynamic) and price.source == "event_amount"


def _counts_of_window(
    frame: Frame,
    groups: Groups,
    start: datetime,
    settled: tuple[Sequence[_Addition], Sequence[Measure]],
    opening: tuple[Decimal, Decimal],
) -> Iterator[Count]:
    """Count from what the window opens with, less its free units: what each interval adds to the units so far."""
    before, granted = opening
    for addition, measure in zip(*settled, strict=True):
        agreed, product = addition.agreement, addition.agreement.product
        reached = EXACT.add(before, measure.quantity)
        price = _price_of(frame, agreed, groups, addition.measure)
        if price is not None:
            used = EXACT.subtract(billable(reached, product, ZERO), billable(before, product, ZERO))
            charged = EXACT.subtract(billable(reached, product, granted), billable(before, product, granted))
            yield Count(agreed, price, start, used, replace(measure, quantity=charged))
        before = reached


def _price_of(frame: Frame, agreed: Agreement, groups: Groups, counted: Measure) -> CellPrice | None:
    """Return the price of a product's usage; None only where there is no usage that needs one."""
    product = agreed.product
    if isinstance(product.price, Composite | FixedFee | Seats | OneOff):
        raise TypeError(f"product {product.product_id!r} counts no usage")
    price = cell_price(product.price, dict(groups))
    if price is None and (counted.quantity or counted.events):
        raise MissingPriceError(
            f"usage of {_where(frame, product.metric_id or '', groups, agreed.interval)} has no price: the matrix of "
            f"product {product.product_id!r} has no cell for it and no default; add a cell for it, effective by "
            f"{agreed.interval.start.isoformat()}"
        )
    return price


def _require_products(frame: Frame, usage: Usage, in_force: Mapping[Period, Terms | None]) -> None:
    """Raise for the earliest usage that no product in force prices; it is never left out."""
    known = {id(version): _known_metrics(version) for version in in_force.values()}
    for metric_id, interval in sorted(usage.in_intervals, key=lambda place: (place[1], place[0])):
        version = in_force[interval]
        quantities = [reading.quantity for reading in usage.of(metric_id, interval)]
        if metric_id in known[id(version)] or not any(quantities):
            continue
        found = "no terms are in force" if version is None else f"terms version {version.version} has no price"
        raise MissingPriceError(
            f"{total(quantities):f} units were used of {_where(frame, metric_id, (), interval)}, but {found}; "
            f"amend the contract with a product on this metric, effective by {interval.start.isoformat()}"
        )


def _known_metrics(terms: Terms | None) -> set[str | None]:
    """Return the metrics that terms price, and those that only multiply allowances, which need no price."""
    allowances = [product.allowance for product in terms.prices if product.allowance] if terms else []
    return {product.metric_id for product in usage_products(terms)} | {one.per_metric for one in allowances}


def _where(frame: Frame, metric_id: str, groups: Groups, interval: Period) -> str:
    values = "".join(f", {key} {value!r}" for key, value in groups)
    return (
        f"metric {metric_id!r}{values} from {interval.start.isoformat()} to {interval.end.isoformat()} "
        f"of contract {frame.terms[0].contract_id!r}"
    )
