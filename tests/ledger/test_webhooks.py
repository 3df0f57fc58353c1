"""Webhook endpoints, their secrets and deliveries: signed after Standard Webhooks, tried for three days, replayed."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.outbox import put_out
from ledger.webhook_signatures import headers_of, new_secret, verify
from ledger.webhook_targets import check_addresses, check_url, is_public
from ledger.webhooks import (
    Attempt,
    create_endpoint,
    due_deliveries,
    due_endpoints,
    get_endpoint,
    list_deliveries,
    list_endpoints,
    next_due,
    pause_endpoint,
    record_attempt,
    remove_endpoint,
    replay,
    resume_endpoint,
    rotate_secret,
    signing_secrets,
    wait_after,
)

URL = "https://hooks.example.com/meterbook"
NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
"""After every fact of these tests, whose time is the database's clock."""

# The example that the specification's reference libraries publish; `openssl dgst -sha256 -mac HMAC` gives the same.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - published
MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
SENT_AT = datetime.fromtimestamp(1614265330, UTC)
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def endpoint(connection: sa.Connection, endpoint_id: str = "hook", kinds: tuple[str, ...] = ()) -> str:
    secret = create_endpoint(connection, endpoint_id, URL, kinds, allow_private=False, at=NOW)
    assert secret is not None
    return secret


def fact(connection: sa.Connection, key: str, kind: str = "alert.raised") -> int:
    put_out(connection, key=key, kind=kind, contract_id=None, payload={"key": key})
    query = sa.text("select sequence from outbox where key = :key")
    return int(connection.execute(query, {"key": key}).scalar_one())


def states(connection: sa.Connection, endpoint_id: str = "hook") -> list[tuple[int, str, int]]:
    return [(found.sequence, found.state, found.attempts) for found in list_deliveries(connection, endpoint_id)]


def test_a_message_is_signed_as_the_specification_publishes_it() -> None:
    headers = headers_of(MESSAGE, BODY, [SECRET], at=SENT_AT)
    assert headers == {
        "webhook-id": MESSAGE,
        "webhook-timestamp": "1614265330",
        "webhook-signature": SIGNATURE,
    }


def test_a_receiver_takes_a_message_that_any_of_two_secrets_signed() -> None:
    other = new_secret()
    headers = headers_of(MESSAGE, BODY, [other, SECRET], at=SENT_AT)
    assert headers["webhook-signature"].split(" ")[1] == SIGNATURE
    for secret in (SECRET, other):
        verify(headers, BODY, secret, at=SENT_AT + timedelta(minutes=5))
    with pytest.raises(InvalidError, match="does not fit the secret"):
        verify(headers, BODY, new_secret(), at=SENT_AT)


@pytest.mark.parametrize(
    ("changed", "body", "after", "refusal"),
    [
        ({}, b'{"test": 1}', 0, "does not fit"),
        ({"webhook-id": "msg_2"}, BODY, 0, "does not fit"),
        ({"webhook-timestamp": "1614265331"}, BODY, 0, "does not fit"),
        ({"webhook-signature": SIGNATURE.replace("v1", "v2")}, BODY, 0, "does not fit"),
        ({"webhook-signature": "\u00fc"}, BODY, 0, "does not fit"),
        ({"webhook-signature": ""}, BODY, 0, "webhook-signature is missing"),
        ({"webhook-timestamp": "yesterday"}, BODY, 0, "not a count of seconds"),
        ({}, BODY, 301, "not within 5 minutes"),
        ({}, BODY, -301, "not within 5 minutes"),
    ],
)
def test_a_receiver_refuses_what_was_changed_or_recorded(
    changed: dict[str, str], body: bytes, after: int, refusal: str
) -> None:
    headers = headers_of(MESSAGE, BODY, [SECRET], at=SENT_AT) | changed
    with pytest.raises(InvalidError, match=refusal):
        verify(headers, body, SECRET, at=SENT_AT + timedelta(seconds=after))


@pytest.mark.parametrize("secret", ["whsec_short", "whsec_###", "whsec_" + base64.b64encode(bytes(65)).decode()])
def test_a_secret_that_is_none_is_refused_without_being_told(secret: str) -> None:
    with pytest.raises(InvalidError) as refused:
        headers_of(MESSAGE, BODY, [secret], at=SENT_AT)
    assert secret not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",  # noqa: S104 - refused
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%1",
        "fd00::1",
        "fec0::1",
        "ff02::1",
        "::ffff:10.1.2.3",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",  # 127.0.0.1 through NAT64
        "2002:a01:203::1",  # 10.1.2.3 through 6to4
    ],
)
def test_an_address_that_is_not_public_is_refused_unless_allowed(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(InvalidError, match="not a public address"):
        check_addresses(URL, ["93.184.215.14", address], allow_private=False)
    check_addresses(URL, [address], allow_private=True)


def test_a_public_address_is_taken_by_https_only() -> None:
    for address in ("93.184.215.14", "2606:4700::1111", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"):
        assert is_public(address)
        check_addresses(URL, [address], allow_private=False)
        with pytest.raises(InvalidError, match="is not encrypted"):
            check_addresses("http://hooks.example.com", [address], allow_private=True)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "ftp://hooks.example.com",
        "https://",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://[::1/",
        "https://example.com/a b",
        "https://example.com/\n",
        "https://ann:word@example.com/",
        "https://example.com/#part",
        "https://example.com/" + "x" * 2000,
        "http://example.com/",
        "https://127.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "http://93.184.215.14/",
    ],
)
def test_a_url_that_no_webhook_may_go_to_is_refused(engine: sa.Engine, url: str) -> None:
    with engine.begin() as connection:
        with pytest.raises(InvalidError, match="url"):
            create_endpoint(connection, "hook", url, (), allow_private=False, at=NOW)
        assert list_endpoints(connection) == ()


def test_http_is_for_private_targets_where_they_are_allowed() -> None:
    check_url("http://receiver.internal/", allow_private=True)
    check_url("http://127.0.0.1:8099/", allow_private=True)
    with pytest.raises(InvalidError, match="is not encrypted"):
        check_url("http://93.184.215.14/", allow_private=True)


def test_an_endpoint_is_made_once_and_shows_its_secret_once(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        secret = create_endpoint(connection, "hook", URL, ("b", "a", "a"), allow_private=False, at=NOW)
        assert secret is not None
        assert secret.startswith("whsec_")
        assert create_endpoint(connection, "hook", URL, ("a", "b"), allow_private=False, at=NOW) is None
        assert signing_secrets(connection, "hook", at=NOW) == (secret,)
        [found] = list_endpoints(connection)
        assert (found.url, found.kinds, found.state, found.pending, found.dead) == (URL, ("a", "b"), "active", 0, 0)
        with pytest.raises(ConflictError, match="exists with url"):
            create_endpoint(connection, "hook", URL, (), allow_private=False, at=NOW)


def test_an_endpoint_hears_the_kinds_it_asked_for(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        endpoint(connection, "all")
        endpoint(connection, "alerts", ("alert.raised",))
        raised, drawn = fact(connection, "one"), fact(connection, "two", "credit.drawn")
        assert [due.sequence for due in due_deliveries(connection, "all", at=LATER)] == [raised, drawn]
        assert [due.sequence for due in due_deliveries(connection, "alerts", at=LATER)] == [raised]
        assert due_endpoints(connection, at=LATER) == ("alerts", "all")
        assert due_endpoints(connection, at=NOW - timedelta(days=9999)) == ()


def test_a_message_holds_type_timestamp_sequence_and_the_facts_own_numbers(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        endpoint(connection)
        insert = "insert into outbox (key, kind, payload) values ('k', 'x.y', '{\"amount\": 1.10}') returning sequence"
        sequence = connection.execute(sa.text(insert)).scalar_one()
        assert replay(connection, "hook", from_sequence=sequence, at=NOW) == 1
        [due] = due_deliveries(connection, "hook", at=NOW)
        assert due.message_id == f"msg_{sequence}"
        content = json.loads(due.body, parse_float=str)
        assert list(content) == ["type", "timestamp", "sequence", "data"]
        assert (content["type"], content["sequence"], content["data"]) == ("x.y", sequence, {"amount": "1.10"})
        assert datetime.fromisoformat(content["timestamp"]) <= datetime.now(UTC)


def test_both_secrets_sign_for_a_day_after_a_rotation(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        old = endpoint(connection)
        new = rotate_secret(connection, "hook", at=NOW)
        assert signing_secrets(connection, "hook", at=NOW + timedelta(hours=23, minutes=59)) == (new, old)
        assert signing_secrets(connection, "hook", at=NOW + timedelta(hours=24)) == (new,)
        newest = rotate_secret(connection, "hook", at=NOW + timedelta(hours=1))
        assert signing_secrets(connection, "hook", at=NOW + timedelta(hours=2)) == (newest, new, old)


def test_what_is_answered_with_success_is_delivered_and_stays_so(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        endpoint(connection)
        sequence = fact(connection, "one")
        record_attempt(connection, "hook", sequence, Attempt(204, "204 No Content"), at=NOW)
        record_attempt(connection, "hook", sequence, Attempt(500, "late news of another try"), at=NOW)
        [found] = list_deliveries(connection, "hook")
        assert (found.state, found.attempts, found.answered) == ("delivered", 1, "204 No Content")
        assert found.delivered_at == NOW
        assert next_due(connection, "hook") is None


def test_waits_grow_and_end_after_three_days() -> None:
    minutes = [0.0833, 0.5, 2, 10, 30, 60, 180]
    for attempts, wait in enumerate(minutes, start=1):
        found = wait_after(attempts)
        assert found is not None
        assert abs(found - timedelta(minutes=wait)) < timedelta(seconds=1)
    # 5 s + 30 s + 2 min + 10 min + 30 min + 1 h = 6,155 s; 23 more waits of 10,800 s make 254,555 s of 259,200 s
    assert wait_after(29) == timedelta(hours=3)
    assert wait_after(30) is None


def test_what_is_never_answered_is_dead_after_thirty_attempts_and_visible(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        endpoint(connection)
        sequence = fact(connection, "one")
        at = first = datetime.now(UTC) + timedelta(seconds=1)
        for _ in range(30):
            [due] = due_deliveries(connection, "hook", at=at)
            record_attempt(connection, "hook", due.sequence, Attempt(500, "500 Internal Server Error"), at=at)
            at = next_due(connection, "hook") or at
        assert states(connection) == [(sequence, "dead", 30)]
        assert at - first == timedelta(seconds=254_555)
        assert get_endpoint(connection, "hook").dead == 1
        assert [found.sequence for found in list_deliveries(connection, "hook", state="dead")] == [sequence]
        assert list_deliveries(connection, "hook", state="pending") == ()
        assert due_endpoints(connection, at=LATER) == ()


def test_gone_pauses_the_endpoint_and_loses_nothing(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        endpoint(connection)
        sequence = fact(connection, "one")
        record_attempt(connection, "hook", sequence, Attempt(410, "410 Gone"), at=NOW)
        second = fact(connection, "two")
        assert get_endpoint(connection, "hook").state == "paused"
        assert due_deliveries(connection, "hook", at=LATER) == ()
        assert due_endpoints(connection, at=LATER) == ()
        assert resume_endpoint(connection, "hook", at=NOW) == 2
        assert [due.sequence for due in due_deliveries(connection, "hook", at=NOW)] == [sequence, second]


def test_a_paused_endpoint_keeps_what_happens_until_it_is_resumed(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        endpoint(connection)
        pause_endpoint(connection, "hook")
        pause_endpoint(connection, "hook")
        sequence = fact(connection, "one")
        assert next_due(connection, "hook") is None
        assert resume_endpoint(connection, "hook", at=NOW) == 1
        assert next_due(connection, "hook") == NOW
        assert states(connection) == [(sequence, "pending", 0)]


def test_a_removed_endpoint_hears_nothing_more_and_its_id_is_not_given_again(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        endpoint(connection)
        sequence = fact(connection, "one")
        assert remove_endpoint(connection, "hook") == 1
        fact(connection, "two")
        assert states(connection) == [(sequence, "dead", 0)]
        assert list_endpoints(connection) == ()
        with pytest.raises(ConflictError, match="was removed"):
            endpoint(connection)
        with pytest.raises(StateError, match="was removed"):
            resume_endpoint(connection, "hook", at=NOW)


def test_replay_sends_everything_again_from_a_sequence_number_on(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        before = fact(connection, "before the endpoint")
        other = fact(connection, "of another kind", "credit.drawn")
        endpoint(connection, kinds=("alert.raised",))
        first, second = fact(connection, "one"), fact(connection, "two")
        for sequence in (first, second):
            record_attempt(connection, "hook", sequence, Attempt(200, "200 OK"), at=NOW)
        assert replay(connection, "hook", from_sequence=second, at=NOW) == 1
        assert states(connection) == [(second, "pending", 0), (first, "delivered", 1)]
        assert replay(connection, "hook", from_sequence=1, at=NOW) == 3
        assert [due.sequence for due in due_deliveries(connection, "hook", at=NOW)] == [before, first, second]
        assert other not in [found.sequence for found in list_deliveries(connection, "hook")]


def test_an_endpoint_is_woken_early_rather_than_late_where_clocks_differ(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        endpoint(connection)
        fact(connection, "one")
        due = next_due(connection, "hook")
        assert due is not None
        assert due_endpoints(connection, at=due - timedelta(seconds=5)) == ("hook",)
        assert due_endpoints(connection, at=due - timedelta(seconds=6)) == ()


def test_what_does_not_exist_is_named(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for ask in (
            lambda: get_endpoint(connection, "hook"),
            lambda: rotate_secret(connection, "hook", at=NOW),
            lambda: list_deliveries(connection, "hook"),
            lambda: replay(connection, "hook", from_sequence=1, at=NOW),
        ):
            with pytest.raises(NotFoundError, match="endpoint hook does not exist"):
                ask()
        endpoint(connection)
        with pytest.raises(InvalidError, match="no sequence number"):
            replay(connection, "hook", from_sequence=0, at=NOW)
        with pytest.raises(InvalidError, match="none of pending"):
            list_deliveries(connection, "hook", state="lost")
