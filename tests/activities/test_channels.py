"""Facts on their way to people: to Slack's incoming webhooks, and by e-mail over a real SMTP conversation."""

import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from temporalio.testing import ActivityEnvironment

from activities.delivery import Deliver, Delivered, DeliveryActivities
from activities.mail import MailServer, mail_of, mail_server
from activities.settings import Settings
from activities.slack import slack_body
from ledger.database import Json
from ledger.errors import InvalidError
from ledger.notices import Notice
from ledger.outbox import put_out
from ledger.webhooks import UnsignedChannel, create_unsigned_endpoint, list_deliveries, replay
from tests.activities.receivers import mailbox, receiving, status
from tests.activities.test_delivery import certificate_of, make_due

SENDER = "meterbook@example.com"
RECHARGE: dict[str, Json] = {
    "number": 3,
    "state": "paid",
    "invoice_id": "acme-r3",
    "granted": "55",
    "charged": "50",
    "currency": "EUR",
    "note": "<!channel> & more",
}


def endpoint(engine: sa.Engine, url: str, channel: UnsignedChannel) -> None:
    """An endpoint `people` that has one fact to hear."""
    with engine.begin() as connection:
        made = create_unsigned_endpoint(
            connection, "people", url, (), channel=channel, allow_private=True, at=datetime.now(UTC)
        )
        assert made
        put_out(connection, key="recharge/3", kind="recharge.paid", contract_id=None, payload=RECHARGE)


async def deliver(engine: sa.Engine, mail: MailServer | None = None) -> Delivered:
    activities = DeliveryActivities(engine, allow_private=True, mail=mail, answer_within=timedelta(seconds=5))
    return await ActivityEnvironment().run(activities.deliver, Deliver("people", datetime.now(UTC)))


def answered(engine: sa.Engine) -> tuple[str, str]:
    with engine.begin() as connection:
        [found] = list_deliveries(connection, "people")
    return found.state, found.answered


def settings(url: str | None, sender: str | None = SENDER) -> Settings:
    return Settings(
        database_url="postgresql://nowhere/x",
        temporal_address="127.0.0.1:1",
        meterbook_smtp_url=None if url is None else SecretStr(url),
        meterbook_mail_from=sender,
    )


async def test_slack_gets_its_shape_and_no_signature(engine: sa.Engine) -> None:
    with receiving(status(200)) as receiver:
        endpoint(engine, receiver.url, "slack")
        assert await deliver(engine) == Delivered(1, None)
        [message] = receiver.taken
    content = json.loads(message.body)
    assert content["text"] == "Recharge 3 of 50 EUR paid"
    assert [block["type"] for block in content["blocks"]] == ["header", "section", "section"]
    assert content["blocks"][1]["text"]["text"] == "Invoice acme-r3 of 50 EUR is paid, and 55 EUR are granted."
    assert "webhook-signature" not in message.headers
    assert answered(engine) == ("delivered", "200 OK")


def test_nothing_in_a_fact_mentions_a_channel_of_slack_or_is_too_long_for_it() -> None:
    content = json.loads(slack_body(Notice("<!channel> & " + "x" * 200, "y" * 4000, (("a", "b"),))))
    assert content["text"].startswith("&lt;!channel&gt; &amp; x")
    assert [block["text"]["type"] for block in content["blocks"]] == ["plain_text"] * 3  # Slack parses none of it
    assert [len(block["text"]["text"]) for block in content["blocks"][:2]] == [150, 3000]  # Slack's limits


async def test_an_e_mail_arrives_once_more_under_the_same_id_when_it_is_replayed(engine: sa.Engine) -> None:
    async with mailbox() as box:
        endpoint(engine, "mailto:finance@example.com", "email")
        server = mail_server(settings(f"smtp://127.0.0.1:{box.port}"))
        assert await deliver(engine, server) == Delivered(1, None)
        assert answered(engine) == ("delivered", "250 taken by the mail server")
        with engine.begin() as connection:
            replay(connection, "people", from_sequence=1, at=datetime.now(UTC))
        await deliver(engine, server)
    first, second = box.taken
    assert (first["From"], first["To"]) == (SENDER, "finance@example.com")
    assert first["Subject"] == "Recharge 3 of 50 EUR paid"
    assert "Invoice acme-r3 of 50 EUR is paid, and 55 EUR are granted." in first.get_content()
    assert first["Message-ID"] == second["Message-ID"] == "<msg_1=people@example.com>"
    assert box.logins == []


async def test_what_the_mail_server_refuses_is_tried_again(engine: sa.Engine) -> None:
    async with mailbox() as box:
        endpoint(engine, "mailto:finance@example.com", "email")
        server = mail_server(settings(f"smtp://127.0.0.1:{box.port}"))
        box.answer = "451 try later"
        await deliver(engine, server)
        assert answered(engine) == ("pending", "refused: 451 try later")
        box.answer = "250 queued"
        make_due(engine)
        await deliver(engine, server)
        assert answered(engine)[0] == "delivered"


async def test_a_mailbox_that_is_not_there_and_a_server_that_is_not_are_attempts_in_vain(engine: sa.Engine) -> None:
    endpoint(engine, "mailto:nobody@example.com", "email")
    await deliver(engine)
    assert answered(engine)[1].startswith("not sent: the workers have no mail server")
    async with mailbox() as box:
        server = mail_server(settings(f"smtp://127.0.0.1:{box.port}"))
        make_due(engine)
        await deliver(engine, server)
        assert answered(engine) == ("pending", "refused: 550 no such mailbox")
    make_due(engine)
    await deliver(engine, server)
    assert answered(engine)[1].startswith("no answer of the mail server: ")


async def test_a_password_goes_only_where_nobody_reads_it(engine: sa.Engine) -> None:
    async with mailbox() as box:
        endpoint(engine, "mailto:finance@example.com", "email")
        await deliver(engine, mail_server(settings(f"smtp://user:secret@127.0.0.1:{box.port}")))
    assert "offers no encryption" in answered(engine)[1]
    assert (box.logins, box.taken) == ([], [])


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_mail_is_encrypted_where_the_server_can(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    certificate: ssl.SSLContext = certificate_of(tmp_path, name="localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    async with mailbox(certificate=certificate, from_the_start=scheme == "smtps") as box:
        endpoint(engine, "mailto:finance@example.com", "email")
        await deliver(engine, mail_server(settings(f"{scheme}://user:pass%40word@localhost:{box.port}")))
        assert answered(engine)[0] == "delivered", answered(engine)
    assert box.encrypted == [True]
    assert box.logins == ["\0user\0pass@word"]


def test_settings_of_mail_are_read_and_refused_without_showing_the_password() -> None:
    found = mail_server(settings("smtps://us%40er:p%2Fw@mail.example.com"))
    assert found == MailServer("mail.example.com", 465, True, SENDER, "us@er", "p/w")
    assert "p/w" not in repr(found)
    assert mail_server(settings(None, None)) is None
    for url, sender in (
        ("smtp://mail.example.com", None),
        (None, SENDER),
        ("http://mail.example.com", SENDER),
        ("smtp://user:topsecret@mail.example.com:x", SENDER),
        ("smtp://user@mail.example.com", SENDER),
        ("smtp://mail.example.com", "Billing <a@example.com>"),
    ):
        with pytest.raises(InvalidError, match="METERBOOK_") as refused:
            mail_server(settings(url, sender))
        assert "topsecret" not in str(refused.value)


def test_the_id_of_a_message_is_whole_however_long_the_endpoints_id_is() -> None:
    message = mail_of(
        Notice("Subject", "Sentence.", (("a", "b"),)),
        sequence=1042,
        endpoint_id="a..b" + "-c" * 29,
        sender=SENDER,
        recipient="finance@example.com",
        at=datetime(2026, 11, 25, tzinfo=UTC),
    )
    assert f"<msg_1042=a==b{'-c' * 29}@example.com>" in message.as_string()
