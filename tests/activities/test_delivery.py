"""Webhooks on their way to receivers that answer, fail, hang or are not where they should be."""

import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from temporalio.testing import ActivityEnvironment

from activities.delivery import Deliver, Delivered, DeliveryActivities, FindDueEndpoints, OutboxActivities
from activities.webhook_targets import check_target
from ledger.errors import InvalidError, StateError
from ledger.outbox import put_out
from ledger.webhook_signatures import verify
from ledger.webhooks import (
    Delivery,
    create_endpoint,
    get_endpoint,
    list_deliveries,
    pause_endpoint,
    remove_endpoint,
    rotate_secret,
)
from tests.activities.receivers import close, hang, receiving, status


def endpoint(engine: sa.Engine, url: str, endpoint_id: str = "hook", *, facts: int = 1) -> str:
    """An endpoint with so many facts to hear; returns its secret."""
    with engine.begin() as connection:
        secret = create_endpoint(connection, endpoint_id, url, (), allow_private=True, at=datetime.now(UTC))
        assert secret is not None
        for n in range(facts):
            put_out(connection, key=f"{endpoint_id}/{n}", kind="alert.raised", contract_id=None, payload={"n": n})
    return secret


async def deliver(
    engine: sa.Engine,
    endpoint_id: str = "hook",
    *,
    allow_private: bool = True,
    within: float = 5,
    at: datetime | None = None,
) -> Delivered:
    activities = DeliveryActivities(engine, allow_private=allow_private, answer_within=timedelta(seconds=within))
    return await ActivityEnvironment().run(activities.deliver, Deliver(endpoint_id, at or datetime.now(UTC)))


def deliveries(engine: sa.Engine, endpoint_id: str = "hook") -> tuple[Delivery, ...]:
    with engine.begin() as connection:
        return list_deliveries(connection, endpoint_id)


def answered(engine: sa.Engine) -> tuple[str, int, str]:
    [found] = deliveries(engine)
    return found.state, found.attempts, found.answered


async def test_a_message_arrives_signed_and_is_delivered(engine: sa.Engine) -> None:
    with receiving(status(200)) as receiver:
        secret = endpoint(engine, receiver.url)
        assert await deliver(engine) == Delivered(1, None)
        [message] = receiver.taken
    verify(message.headers, message.body, secret, at=datetime.now(UTC))
    [found] = deliveries(engine)
    assert (found.state, found.answered) == ("delivered", "200 OK")
    assert message.headers["webhook-id"] == f"msg_{found.sequence}"
    assert message.headers["content-type"] == "application/json"
    assert (message.path, message.headers["host"]) == ("/hook", f"127.0.0.1:{receiver.port}")


async def test_both_secrets_sign_while_one_is_rotated(engine: sa.Engine) -> None:
    with receiving(status(204)) as receiver:
        old = endpoint(engine, receiver.url)
        with engine.begin() as connection:
            new = rotate_secret(connection, "hook", at=datetime.now(UTC))
        await deliver(engine)
        [message] = receiver.taken
    for secret in (old, new):
        verify(message.headers, message.body, secret, at=datetime.now(UTC))


async def test_a_failure_is_tried_again_under_the_same_id_and_body(engine: sa.Engine) -> None:
    with receiving(status(500)) as receiver:
        endpoint(engine, receiver.url)
        begin = datetime.now(UTC)
        first = await deliver(engine)
        assert first.next_due is not None
        assert timedelta(seconds=5) <= first.next_due - begin < timedelta(seconds=15)
        assert answered(engine) == ("pending", 1, "500 Internal Server Error")
        assert (await deliver(engine)).attempts == 0
        receiver.answer = status(200)
        make_due(engine)
        assert await deliver(engine) == Delivered(1, None)
        one, two = receiver.taken
    assert (one.headers["webhook-id"], one.body) == (two.headers["webhook-id"], two.body)
    assert answered(engine) == ("delivered", 2, "200 OK")


async def test_what_is_due_by_the_askers_clock_is_sent_though_this_clock_is_behind(engine: sa.Engine) -> None:
    with receiving(status(500)) as receiver:
        endpoint(engine, receiver.url)
        first = await deliver(engine)
        assert first.next_due is not None
        assert (await deliver(engine, at=first.next_due - timedelta(microseconds=1))).attempts == 0
        assert (await deliver(engine, at=first.next_due)).attempts == 1


async def test_a_receiver_that_hangs_is_given_up_in_time(engine: sa.Engine) -> None:
    with receiving(hang(3)) as receiver:
        endpoint(engine, receiver.url, facts=10)
        begin = time.monotonic()
        assert (await deliver(engine, within=0.5)).attempts == 10
        assert time.monotonic() - begin < 2.5  # ten at a time: half a second, and what the machine needs
    assert {found.answered for found in deliveries(engine)} == {"no answer within 0.5 seconds"}


async def test_a_connection_that_is_closed_or_refused_is_an_attempt_in_vain(engine: sa.Engine) -> None:
    with receiving(close) as receiver:
        endpoint(engine, receiver.url)
        await deliver(engine)
        state, attempts, words = answered(engine)
        assert (state, attempts) == ("pending", 1)
        assert "disconnected" in words
    make_due(engine)
    await deliver(engine)
    state, attempts, words = answered(engine)
    assert (state, attempts) == ("pending", 2)
    assert words.startswith("no answer: ")


async def test_gone_pauses_the_endpoint(engine: sa.Engine) -> None:
    with receiving(status(410)) as receiver:
        endpoint(engine, receiver.url)
        assert await deliver(engine) == Delivered(1, None)
    with engine.begin() as connection:
        assert get_endpoint(connection, "hook").state == "paused"
    assert answered(engine) == ("pending", 1, "410 Gone")


async def test_a_redirect_is_not_followed(engine: sa.Engine) -> None:
    with receiving(status(200)) as elsewhere, receiving(status(307, Location=elsewhere.url)) as receiver:
        endpoint(engine, receiver.url)
        await deliver(engine)
        assert (len(receiver.taken), elsewhere.taken) == (1, [])
    words = "307 Temporary Redirect: redirects are not followed; correct the url"
    assert answered(engine) == ("pending", 1, words)


async def test_a_paused_endpoint_hears_nothing_and_a_removed_one_is_told_to_be(engine: sa.Engine) -> None:
    with receiving(status(200)) as receiver:
        endpoint(engine, receiver.url)
        with engine.begin() as connection:
            pause_endpoint(connection, "hook")
        assert await deliver(engine) == Delivered(0, None)
        with engine.begin() as connection:
            remove_endpoint(connection, "hook")
        assert await deliver(engine) == Delivered(0, None, removed=True)
        assert receiver.taken == []


async def test_one_activity_sends_fifty_and_says_that_more_is_due(engine: sa.Engine) -> None:
    with receiving(status(200)) as receiver:
        endpoint(engine, receiver.url, facts=60)
        first = await deliver(engine)
        assert first.attempts == 50
        assert first.next_due is not None
        assert first.next_due <= datetime.now(UTC)
        assert await deliver(engine) == Delivered(10, None)
        assert len(set(receiver.ids)) == 60


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "10.0.0.1"])
async def test_where_private_addresses_are_refused_nothing_is_sent(engine: sa.Engine, host: str) -> None:
    with receiving(status(200)) as receiver:
        endpoint(engine, f"http://{host}:{receiver.port}/hook")
        await deliver(engine, allow_private=False)
        assert receiver.taken == []
    state, attempts, words = answered(engine)
    assert (state, attempts) == ("pending", 1)
    assert "not a public address" in words


async def test_a_name_that_leads_nowhere_is_an_attempt_in_vain(engine: sa.Engine) -> None:
    endpoint(engine, "https://hooks.invalid/")
    await deliver(engine)
    assert "the name hooks.invalid leads to no address" in answered(engine)[2]


async def test_a_name_is_connected_by_its_checked_address_and_keeps_its_host(engine: sa.Engine) -> None:
    with receiving(status(200)) as receiver:
        endpoint(engine, f"http://localhost:{receiver.port}/hook?a=%C3%BC")
        assert await deliver(engine) == Delivered(1, None)
        [message] = receiver.taken
    assert (message.path, message.headers["host"]) == ("/hook?a=%C3%BC", f"localhost:{receiver.port}")


async def test_a_certificate_must_be_of_the_name_and_be_trusted(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving(status(200), certificate=certificate_of(tmp_path, name="localhost")) as receiver:
        endpoint(engine, f"https://localhost:{receiver.port}/hook")
        await deliver(engine)
        assert "CERTIFICATE_VERIFY_FAILED" in answered(engine)[2]
        assert receiver.taken == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        make_due(engine)
        assert await deliver(engine) == Delivered(1, None)
        endpoint(engine, f"https://127.0.0.1:{receiver.port}/hook", "by-address")
        await deliver(engine, "by-address")
        [by_address] = deliveries(engine, "by-address")
        assert "CERTIFICATE_VERIFY_FAILED" in by_address.answered


def test_a_target_is_checked_before_an_endpoint_is_made() -> None:
    with pytest.raises(InvalidError, match=r"leads to .*, which is not a public address"):
        check_target("https://localhost/", allow_private=False)
    with pytest.raises(StateError, match=r"hooks\.invalid leads to no address"):
        check_target("https://hooks.invalid/", allow_private=True)
    check_target("http://localhost:8099/", allow_private=True)


async def test_endpoints_with_something_due_are_found(engine: sa.Engine) -> None:
    endpoint(engine, "https://hooks.invalid/")
    found = OutboxActivities(engine).find_due_endpoints(FindDueEndpoints(datetime.now(UTC) + timedelta(seconds=5)))
    assert found.endpoint_ids == ("hook",)


def make_due(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "update webhook_delivery set due_at = created_at from outbox"
                " where outbox.sequence = webhook_delivery.sequence"
            )
        )


def certificate_of(folder: Path, *, name: str) -> ssl.SSLContext:
    """A certificate of the test's own, written into the folder."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
