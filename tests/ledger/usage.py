"""Building usage for tests: events, batches, and what the database holds of them."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

from ledger.intake.events import parse_objects
from ledger.intake.store import BatchResult, take_in

NOON = datetime(2026, 10, 5, 12, 0, tzinfo=UTC)
"""When everything is received, unless a test says otherwise."""


def event(key: str = "k1", **changes: object) -> dict[str, object]:
    """An event of customer acme: 1250 input tokens at 11:30; `changes` replace fields, None removes one."""
    fields: dict[str, object] = {
        "source": "gateway",
        "key": key,
        "customer": "acme",
        "type": "llm.request",
        "timestamp": "2026-10-05T11:30:00Z",
        "properties": {"model": "large", "input_tokens": 1250},
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def tokens(key: str, number: object, **changes: object) -> dict[str, object]:
    """An event with that many input tokens."""
    return event(key, properties={"model": "large", "input_tokens": number}, **changes)


def send(connection: sa.Connection, *events: object, received_at: datetime = NOON) -> BatchResult:
    """Take events in as one batch through the HTTP door."""
    return take_in(connection, parse_objects(events, received_at=received_at), door="http", received_at=received_at)


def outcomes(result: BatchResult) -> list[str]:
    return [one.outcome for one in result.results]


def counts(result: BatchResult) -> tuple[int, int, int, int]:
    """Accepted, duplicate, conflict, rejected."""
    return result.accepted, result.duplicate, result.conflict, result.rejected


def number_of(connection: sa.Connection, table: str, where: str = "true") -> int:
    statement = sa.text(f"select count(*) from {table} where {where}")  # noqa: S608 -- written in the test itself
    number: int = connection.execute(statement).scalar_one()
    return number


def rollup(connection: sa.Connection, customer_id: str = "acme") -> Mapping[tuple[str, str, str], tuple[str, int]]:
    """The totals of a customer: (metric, groups, bucket) to (quantity, events)."""
    found = connection.execute(
        sa.text(
            "select metric_id, groups::text, to_char(bucket_start, 'MM-DD HH24:MI'), trim_scale(quantity)::text, events"
            " from usage_rollup where customer_id = :customer_id"
        ),
        {"customer_id": customer_id},
    )
    return {(metric, groups, bucket): (quantity, events) for metric, groups, bucket, quantity, events in found}


def total(totals: Iterable[tuple[str, int]]) -> int:
    return sum(events for _, events in totals)
