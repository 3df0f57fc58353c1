"""Readings: what a customer used of each metric between chosen moments."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import sqlalchemy as sa

from pricing.calendar import is_on_grid
from pricing.terms import Reading


@dataclass(frozen=True, slots=True)
class MetricReadings:
    """The readings of one metric in order of time; an interval without events has none."""

    metric_id: str
    readings: tuple[Reading, ...]


def read_metrics(connection: sa.Connection, customer_id: str, cuts: Sequence[datetime]) -> tuple[MetricReadings, ...]:
    """Return, by metric, what a customer used between neighbouring cuts, its groups added up.

    Cuts ascend and stand on the customer's buckets, else `ValueError`: a bucket cannot be split. A metric without
    events between the first and the last cut is left out.
    """
    bucket_minutes = connection.execute(_BUCKET_MINUTES, {"customer_id": customer_id}).scalar_one()
    for before, after in pairwise(cuts):
        if before >= after:
            raise ValueError(f"cuts must ascend, but {before.isoformat()} comes before {after.isoformat()}")
    for cut in cuts:
        if not is_on_grid(cut, bucket_minutes):
            raise ValueError(f"cut {cut.isoformat()} splits a bucket of {bucket_minutes} minutes of {customer_id}")
    found: dict[str, list[Reading]] = defaultdict(list)
    if len(cuts) > 1:
        facts = {"customer_id": customer_id, "cuts": list(cuts), "first": cuts[0], "last": cuts[-1]}
        for metric_id, n, quantity in connection.execute(_READINGS, facts):
            found[metric_id].append(Reading(metric_id, cuts[n - 1], cuts[n], quantity))
    return tuple(MetricReadings(metric_id, tuple(readings)) for metric_id, readings in found.items())


def metric_event_types(connection: sa.Connection) -> Mapping[str, str]:
    """Return the event type that each metric counts, by metric."""
    return dict(connection.execute(sa.text("select metric_id, event_type from metric")).all())


_BUCKET_MINUTES = sa.text("select bucket_minutes from customer where customer_id = :customer_id")

_READINGS = sa.text("""
select metric_id, width_bucket(bucket_start, cast(:cuts as timestamptz[])) as n, sum(quantity)
from usage_rollup
where customer_id = :customer_id and bucket_start >= :first and bucket_start < :last
group by metric_id, n
order by metric_id, n
""")
