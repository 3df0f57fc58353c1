"""Usage: readings put to the intervals between cuts, by metric and group values."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pricing.calendar import Period
from pricing.measures import Measure, joined
from pricing.money import EXACT, ZERO
from pricing.product_checks import group_keys
from pricing.terms import ProductPrice, Reading

Groups = tuple[tuple[str, str], ...]
"""Group keys with their values, sorted by key; a key that an event does not carry is absent."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What metrics counted: in each interval by metric and group values, and before the period, in order of time.

    `totals` add up each metric per billing period, by the period's start, over all group values.
    """

    in_intervals: Mapping[tuple[str, Period], Mapping[Groups, Measure]]
    earlier: Mapping[str, tuple[Reading, ...]]
    totals: Mapping[tuple[str, datetime], Decimal]

    def of(self, metric_id: str, interval: Period) -> Mapping[Groups, Measure]:
        """Return what a metric counted in an interval, by group values."""
        return self.in_intervals.get((metric_id, interval), {})

    def total_of(self, metric_id: str, period_start: datetime) -> Decimal:
        """Return what a metric counted in the whole billing period that begins then."""
        return self.totals.get((metric_id, period_start), ZERO)


def usage_of(readings: Sequence[Reading], intervals: Sequence[Period], period: Period) -> Usage:
    """Put each reading to the interval that holds it; those that end by the period's start are earlier usage.

    Raises `ValueError` for a reading that lies in no interval.
    """
    starts = [interval.start for interval in intervals]
    parts: dict[tuple[str, Period], dict[Groups, list[Measure]]] = {}
    earlier: dict[str, list[Reading]] = {}
    totals: dict[tuple[str, datetime], Decimal] = {}
    for reading in sorted(readings, key=lambda reading: (reading.start, reading.groups)):
        is_earlier = reading.end <= period.start
        place = (reading.metric_id, reading.start if is_earlier else period.start)
        totals[place] = EXACT.add(totals.get(place, ZERO), reading.quantity)
        if is_earlier:
            earlier.setdefault(reading.metric_id, []).append(reading)
            continue
        position = bisect_right(starts, reading.start) - 1
        if position < 0 or not reading.start < reading.end <= intervals[position].end:
            raise ValueError(
                f"the reading of metric {reading.metric_id!r} from {reading.start.isoformat()} to "
                f"{reading.end.isoformat()} does not lie between neighbouring cuts; cut readings at slice_cuts()"
            )
        groups = parts.setdefault((reading.metric_id, intervals[position]), {})
        groups.setdefault(reading.groups, []).append(measure_of(reading))
    summed = {place: {g: joined(found) for g, found in groups.items()} for place, groups in parts.items()}
    return Usage(summed, {metric_id: tuple(found) for metric_id, found in earlier.items()}, totals)


def by_group(product: ProductPrice, counted: Mapping[Groups, Measure]) -> dict[Groups, Measure]:
    """Add up what a metric counted by the keys that the product is split by."""
    parts: dict[Groups, list[Measure]] = {}
    for groups, measure in counted.items():
        parts.setdefault(groups_for(product, groups), []).append(measure)
    return {groups: joined(found) for groups, found in parts.items()}


def earlier_by_group(product: ProductPrice, usage: Usage) -> dict[Groups, list[Reading]]:
    """Part the earlier readings of a product's metric by the keys that the product is split by."""
    parts: dict[Groups, list[Reading]] = {}
    for reading in usage.earlier.get(product.metric_id or "", ()):
        parts.setdefault(groups_for(product, reading.groups), []).append(reading)
    return parts


def groups_for(product: ProductPrice, groups: Groups) -> Groups:
    """Return the group values that a product's usage is told apart by."""
    keys = group_keys(product)
    return tuple((key, value) for key, value in groups if key in keys)


def measure_of(reading: Reading) -> Measure:
    """Return what a reading counted, without its time and place."""
    return Measure(reading.quantity, reading.events, reading.amount, reading.values)
