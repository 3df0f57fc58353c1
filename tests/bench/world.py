"""Who sells, what is counted and who buys while speed is measured, and the usage that they are measured with."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

import psycopg
import sqlalchemy as sa
from psycopg import sql

from infra.demo.traffic import Event, Request, generated, read_requests
from infra.stack import Stack
from ledger.contracts import create_contract
from ledger.customers import Customer, create_customer
from ledger.database import APPLICATION_ROLE, create_engine
from ledger.entities import Entity, create_entity
from ledger.files.contracts import parse_contract
from ledger.intake.events import parse_json
from ledger.intake.store import take_in
from ledger.metrics import create_metric
from tests.bench.figure import check_count
from tests.metrics import metric

SEED = 2026
BY = "bench"
METRICS = (
    metric("input_tokens", "llm.request", "sum", "input_tokens", ("model",)),
    metric("output_tokens", "llm.request", "sum", "output_tokens", ("model",)),
    metric("requests", "llm.request", "count", None, ("model",)),
)
BARE_TABLES = (
    """
    create table bare_event (
        ts timestamptz not null, source text not null, key text not null,
        customer text not null, type text not null, properties jsonb not null
    )
    """,
    """
    create table bare_keyed (
        ts timestamptz not null, source text not null, key text not null,
        customer text not null, type text not null, properties jsonb not null, primary key (source, key)
    )
    """,
    "create table bare_row (number bigint not null, word text not null)",
)
CONTRACT = """
contract: {contract}
customer: {contract}
entity: {entity}
currency: EUR
time_zone: UTC
products:
  - id: input-tokens
    name: Input tokens
    metric: input_tokens
    unit: token
    price: {{model: per_unit, unit_price: "0.00003"}}
  - id: output-tokens
    name: Output tokens
    metric: output_tokens
    unit: token
    price:
      model: graduated
      tiers:
        - {{up_to: 1000000, unit_price: "0.00012"}}
        - {{unit_price: "0.0001"}}
invoicing:
  grace: 90d  # only a close by finance makes an invoice
  due_days: 14
collection:
  method: bank_transfer
"""


def set_up(connection: sa.Connection, entity_id: str, count: int, *, start: datetime) -> tuple[str, ...]:
    """Create an entity with `count` customers, a contract each from `start` on, and return their common ids."""
    create_entity(connection, Entity(entity_id, f"Bench {entity_id}", "EUR", "UTC", entity_id.upper()))
    for one in METRICS:
        create_metric(connection, one)
    names = tuple(f"{entity_id}-{number:03d}" for number in range(count))
    for name in names:
        create_customer(connection, Customer(name, name))
        text = CONTRACT.format(contract=name, entity=entity_id)
        create_contract(connection, parse_contract(text, start=start.isoformat()), by=BY)
    return names


def requests(count: int, usage: Path | None, *, start: datetime, end: datetime) -> list[Request]:
    """Return `count` requests in [start, end), of the file where one is given; a short file is repeated."""
    if usage is None:
        return generated(count, start=start, end=end, seed=SEED)
    return sorted(islice(cycle(read_requests([usage], start=start, end=end)), count), key=lambda request: request.at)


def body_of(events: Sequence[Event]) -> bytes:
    """Return events as they are sent: a JSON array."""
    return json.dumps(events).encode()


def take_all(engine: sa.Engine, events: Sequence[Event], *, received_at: datetime, size: int = 10_000) -> None:
    """Take events in by batches, before anything is measured."""
    for begin in range(0, len(events), size):
        part = events[begin : begin + size]
        batch = parse_json(body_of(part), received_at=received_at)
        with engine.begin() as connection:
            result = take_in(connection, batch, door="file", received_at=received_at)
        check_count("events taken in before measuring", expected=len(part), found=result.accepted)


def event(customer: str, key: str, at: datetime, *, input_tokens: int = 900, output_tokens: int = 120) -> Event:
    """Return one event of a customer."""
    return {
        "source": BY,
        "key": key,
        "customer": customer,
        "type": "llm.request",
        "timestamp": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "properties": {"model": "small", "input_tokens": input_tokens, "output_tokens": output_tokens},
    }


@contextmanager
def own_database(stack: Stack, name: str) -> Iterator[sa.Engine]:
    """Give an engine on a fresh database of this name, with bare tables beside the product's."""
    owner = sa.make_url(stack.environment["DATABASE_URL"])
    address = owner.set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(owner.render_as_string(hide_password=False), autocommit=True) as server:
        copied = sql.Identifier(owner.database or "")
        server.execute(sql.SQL("create database {} template {}").format(sql.Identifier(name), copied))
    with psycopg.connect(address) as server:
        for statement in BARE_TABLES:
            server.execute(statement)
        rights = sql.SQL("grant insert, select, truncate on bare_event, bare_keyed, bare_row to {}")
        server.execute(rights.format(sql.Identifier(APPLICATION_ROLE)))
    engine = create_engine(address)
    try:
        yield engine
    finally:
        engine.dispose()
