"""Counting: what one metric comes to for one combination of group values, from the totals of stretches of time.

Versions that count in the same way are one run: a filter or a property that changes is of no matter to a highest value
or a level. Where the way of counting changes, each run counts alone and what they come to is added up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import assert_never
from uuid import UUID

from ledger.intake.rules import Rule
from pricing.aggregation import MICROSECOND, SECONDS_PER_UNIT, aggregate
from pricing.calendar import Period, local_date
from pricing.metrics import MeasuredEvent, MetricVersion
from pricing.money import EXACT, ZERO, total
from pricing.quantities import converted, divided, rounded

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""From here the totals weigh values by seconds."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The totals of the events between two neighbouring marks, from `start` until before `end`.

    `weighted` adds up each value times the seconds from `EPOCH` to its event; `latest` is the last event's moment, key
    and value. `start` is None for what came before the first mark.
    """

    start: datetime | None
    end: datetime
    quantity: Decimal
    events: int
    amount: Decimal = ZERO
    highest: Decimal | None = None
    lowest: Decimal | None = None
    weighted: Decimal = ZERO
    latest: tuple[datetime, UUID, Decimal] | None = None


@dataclass(slots=True)
class Series:
    """What was counted for one combination of group values; `cells` in the order of time, as the events are.

    `members` are the comings and goings of members; `values` the single events, where they are wanted.
    """

    cells: list[Cell] = field(default_factory=list)
    members: list[MeasuredEvent] = field(default_factory=list)
    values: list[MeasuredEvent] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive versions that count in the same way, in force in [start, end); None is open.

    What carries over goes on from `carries_from`: the start of the first version that leads to the same kind of level.
    """

    version: MetricVersion
    start: datetime | None
    end: datetime | None
    carries_from: datetime | None

    @property
    def is_by_member(self) -> bool:
        """Whether members come and go."""
        return self.version.aggregation == "unique" or self.version.operation_property is not None


@dataclass(frozen=True, slots=True)
class Clock:
    """The zone whose days count, and until when levels have lasted so far (None: to the end of what is read)."""

    time_zone: str
    until: datetime | None = None


def runs_of(rules: Sequence[Rule]) -> tuple[Run, ...]:
    """Return the runs of one metric's versions, which are in the order of time."""
    found: list[Run] = []
    for _, group in groupby(rules, key=lambda rule: _shape(rule.version)):
        own = list(group)
        start = own[0].version.effective_from
        run = Run(own[0].version, start, own[-1].until, start)
        if found and _level_kind(found[-1].version) == _level_kind(run.version):
            run = replace(run, carries_from=found[-1].carries_from)
        found.append(run)
    return tuple(found)


def running_quantities(
    runs: Sequence[Run], series: Series, period: Period, moments: Sequence[datetime], clock: Clock
) -> list[Decimal]:
    """Return what was counted from the start of a billing period to each of the moments in it, which ascend."""
    sums = [ZERO] * len(moments)
    for run in runs:
        start = period.start if run.start is None else max(period.start, run.start)
        if start >= period.end or (run.end is not None and run.end <= start):
            continue
        ends = [moment if run.end is None else min(moment, run.end) for moment in moments]
        for n, quantity in enumerate(_quantities(run, series, Period(start, period.end), ends, (period, clock))):
            sums[n] = EXACT.add(sums[n], quantity)
    return sums


def _shape(version: MetricVersion) -> tuple[object, ...]:
    return (
        *_level_kind(version),
        version.percentile,
        version.carry_over,
        version.time_unit,
        version.granularity,
        version.rounding,
        version.conversion,
    )


def _level_kind(version: MetricVersion) -> tuple[object, ...]:
    return version.aggregation, version.operation_property is None


def _quantities(
    run: Run, series: Series, window: Period, ends: Sequence[datetime], whole: tuple[Period, Clock]
) -> Iterator[Decimal]:
    """Yield what a run counts from the start of its window to each end; nothing before it has begun."""
    period, clock = whole
    lasts = run.version.aggregation == "time_weighted"
    if lasts and clock.until is not None:
        ends = [min(end, clock.until) for end in ends]
    if run.version.aggregation == "unique":
        yield from _present(run, series, window, ends)
    elif run.is_by_member or run.version.aggregation == "percentile":
        yield from _replayed(run, series, window, ends, whole)
    else:
        yield from _tallied(run, series, window, ends, _Finish(run.version, window.start, period, clock.time_zone))


def _replayed(
    run: Run, series: Series, window: Period, ends: Sequence[datetime], whole: tuple[Period, Clock]
) -> Iterator[Decimal]:
    """Count from single events, as the reference does."""
    period, clock = whole
    events = series.members if run.is_by_member else series.values
    own = [one for one in events if run.carries_from is None or one.at >= run.carries_from]
    for end in ends:
        if end <= window.start:
            yield ZERO
        else:
            part = Period(window.start, end)
            yield aggregate(run.version, own, part, time_zone=clock.time_zone, whole=period)


def _present(run: Run, series: Series, window: Period, ends: Sequence[datetime]) -> Iterator[Decimal]:
    """Count the members that are present at each end."""
    since = _since(run, window)
    own = [one for one in series.members if since is None or one.at >= since]
    present: set[str | None] = set()
    position = 0
    for end in ends:
        while position < len(own) and own[position].at < end:
            one = own[position]
            (present.add if one.operation == "add" else present.discard)(one.member)
            position += 1
        yield ZERO if end <= window.start else _finished(run.version, Decimal(len(present)))


def _tallied(
    run: Run, series: Series, window: Period, ends: Sequence[datetime], finish: "_Finish"
) -> Iterator[Decimal]:
    since = _since(run, window)
    own = [cell for cell in series.cells if since is None or (cell.start is not None and cell.start >= since)]
    tally = _Tally()
    lasts = run.version.aggregation == "time_weighted"
    position, quantity, is_known = 0, ZERO, False
    for end in ends:
        while position < len(own) and own[position].end <= end:
            tally.add(own[position], finish)
            position, is_known = position + 1, False
        if end <= window.start:
            yield ZERO
            continue
        if lasts or not is_known:
            quantity, is_known = finish.quantity(tally, end), True
        yield quantity


def _since(run: Run, window: Period) -> datetime | None:
    return run.carries_from if run.version.carry_over else window.start


@dataclass(slots=True)
class _Tally:
    """The totals up to a moment; `held` is what lowers a level times the length of its window, in its unit."""

    quantity: Decimal = ZERO
    events: int = 0
    highest: Decimal | None = None
    lowest: Decimal | None = None
    latest: Decimal | None = None
    held: Decimal = ZERO

    def add(self, cell: Cell, finish: "_Finish") -> None:
        self.quantity = EXACT.add(self.quantity, cell.quantity)
        self.events += cell.events
        if cell.highest is not None:
            self.highest = cell.highest if self.highest is None else max(self.highest, cell.highest)
        if cell.lowest is not None:
            self.lowest = cell.lowest if self.lowest is None else min(self.lowest, cell.lowest)
        if cell.latest is not None:
            self.latest = cell.latest[2]
        if finish.version.aggregation == "time_weighted":
            self.held = EXACT.add(self.held, finish.missed(cell))


@dataclass(frozen=True, slots=True)
class _Finish:
    """Turns totals into a quantity: by the rule of `version`, from `start`, in the billing period `whole`."""

    version: MetricVersion
    start: datetime
    whole: Period
    time_zone: str

    def quantity(self, tally: _Tally, end: datetime) -> Decimal:
        return _finished(self.version, self._raw(tally, end))

    def _raw(self, tally: _Tally, end: datetime) -> Decimal:
        match self.version.aggregation:
            case "sum" | "count":
                return tally.quantity
            case "max":
                return tally.highest or ZERO
            case "min":
                return tally.lowest or ZERO
            case "latest":
                return max(tally.latest or ZERO, ZERO)
            case "average":
                return divided(tally.quantity, Decimal(tally.events), "none") if tally.events else ZERO
            case "time_weighted":
                return self._weighted(tally, end)
            case "unique" | "percentile":
                raise AssertionError(f"{self.version.aggregation} is not counted from totals")
            case _:
                assert_never(self.version.aggregation)

    def _weighted(self, tally: _Tally, end: datetime) -> Decimal:
        held = EXACT.subtract(EXACT.multiply(tally.quantity, self._length(Period(self.start, end))), tally.held)
        if self.version.time_unit == "period":
            return divided(held, self._length(self.whole), "none")
        return held if self._counts_days() else divided(held, SECONDS_PER_UNIT[self.version.time_unit], "none")

    def missed(self, cell: Cell) -> Decimal:
        """Return what the values of a cell do not count of the window, because they came after its start."""
        if cell.start is None or cell.end <= self.start:
            return ZERO
        if self._counts_days():
            passed = local_date(cell.start, self.time_zone) - local_date(self.start, self.time_zone)
            return EXACT.multiply(cell.quantity, Decimal(passed.days))
        return EXACT.subtract(cell.weighted, EXACT.multiply(cell.quantity, _seconds(self.start - EPOCH)))

    def _length(self, period: Period) -> Decimal:
        if not self._counts_days():
            return _seconds(period.end - period.start)
        last = local_date(period.end - MICROSECOND, self.time_zone)
        return Decimal((last - local_date(period.start, self.time_zone)).days + 1)

    def _counts_days(self) -> bool:
        return self.version.granularity == "day"


def _finished(version: MetricVersion, quantity: Decimal) -> Decimal:
    if version.rounding is not None:
        quantity = rounded(quantity, version.rounding)
    return quantity if version.conversion is None else converted(quantity, version.conversion)


def _seconds(duration: timedelta) -> Decimal:
    return Decimal(duration // MICROSECOND).scaleb(-6, context=EXACT)


def joined(one: Cell, other: Cell) -> Cell:
    """Return the totals of two cells of the same stretch."""
    return Cell(
        one.start,
        one.end,
        EXACT.add(one.quantity, other.quantity),
        one.events + other.events,
        EXACT.add(one.amount, other.amount),
        max((value for value in (one.highest, other.highest) if value is not None), default=None),
        min((value for value in (one.lowest, other.lowest) if value is not None), default=None),
        EXACT.add(one.weighted, other.weighted),
        max((latest for latest in (one.latest, other.latest) if latest is not None), default=None),
    )


def summed(cells: Sequence[Cell]) -> tuple[int, Decimal]:
    """Return the number of events and the money that they carry."""
    return sum(cell.events for cell in cells), total([cell.amount for cell in cells])
