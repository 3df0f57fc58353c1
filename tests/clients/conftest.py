"""The client package against the real server; it is read from its own folder, as it is not installed here."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from meterbook_client import Event

from activities.settings import Settings
from ledger import schema
from ledger.api_keys import create_api_key
from ledger.contracts import create_contract
from ledger.customers import Customer, create_customer
from ledger.entities import Entity, create_entity
from ledger.files.contracts import parse_contract
from ledger.metrics import create_metric
from tests.admin.conftest import CONTRACT, NOWHERE, serving
from tests.metrics import metric

PACKAGE = Path(__file__).resolve().parents[2] / "clients" / "python"


@pytest.fixture
def key(engine: sa.Engine) -> str:
    """The secret of an API key; there is a contract acme-payg that prices tokens."""
    with engine.begin() as connection:
        create_entity(connection, Entity("nordlicht", "Nordlicht", "EUR", "Europe/Berlin", "NL"))
        create_customer(connection, Customer("acme", "Acme"))
        create_metric(connection, metric("tokens", "llm.request", "sum", "tokens"))
        create_contract(connection, parse_contract(CONTRACT, start="2026-01-01"), by="test")
        return create_api_key(connection, "test")[1]


@pytest.fixture
def server_settings(database_url: str) -> Settings:
    """The settings of an HTTP server with its own database, with Temporal away and without a spool."""
    return Settings(database_url=database_url, temporal_address=NOWHERE)


@pytest.fixture
def url(server_settings: Settings) -> Iterator[str]:
    """The address of a running server."""
    with serving(server_settings) as client:
        yield str(client.base_url)


@pytest.fixture
def silent_url() -> Iterator[str]:
    """An address that is taken and where nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def made(key: str, tokens: int | Decimal | str = 100) -> Event:
    """An event of acme at noon."""
    at = datetime(2026, 10, 5, 12, tzinfo=UTC)
    return Event("gate", "acme", "llm.request", at, {"tokens": tokens}, key=key)


def recorded(engine: sa.Engine) -> list[str]:
    """Return the keys of all events that are recorded, sorted; a key that were there twice would be listed twice."""
    with engine.begin() as connection:
        return sorted(connection.execute(sa.select(schema.usage_event.c.key)).scalars())
