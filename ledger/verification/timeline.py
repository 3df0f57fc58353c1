"""Where a moment of usage falls in a contract: its recorded periods, cut into intervals as rating wants them."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ledger.contract_checks import metrics_of
from ledger.verification.raw import Contract, RecordedPeriod
from pricing.calendar import Period
from pricing.models import wants_values
from pricing.rating import slice_cuts
from pricing.segments import intervals_between, terms_in_force
from pricing.terms import Terms


@dataclass(frozen=True, slots=True)
class Interval:
    """A part of a recorded period in which the metrics that the contract prices stay the same."""

    recorded: RecordedPeriod
    period: Period
    metrics: frozenset[str]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The intervals of all recorded periods of a contract in order of time."""

    contract: Contract
    starts: tuple[datetime, ...]
    intervals: tuple[Interval, ...]
    metrics_with_values: frozenset[str]
    """Those whose price looks at single events."""

    def find(self, moment: datetime) -> Interval | None:
        """Return the interval that contains a moment; None outside the recorded periods."""
        position = bisect_right(self.starts, moment) - 1
        if position < 0 or moment not in self.intervals[position].period:
            return None
        return self.intervals[position]


def timeline_of(contract: Contract) -> Timeline:
    """Cut the recorded periods of a contract, also where a lot began or ended before its end was changed."""
    lots = contract.lots_of_all_times
    intervals = tuple(
        Interval(recorded, period, priced_metrics(contract.terms, period.start))
        for recorded in contract.periods
        for period in intervals_between(
            slice_cuts(contract.terms, lots, recorded.period, contract.entity_zone, time_zone=contract.time_zone)
        )
    )
    with_values = frozenset(
        product.metric_id
        for version in contract.terms
        for product in version.prices
        if product.metric_id is not None and wants_values(product.price)
    )
    return Timeline(contract, tuple(interval.period.start for interval in intervals), intervals, with_values)


def priced_metrics(terms: Sequence[Terms], moment: datetime) -> frozenset[str]:
    """Return the metrics that the terms in force at a moment have a price for."""
    in_force = terms_in_force(terms, moment)
    if in_force is None:
        return frozenset()
    return metrics_of(in_force)
