"""Quotes: what a contract would charge for usage that is only said, by the same rating that bills it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pricing.calendar import Anchor, Period, period_starting
from pricing.money import ZERO
from pricing.prices import Cadence
from pricing.rated import RatedPeriod
from pricing.rating import rate_period, slice_cuts
from pricing.terms import Lot, Reading, Terms


@dataclass(frozen=True, slots=True)
class SaidUsage:
    """Usage of a metric for some group values: a quantity, or the value of each event, in order of time."""

    metric_id: str
    quantity: Decimal
    groups: tuple[tuple[str, str], ...] = ()
    events: int = 1
    values: tuple[Decimal, ...] = ()


def quote_period(
    terms: Sequence[Terms],
    usage: Iterable[SaidUsage],
    *,
    time_zone: str,
    cadence: Cadence = "month",
    anchor: Anchor | None = None,
    number: int = 0,
) -> RatedPeriod:
    """Rate the `number`-th billing period (0 is the first) of terms for usage that is said, as if it were over.

    All usage counts in the first interval of the period; the commits of the terms pay as far as they serve it. Raises
    what `rate_period` raises.
    """
    start = min(version.effective_from for version in terms)
    period = period_starting(start, time_zone, number, cadence=cadence, anchor=anchor)
    lots = lots_of(terms, period)
    first, second = slice_cuts(terms, lots, period, time_zone, time_zone=time_zone)[:2]
    readings = [
        Reading(said.metric_id, first, second, said.quantity, said.groups, said.events, ZERO, said.values)
        for said in usage
    ]
    return rate_period(
        terms,
        readings,
        lots,
        period,
        entity_time_zone=time_zone,
        time_zone=time_zone,
        contract_start=start,
        cadence=cadence,
        anchor=anchor,
    )


def lots_of(terms: Sequence[Terms], period: Period) -> tuple[Lot, ...]:
    """Return the lots that the commits of terms grant, as far as they serve a period, each still whole."""
    commits = {commit.commit_id: commit for version in terms for commit in version.commits}
    return tuple(
        Lot(c.commit_id, c.name, c.amount, c.start, c.end, c.products, c.priority)
        for c in commits.values()
        if c.start < period.end and (c.end is None or c.end > period.start)
    )
