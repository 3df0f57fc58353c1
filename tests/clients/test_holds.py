"""Holds in the client: reserve, capture with the usage, release; the same again where an answer was lost."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from meterbook_client import AsyncClient, Client, ConflictError, Event, Gates, Hold, NotFoundError, RefusedError

from ledger.features import Feature, create_feature, grant_feature
from ledger.holds import list_holds
from tests.clients.conftest import recorded
from tests.clients.relay import losing_each_first_answer

PATIENT = 20.0
IN_AN_HOUR = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
def calls(engine: sa.Engine, key: str) -> str:
    """The secret of an API key; acme has 10 units of the feature calls a month, and the feature export."""
    with engine.begin() as connection:
        create_feature(connection, Feature("calls", "Calls", "metered", ("tokens",)))
        create_feature(connection, Feature("export", "Export", "boolean"))
        at = datetime.now(UTC)
        grant_feature(connection, "acme-payg", "calls", by="test", at=at, most_units=Decimal(10))
        grant_feature(connection, "acme-payg", "export", by="test", at=at)
    return key


def used(key: str, tokens: int) -> Event:
    """An event of now."""
    return Event("gate", "acme", "llm.request", datetime.now(UTC), {"tokens": tokens}, key=key)


def reserve(client: Client, hold_id: str, units: int) -> Hold:
    return client.hold(hold_id, "acme", "calls", units=Decimal(units), expires_at=IN_AN_HOUR)


def test_a_hold_is_made_captured_with_its_usage_and_the_rest_given_back(
    url: str, calls: str, engine: sa.Engine
) -> None:
    with Client(url, api_key=calls) as client:
        held = reserve(client, "h1", 8)
        assert (held.state, held.units, held.contract_id, held.expires_at) == (
            "held",
            Decimal(8),
            "acme-payg",
            IN_AN_HOUR,
        )
        with pytest.raises(ConflictError, match="units_spent, left units 2"):
            reserve(client, "h2", 3)
        event = used("k1", 5)
        captured = client.capture("h1", event)
        assert (captured.outcome, captured.hold.state, captured.hold.used_units) == ("accepted", "captured", Decimal(5))
        assert client.capture("h1", event).outcome == "duplicate"
        assert reserve(client, "h3", 5).units == 5  # 10 - 5 that are used
        assert client.release("h3").state == client.release("h3").state == client.held("h3").state == "released"
    assert recorded(engine) == ["k1"]


async def test_the_async_client_holds_alike(url: str, calls: str, engine: sa.Engine) -> None:
    async with AsyncClient(url, api_key=calls) as client:
        for name in ("h1", "h2"):
            await client.hold(name, "acme", "calls", units=Decimal(5), expires_at=IN_AN_HOUR)
        with pytest.raises(ConflictError, match="holds units 5 and the event uses 7"):
            await client.capture("h1", used("k1", 7))
        taken = await client.capture("h1", used("k1", 7), excess="take")
        assert (taken.outcome, taken.hold.used_units) == ("accepted", Decimal(7))
        assert (await client.release("h2")).state == "released"
        with pytest.raises(NotFoundError):
            await client.held("none")
    assert recorded(engine) == ["k1"]


def test_a_lost_answer_is_asked_for_again_with_the_same_key(url: str, calls: str, engine: sa.Engine) -> None:
    with losing_each_first_answer(url) as relay, Client(relay, api_key=calls) as client:
        assert reserve(client, "h1", 6).state == "held"
        assert client.capture("h1", used("k1", 6)).outcome == "duplicate"  # the first time, it was taken in
        reserve(client, "h2", 4)
        assert client.release("h2").state == "released"
    with engine.begin() as connection:
        assert {one.hold_id: one.state for one in list_holds(connection)} == {"h1": "captured", "h2": "released"}
    assert recorded(engine) == ["k1"]


def test_what_cannot_be_held_names_field_value_and_remedy(url: str, calls: str) -> None:
    with Client(url, api_key=calls) as client:
        for units in (Decimal(0), Decimal(-1)):
            with pytest.raises(RefusedError, match="units") as refused:
                client.hold("h1", "acme", "calls", units=units, expires_at=IN_AN_HOUR)
            assert refused.value.status in (400, 422)
        with pytest.raises(RefusedError, match="feature export is not limited, there is nothing to hold"):
            client.hold("h1", "acme", "export", units=Decimal(1), expires_at=IN_AN_HOUR)
        with pytest.raises(ConflictError, match="no_feature, left nothing; grant it"):
            client.hold("h1", "acme", "unheard", units=Decimal(1), expires_at=IN_AN_HOUR)
        with pytest.raises(NotFoundError):
            client.held("h1")


def test_a_gate_asks_again_about_a_customer_for_whom_something_was_held(url: str, calls: str) -> None:
    with Client(url, api_key=calls) as client, Gates(url, api_key=calls, timeout_seconds=PATIENT) as gates:
        assert gates.check("acme", "calls", units=Decimal(1)).source == "server"
        reserve(client, "h1", 9)
        gates.forget("acme")
        # the server leaves 1, and 1 was let through here
        assert gates.check("acme", "calls", units=Decimal(1)).reason == "units_spent"
