"""Credits over HTTP: granted, voided, moved, and read, with the refusals in the API's own form."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.api_keys import create_api_key
from ledger.contracts import create_contract, end_contract
from ledger.customers import Customer, create_customer
from ledger.entities import Entity, create_entity
from ledger.files.contracts import parse_contract
from ledger.metrics import create_metric
from tests.admin.conftest import CONTRACT
from tests.admin.sending import lines, post
from tests.metrics import metric

PATH = "/v1/contracts/acme-payg/credits"


@pytest.fixture
def client(engine: sa.Engine, http: httpx.Client) -> httpx.Client:
    """A client that sends the key of `ops`; acme used 300 tokens at 0.01 under the contract acme-payg."""
    with engine.begin() as connection:
        create_entity(connection, Entity("nordlicht", "Nordlicht", "EUR", "Europe/Berlin", "NL"))
        create_customer(connection, Customer("acme", "Acme"))
        create_metric(connection, metric("tokens", "llm.request", "sum", "tokens"))
        create_contract(connection, parse_contract(CONTRACT, start="2026-01-01"), by="test")
        key = create_api_key(connection, "ops")[1]
    post(http, key, lines("a", "b", "c"))
    http.headers["authorization"] = f"Bearer {key}"
    return http


def grant(client: httpx.Client, **changed: object) -> httpx.Response:
    wanted = {
        "credit_id": "gift", "name": "Welcome", "amount": "2.50", "start": "2026-01-01T00:00:00+01:00",
        "end": "2099-01-01T00:00:00Z", "products": ["tokens"], "reason": "a welcome",
    }  # fmt: skip
    return client.post(PATH, json={**wanted, **changed})


def test_a_granted_credit_pays_and_is_told_with_its_entries(client: httpx.Client, engine: sa.Engine) -> None:
    lot = grant(client)
    assert lot.status_code == 200, lot.text
    assert (lot.json()["lot_id"], lot.json()["left"], lot.json()["granted_by"]) == (
        "acme-payg.gift", "2.5", "API key ops",
    )  # fmt: skip
    assert grant(client).json() == lot.json()
    with engine.begin() as connection:
        accrue(connection, "acme-payg", as_of=datetime.now(UTC))
    balance = client.get(PATH).json()
    # 300 x 0.01 = 3.00, of which the credit pays all it has
    assert (balance["granted"], balance["drawn"], balance["left"], balance["available"]) == ("2.5", "2.5", "0", "0")
    page = client.get(f"{PATH}/ledger", params={"limit": 1}).json()
    rest = client.get(f"{PATH}/ledger", params={"after": page["after"]}).json()
    kinds = [(entry["kind"], entry["product_id"], entry["balance"]) for entry in (*page["entries"], *rest["entries"])]
    assert kinds == [("granted", None, "2.5"), ("drawn", "tokens", "0")]
    burning = client.get(f"{PATH}/burn-down").json()
    assert (burning["days"][-1]["balance"], burning["available"]) == ("0", "0")


def test_a_credit_is_moved_and_voided(client: httpx.Client) -> None:
    grant(client)
    moved = client.post(f"{PATH}/gift/expiry", json={"end": "2098-01-01T00:00:00Z", "reason": "as agreed"})
    assert (moved.status_code, moved.json()["end_at"]) == (200, "2098-01-01T00:00:00Z")
    void = client.post(f"{PATH}/gift/void", json={"reason": "fraud"})
    now = datetime.now(UTC)
    assert now <= datetime.fromisoformat(void.json()["end_at"]) <= now + timedelta(hours=1)
    assert [(one["kind"], one["reason"], one["changed_by"]) for one in void.json()["changes"]] == [
        ("expiry", "as agreed", "API key ops"),
        ("void", "fraud", "API key ops"),
    ]
    assert client.post(f"{PATH}/gift/void", json={"reason": "fraud"}).json()["changes"] == void.json()["changes"]


def test_what_cannot_be_is_answered_as_a_problem(client: httpx.Client) -> None:
    grant(client)
    later = {"end": "2098-01-01T00:00:00Z", "reason": "goodwill"}
    for answer, status, told in (
        (grant(client, amount="3"), 409, "exists with other content; these differ: amount"),
        (grant(client, credit_id="zero", amount="0"), 400, "must be a number above zero"),
        (grant(client, credit_id="less", amount="-1"), 422, "amount"),
        (grant(client, credit_id="none", products=["tokns"]), 400, "is no product of the contract then"),
        (grant(client, credit_id="naive", start="2026-01-01T00:00:00"), 422, "start"),
        (grant(client, credit_id="far", end="9999-12-31T23:00:00-14:00"), 400, "must lie in the years"),
        (client.post(f"{PATH}/gone/void", json={"reason": "fraud"}), 404, "lot acme-payg.gone does not exist"),
        (client.post(f"{PATH}/gift/void", json={}), 422, "reason"),
        (client.post(f"{PATH}/gift/expiry", json={**later, "end": "2026-01-02T00:00:00Z"}), 400, "is in the past"),
        (client.get("/v1/contracts/nobody/credits"), 404, "contract nobody does not exist"),
        (client.get(f"{PATH}/ledger", params={"after": "x"}), 400, "is no entry"),
    ):
        assert (answer.status_code, told in answer.json()["detail"]) == (status, True), answer.text
    client.headers.pop("authorization")
    assert client.get(PATH).status_code == 401


# --- scopes and approvals -----------------------------------------------------------------------------------------

LIMITED = CONTRACT.replace("acme-payg", "big").replace("unit: token", "unit: token\n    group_by: [model]")
REQUESTS = "/v1/credit-requests"


@pytest.fixture
def second(client: httpx.Client, engine: sa.Engine) -> dict[str, str]:  # noqa: ARG001 - acme-payg comes first
    """The header of another key; the contract big follows acme-payg, and its credits above 10.00 wait."""
    with engine.begin() as connection:
        end_contract(connection, "acme-payg", end_at=datetime(2026, 1, 31, 23, tzinfo=UTC), by="test", reason="big now")
        text = LIMITED + "credit_approval_above: 10\n"
        create_contract(connection, parse_contract(text, start="2026-02-01"), by="test")
        return {"authorization": f"Bearer {create_api_key(connection, 'boss')[1]}"}


def grant_big(client: httpx.Client, **changed: object) -> httpx.Response:
    wanted = {
        "credit_id": "gift", "name": "Welcome", "amount": "20", "start": "2026-02-01T00:00:00+01:00",
        "groups": {"model": "large"}, "reason": "a welcome",
    }  # fmt: skip
    return client.post("/v1/contracts/big/credits", json={**wanted, **changed})


def test_a_credit_above_the_limit_waits_until_another_key_approves_it(
    client: httpx.Client, second: dict[str, str]
) -> None:
    asked = grant_big(client)
    assert (asked.status_code, asked.json()["request_id"]) == (202, "big.gift:grant-1")
    assert grant_big(client).json() == asked.json()
    assert client.get(REQUESTS, params={"contract": "big", "open": True}).json() == {"requests": [asked.json()]}
    place = f"{REQUESTS}/big.gift:grant-1"
    assert client.get(place).json() == asked.json()
    own = client.post(f"{place}/approve", json={"reason": "mine"})
    assert (own.status_code, "another person must decide" in own.json()["detail"]) == (409, True)
    approved = client.post(f"{place}/approve", json={"reason": "agreed"}, headers=second)
    assert (approved.status_code, approved.json()["decided_by"]) == (200, "API key boss")
    lot = grant_big(client)
    assert (lot.status_code, lot.json()["groups"], lot.json()["granted_by"]) == (200, {"model": "large"}, "API key ops")
    refused = client.post(f"{place}/reject", json={"reason": "no"}, headers=second)
    assert (refused.status_code, "was approved by API key boss" in refused.json()["detail"]) == (409, True)
    assert client.get(REQUESTS, params={"open": True}).json() == {"requests": []}


def test_a_void_and_another_end_above_the_limit_wait_for_another_key(
    client: httpx.Client, second: dict[str, str]
) -> None:
    grant_big(client)
    client.post(f"{REQUESTS}/big.gift:grant-1/approve", json={"reason": "agreed"}, headers=second)
    void = client.post("/v1/contracts/big/credits/gift/void", json={"reason": "fraud"})
    assert (void.status_code, void.json()["kind"], void.json()["amount"]) == (202, "void", "20")
    later = {"end": "2098-01-01T00:00:00Z", "reason": "as agreed"}
    moved = client.post("/v1/contracts/big/credits/gift/expiry", json=later)
    assert (moved.status_code, moved.json()["content"]) == (202, {"end": "2098-01-01T00:00:00Z"})
    decided = client.post(f"{REQUESTS}/big.gift:void-1/reject", json={"reason": "no fraud"}, headers=second)
    assert (decided.status_code, decided.json()["decision"]) == (200, "rejected")
    client.post(f"{REQUESTS}/big.gift:expiry-1/approve", json={"reason": "agreed"}, headers=second)
    [lot] = client.get("/v1/contracts/big/credits").json()["lots"]
    assert (lot["state"], lot["end_at"]) == ("in force", "2098-01-01T00:00:00Z")


def test_requests_that_cannot_be_are_answered_as_problems(client: httpx.Client, second: dict[str, str]) -> None:
    for answer, status, told in (
        (client.get(f"{REQUESTS}/big.gift:grant-1"), 404, "request big.gift:grant-1 does not exist"),
        (client.get(REQUESTS, params={"contract": "nobody"}), 404, "contract nobody does not exist"),
        (client.post(f"{REQUESTS}/x/approve", json={"reason": "y"}, headers=second), 404, "request x does not exist"),
        (client.post(f"{REQUESTS}/x/approve", json={}, headers=second), 422, "reason"),
        (grant_big(client, groups={"region": "eu"}), 400, "names region, and none of the usage products in scope"),
        (grant_big(client, groups={"model": ""}), 422, "groups"),
    ):
        assert (answer.status_code, told in answer.json()["detail"]) == (status, True), answer.text
