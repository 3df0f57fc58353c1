"""Correcting single events over HTTP: as a whole or not at all, and the same again changes nothing."""

import asyncio
import json
import time
from decimal import Decimal
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from activities.settings import Settings
from admin.http import create_app
from admin.http.application import parts_for
from ledger import schema
from ledger.api_keys import create_api_key
from ledger.contracts import create_contract
from ledger.customers import Customer, create_customer
from ledger.entities import Entity, create_entity
from ledger.errors import NotFoundError
from ledger.files.contracts import parse_contract
from ledger.intake.corrections import counting_event
from ledger.intake.events import UsageEvent
from ledger.metrics import create_metric
from tests.admin.away import database_away
from tests.admin.conftest import CONTRACT
from tests.admin.sending import event, lines, post
from tests.metrics import metric

PATH = "/v1/usage/corrections"


@pytest.fixture
def key(engine: sa.Engine) -> str:
    """The secret of an API key named ops; there is a contract acme-payg that prices tokens."""
    with engine.begin() as connection:
        create_entity(connection, Entity("nordlicht", "Nordlicht", "EUR", "Europe/Berlin", "NL"))
        create_customer(connection, Customer("acme", "Acme"))
        create_customer(connection, Customer("cobalt", "Cobalt"))
        create_metric(connection, metric("tokens", "llm.request", "sum", "tokens"))
        create_contract(connection, parse_contract(CONTRACT, start="2026-01-01"), by="test")
        return create_api_key(connection, "ops")[1]


@pytest.fixture
def sent(http: httpx.Client, key: str) -> httpx.Client:
    """A client that sends the key; three events of acme with 100 tokens each are recorded: a, b and c."""
    post(http, key, lines("a", "b", "c"))
    http.headers["authorization"] = f"Bearer {key}"
    return http


def amendment(key: str, **given: object) -> dict[str, object]:
    return {"action": "amend", "source": "test", "key": key, **given}


def withdrawal(key: str) -> dict[str, object]:
    return {"action": "withdraw", "source": "test", "key": key}


def corrected(client: httpx.Client, *corrections: dict[str, object], reason: str = "a miscount") -> httpx.Response:
    return client.post(PATH, json={"reason": reason, "corrections": corrections})


def counting(engine: sa.Engine, key: str) -> UsageEvent | None:
    with engine.begin() as connection:
        try:
            return counting_event(connection, "test", key)
        except NotFoundError:
            return None


def tokens(engine: sa.Engine, *keys: str) -> list[object]:
    """What counts under each key in tokens; None where nothing does."""
    found = [counting(engine, key) for key in keys]
    return [None if one is None else one.properties.get("tokens") for one in found]


def changes(engine: sa.Engine) -> list[tuple[Any, ...]]:
    """Which acts are recorded: kind, reason and by whom."""
    kept = schema.usage_change.c
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(sa.select(kept.kind, kept.reason, kept.changed_by))]


def test_events_are_amended_and_withdrawn_in_one_request_and_their_contracts_follow(
    sent: httpx.Client, engine: sa.Engine
) -> None:
    answer = corrected(sent, amendment("a", set={"tokens": 40}), withdrawal("b"))
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert content.pop("batch_id") > 0
    assert content == {"amended": 1, "withdrawn": 1, "unchanged": 0, "contracts": ["acme-payg"]}
    assert tokens(engine, "a", "b", "c") == [Decimal(40), None, Decimal(100)]
    assert sorted(changes(engine)) == [
        ("amend", "a miscount", "API key ops"),
        ("withdraw", "a miscount", "API key ops"),
    ]


def test_the_contracts_of_a_correction_are_nudged(sent: httpx.Client, server_settings: Settings) -> None:
    async def pending() -> None:
        served = create_app(server_settings)
        async with parts_for(server_settings) as parts:
            served.state.parts = parts
            transport = httpx.ASGITransport(served)
            async with httpx.AsyncClient(transport=transport, base_url="http://here", headers=sent.headers) as client:
                await client.post(PATH, json={"reason": "a miscount", "corrections": [withdrawal("a")]})
            async with asyncio.timeout(20):
                while parts.nudges.pending != ("acme-payg",):  # noqa: ASYNC110 - Temporal is away; each try takes it out
                    await asyncio.sleep(0.02)

    asyncio.run(pending())


def test_the_same_request_again_changes_nothing(sent: httpx.Client, engine: sa.Engine) -> None:
    request = (amendment("a", set={"tokens": 40}), withdrawal("b"))
    corrected(sent, *request)
    again = corrected(sent, *request)
    assert again.status_code == 200, again.text
    assert again.json() == {"batch_id": None, "amended": 0, "withdrawn": 0, "unchanged": 2, "contracts": []}
    assert len(changes(engine)) == 2


def test_properties_are_replaced_as_a_whole_and_set_changes_single_ones(sent: httpx.Client, engine: sa.Engine) -> None:
    corrected(sent, amendment("a", set={"model": "large"}), amendment("b", properties={"tokens": 7, "model": "small"}))
    corrected(sent, amendment("a", set={"model": None, "tokens": 1}), amendment("b", properties={"tokens": 8}))
    found = [counting(engine, key) for key in "ab"]
    assert [one and one.properties for one in found] == [{"tokens": Decimal(1)}, {"tokens": Decimal(8)}]


def test_numbers_are_read_exactly(sent: httpx.Client, engine: sa.Engine) -> None:
    body = json.dumps({"reason": "rounding", "corrections": [amendment("a", set={"tokens": 7})]})
    exact = "12345678901234567890.123456789012"  # 32 digits, twice what a binary float holds
    answer = sent.post(PATH, content=body.replace("7}", exact + "}"), headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert tokens(engine, "a") == [Decimal(exact)]


def test_a_withdrawn_event_comes_back_when_all_of_it_is_given(sent: httpx.Client, engine: sa.Engine) -> None:
    corrected(sent, withdrawal("a"))
    part = corrected(sent, amendment("a", set={"tokens": 1}))
    assert (part.status_code, "is withdrawn" in part.json()["detail"]) == (404, True)
    whole = {name: value for name, value in event("a").items() if name not in ("source", "key")}
    assert corrected(sent, amendment("a", **whole)).json()["amended"] == 1
    assert tokens(engine, "a") == [Decimal(100)]


def test_usage_moves_to_its_right_customer_and_time(sent: httpx.Client, engine: sa.Engine) -> None:
    corrected(sent, amendment("a", customer="cobalt", timestamp="2026-10-06T02:00:00+02:00"))
    found = counting(engine, "a")
    assert found is not None
    assert (found.customer, found.timestamp.isoformat()) == ("cobalt", "2026-10-06T00:00:00+00:00")


REFUSED = [
    ("an unknown key to amend", amendment("z", set={"tokens": 1}), 404, "'z'"),
    ("an unknown key to withdraw", withdrawal("z"), 404, "key 'z'; check both"),
    ("text where a metric sums", amendment("b", set={"tokens": "many"}), 400, "properties.tokens"),
    ("a time without zone", amendment("b", timestamp="2026-10-05T12:30:00"), 400, "corrections.1, source 'test'"),
    ("nothing to amend", amendment("b"), 422, "names nothing to amend"),
    ("properties in two ways", amendment("b", properties={}, set={}), 422, "give all properties, or set single ones"),
    ("another action", {**withdrawal("b"), "action": "erase"}, 422, "erase"),
    ("a field that is none", amendment("b", tokens=7), 422, "corrections.1.amend.tokens"),
    ("both at once", withdrawal("a"), 400, "is amended and withdrawn; keep one"),
]


@pytest.mark.parametrize(("bad", "status", "said"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_one_bad_correction_leaves_everything_as_it_was(
    sent: httpx.Client, engine: sa.Engine, bad: dict[str, object], status: int, said: str
) -> None:
    answer = corrected(sent, amendment("a", set={"tokens": 40}), bad)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert said in answer.json()["detail"]
    assert tokens(engine, "a", "b") == [Decimal(100), Decimal(100)]
    assert changes(engine) == []


@pytest.mark.parametrize("reason", ["", "  \t"])
def test_a_correction_needs_a_reason(sent: httpx.Client, reason: str) -> None:
    answer = corrected(sent, withdrawal("a"), reason=reason)
    assert (answer.status_code, "reason" in answer.json()["detail"]) == (422, True)


def test_a_correction_needs_a_key_that_works(http: httpx.Client) -> None:
    assert corrected(http, withdrawal("a")).status_code == 401


def test_while_the_database_is_away_corrections_are_to_be_sent_again(
    sent: httpx.Client, engine: sa.Engine, postgres_url: str, database_url: str
) -> None:
    with database_away(postgres_url, database_url):
        answer = corrected(sent, withdrawal("a"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    deadline = time.monotonic() + 20
    while corrected(sent, withdrawal("a")).status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert tokens(engine, "a") == [None]


class TestWithASpool:
    """The same server with a folder for what it takes while the database is away."""

    @pytest.fixture
    def server_settings(self, server_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
        return server_settings.model_copy(update={"meterbook_spool_dir": tmp_path_factory.mktemp("spool")})

    def test_corrections_are_sent_away_while_usage_is_kept(
        self, sent: httpx.Client, key: str, postgres_url: str, database_url: str
    ) -> None:
        with database_away(postgres_url, database_url):
            assert post(sent, key, lines("d")).status_code == 202
            answer = corrected(sent, withdrawal("a"))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
