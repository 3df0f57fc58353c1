"""The HTTP API: keys, events one by one, limits, and servers that are away."""

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa

from activities.settings import Settings
from ledger import schema
from ledger.api_keys import create_api_key, revoke_api_key
from ledger.contracts import create_contract
from ledger.customers import Customer, create_customer
from ledger.entities import Entity, create_entity
from ledger.files.contracts import parse_contract
from ledger.intake.events import MAX_BATCH_BYTES
from ledger.metrics import create_metric
from tests.admin.conftest import CONTRACT, NOWHERE, serving
from tests.admin.sending import JSON, NDJSON, counts, event, post
from tests.metrics import metric


@pytest.fixture
def key(engine: sa.Engine) -> str:
    """The secret of an API key."""
    with engine.begin() as connection:
        return create_api_key(connection, "test")[1]


@pytest.fixture
def contract(engine: sa.Engine) -> str:
    """A contract that prices tokens, started in 2026."""
    with engine.begin() as connection:
        create_entity(connection, Entity("nordlicht", "Nordlicht", "EUR", "Europe/Berlin", "NL"))
        create_customer(connection, Customer("acme", "Acme"))
        create_metric(connection, metric("tokens", "llm.request", "sum", "tokens"))
        create_contract(connection, parse_contract(CONTRACT, start="2026-01-01"), by="test")
    return "acme-payg"


def line(**changed: object) -> str:
    return json.dumps(event("bad", **changed))


BAD = [
    ("a broken line", '{"source": "test", "key": ', "event"),
    ("not an object", "[1, 2]", "event"),
    ("NaN", line().replace("100", "NaN"), "event"),
    ("infinity", line().replace("100", "Infinity"), "event"),
    ("too many digits", line().replace("100", "1" * 40), "properties.tokens"),
    ("no number where one is summed", line(properties={"tokens": "many"}), "properties.tokens"),
    ("a naive timestamp", line(timestamp="2026-10-05T12:30:00"), "timestamp"),
    ("a day that is none", line(timestamp="2026-02-30T00:00:00Z"), "timestamp"),
    ("far ahead", line(timestamp=(datetime.now(UTC) + timedelta(hours=25)).isoformat()), "timestamp"),
    ("no key", line(key=None), "key"),
    ("an over-long key", line(key="k" * 300), "key"),
    ("a number for a text", line(customer=7), "customer"),
    ("an unknown field", line(colour="red"), "colour"),
    ("an over-long value", line(properties={"tokens": 1, "note": "x" * 5000}), "properties.note"),
    ("nested properties", line(properties={"tokens": {"n": 1}}), "properties.tokens"),
]


@pytest.mark.usefixtures("contract")
def test_every_bad_event_is_refused_by_its_field_and_its_neighbours_are_accepted(http: httpx.Client, key: str) -> None:
    lines = [json.dumps(event("first"))]
    for number, (_, bad, _) in enumerate(BAD):
        lines += [bad, json.dumps(event(f"good-{number}"))]
    response = post(http, key, "\n".join(lines))
    assert response.status_code == 200
    answer = response.json()
    assert counts(answer) == (1 + len(BAD), 0, 0, len(BAD))  # one good event before, and one after each bad one
    for number, ((what, _, field), result) in enumerate(zip(BAD, answer["results"], strict=True)):
        assert (result["outcome"], result["index"]) == ("rejected", 2 * number + 1), what
        assert field in result["field"], what
        assert result["reason"], what


@pytest.mark.usefixtures("contract")
def test_sending_again_is_duplicate_and_other_content_is_conflict(http: httpx.Client, key: str) -> None:
    body = json.dumps([event("1"), event("2")])
    assert counts(post(http, key, body, kind=JSON).json()) == (2, 0, 0, 0)
    again = post(http, key, body, kind=JSON, query="?detail=all").json()
    assert counts(again) == (0, 2, 0, 0)
    assert [result["outcome"] for result in again["results"]] == ["duplicate", "duplicate"]
    changed = post(http, key, json.dumps(event("1", properties={"tokens": 101}))).json()
    assert counts(changed) == (0, 0, 1, 0)


@pytest.mark.usefixtures("contract")
def test_only_what_was_not_accepted_is_listed_unless_all_is_asked_for(http: httpx.Client, key: str) -> None:
    assert post(http, key, json.dumps(event("1"))).json()["results"] == []
    listed = post(http, key, json.dumps(event("2")), query="?detail=all").json()["results"]
    assert [(one["key"], one["outcome"]) for one in listed] == [("2", "accepted")]


def test_without_a_key_that_works_nothing_is_read(http: httpx.Client, key: str, engine: sa.Engine) -> None:
    assert http.post("/v1/usage", content="[]").status_code == 401
    assert http.get("/v1/contracts/x/spend", headers={"authorization": "Basic abc"}).status_code == 401
    refused = post(http, "mbk_wrong", "[]", kind=JSON)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert post(http, key, "[]", kind=JSON).status_code == 200
    with engine.begin() as connection:
        key_id = connection.execute(sa.select(schema.api_key.c.api_key_id)).scalar_one()
        revoke_api_key(connection, key_id, at=datetime.now(UTC))
    assert "revoked" in post(http, key, "[]", kind=JSON).json()["detail"]


def test_a_body_that_is_too_large_or_no_events_at_all_is_refused(http: httpx.Client, key: str) -> None:
    assert post(http, key, b" " * (MAX_BATCH_BYTES + 1)).status_code == 413
    assert post(http, key, '{"a": 1}', kind=JSON).status_code == 400
    assert post(http, key, "[1", kind=JSON).status_code == 400
    assert post(http, key, "x", kind="text/csv").status_code == 415
    assert post(http, key, "[]", kind=JSON, query="?detail=some").status_code == 422


def test_a_body_without_a_length_is_stopped_as_soon_as_it_is_too_large(http: httpx.Client, key: str) -> None:
    pieces = (b" " * 1024 * 1024 for _ in range(17))  # one more than the 16 MB that a body may have
    headers = {"authorization": f"Bearer {key}", "content-type": NDJSON}
    assert http.post("/v1/usage", content=pieces, headers=headers).status_code == 413


def test_the_spend_is_what_is_posted(http: httpx.Client, key: str, contract: str) -> None:
    headers = {"authorization": f"Bearer {key}"}
    spend = http.get(f"/v1/contracts/{contract}/spend", headers=headers).json()
    assert (spend["currency"], spend["total"], spend["products"]) == ("EUR", "0", [])
    missing = http.get("/v1/contracts/nobody/spend", headers=headers)
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")


def test_without_the_database_usage_is_answered_with_503_and_a_time_to_come_back() -> None:
    away = Settings(database_url="postgresql://postgres@127.0.0.1:1/x", temporal_address=NOWHERE)
    with serving(away) as client:
        refused = post(client, "mbk_x", "[]")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").json()["database"] == "away"
        assert client.get("/readyz").status_code == 503


@pytest.mark.usefixtures("contract")
def test_without_temporal_usage_is_accepted_and_the_server_stays_ready(http: httpx.Client, key: str) -> None:
    assert counts(post(http, key, json.dumps(event("1"))).json()) == (1, 0, 0, 0)
    ready = http.get("/readyz")
    assert (ready.status_code, ready.json()["temporal"]) == (200, "away")


def test_the_documentation_page_shows_an_event(http: httpx.Client) -> None:
    assert http.get("/docs").status_code == 200
    described = http.get("/openapi.json").json()
    body = described["paths"]["/v1/usage"]["post"]["requestBody"]["content"]
    assert body["application/json"]["example"][0]["key"] == "req-8c1f"
    assert http.get("/nothing").json()["status"] == 404


def signed(body: bytes, secret: str = "whsec_test") -> dict[str, str]:  # noqa: S107 - the secret of these tests
    at = int(time.time())
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {"stripe-signature": f"t={at},v1={digest}"}


def test_a_webhook_is_stored_once_and_only_with_the_right_signature(http: httpx.Client, engine: sa.Engine) -> None:
    body = json.dumps(
        {"id": "evt_1", "object": "event", "type": "charge.succeeded",
         "data": {"object": {"id": "ch_1", "payment_intent": "pi_unknown"}}}
    ).encode()  # fmt: skip
    assert http.post("/v1/stripe/webhook", content=body).status_code == 400
    assert http.post("/v1/stripe/webhook", content=body, headers=signed(body, "whsec_other")).status_code == 400
    first = http.post("/v1/stripe/webhook", content=body, headers=signed(body))
    again = http.post("/v1/stripe/webhook", content=body, headers=signed(body))
    assert (first.status_code, first.json()["new"], again.status_code, again.json()["new"]) == (200, True, 200, False)
    with engine.begin() as connection:
        stored = connection.execute(sa.select(schema.stripe_event.c.event_id, schema.stripe_event.c.object_id)).all()
    assert [tuple(row) for row in stored] == [("evt_1", "ch_1")]
