"""Usage while the database is away: kept, entered in order once it is back, and told by receipt."""

import json
import time
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from activities.settings import Settings
from ledger import schema
from ledger.api_keys import create_api_key
from tests.admin.away import database_away
from tests.admin.conftest import NOWHERE, serving
from tests.admin.sending import counts, event, lines, post


@pytest.fixture
def key(engine: sa.Engine) -> str:
    with engine.begin() as connection:
        return create_api_key(connection, "test")[1]


@pytest.fixture
def spooling(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        temporal_address=NOWHERE,
        meterbook_spool_dir=tmp_path / "spool",
        meterbook_spool_bytes=1024**2,
    )


def receipt_of(http: httpx.Client, key: str, receipt: str) -> httpx.Response:
    return http.get(f"/v1/usage/receipts/{receipt}", headers={"authorization": f"Bearer {key}"})


def entered(http: httpx.Client, key: str, receipt: str) -> dict[str, object]:
    """Ask until the request is entered, and return the answer."""
    deadline = time.monotonic() + 20
    while (answer := receipt_of(http, key, receipt).json())["outcome"] != "entered":
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)
    return dict(answer)


def spooled(http: httpx.Client, key: str, body: bytes) -> str:
    answer = post(http, key, body)
    assert (answer.status_code, answer.json()["outcome"]) == (202, "spooled"), answer.text
    assert answer.headers["location"] == f"/v1/usage/receipts/{answer.json()['receipt']}"
    return str(answer.json()["receipt"])


def test_usage_is_kept_while_the_database_is_away_and_entered_in_order(
    spooling: Settings, key: str, postgres_url: str, database_url: str
) -> None:
    with serving(spooling) as http:
        assert counts(post(http, key, lines("before")).json()) == (1, 0, 0, 0)
        with database_away(postgres_url, database_url):
            first = spooled(http, key, b"\n".join([lines("1", "2"), b"broken", lines("before")]))
            second = spooled(http, key, json.dumps(event("1", properties={"tokens": 7})).encode())
            assert receipt_of(http, key, first).json() == {"receipt": first, "outcome": "waiting"}
            ready = http.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (200, "spooling")
            assert ready.json()["spool"] == {"waiting": 2, "damages": 0}
        answer = entered(http, key, first)
        assert counts(answer) == (2, 1, 0, 1)
        results = answer["results"]
        assert isinstance(results, list)
        assert [one["outcome"] for one in results] == ["accepted", "accepted", "rejected", "duplicate"]
        assert results[2]["reason"].startswith("is not JSON")
        assert counts(entered(http, key, second)) == (0, 0, 1, 0), "what came first counts"


def test_what_waits_outlives_the_process_and_is_entered_once(
    spooling: Settings, key: str, postgres_url: str, database_url: str, engine: sa.Engine
) -> None:
    with serving(spooling) as http:
        post(http, key, lines("before"))
        with database_away(postgres_url, database_url):
            receipts = [spooled(http, key, lines(str(n), "shared")) for n in range(3)]
            time.sleep(0.1)
            segments = {path: path.read_bytes() for path in (spooling.meterbook_spool_dir or Path()).glob("0/*.seg")}
        for receipt in receipts:
            entered(http, key, receipt)
    for path, content in segments.items():
        path.write_bytes(content)  # as if the process had died after the commit and before it forgot them
    with serving(spooling) as http:
        answers = [entered(http, key, receipt) for receipt in receipts]
        deadline = time.monotonic() + 20
        while http.get("/readyz").json()["spool"]["waiting"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert [counts(answer) for answer in answers] == [(2, 0, 0, 0), (1, 1, 0, 0), (1, 1, 0, 0)]
    with engine.begin() as connection:
        stored = connection.execute(sa.select(sa.func.count()).select_from(schema.usage_event)).scalar_one()
        doors = connection.execute(sa.select(schema.usage_batch.c.door, schema.usage_batch.c.accepted)).all()
    assert stored == 5  # before, 0, 1, 2, shared
    assert sum(accepted for door, accepted in doors if door == "spool") == 4


def test_a_server_that_starts_while_the_database_is_away_takes_usage_of_the_keys_it_knew(
    spooling: Settings, key: str, postgres_url: str, database_url: str
) -> None:
    with serving(spooling) as http:
        post(http, key, lines("before"))
    with database_away(postgres_url, database_url), serving(spooling) as http:
        spooled(http, key, lines("1"))
        stranger = post(http, "mbk_unknown", lines("2"))
        assert (stranger.status_code, stranger.headers["retry-after"]) == (503, "2")
        assert "was not seen" in stranger.json()["detail"]


def test_a_full_spool_sends_away_and_keeps_what_it_has(
    spooling: Settings, key: str, postgres_url: str, database_url: str
) -> None:
    large = json.dumps([event(f"large-{n}", properties={"tokens": 1, "note": "x" * 1000}) for n in range(700)])
    with serving(spooling) as http:
        post(http, key, lines("before"))
        with database_away(postgres_url, database_url):
            receipt = spooled(http, key, lines("1"))
            first, second = (post(http, key, large, kind="application/json") for _ in range(2))
            assert (first.status_code, second.status_code) == (202, 503)  # 0.8 MB fit into 1 MB once
            assert (second.headers["retry-after"], "full" in second.json()["detail"]) == ("2", True)
        assert counts(entered(http, key, receipt)) == (1, 0, 0, 0)


def test_a_receipt_that_nobody_got_is_not_found(spooling: Settings, key: str) -> None:
    with serving(spooling) as http:
        answer = receipt_of(http, key, "rcp_0-1-" + "a" * 32)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
