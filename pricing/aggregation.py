"""Aggregation: the quantity that a metric makes of events in a period, computed from the events themselves.

This is the reference: what the ledger counts in its own way must come to the same. Quotients without end are cut half
up at twenty decimals; everything else is exact.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import assert_never

from pricing.calendar import Period, local_date
from pricing.metrics import Granularity, MeasuredEvent, MetricVersion
from pricing.money import EXACT, ZERO, total
from pricing.quantities import converted, divided, rounded

Groups = tuple[tuple[str, str], ...]

MICROSECOND = timedelta(microseconds=1)
SECONDS_PER_UNIT = {"second": Decimal(1), "minute": Decimal(60), "hour": Decimal(3600), "day": Decimal(86_400)}
ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class Opening:
    """What a period takes over from before: the level reached (None: no value was seen) and the members present."""

    level: Decimal | None = None
    members: frozenset[str] = frozenset()


NOTHING_BEFORE = Opening()


def aggregate(
    version: MetricVersion,
    events: Iterable[MeasuredEvent],
    period: Period,
    *,
    opening: Opening = NOTHING_BEFORE,
    time_zone: str = "UTC",
    whole: Period | None = None,
) -> Decimal:
    """Return the quantity of a period, rounded and converted as the metric says; the order of the events is no matter.

    Only with `carry_over` do the opening and events before the period count. Whole days are those of `time_zone`, and
    the time unit `period` is `whole`, the billing period of which `period` may be a part (None: the period itself).
    """
    before = opening if version.carry_over else NOTHING_BEFORE
    found = counted(version, events, period)
    scale = _Scale(period, whole or period, version.granularity, time_zone)
    quantity = _quantity(version, found, before, scale)
    if version.rounding is not None:
        quantity = rounded(quantity, version.rounding)
    return quantity if version.conversion is None else converted(quantity, version.conversion)


def aggregate_groups(
    version: MetricVersion,
    events: Iterable[MeasuredEvent],
    period: Period,
    *,
    openings: Mapping[Groups, Opening] | None = None,
    time_zone: str = "UTC",
    whole: Period | None = None,
) -> dict[Groups, Decimal]:
    """Return the quantity of every combination of group values that has events or an opening, each counted alone."""
    before = openings or {}
    by_groups: dict[Groups, list[MeasuredEvent]] = {groups: [] for groups in before}
    for event in events:
        by_groups.setdefault(event.groups, []).append(event)
    return {
        groups: aggregate(
            version, own, period, opening=before.get(groups, NOTHING_BEFORE), time_zone=time_zone, whole=whole
        )
        for groups, own in sorted(by_groups.items())
        if groups in before or counted(version, own, period)
    }


def counted(version: MetricVersion, events: Iterable[MeasuredEvent], period: Period) -> tuple[MeasuredEvent, ...]:
    """Return the events that count in a period, in the order of time: with `carry_over` also those before it."""
    found = (event for event in events if event.at < period.end and (version.carry_over or event.at >= period.start))
    return tuple(sorted(found, key=lambda event: (event.at, event.order)))


def closing(
    version: MetricVersion, events: Iterable[MeasuredEvent], period: Period, *, opening: Opening = NOTHING_BEFORE
) -> Opening:
    """Return what a period hands on to the next one; nothing unless the metric carries over."""
    if not version.carry_over:
        return NOTHING_BEFORE
    found = counted(version, events, period)
    return Opening(_level(version, found, opening), _members(found, opening))


def _quantity(version: MetricVersion, events: Sequence[MeasuredEvent], opening: Opening, scale: "_Scale") -> Decimal:
    match version.aggregation:
        case "unique":
            return Decimal(len(_members(events, opening)))
        case "latest":
            return max(_level(version, events, opening) or ZERO, ZERO)
        case "sum" | "count" | "max" | "min":
            return _level(version, events, opening) or ZERO
        case "average":
            values = _values(events)
            return divided(total(values), Decimal(len(values)), "none") if values else ZERO
        case "percentile":
            return _percentile(_values(events), version.percentile)
        case "time_weighted":
            return _time_weighted(version, events, opening, scale)
        case _:
            assert_never(version.aggregation)


def _values(events: Sequence[MeasuredEvent]) -> list[Decimal]:
    return [event.value for event in events if event.value is not None]


def _level(version: MetricVersion, events: Sequence[MeasuredEvent], opening: Opening) -> Decimal | None:
    """Return the level that events in the order of time lead to; None if there was no value yet."""
    before = [] if opening.level is None else [opening.level]
    values = [ONE] * len(events) if version.aggregation == "count" else _values(events)
    reached = [*before, *values]
    if not reached:
        return None
    match version.aggregation:
        case "max":
            return max(reached)
        case "min":
            return min(reached)
        case "latest":
            return reached[-1]
        case _:
            return total(reached)


def _members(events: Sequence[MeasuredEvent], opening: Opening) -> frozenset[str]:
    """Return who is present after events in the order of time; to remove somebody absent changes nothing."""
    present = set(opening.members)
    for event in events:
        if event.member is None:
            continue
        if event.operation == "add":
            present.add(event.member)
        else:
            present.discard(event.member)
    return frozenset(present)


def _percentile(values: Sequence[Decimal], percentile: Decimal | None) -> Decimal:
    """Return the value at rank percentile/100 * (n - 1) of the sorted values, between two ranks in proportion.

    This is percentile_cont of SQL:2003 and PostgreSQL, computed exactly.
    """
    if percentile is None:
        raise ValueError("a metric of the aggregation percentile has no percentile; give it one, from 0 to 100")
    if not values:
        return ZERO
    in_order = sorted(values)
    rank = EXACT.multiply(percentile, Decimal(len(in_order) - 1)).scaleb(-2, context=EXACT)
    below = int(rank)
    if rank == below:
        return in_order[below]
    step = EXACT.subtract(in_order[below + 1], in_order[below])
    return EXACT.add(in_order[below], EXACT.multiply(step, EXACT.subtract(rank, Decimal(below))))


# --- levels over time ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scale:
    """Measures time from the start of a period, in seconds or in local days."""

    period: Period
    whole: Period
    granularity: Granularity
    time_zone: str

    def length(self, period: Period) -> Decimal:
        if self.granularity == "second":
            return _seconds(period.end - period.start)
        last = local_date(period.end - MICROSECOND, self.time_zone)
        return Decimal((last - local_date(period.start, self.time_zone)).days + 1)

    def place(self, event: MeasuredEvent) -> Decimal:
        """Return where an event's change begins to count; one before the period counts from its start."""
        if event.at < self.period.start:
            return ZERO
        if self.granularity == "second":
            return _seconds(event.at - self.period.start)
        day = local_date(event.at, self.time_zone)
        is_through = event.operation == "remove"  # who is removed still counts on that day
        return Decimal((day - local_date(self.period.start, self.time_zone)).days + is_through)


def _time_weighted(version: MetricVersion, events: Sequence[MeasuredEvent], opening: Opening, scale: _Scale) -> Decimal:
    if version.operation_property is None:
        changes = [(scale.place(event), event.value) for event in events if event.value is not None]
        changes += [] if opening.level is None else [(ZERO, opening.level)]
    else:
        changes = _comings_and_goings(events, opening, scale)
    length = scale.length(scale.period)
    held = total([EXACT.multiply(change, EXACT.subtract(length, place)) for place, change in changes])
    if version.time_unit == "period":
        return divided(held, scale.length(scale.whole), "none")
    return held if scale.granularity == "day" else divided(held, SECONDS_PER_UNIT[version.time_unit], "none")


def _comings_and_goings(
    events: Sequence[MeasuredEvent], opening: Opening, scale: _Scale
) -> list[tuple[Decimal, Decimal]]:
    """Return the changes of the number of members; a member that returns on the day it left counts once that day."""
    changes = [(ZERO, ONE)] * len(opening.members)
    present = set(opening.members)
    left_at: dict[str, Decimal] = {}
    for event in events:
        member = event.member
        if member is None or (event.operation == "add") == (member in present):
            continue
        place = scale.place(event)
        if event.operation == "add":
            present.add(member)
            changes.append((max(place, left_at.get(member, ZERO)), ONE))
        else:
            present.discard(member)
            left_at[member] = place
            changes.append((place, -ONE))
    return changes


def _seconds(duration: timedelta) -> Decimal:
    return Decimal(duration // MICROSECOND).scaleb(-6, context=EXACT)
