"""Following an event by command and over HTTP, from the batch that it came in."""

import json
from datetime import datetime
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.api_keys import create_api_key
from ledger.contracts import create_contract
from ledger.files.contracts import parse_contract
from tests.admin.conftest import CONTRACT, Meterbook, written

NOW = datetime.fromisoformat("2026-10-06T09:00:00Z")


def event(key: str, **changed: object) -> dict[str, object]:
    return {
        "source": "gateway",
        "key": key,
        "customer": "acme",
        "type": "llm.request",
        "timestamp": "2026-10-05T12:30:00Z",
        "properties": {"tokens": 100},
        **changed,
    }


@pytest.fixture
def used(parties: Meterbook, engine: sa.Engine, tmp_path: Path) -> Meterbook:
    """The command, after acme used 100 tokens for 1.00 EUR, and somebody whom nobody knows used some."""
    with engine.begin() as connection:
        create_contract(connection, parse_contract(CONTRACT, start="2026-10-01"), by="test")
    lines = [event("a"), event("b", customer="bolt"), event("c", type="unheard.of", properties={})]
    file = written(tmp_path / "events.jsonl", "".join(json.dumps(one) + "\n" for one in lines))
    assert parties("usage", "send", file).code == 0
    with engine.begin() as connection:
        accrue(connection, "acme-payg", as_of=NOW)
    return parties


def test_an_event_is_shown_as_a_tree_down_to_its_transfer(used: Meterbook) -> None:
    answer = used("trace", "event", "gateway", "a")
    assert answer.code == 0, answer.err
    for told in (
        "event a of source gateway",
        "by file at",
        "metric tokens (sum) counts 100",
        "metric requests (count) counts 1",
        "bucket 2026-10-05T12:00:00Z of 60 minutes: 100 of 1 events",
        "contract acme-payg, period 2026-09-30T22:00:00Z to 2026-10-31T23:00:00Z (open); balance: posted",
        "charge of tokens, Tokens, on 2026-10-05",
        "that day with all events: 100 units, 1.00 EUR unbilled",
        "1.00 unbilled_receivable / usage_revenue on 2026-10-05",
        "accrued: it is on the balance of acme-payg; an invoice bills it",
    ):
        assert told in answer.out, answer.out


def test_for_programs_the_way_of_an_event_is_json(used: Meterbook) -> None:
    found = used("trace", "event", "gateway", "a", "--json").content
    assert (found["standing"], found["ending"]) == ("matched", "accrued")
    assert found["contracts"][0]["charges"][0]["accrued"][0]["amount"] == "1"
    assert used("trace", "event", "gateway", "b", "--json").content["ending"] == "unknown_customer"


def test_an_event_that_never_came_is_told_so_with_exit_code_1(used: Meterbook) -> None:
    answer = used("trace", "event", "gateway", "z")
    assert (answer.code, "never came" in answer.out) == (1, True)


@pytest.mark.usefixtures("used")
def test_programs_ask_over_http_with_a_key(http: httpx.Client, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        headers = {"authorization": f"Bearer {create_api_key(connection, 'test')[1]}"}
    place = {"source": "gateway", "key": "a"}
    assert http.get("/v1/trace/events", params=place).status_code == 401
    found = http.get("/v1/trace/events", params=place, headers=headers)
    assert (found.status_code, found.json()["ending"]) == (200, "accrued")
    assert http.get("/v1/trace/events", params={**place, "key": "z"}, headers=headers).status_code == 404
    assert http.get("/v1/trace/events", params={"source": "gateway"}, headers=headers).status_code == 422


def test_an_amount_is_explained_down_to_its_events(used: Meterbook, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        transfer_id = connection.execute(sa.text("select transfer_id from transfer")).scalar_one()
    answer = used("explain", str(transfer_id))
    assert answer.code == 0, answer.err
    for told in (
        "product tokens on 2026-10-05",
        "metric tokens (sum) counted 100 of 1 events; the values add up",
        "equal: the transfers of this place come to what stands in the books (1)",
        "equal: the events of the day come to what stands in the books, with all lots (1)",
        "this page: 1 events, values 100",
    ):
        assert told in answer.out, answer.out
    assert "DIFFERENT" not in answer.out
    found = used("explain", str(transfer_id), "--json").content
    assert ([one["key"] for one in found["events"]["events"]], found["differences"]) == (["a"], [])


@pytest.mark.usefixtures("used")
def test_programs_ask_for_explanations_over_http(http: httpx.Client, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        headers = {"authorization": f"Bearer {create_api_key(connection, 'test')[1]}"}
        transfer_id = connection.execute(sa.text("select transfer_id from transfer")).scalar_one()
    path = f"/v1/explanations/{transfer_id}"
    assert http.get(path, headers=headers).json()["product_id"] == "tokens"
    page = http.get(f"{path}/events", headers=headers).json()
    assert ([one["key"] for one in page["events"]], page["value"], page["following"]) == (["a"], "100", None)
    assert http.get("/v1/explanations/acme-payg.2026-10-01/1", headers=headers).status_code == 404
    assert http.get(f"{path}/events", params={"after": "x"}, headers=headers).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/v1/contracts/a%00b/spend",
        "/v1/contracts/a%00b/spend/stream",
        "/v1/trace/events?source=a%00&key=b",
        "/v1/explanations/a%00/1",
        "/v1/explanations/a%00/events",
        "/v1/usage/completeness?source=%00",
    ],
)
def test_a_text_that_the_database_cannot_hold_is_refused_at_the_door(
    http: httpx.Client, engine: sa.Engine, path: str
) -> None:
    with engine.begin() as connection:
        headers = {"authorization": f"Bearer {create_api_key(connection, 'test')[1]}"}
    assert http.get(path, headers=headers).status_code == 422
