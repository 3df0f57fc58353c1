"""Which metrics count an event: what each makes of it and into which bucket, or why it leaves the event out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Literal
from uuid import UUID

import sqlalchemy as sa

from ledger.intake.events import PropertyValue, shown
from ledger.intake.rules import Measure, Rule, UnmeasurableError, groups_of, measure, read_rules
from ledger.trace_past import Revision
from pricing.metrics import Filter, passes


@dataclass(frozen=True, slots=True)
class Bucket:
    """The totals of the bucket that the event counts in: `events` of the same groups make up `quantity`."""

    start: datetime
    minutes: int
    group_hash: UUID
    quantity: Decimal
    events: int


@dataclass(frozen=True, slots=True)
class MetricTrace:
    """What a metric makes of the event. `value` is the number that it brings (1 where events or members are counted).

    `why_not` says in a sentence why the metric leaves it out; then there are neither value nor bucket.
    """

    metric_id: str
    version: int | None
    aggregation: str
    is_matched: bool
    why_not: str | None = None
    value: Decimal | None = None
    member: str | None = None
    operation: Literal["add", "remove"] | None = None
    amount: Decimal | None = None
    groups: tuple[tuple[str, str], ...] = ()
    bucket: Bucket | None = None


def trace_metrics(connection: sa.Connection, event: Revision) -> tuple[MetricTrace, ...]:
    """Return what each metric of an event's type makes of it; none where no metric, in any version, counts its type."""
    found: list[MetricTrace] = []
    for metric_id, group in groupby(read_rules(connection), key=lambda rule: rule.metric_id):
        own = [*group]
        if any(rule.version.event_type == event.type for rule in own):
            found.append(_trace(connection, event, metric_id, own))
    return tuple(found)


def _trace(connection: sa.Connection, event: Revision, metric_id: str, own: Sequence[Rule]) -> MetricTrace:
    rule = next((one for one in own if one.covers(event.timestamp)), None)
    if rule is None or rule.version.event_type != event.type:
        told = "its version in force then counts another type" if rule is not None else _not_yet(own)
        version = own[0].version if rule is None else rule.version
        return MetricTrace(metric_id, None, version.aggregation, is_matched=False, why_not=told)
    left_out = MetricTrace(metric_id, rule.version.version, rule.version.aggregation, is_matched=False)
    try:
        measured = measure(rule, event.properties)
    except UnmeasurableError as error:
        return replace(left_out, why_not=f"{error.field} {error.reason}")
    if measured is None:
        return replace(left_out, why_not=_filtered(rule, event.properties))
    return _matched(connection, event, rule, measured)


def _matched(connection: sa.Connection, event: Revision, rule: Rule, measured: Measure) -> MetricTrace:
    row = connection.execute(
        _BUCKET,
        {
            "customer_id": event.customer_id,
            "metric_id": rule.metric_id,
            "moment": event.timestamp,
            "keys": list(rule.version.group_keys),
            "properties": _json(event.properties),
        },
    ).one_or_none()
    by_member = measured.member is not None
    return MetricTrace(
        metric_id=rule.metric_id,
        version=rule.version.version,
        aggregation=rule.version.aggregation,
        is_matched=True,
        value=measured.value,
        member=measured.member,
        operation=measured.operation if by_member else None,
        amount=measured.amount,
        groups=groups_of(rule, event.properties),
        bucket=None if row is None else Bucket(*row),
    )


def _not_yet(own: Sequence[Rule]) -> str:
    return f"it counts only from {own[0].version.effective_from} on"


def _filtered(rule: Rule, properties: Mapping[str, PropertyValue]) -> str:
    """Name the first filter that does not fit, or the condition."""
    for one in rule.version.filters:
        if not passes(replace(rule.version, filters=(one,)), properties):
            found = f"is {shown(str(properties[one.property]))}" if one.property in properties else "is missing"
            return (
                f"its filter wants {one.property} {' and '.join(_wanted(one))}, but properties.{one.property} {found}"
            )
    return f"its condition {rule.version.condition} does not hold"


def _wanted(one: Filter) -> Iterator[str]:
    if one.exists is not None:
        yield "to be present" if one.exists else "to be absent"
    elif one.equals is not None:
        yield f"to be {one.equals}"
    elif one.one_of:
        yield f"to be one of {', '.join(one.one_of)}"
    else:
        if one.at_least is not None:
            yield f"at least {one.at_least:f}"
        if one.below is not None:
            yield f"below {one.below:f}"


def _json(properties: Mapping[str, PropertyValue]) -> str:
    """Write properties with their numbers exact, as the database has them."""
    written = (
        f"{json.dumps(name)}:{format(value, 'f') if isinstance(value, Decimal) else json.dumps(value)}"
        for name, value in properties.items()
    )
    return "{" + ",".join(written) + "}"


_BUCKET = sa.text("""
select r.bucket_start, c.bucket_minutes, r.group_hash, r.quantity, r.events
from customer c
cross join lateral (
    select coalesce(jsonb_object_agg(k, p -> k) filter (where p ? k), '{}') as groups
    from (select cast(:properties as jsonb) as p) sent cross join unnest(cast(:keys as text[])) k
) g
join usage_rollup r on r.customer_id = c.customer_id and r.metric_id = :metric_id
    and r.group_hash = substr(encode(sha256(convert_to(g.groups::text, 'UTF8')), 'hex'), 1, 32)::uuid
    and r.bucket_start = date_bin(make_interval(mins => c.bucket_minutes), cast(:moment as timestamptz),
        timestamptz '2000-01-01 00:00:00Z')
where c.customer_id = :customer_id
""")
