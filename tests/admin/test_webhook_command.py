"""`meterbook webhook`: endpoints made, paused, rotated, replayed and removed; and a receiver for the desk."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest
import sqlalchemy as sa

from admin.connections import settings
from admin.webhook_listening import Heard, listening
from ledger.errors import InvalidError
from ledger.outbox import put_out
from ledger.webhook_signatures import headers_of, new_secret
from ledger.webhooks import Attempt, record_attempt, signing_secrets
from tests.admin.conftest import Meterbook

URL = "http://127.0.0.1:8099/hook"
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def private(environment: pytest.MonkeyPatch) -> None:
    """Webhooks may go to this machine."""
    environment.setenv("METERBOOK_WEBHOOK_ALLOW_PRIVATE", "true")
    settings.cache_clear()


def fact(engine: sa.Engine, key: str, kind: str = "alert.raised") -> None:
    with engine.begin() as connection:
        put_out(connection, key=key, kind=kind, contract_id=None, payload={"key": key})


@pytest.mark.usefixtures("private")
def test_an_endpoint_shows_its_secret_once_also_while_temporal_is_away(meterbook: Meterbook, engine: sa.Engine) -> None:
    made = meterbook("webhook", "create", "pager", URL, "--kind", "alert.raised", "--json")
    assert made.code == 0, made.err
    secret = made.content["secret"]
    assert made.content == {"endpoint_id": "pager", "outcome": "created", "secret": secret}
    assert "messages go out when Temporal is back" in made.err
    with engine.begin() as connection:
        assert signing_secrets(connection, "pager", at=LATER) == (secret,)
    again = meterbook("webhook", "create", "pager", URL, "--kind", "alert.raised")
    assert "exists already" in again.out
    other = meterbook("webhook", "create", "pager", URL)
    assert (other.code, "exists with url" in other.err) == (1, True)
    listed = meterbook("webhook", "list")
    assert "pager" in listed.out
    assert "whsec_" not in listed.out + meterbook("webhook", "list", "--json").out


def test_a_private_target_is_refused_and_nothing_is_recorded(meterbook: Meterbook) -> None:
    for url in (URL, "https://localhost/", "https://[::1]/", "https://169.254.169.254/latest"):
        refused = meterbook("webhook", "create", "pager", url)
        assert refused.code == 1
        assert "METERBOOK_WEBHOOK_ALLOW_PRIVATE=true" in refused.err
    nowhere = meterbook("webhook", "create", "pager", "https://hooks.invalid/")
    assert (nowhere.code, "leads to no address" in nowhere.err) == (1, True)
    assert meterbook("webhook", "list", "--json").content == []
    assert "no endpoint is made yet" in meterbook("webhook", "list").out


@pytest.mark.usefixtures("private")
def test_what_an_endpoint_heard_is_listed_and_sent_again(meterbook: Meterbook, engine: sa.Engine) -> None:
    meterbook("webhook", "create", "pager", URL)
    fact(engine, "one")
    fact(engine, "two", "credit.drawn")
    with engine.begin() as connection:
        record_attempt(connection, "pager", 1, Attempt(200, "200 OK"), at=datetime.now(UTC))
        record_attempt(connection, "pager", 2, Attempt(500, "500 Internal Server Error"), at=datetime.now(UTC))
    found = meterbook("webhook", "deliveries", "pager", "--json").content
    assert [(d["sequence"], d["kind"], d["state"], d["answered"]) for d in found] == [
        (2, "credit.drawn", "pending", "500 Internal Server Error"),
        (1, "alert.raised", "delivered", "200 OK"),
    ]
    assert "500 Internal Server Error" in meterbook("webhook", "deliveries", "pager", "--state", "pending").out
    assert "nothing dead is there" in meterbook("webhook", "deliveries", "pager", "--state", "dead").out
    assert "2 messages are sent again to endpoint pager" in meterbook("webhook", "replay", "pager", "--from", "1").out
    assert [d["attempts"] for d in meterbook("webhook", "deliveries", "pager", "--json").content] == [0, 0]


@pytest.mark.usefixtures("private")
def test_an_endpoint_is_paused_resumed_rotated_and_removed(meterbook: Meterbook, engine: sa.Engine) -> None:
    old = meterbook("webhook", "create", "pager", URL, "--json").content["secret"]
    assert "is paused" in meterbook("webhook", "pause", "pager").out
    fact(engine, "one")
    assert "once it is resumed" in meterbook("webhook", "replay", "pager", "--from", "1").out
    assert "1 messages wait" in meterbook("webhook", "resume", "pager").out
    new = meterbook("webhook", "rotate", "pager", "--json").content["secret"]
    with engine.begin() as connection:
        assert signing_secrets(connection, "pager", at=datetime.now(UTC)) == (new, old)
    assert "for 24 hours" in meterbook("webhook", "rotate", "pager").out
    assert "1 messages that waited" in meterbook("webhook", "remove", "pager").out
    gone = meterbook("webhook", "resume", "pager")
    assert (gone.code, "was removed" in gone.err) == (1, True)
    assert "does not exist" in meterbook("webhook", "rotate", "nobody").err


@contextmanager
def listened(secret: str) -> Iterator[tuple[str, list[Heard]]]:
    """The receiver of `listen`, with what it heard."""
    heard: list[Heard] = []
    with listening(0, secret, heard.append) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", heard
        finally:
            server.shutdown()
            thread.join()


def posted(url: str, headers: Mapping[str, str], body: bytes) -> int:
    with httpx.Client(trust_env=False, timeout=10) as client:
        return client.post(url, headers=headers, content=body).status_code


def test_the_receiver_takes_what_is_signed_and_refuses_the_rest() -> None:
    secret, body = new_secret(), b'{"type": "alert.raised"}'
    signed = headers_of("msg_1", body, [new_secret(), secret], at=datetime.now(UTC))
    with listened(secret) as (url, heard):
        assert posted(url, signed, body) == 204
        assert posted(url, signed, b"{}") == 400
        assert posted(url, {}, body) == 400
        assert posted(url, signed, bytes(1024 * 1024 + 1)) == 413
    assert [(message.message_id, message.problem is None) for message in heard] == [
        ("msg_1", True),
        ("msg_1", False),
        ("", False),
    ]


def test_listening_prints_each_message_and_stops_after_a_count(meterbook: Meterbook) -> None:
    secret, body = new_secret(), b'{"type": "alert.raised", "sequence": 7}'
    port = _free_port()

    def send() -> None:
        while True:
            try:
                posted(f"http://127.0.0.1:{port}", headers_of("msg_7", body, [secret], at=datetime.now(UTC)), body)
            except httpx.ConnectError:
                time.sleep(0.1)
                continue
            return

    sender = threading.Thread(target=send)
    sender.start()
    answer = meterbook("webhook", "listen", "--secret", secret, "--port", str(port), "--count", "1", "--json")
    sender.join()
    assert answer.code == 0
    assert (answer.content["message_id"], answer.content["problem"]) == ("msg_7", None)
    assert answer.content["body"] == body.decode()
    assert f"listening on http://127.0.0.1:{port}" in answer.err


def test_listening_with_a_secret_that_is_none_is_refused(meterbook: Meterbook) -> None:
    refused = meterbook("webhook", "listen", "--secret", "whsec_x", "--port", "0")
    assert (refused.code, "is not whsec_" in refused.err) == (1, True)
    with pytest.raises(InvalidError):
        headers_of("msg_1", b"", ["whsec_x"], at=LATER)


def _free_port() -> int:
    with listening(0, new_secret(), lambda _: None) as server:
        return int(server.server_address[1])
