"""Gates and holds over HTTP, as a gateway uses them: ask, reserve, do the work, capture it with its usage."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.api_keys import create_api_key, list_api_keys, revoke_api_key
from ledger.contracts import create_contract, get_contract
from ledger.customers import Customer, create_customer
from ledger.entities import Entity, create_entity
from ledger.features import Feature, create_feature, grant_feature
from ledger.files.contracts import parse_contract
from ledger.gates import project_gates
from ledger.holds import list_holds
from ledger.metrics import create_metric
from tests.admin.conftest import CONTRACT
from tests.metrics import metric

COMMIT = '\ncommits: [{id: prepaid, name: Prepaid, amount: "10.00", start: 2026-01-01}]\n'


@pytest.fixture
def client(engine: sa.Engine, http: httpx.Client) -> httpx.Client:
    """A client with a key; acme has 10.00 for writing at 0.01 a token."""
    with engine.begin() as connection:
        create_entity(connection, Entity("nordlicht", "Nordlicht", "EUR", "Europe/Berlin", "NL"))
        create_customer(connection, Customer("acme", "Acme"))
        create_metric(connection, metric("tokens", "llm.request", "sum", "tokens"))
        create_contract(connection, parse_contract(CONTRACT + COMMIT, start="2026-01-01"), by="test")
        create_feature(connection, Feature("writing", "Writing", "balance", ("tokens",)))
        create_feature(connection, Feature("export", "Export", "boolean"))
        grant_feature(connection, "acme-payg", "writing", by="test", at=datetime.now(UTC))
        key = create_api_key(connection, "gateway")[1]
    http.headers["authorization"] = f"Bearer {key}"
    return http


def ask(client: httpx.Client, feature_id: str = "writing", **estimate: str) -> Any:  # noqa: ANN401 - JSON
    asked = {"customer_id": "acme", "feature_id": feature_id, **estimate}
    return client.post("/v1/gate", json=asked).raise_for_status().json()


def wanted(hold_id: str = "h1", **figure: str) -> dict[str, str]:
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=10)
    return {
        "hold_id": hold_id, "customer_id": "acme", "feature_id": "writing", "expires_at": expires_at.isoformat(),
        **figure,
    }  # fmt: skip


def event(key: str, tokens: object) -> dict[str, object]:
    return {
        "source": "gateway",
        "key": key,
        "customer": "acme",
        "type": "llm.request",
        "timestamp": datetime.now(UTC).isoformat(),
        "properties": {"tokens": tokens},
    }


def test_a_gateway_asks_reserves_and_captures(client: httpx.Client, engine: sa.Engine) -> None:
    answer = ask(client, units="1000")
    assert (answer["allowed"], answer["reason"], answer["left_amount"]) == (True, None, "10")
    held = client.post("/v1/holds", json=wanted(units="600")).raise_for_status().json()
    assert (held["state"], held["amount"]) == ("held", "6")
    assert ask(client, units="401")["reason"] == "balance_spent"
    usage = event("a", 500)
    for outcome in ("accepted", "duplicate"):
        captured = client.post("/v1/holds/h1/capture", json={"event": usage}).raise_for_status().json()
        assert (captured["outcome"], captured["hold"]["used_amount"]) == (outcome, "5")
    assert ask(client)["left_amount"] == "5"
    with engine.begin() as connection:
        now = datetime.now(UTC)
        accrue(connection, "acme-payg", as_of=now)
        project_gates(connection, get_contract(connection, "acme-payg"), as_of=now)
    assert ask(client)["left_amount"] == "5"
    assert client.get("/v1/holds/h1").json()["state"] == "accrued"


def test_a_hold_that_does_not_fit_is_refused_and_one_that_is_released_makes_room(client: httpx.Client) -> None:
    made = wanted(amount="10")
    assert client.post("/v1/holds", json=made).status_code == 200
    assert client.post("/v1/holds", json=made).status_code == 200  # the same again
    refused = client.post("/v1/holds", json=wanted("h2", amount="0.01"))
    assert refused.status_code == 409
    assert "balance_spent, left amount 0; hold less, or top up" in refused.json()["detail"]
    assert client.post("/v1/holds/h1/release").json()["state"] == "released"
    assert client.post("/v1/holds", json=wanted("h2", amount="0.01")).status_code == 200
    assert client.post("/v1/holds/h1/capture", json={"event": event("a", 1)}).status_code == 409


def test_many_gates_are_answered_in_the_order_of_the_checks(client: httpx.Client) -> None:
    checks = [
        {"customer_id": "acme", "feature_id": "writing", "amount": "10"},
        {"customer_id": "acme", "feature_id": "export"},
        {"customer_id": "nobody", "feature_id": "writing"},
        {"customer_id": "acme", "feature_id": "writing", "amount": "10.01"},
    ]
    answers = client.post("/v1/gates", json={"checks": checks}).raise_for_status().json()["answers"]
    assert [answer["reason"] for answer in answers] == [None, "no_feature", "no_feature", "balance_spent"]


def test_usage_above_the_hold_is_taken_where_that_is_asked_and_read_exactly(client: httpx.Client) -> None:
    client.post("/v1/holds", json=wanted(amount="1")).raise_for_status()
    more = '{"event": %s, "excess": "%s"}'
    usage = str(event("a", "EXACT")).replace("'EXACT'", "100.0000000001").replace("'", '"')
    headers = {"content-type": "application/json"}
    refused = client.post("/v1/holds/h1/capture", content=more % (usage, "refuse"), headers=headers)
    assert refused.status_code == 409
    assert "holds an amount of 1 and the event uses 1.000000000001" in refused.json()["detail"]
    taken = client.post("/v1/holds/h1/capture", content=more % (usage, "take"), headers=headers)
    assert Decimal(taken.raise_for_status().json()["hold"]["used_amount"]) == Decimal("1.000000000001")


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/gate", {"customer_id": "acme", "feature_id": "writing", "units": "0"}, 400, "units 0 must be above 0"),
        ("/v1/gate", {"customer_id": "acme", "feature_id": "writing", "units": 1.5}, 422, "units"),
        ("/v1/gate", {"customer_id": "acme"}, 422, "feature_id: Field required"),
        ("/v1/gates", {"checks": []}, 422, "checks"),
        ("/v1/holds", wanted(), 400, "give exactly one of them"),
        ("/v1/holds", wanted("a/b", amount="1"), 422, "hold_id"),
        ("/v1/holds/none/capture", {"event": event("a", 1)}, 404, "hold none does not exist"),
        ("/v1/holds/none/capture", {"event": {"key": "a"}}, 400, "event: source"),
        ("/v1/holds/none/capture", {}, 422, "event: Field required"),
        ("/v1/holds/none/release", None, 404, "hold none does not exist"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(
    client: httpx.Client, path: str, body: object, status: int, words: str
) -> None:
    answer = client.post(path, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/gate", "/v1/gates", "/v1/holds", "/v1/holds/h1/capture", "/v1/holds/h1/release"])
def test_nothing_is_answered_without_a_key(http: httpx.Client, path: str) -> None:
    assert http.post(path, json={}).status_code == 401


def test_a_key_that_was_revoked_asks_and_holds_nothing(client: httpx.Client, engine: sa.Engine) -> None:
    ask(client)
    with engine.begin() as connection:
        [key] = list_api_keys(connection)
        revoke_api_key(connection, key.api_key_id, at=datetime.now(UTC))
    check = {"customer_id": "acme", "feature_id": "writing"}
    for path, body in (("/v1/gate", check), ("/v1/gates", {"checks": [check]}), ("/v1/holds", wanted(amount="1"))):
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    with engine.begin() as connection:
        assert list_holds(connection) == ()
