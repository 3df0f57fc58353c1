"""Building usage for tests: events, batches, and what the database holds of them."""

from collections.abc import Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

from ledger.customers import Customer, create_customer
from ledger.entities import Entity, create_entity
from ledger.intake.events import parse_objects
from ledger.intake.status import usage_status
from ledger.intake.store import BatchResult, take_in
from ledger.metrics import create_metric
from ledger.verification.check import Check
from ledger.verification.raw import count_keys, read_records, stream_events
from ledger.verification.totals import check_totals
from ledger.verification.usage import check_usage, count_usage
from tests.metrics import metric

BARE_POLICY = '{"invoicing": {"grace": "P3D", "due_days": 14}, "collection": {"method": "bank_transfer"}}'
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


def open_shop(connection: sa.Connection) -> None:
    """Entity northwind sells to acme; tokens are summed by model, requests counted."""
    create_entity(connection, Entity("northwind", "Northwind GmbH", "EUR", "Europe/Berlin", "NW"))
    create_metric(connection, metric("tokens", "llm.request", "sum", "input_tokens", ("model",)))
    create_metric(connection, metric("requests", "llm.request", "count"))
    create_customer(connection, Customer("acme", "Acme"))


def cover(connection: sa.Connection, contract_id: str, start: str, end: str | None = None) -> None:
    """A bare contract of acme with northwind: all that intake looks at."""
    connection.execute(
        sa.text(
            "insert into contract (contract_id, customer_id, entity_id, currency, time_zone, start_at, end_at, policy,"
            " definition, definition_sha256) values (:id, 'acme', 'northwind', 'EUR', 'Europe/Berlin',"
            " cast(:start as timestamptz), cast(:end as timestamptz), cast(:policy as jsonb), '{}', '')"
        ),
        {"id": contract_id, "start": start, "end": end, "policy": BARE_POLICY},
    )


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


def same_figures(connection: sa.Connection) -> None:
    """Keys, events, tally and rollups tell the same story; whoever reads this knows that nothing is lost or double."""
    events = number_of(connection, "usage_event")
    assert events == number_of(connection, "usage_key")
    assert events == connection.execute(sa.text("select coalesce(sum(events), 0) from usage_tally")).scalar_one()
    assert events == connection.execute(sa.text("select coalesce(sum(accepted), 0) from usage_outcome")).scalar_one()
    assert [check for check in proofs(connection) if not check.ok] == []


def proofs(connection: sa.Connection) -> list[Check]:
    """What verification says of the rollups, from the raw events."""
    records = read_records(connection)
    usage = count_usage(records, [], stream_events(connection), keys=count_keys(connection))
    checks = (*check_usage(records, usage, usage_status(connection)), *check_totals(connection, usage.totals))
    return [check for check in checks if "rollup" in check.name or "members" in check.name]
