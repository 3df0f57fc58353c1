"""Trials of metrics: what a rule that is not recorded would have counted, beside what the recorded one did."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from ledger.checks import check_aware
from ledger.errors import InvalidError
from ledger.intake.readings import Request, read_by_rules
from ledger.intake.rollup import BOOKS, TRIAL, Totals, add_past, open_trial
from ledger.intake.rules import Rule, read_rules
from ledger.metrics import LARGEST_BUCKET, checked
from pricing.calendar import Period, is_on_grid
from pricing.metrics import Metric
from pricing.money import EXACT, total


@dataclass(frozen=True, slots=True)
class MetricDifference:
    """What a contract used by the recorded rule and by the one on trial; without a contract, what the customer did.

    The quantities are those of all groups and billing periods together.
    """

    metric_id: str
    customer_id: str
    contract_id: str | None
    before: Decimal
    after: Decimal

    @property
    def difference(self) -> Decimal:
        """How much more the rule on trial counts."""
        return EXACT.subtract(self.after, self.before)


@dataclass(frozen=True, slots=True)
class _Subject:
    contract_id: str | None
    customer_id: str
    time_zone: str
    cuts: tuple[datetime, ...]


def try_metric(connection: sa.Connection, metric: Metric, span: Period) -> tuple[MetricDifference, ...]:
    """Count the usage of a span anew as if the rule had always been in force; the books stay as they are.

    A row for each contract in the span, and for each customer whose usage no contract covers, by customer and contract.
    All of it is read in one snapshot: the transaction must be at its beginning. The span begins and ends on full hours.
    Raises `InvalidError`.
    """
    version = checked(metric)
    for field, moment in (("from", span.start), ("to", span.end)):
        check_aware(field, moment)
        if not is_on_grid(moment, LARGEST_BUCKET):
            raise InvalidError(f"{field} {moment.isoformat()} must be a full hour in UTC")
    if span.start >= span.end:
        raise InvalidError(f"from {span.start.isoformat()} must be before to {span.end.isoformat()}")
    connection.execute(sa.text("set transaction isolation level repeatable read"))
    open_trial(connection)
    recorded = [rule for rule in read_rules(connection) if rule.metric_id == metric.metric_id]
    start = None if version.carry_over else span.start  # what carries over needs all that came before
    trial = Rule(metric.metric_id, replace(version, effective_from=start), span.end)
    add_past(connection, [trial], totals=TRIAL)
    return tuple(
        MetricDifference(
            metric.metric_id,
            subject.customer_id,
            subject.contract_id,
            _quantity(connection, subject, recorded, BOOKS),
            _quantity(connection, subject, [trial], TRIAL),
        )
        for subject in _subjects(connection, metric.metric_id, span)
    )


def _quantity(connection: sa.Connection, subject: _Subject, rules: Sequence[Rule], totals: Totals) -> Decimal:
    restarts = subject.cuts[1:-1]
    request = Request(subject.customer_id, subject.cuts, restarts, subject.time_zone)
    found = read_by_rules(connection, request, rules, totals=totals)
    return total([reading.quantity for metric in found for reading in metric.readings])


def _subjects(connection: sa.Connection, metric_id: str, span: Period) -> Iterator[_Subject]:
    """Yield whose usage is compared, cut where billing periods begin."""
    facts = {"metric_id": metric_id, "start": span.start, "end": span.end}
    for row in connection.execute(_SUBJECTS, facts):
        start = span.start if row.start_at is None else max(span.start, row.start_at)
        end = span.end if row.end_at is None else min(span.end, row.end_at)
        inside = {moment for moment in row.periods or () if start < moment < end}
        yield _Subject(row.contract_id, row.customer_id, row.time_zone or "UTC", tuple(sorted({start, *inside, end})))


_SUBJECTS = sa.text("""
with counted as (
    select customer_id from usage_rollup where metric_id = :metric_id
    union
    select customer_id from trial_rollup
)
select n.customer_id, k.contract_id, k.time_zone, k.start_at, k.end_at,
    (select array_agg(p.start_at) from contract_period p where p.contract_id = k.contract_id) as periods
from counted n left join contract k on k.customer_id = n.customer_id
    and k.start_at < :end and (k.end_at is null or k.end_at > :start)
order by n.customer_id, k.contract_id
""")
