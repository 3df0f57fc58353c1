"""Unmatched usage: what was accepted and nobody rates, by its reason, with the command that changes that."""

import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from ledger.intake.status import REASON, UnmatchedReason

EXAMPLES = 3
BUCKET = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Example:
    """One of the events, by its source and key."""

    source: str
    key: str


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Events of one alias and type that nobody rates; `first` and `last` are the quarter hours they lie in.

    `fix` is a command line; `customer_id` is None for an alias that nobody has.
    """

    reason: UnmatchedReason
    customer_alias: str
    customer_id: str | None
    type: str
    events: int
    first: datetime
    last: datetime
    examples: tuple[Example, ...]
    fix: str


def list_unmatched(connection: sa.Connection, *, limit: int = 50) -> tuple[Unmatched, ...]:
    """Return unmatched usage by reason, alias and type, most events first."""
    found = []
    for row in connection.execute(_UNMATCHED, {"limit": limit}).all():
        facts = {"alias": row.customer_alias, "type": row.type, "start": row.first, "end": row.first + BUCKET}
        examples = tuple(Example(*one) for one in connection.execute(_EXAMPLES, {**facts, "most": EXAMPLES}))
        found.append(
            Unmatched(
                reason=row.reason,
                customer_alias=row.customer_alias,
                customer_id=row.customer_id,
                type=row.type,
                events=row.events,
                first=row.first,
                last=row.last,
                examples=examples,
                fix=_fix(row.reason, row.customer_alias, row.customer_id, row.type, row.first),
            )
        )
    return tuple(found)


def _fix(reason: UnmatchedReason, alias: str, customer_id: str | None, event_type: str, first: datetime) -> str:
    match reason:
        case "unknown_customer":
            because = shlex.quote(f"usage came under {alias}")
            return f"meterbook customer move-alias {shlex.quote(alias)} --to CUSTOMER --reason {because}"
        case "no_metric":
            name = re.sub(r"[^a-z0-9._-]+", "-", event_type.lower()).strip("._-")[:63] or "metric"
            text = f"metric: {name}\\nevent_type: {event_type}\\naggregation: count\\n"
            return f"printf {shlex.quote(text)} > metric.yaml && meterbook metric create metric.yaml"
        case "no_contract":
            day = first.astimezone(UTC).date()
            return f"meterbook contract start contract.yaml --start {day}  # a contract of customer {customer_id}"
        case "no_price":
            return f"meterbook usage late  # their period is invoiced by terms without a price for {event_type}"


_TEXT = """
with reasons as (
    select t.customer_alias, a.customer_id, t.type, t.bucket_start, t.events, {reason} as reason
    from usage_tally t left join customer_alias a on a.alias = t.customer_alias
    where t.events > 0
)
select reason, customer_alias, customer_id, type, sum(events)::bigint as events, min(bucket_start) as first,
    max(bucket_start) as last
from reasons where reason is not null
group by reason, customer_alias, customer_id, type
order by sum(events) desc, customer_alias, type limit :limit
"""
_UNMATCHED = sa.text(_TEXT.format(reason=REASON))

_EXAMPLES = sa.text("""
select source, key from usage_event
where ts >= :start and ts < :end and customer_alias = :alias and type = :type and ended_batch_id is null
order by ts, key limit :most
""")
