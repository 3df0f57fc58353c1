"""Facts over HTTP, by pages and as a stream that can be taken up again; and the endpoints that hear of them."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from activities.settings import Settings
from ledger.api_keys import create_api_key
from ledger.outbox import put_out
from tests.admin.conftest import Meterbook, serving

HOOK = "http://127.0.0.1:9/hook"


def fact(engine: sa.Engine, key: str, kind: str = "alert.raised") -> None:
    with engine.begin() as connection:
        put_out(connection, key=key, kind=kind, contract_id=None, payload={"key": key})


@pytest.fixture
def client(server_settings: Settings, engine: sa.Engine) -> Iterator[httpx.Client]:
    """A client with a key, of a server that may post to this machine and has a mail server."""
    with engine.begin() as connection:
        key = create_api_key(connection, "test")[1]
    chosen = server_settings.model_copy(
        update={
            "meterbook_webhook_allow_private": True,
            "meterbook_smtp_url": SecretStr("smtp://127.0.0.1:9"),
            "meterbook_mail_from": "meterbook@example.com",
        }
    )
    with serving(chosen) as found:
        found.headers["authorization"] = f"Bearer {key}"
        yield found


def events(lines: Iterator[str], count: int) -> list[dict[str, Any]]:
    """The next facts of a stream, each with the `id` and `event` that it came under."""
    found: list[dict[str, Any]] = []
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        fields[name] = value
        if not line:
            if "data" in fields:
                found.append(json.loads(fields["data"]) | {"id": fields["id"], "event": fields["event"]})
            fields = {}
        if len(found) == count:
            return found
    raise AssertionError(f"the stream ended after {found}")


def test_facts_are_listed_by_pages(client: httpx.Client, engine: sa.Engine) -> None:
    for n in range(1, 4):
        fact(engine, f"{n}", "odd" if n % 2 else "even")
    first = client.get("/v1/facts", params={"limit": 2}).json()
    assert ([found["data"]["key"] for found in first["facts"]], first["has_more"]) == (["1", "2"], True)
    rest = client.get("/v1/facts", params={"after": first["next_after"]}).json()
    assert ([found["data"]["key"] for found in rest["facts"]], rest["has_more"]) == (["3"], False)
    even = client.get("/v1/facts", params={"kind": ["even", "none"]}).json()
    assert [found["kind"] for found in even["facts"]] == ["even"]
    assert client.get("/v1/facts", params={"contract": "none"}).status_code == 404
    assert client.get("/v1/facts", headers={"authorization": "none"}).status_code == 401


def test_a_stream_tells_what_happens_and_is_taken_up_again_after_the_last_fact(
    client: httpx.Client, engine: sa.Engine
) -> None:
    fact(engine, "before")
    with client.stream("GET", "/v1/facts/stream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert next(lines) == "id: 1"
        fact(engine, "one")
        [one] = events(lines, 1)
        assert (one["data"], one["event"], one["id"]) == ({"key": "one"}, "alert.raised", str(one["sequence"]))
        with engine.connect() as late:
            put_out(late, key="late", kind="alert.raised", contract_id=None, payload={"key": "late"})
            fact(engine, "two")
            late.commit()
        assert [found["data"]["key"] for found in events(lines, 2)] == ["late", "two"]
    again = {"last-event-id": one["id"]}
    with client.stream("GET", "/v1/facts/stream", params={"after": 0}, headers=again) as stream:
        assert [found["data"]["key"] for found in events(stream.iter_lines(), 2)] == ["late", "two"]
    fact(engine, "other", "credit.drawn")
    with client.stream("GET", "/v1/facts/stream", params={"after": 0, "kind": "credit.drawn"}) as stream:
        assert [found["data"]["key"] for found in events(stream.iter_lines(), 1)] == ["other"]
    assert client.get("/v1/facts/stream", params={"contract": "none"}).status_code == 404
    assert client.get("/v1/facts/stream", headers={"last-event-id": "x"}).status_code == 422


def test_endpoints_are_made_and_changed_over_http(client: httpx.Client, engine: sa.Engine) -> None:
    wanted = {"endpoint_id": "pager", "url": HOOK, "kinds": ["alert.raised"]}
    made = client.post("/v1/webhook-endpoints", json=wanted).json()
    assert made["secret"].startswith("whsec_")
    assert client.post("/v1/webhook-endpoints", json=wanted).json() == {"endpoint": made["endpoint"], "secret": None}
    assert client.post("/v1/webhook-endpoints", json=wanted | {"channel": "slack"}).status_code == 409
    fact(engine, "one")
    path = "/v1/webhook-endpoints/pager"
    assert client.post(f"{path}/pause").json()["state"] == "paused"
    assert client.post(f"{path}/resume").json()["messages"] == 1
    assert client.post(f"{path}/rotate").json()["secret"] != made["secret"]
    assert client.post(f"{path}/replay", json={"from_sequence": 1}).json()["messages"] == 1
    [heard] = client.get(f"{path}/deliveries", params={"state": "pending"}).json()
    assert (heard["kind"], heard["attempts"]) == ("alert.raised", 0)
    assert client.post(f"{path}/remove").json()["messages"] == 1
    assert client.post(f"{path}/resume").status_code == 409
    assert client.post("/v1/webhook-endpoints/none/pause").status_code == 404
    assert client.get("/v1/webhook-endpoints").json() == []


def test_the_path_of_a_slack_url_is_shown_to_nobody_and_people_have_no_secret(client: httpx.Client) -> None:
    slack = {"endpoint_id": "ops", "url": "http://127.0.0.1:9/services/T0/B0/hush", "channel": "slack"}
    mail = {"endpoint_id": "finance", "url": "mailto:finance@example.com", "channel": "email"}
    for wanted in (slack, mail):
        assert client.post("/v1/webhook-endpoints", json=wanted).json()["secret"] is None
    listed = client.get("/v1/webhook-endpoints")
    assert [found["url"] for found in listed.json()] == ["mailto:finance@example.com", "http://127.0.0.1:9/..."]
    assert "hush" not in client.post("/v1/webhook-endpoints", json=slack | {"kinds": ["other"]}).text
    assert client.post("/v1/webhook-endpoints/ops/rotate").status_code == 409
    for url in ("finance@example.com", "mailto:a@example.com?cc=b@example.com", "mailto:a@example.com,b@example.com"):
        assert client.post("/v1/webhook-endpoints", json=mail | {"url": url}).status_code == 400


def test_without_a_mail_server_no_endpoint_goes_by_e_mail(meterbook: Meterbook) -> None:
    refused = meterbook("webhook", "create", "finance", "mailto:finance@example.com", "--channel", "email")
    assert (refused.code, "set METERBOOK_SMTP_URL" in refused.err) == (1, True)
    assert meterbook("webhook", "list", "--json").content == []
