"""The client: what became of events, what is sent again, and what is refused for good."""

import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from meterbook_client import (
    AsyncClient,
    Client,
    Event,
    InvalidEventError,
    NotFoundError,
    RefusedError,
    UnauthorisedError,
    UnavailableError,
)
from meterbook_client.answers import content_of, pause_seconds
from meterbook_client.events import MAX_REQUEST_BYTES, portions

from activities.settings import Settings
from ledger.intake.events import parse_lines
from tests.admin.away import database_away
from tests.admin.conftest import serving
from tests.clients.conftest import made, recorded

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)


def test_events_are_answered_one_by_one(url: str, key: str, engine: sa.Engine) -> None:
    with Client(url, api_key=key) as client:
        first = client.send([made("1"), made("2", Decimal("0.10"))])
        assert (first.accepted, first.results) == (2, ())
        again = client.send([made("1"), made("2", 7), made("3", "many"), made("4")], request_events=2)
    assert (again.accepted, again.duplicate, again.conflict, again.rejected) == (1, 1, 1, 1)
    conflict, rejected = again.refused
    assert (conflict.outcome, conflict.key) == ("conflict", "2")
    assert (rejected.outcome, rejected.key, rejected.field) == ("rejected", "3", "properties.tokens")
    assert recorded(engine) == ["1", "2", "4"]


async def test_the_async_client_answers_alike(url: str, key: str, engine: sa.Engine) -> None:
    async with AsyncClient(url, api_key=key) as client:
        assert (await client.send([made("1"), made("2")], request_events=1)).accepted == 2
        assert (await client.send([made("1"), made("2")])).duplicate == 2
        assert (await client.spend("acme-payg")).total == 0
        with pytest.raises(NotFoundError):
            await client.spend("nobody")
    assert recorded(engine) == ["1", "2"]


def test_the_spend_is_exact(url: str, key: str) -> None:
    with Client(url, api_key=key) as client:
        spend = client.spend("acme-payg")
        assert (spend.contract_id, spend.currency, spend.total) == ("acme-payg", "EUR", Decimal(0))
        with pytest.raises(NotFoundError, match="nobody"):
            client.spend("nobody")
        with pytest.raises(NotFoundError):
            client.receipt("none")


def test_what_the_server_refuses_is_not_sent_again(url: str, key: str) -> None:
    with Client(url, api_key="mbk_wrong") as client, pytest.raises(UnauthorisedError, match="not known"):
        client.send([made("1")])
    with Client(url, api_key=key) as client, pytest.raises(RefusedError, match="413"):
        client.send_lines([made(str(number)).as_json() for number in range(10_001)])


def test_a_server_that_does_not_answer_is_asked_a_few_times(silent_url: str) -> None:
    with (
        Client(silent_url, api_key="mbk_x", attempts=2) as client,
        pytest.raises(UnavailableError, match="ConnectError"),
    ):
        client.send([made("1")])


def test_usage_is_sent_again_after_the_time_that_the_server_asks_for(
    url: str, key: str, engine: sa.Engine, postgres_url: str, database_url: str
) -> None:
    with Client(url, api_key=key) as client:
        with database_away(postgres_url, database_url), pytest.raises(UnavailableError, match="503") as away:
            client.send_lines([made("1").as_json()], attempts=1)
        assert away.value.retry_after_seconds == 2
        began = time.monotonic()
        with database_away(postgres_url, database_url):
            sending = threading.Thread(target=lambda: client.send([made("1")]))
            sending.start()
            time.sleep(0.5)
        sending.join(20)
    assert time.monotonic() - began >= 2
    assert recorded(engine) == ["1"]


def test_a_receipt_tells_what_became_of_spooled_events(
    server_settings: Settings, key: str, tmp_path: Path, postgres_url: str, database_url: str
) -> None:
    spooling = server_settings.model_copy(update={"meterbook_spool_dir": tmp_path / "spool"})
    with serving(spooling) as http, Client(str(http.base_url), api_key=key) as client:
        assert client.send([made("1")]).accepted == 1  # the key was seen, so it is believed while the database is away
        with database_away(postgres_url, database_url):
            answer = client.send([made("1"), made("2"), made("3", "many")])
            assert (answer.spooled, answer.accepted, len(answer.receipts)) == (3, 0, 1)
            assert client.receipt(answer.receipts[0]).outcome == "waiting"
        until = time.monotonic() + 20
        while (receipt := client.receipt(answer.receipts[0])).outcome == "waiting" and time.monotonic() < until:
            time.sleep(0.1)
    assert receipt.outcome == "entered"
    assert receipt.answer is not None
    assert (receipt.answer.accepted, receipt.answer.duplicate, receipt.answer.rejected) == (1, 1, 1)


# --- events -------------------------------------------------------------------------------------------------------


def test_a_key_is_fixed_when_the_event_is_made() -> None:
    first = Event("gate", "acme", "login", NOON, {"region": "eu", "count": 1})
    same = Event("gate", "acme", "login", NOON.astimezone(), {"count": 1, "region": "eu"})
    other = Event("gate", "acme", "login", NOON, {"region": "eu", "count": 2})
    assert first.key == same.key != other.key
    assert Event("gate", "acme", "login", NOON, key="mine").key == "mine"


@pytest.mark.parametrize(
    ("properties", "at", "remedy"),
    [
        ({"cost": 0.1}, NOON, r"properties.cost 0.1 is a float; give Decimal\('0.1'\)"),
        ({"cost": Decimal("NaN")}, NOON, "must be a finite number"),
        ({"tags": ["a"]}, NOON, "must be text, a whole number"),
        ({"": 1}, NOON, "its name must be text"),
        ({}, NOON.replace(tzinfo=None), "has no time zone"),
    ],
)
def test_an_event_that_cannot_be_sent_is_refused_where_it_is_made(
    properties: dict[str, int], at: datetime, remedy: str
) -> None:
    with pytest.raises(InvalidEventError, match=remedy):
        Event("gate", "acme", "login", at, properties)


def test_an_event_without_a_customer_is_refused_where_it_is_made() -> None:
    with pytest.raises(InvalidEventError, match="customer ' ' must be text"):
        Event("gate", " ", "login", NOON)


values = st.one_of(
    st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    st.integers(min_value=-(10**26) + 1, max_value=10**26 - 1),
    st.decimals(min_value=-(10**13), max_value=10**13, places=12),
)


moments = st.integers(min_value=0, max_value=800_000_000).map(lambda seconds: NOON - timedelta(seconds=seconds))
names = st.text("abc.ü", min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, values, max_size=5), moments)
def test_what_an_event_says_arrives_exactly(properties: dict[str, bool | str | int | Decimal], at: datetime) -> None:
    event = Event("gate", "acme", "login", at, properties)
    batch = parse_lines([event.as_json().encode()], received_at=NOON)
    assert batch.rejections == ()
    ((_, read),) = batch.events
    assert (read.key, read.timestamp, read.properties) == (event.key, at, properties)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(min_value=1, max_value=3_000_000), max_size=12), st.integers(min_value=1, max_value=5))
def test_requests_are_small_enough_and_lose_nothing(lengths: list[int], most_events: int) -> None:
    lines = ["x" * length for length in lengths]
    cut = [*portions(lines, most_events=most_events)]
    assert [line for portion in cut for line in portion] == lines
    assert all(0 < len(portion) <= most_events for portion in cut)
    assert all(sum(map(len, portion)) + len(portion) <= MAX_REQUEST_BYTES for portion in cut)


# --- pauses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failures", [1, 2, 5, 8, 100])
def test_the_pause_grows_to_half_a_minute_and_half_of_it_is_chance(failures: int) -> None:
    longest = min(30.0, 0.25 * 2.0 ** min(failures, 10))
    assert longest / 2 <= pause_seconds(failures, UnavailableError("away")) <= longest


def test_the_servers_own_time_to_come_back_comes_first() -> None:
    assert pause_seconds(9, UnavailableError("busy", retry_after_seconds=1.0)) == 1.0
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    with pytest.raises(UnavailableError) as refused:
        content_of(httpx.Response(429, headers={"retry-after": soon}, json={"detail": "busy"}))
    assert refused.value.retry_after_seconds is not None
    assert 15 < refused.value.retry_after_seconds <= 20


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_worth_another_attempt(status: int) -> None:
    with pytest.raises(UnavailableError):
        content_of(httpx.Response(status, text="<html>busy</html>"))


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
def test_what_the_server_would_refuse_again_is_not_worth_one(status: int) -> None:
    with pytest.raises(RefusedError, match="correct it"):
        content_of(httpx.Response(status, json={"detail": "correct it"}))
