"""Metering: what metrics count whose intervals do not simply add up, counted from the events as the reference does."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from ledger.intake.counting import Run, runs_of
from ledger.intake.events import PropertyValue
from ledger.intake.rules import Measure, Rule, groups_of
from ledger.verification.raw import RecordedPeriod, Row
from ledger.verification.timeline import Timeline
from pricing.aggregation import Groups, aggregate
from pricing.calendar import Period
from pricing.metrics import MeasuredEvent
from pricing.money import EXACT, ZERO, total

Metered = Iterator[tuple[datetime, str, Decimal]]
"""The start of an interval, a metric, and what the interval adds to it over all groups."""


@dataclass(slots=True)
class Meter:
    """The events of the metrics that must be counted as a whole, with their batches, by customer and metric."""

    runs: Mapping[str, tuple[Run, ...]]
    events: dict[tuple[str, str], list[tuple[int, MeasuredEvent]]] = field(default_factory=dict)

    def add(self, rule: Rule, row: Row, measured: Measure, properties: Mapping[str, PropertyValue]) -> None:
        """Keep an event."""
        event = MeasuredEvent(
            row.ts, measured.value, measured.member, groups_of(rule, properties), measured.operation, str(row.key_hash)
        )
        self.events.setdefault((row.customer_id, rule.metric_id), []).append((row.batch_id, event))

    def metered(self, timeline: Timeline, *, waits: frozenset[int]) -> Metered:
        """Yield what the intervals of a contract add to each metric, without the batches that wait in open periods."""
        for recorded in timeline.contract.periods:
            inside = [one.period for one in timeline.intervals if one.recorded is recorded]
            for metric_id, runs in self.runs.items():
                found = self.events.get((timeline.contract.customer_id, metric_id), ())
                own = [event for batch, event in found if _counts(recorded, batch, waits)]
                if own and inside:
                    sums = _running(runs, own, recorded.period, inside, timeline.contract.time_zone)
                    for interval, before, reached in zip(inside, (ZERO, *sums), sums, strict=False):
                        if reached != before:
                            yield interval.start, metric_id, EXACT.subtract(reached, before)


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


def _counts(recorded: RecordedPeriod, batch: int, waits: frozenset[int]) -> bool:
    if recorded.state == "open":
        return batch not in waits
    return recorded.cutoff is None or batch <= recorded.cutoff


def _running(
    runs: Sequence[Run], events: Iterable[MeasuredEvent], period: Period, inside: Sequence[Period], time_zone: str
) -> tuple[Decimal, ...]:
    """Return what all groups together count from the start of a period to the end of each interval."""
    by_groups: dict[Groups, list[MeasuredEvent]] = {}
    for event in events:
        by_groups.setdefault(event.groups, []).append(event)
    return tuple(
        total([_counted(run, own, period, interval.end, time_zone) for own in by_groups.values() for run in runs])
        for interval in inside
    )


def _counted(run: Run, events: Sequence[MeasuredEvent], period: Period, end: datetime, time_zone: str) -> Decimal:
    start = period.start if run.start is None else max(period.start, run.start)
    end = end if run.end is None else min(end, run.end)
    if end <= start:
        return ZERO
    own = [event for event in events if run.carries_from is None or event.at >= run.carries_from]
    return aggregate(run.version, own, Period(start, end), time_zone=time_zone, whole=period)
