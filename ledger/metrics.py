"""Metrics: the dated rules that turn events into quantities; a version never changes, a changed rule is the next."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.checks import check_aware, check_slug, check_text
from ledger.errors import ConflictError, InvalidError, NotFoundError
from ledger.expressions import compiled
from ledger.intake.attribution import build_rule
from ledger.intake.rules import VERSION, Rule, read_rules
from pricing.calendar import is_on_grid
from pricing.metric_checks import version_problems
from pricing.metrics import Metric, MetricVersion

LARGEST_BUCKET = 60
"""Minutes: a rule that begins on this grid begins on every customer's buckets."""

CreatedMetric = Literal["created", "changed", "exists"]


def create_metric(connection: sa.Connection, metric: Metric) -> CreatedMetric:
    """Record a metric of one version, or a changed rule as its next version, and count the events that came before.

    A changed rule says from when it is in force, which no frozen or invoiced period may have counted by. The same
    again, also an earlier version, is harmless. Intake shares the table, so every event is counted either by its batch
    or here, never by both. Raises `InvalidError`, and `ConflictError` for a changed rule that cannot be in force.
    """
    wanted = checked(metric)
    if wanted.effective_from is not None:
        connection.execute(_HOLD_PERIODS)
    connection.execute(sa.text("lock table metric in exclusive mode"))
    known = [rule.version for rule in read_rules(connection) if rule.metric_id == metric.metric_id]
    if any(wanted == replace(version, version=1) for version in known):
        return "exists"
    version = next_version(metric.metric_id, wanted, known)
    rule = Rule(metric.metric_id, version)
    if known:
        _refuse_in_invoiced_period(connection, rule)
    connection.execute(
        insert(schema.metric).values(
            metric_id=metric.metric_id,
            version=version.version,
            effective_from=version.effective_from,
            event_type=version.event_type,
            aggregation=version.aggregation,
            property=version.property,
            group_keys=list(version.group_keys),
            definition=VERSION.dump_python(version, mode="json"),
        )
    )
    build_rule(connection, rule)
    if known:
        _refuse_in_invoiced_period(connection, rule)
    return "changed" if known else "created"


def next_version(metric_id: str, wanted: MetricVersion, known: list[MetricVersion]) -> MetricVersion:
    """Return a rule with its number after the recorded versions; raise `ConflictError` where it cannot follow them."""
    if not known:
        return wanted
    latest = known[-1]
    if wanted.effective_from is None:
        changed = ", ".join(_changed(latest, wanted))
        raise ConflictError(
            f"metric {metric_id} exists with other content ({changed}); a changed rule needs effective_from, the hour "
            f"from which it counts, for example {_following_day(latest)}; compare first with `meterbook metric diff`"
        )
    if latest.effective_from is not None and wanted.effective_from <= latest.effective_from:
        raise ConflictError(
            f"effective_from {wanted.effective_from.isoformat()} of metric {metric_id} must be after that of version "
            f"{latest.version}, {latest.effective_from.isoformat()}"
        )
    return replace(wanted, version=latest.version + 1)


def get_metric(connection: sa.Connection, metric_id: str) -> Metric:
    """Return a metric with its versions; raise `NotFoundError`."""
    for metric in list_metrics(connection):
        if metric.metric_id == metric_id:
            return metric
    raise NotFoundError(f"metric {metric_id} does not exist; create it first, or list those that do")


def list_metrics(connection: sa.Connection) -> tuple[Metric, ...]:
    """Return all metrics by id."""
    rules = read_rules(connection)
    return tuple(
        Metric(metric_id, tuple(rule.version for rule in own))
        for metric_id, own in groupby(rules, key=lambda rule: rule.metric_id)
    )


# --- what a rule must look like -----------------------------------------------------------------------------------


def checked(metric: Metric) -> MetricVersion:
    """Return the one version of a metric that is to be recorded, its moment in UTC; raise `InvalidError`."""
    check_slug("metric_id", metric.metric_id)
    if len(metric.versions) != 1:
        raise InvalidError(f"metric {metric.metric_id} is recorded version by version; give one, not all")
    version = replace(metric.versions[0], version=1)
    for problem in _problems(version):
        raise InvalidError(f"metric {metric.metric_id}: {problem}")
    if version.effective_from is None:
        return version
    check_aware("effective_from", version.effective_from)
    start = version.effective_from.astimezone(UTC)
    if not is_on_grid(start, LARGEST_BUCKET):
        raise InvalidError(
            f"effective_from {start.isoformat()} of metric {metric.metric_id} must be a full hour in UTC"
        )
    return replace(version, effective_from=start)


def _problems(version: MetricVersion) -> Iterator[str]:
    check_text("event_type", version.event_type)
    names = [version.property, version.amount_property, version.operation_property]
    for name in (*version.group_keys, *(one.property for one in version.filters), *names):
        if name is not None:
            check_text("property or group key", name)
    for path, sentence in version_problems(version):
        yield f"{path} {sentence}"
    for text in (version.expression, version.condition):
        if text is not None:
            compiled(text)


def _changed(before: MetricVersion, after: MetricVersion) -> Iterator[str]:
    """Name the fields in which two rules differ, with both values."""
    shown = {"version", "effective_from"}
    one, other = VERSION.dump_python(before, mode="json"), VERSION.dump_python(after, mode="json")
    for name in one:
        if name not in shown and one[name] != other[name]:
            yield f"{name}: {one[name]}, then {other[name]}"


def _following_day(version: MetricVersion) -> str:
    start = version.effective_from or datetime(2027, 1, 1, tzinfo=UTC)
    return start.strftime("%Y-%m-%dT00:00:00Z")


def _refuse_in_invoiced_period(connection: sa.Connection, rule: Rule) -> None:
    """Refuse a rule that would change what a frozen or invoiced period has counted: invoices stay as they were made."""
    since = rule.version.effective_from
    found = connection.execute(_INVOICED, {"metric_id": rule.metric_id, "since": since}).first()
    if found is not None:
        raise ConflictError(
            f"effective_from {since} of metric {rule.metric_id} lies before {found.end_at.isoformat()}, the end of a "
            f"period of contract {found.contract_id} that is invoiced by the rule before; let it begin there or later"
        )


# Freezing a period waits for this, and intake does not: it only shares the customers' keys.
_HOLD_PERIODS = sa.text("select customer_id from customer order by customer_id for no key update")

_INVOICED = sa.text("""
select p.contract_id, p.end_at
from contract_period p join contract k on k.contract_id = p.contract_id
where p.state <> 'open' and p.end_at > :since and exists (
    select from usage_rollup r
    where r.customer_id = k.customer_id and r.metric_id = :metric_id
        and r.bucket_start >= greatest(p.start_at, :since) and r.bucket_start < p.end_at
)
order by p.end_at desc limit 1
""")
