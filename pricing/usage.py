"""Usage: readings put to the intervals between cuts, by metric and group values."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
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
    """The readings of each metric and interval, and those before the period, each in order of time.

    `totals` add up each metric per billing period, by the period's start, over all group values.
    """

    in_intervals: Mapping[tuple[str, Period], Sequence[Reading]]
    earlier: Mapping[str, Sequence[Reading]]
    totals: Mapping[tuple[str, datetime], Decimal]

    def of(self, metric_id: str, interval: Period) -> Sequence[Reading]:
        """Return the readings of a metric in an interval."""
        return self.in_intervals.get((metric_id, interval), ())

    def total_of(self, metric_id: str, period_start: datetime) -> Decimal:
        """Return what a metric counted in the whole billing period that begins then."""
        return self.totals.get((metric_id, period_start), ZERO)


def usage_of(readings: Sequence[Reading], intervals: Sequence[Period], period: Period) -> Usage:
    """Put each reading to the interval that holds it; those that end by the period's start are earlier usage.

    Raises `ValueError` for a reading that lies in no interval.
    """
    starts = [interval.start for interval in intervals]
    found: dict[tuple[str, Period], list[Reading]] = {}
    earlier: dict[str, list[Reading]] = {}
    totals: dict[tuple[str, datetime], Decimal] = {}
    for reading in sorted(readings, key=_in_order):
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
        found.setdefault((reading.metric_id, intervals[position]), []).append(reading)
    return Usage(found, earlier, totals)


def by_group(product: ProductPrice, readings: Sequence[Reading]) -> dict[Groups, list[Reading]]:
    """Part readings, in their order, by the keys that the product is split by."""
    parts: dict[Groups, list[Reading]] = {}
    for reading in readings:
        parts.setdefault(groups_for(product, reading.groups), []).append(reading)
    return parts


def groups_for(product: ProductPrice, groups: Groups) -> Groups:
    """Return the group values that a product's usage is told apart by."""
    keys = group_keys(product)
    return tuple((key, value) for key, value in groups if key in keys)


def _in_order(reading: Reading) -> tuple[datetime, Groups, datetime, tuple[Decimal, ...]]:
    """Return the key by which the order in which readings are given does not matter."""
    return reading.start, reading.groups, reading.end, reading.values


def measure_of(readings: Iterable[Reading]) -> Measure:
    """Add up what readings counted, in their order."""
    return joined(Measure(one.quantity, one.events, one.amount, one.values) for one in readings)
