"""Metering: what metrics count whose intervals do not simply add up, counted from the events as the reference does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from ledger.intake.counting import Run, runs_of
from ledger.intake.events import PropertyValue
from ledger.intake.rules import Measure, Rule, groups_of
from ledger.verification.raw import Event, RecordedPeriod
from ledger.verification.timeline import Timeline
from pricing.aggregation import Groups, aggregate
from pricing.calendar import Period
from pricing.metrics import MeasuredEvent
from pricing.money import EXACT, ZERO, total

Metered = Iterator[tuple[datetime, str, Groups, Decimal, int]]
"""The start of an interval, a metric, group values, and what the interval adds to them, in how many events."""


Life = tuple[int, int | None]
"""The batch from which on an event counts, and the one from which on it does not; None: it counts."""
Counts = Callable[[Life], bool]
"""Says whether an event counts in a view of the usage."""


@dataclass(slots=True)
class Meter:
    """The events of the metrics that must be counted as a whole, with their lives, by customer and metric."""

    runs: Mapping[str, tuple[Run, ...]]
    events: dict[tuple[str, str], list[tuple[Life, MeasuredEvent]]] = field(default_factory=dict)

    def add(self, rule: Rule, row: Event, measured: Measure, properties: Mapping[str, PropertyValue]) -> None:
        """Keep an event."""
        groups = groups_of(rule, properties)
        key = (row.key_hash or b"").hex()
        event = MeasuredEvent(row.ts, measured.value, measured.member, groups, measured.operation, key)
        self.events.setdefault((row.customer_id or "", rule.metric_id), []).append(((row.begin, row.ended), event))

    def metered(self, timeline: Timeline, counts: Counts) -> Metered:
        """Yield what the intervals of a contract add to each metric, of the events that count."""
        contract = timeline.contract
        for recorded in contract.periods:
            inside = [one.period for one in timeline.intervals if one.recorded is recorded]
            for metric_id, runs in self.runs.items():
                found = self.events.get((contract.customer_id, metric_id), ())
                by_groups: dict[Groups, list[MeasuredEvent]] = {}
                for life, event in found:
                    if counts(life):
                        by_groups.setdefault(event.groups, []).append(event)
                until = _until(recorded, contract.accrued_at)
                for groups, own in by_groups.items():
                    sums = _running(runs, own, recorded.period, inside, _Clock(contract.time_zone, until))
                    for interval, before, reached in zip(inside, (ZERO, *sums), sums, strict=False):
                        events = sum(1 for event in own if event.at in interval)
                        if reached != before or events:
                            yield interval.start, metric_id, groups, EXACT.subtract(reached, before), events


def meter_of(rules: Sequence[Rule]) -> Meter:
    """Return an empty meter for the rules, in the order of metric and time."""
    runs = {metric_id: runs_of([*own]) for metric_id, own in groupby(rules, key=lambda rule: rule.metric_id)}
    return Meter({metric_id: own for metric_id, own in runs.items() if not all(map(_adds_up, own))})


def _adds_up(run: Run) -> bool:
    version = run.version
    return (
        version.aggregation in ("sum", "count")
        and not version.carry_over
        and version.rounding is None
        and version.conversion is None
    )


@dataclass(frozen=True, slots=True)
class _Clock:
    """The zone of whole days, and the moment up to which levels that last are counted (None: the interval's end)."""

    time_zone: str
    until: datetime | None


def _until(recorded: RecordedPeriod, accrued_at: datetime | None) -> datetime | None:
    """Return up to when accrual counts levels in an open period: its last full hour."""
    if recorded.state != "open" or accrued_at is None:
        return None
    return accrued_at.replace(minute=0, second=0, microsecond=0)


def _running(
    runs: Sequence[Run], events: Sequence[MeasuredEvent], period: Period, inside: Sequence[Period], clock: _Clock
) -> tuple[Decimal, ...]:
    """Return what is counted from the start of a period to the end of each interval."""
    return tuple(total([_counted(run, events, period, interval.end, clock) for run in runs]) for interval in inside)


def _counted(run: Run, events: Sequence[MeasuredEvent], period: Period, end: datetime, clock: _Clock) -> Decimal:
    start = period.start if run.start is None else max(period.start, run.start)
    end = end if run.end is None else min(end, run.end)
    if run.version.aggregation == "time_weighted" and clock.until is not None:
        end = min(end, clock.until)
    if end <= start:
        return ZERO
    own = [event for event in events if run.carries_from is None or event.at >= run.carries_from]
    return aggregate(run.version, own, Period(start, end), time_zone=clock.time_zone, whole=period)
