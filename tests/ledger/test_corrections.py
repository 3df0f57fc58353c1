"""Amending and withdrawing single events: what counts follows, what came stays."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from ledger.errors import InvalidError, NotFoundError
from ledger.intake.corrections import Correction, amend, withdraw
from ledger.intake.events import UsageEvent, parse_objects
from tests.ledger.counted import same_as_counted_anew
from tests.ledger.usage import NOON, cover, event, number_of, outcomes, proofs, rollup, send, tokens

LATER = NOON + timedelta(hours=1)
LARGE = '{"model": "large"}'


def parsed(*objects: object) -> list[UsageEvent]:
    """Events as a person's file gives them."""
    batch = parse_objects(objects, received_at=NOON)
    assert batch.rejections == ()
    return [one for _, one in batch.events]


def amended(connection: sa.Connection, *objects: object) -> Correction:
    return amend(connection, parsed(*objects), reason="wrong number", by="ada", at=LATER)


def withdrawn(connection: sa.Connection, *keys: str) -> Correction:
    return withdraw(connection, [("gateway", key) for key in keys], reason="test traffic", by="ada", at=LATER)


def tallied(connection: sa.Connection) -> dict[str, int]:
    """The tally of events that count, by alias."""
    rows = connection.execute(sa.text("select customer_alias, sum(events)::int from usage_tally group by 1"))
    return {alias: events for alias, events in rows if events}


def test_an_amended_event_counts_with_what_it_should_have_said(shop: sa.Connection) -> None:
    cover(shop, "open", "2026-01-01T00:00:00Z")
    send(shop, tokens("a", 100), tokens("b", 7))
    done = amended(shop, tokens("a", 40))
    assert (done.added, done.amended, done.withdrawn, done.unchanged, done.contracts) == (0, 1, 0, 0, ("open",))
    assert rollup(shop)["tokens", LARGE, "10-05 11:00"] == ("47", 2)  # 40 + 7
    assert rollup(shop)["requests", "{}", "10-05 11:00"] == ("2", 2)
    assert number_of(shop, "usage_event", "ended_batch_id is not null and revision = 0") == 1
    assert number_of(shop, "usage_event", f"revision = 1 and batch_id = {done.batch_id}") == 1
    assert number_of(shop, "usage_dirty", f"batch_id = {done.batch_id} and metric_ids is null") == 1
    assert tallied(shop) == {"acme": 2}
    same_as_counted_anew(shop)


def test_an_amended_event_may_go_to_another_hour_type_and_name(shop: sa.Connection) -> None:
    send(shop, tokens("a", 100))
    amended(shop, tokens("a", 100, customer="stranger", timestamp="2026-08-31T23:59:59Z"))
    assert rollup(shop) == {}
    assert tallied(shop) == {"stranger": 1}
    amended(shop, tokens("a", 5, timestamp="2026-10-05T09:00:00Z"))
    assert rollup(shop)["tokens", LARGE, "10-05 09:00"] == ("5", 1)
    assert tallied(shop) == {"acme": 1}
    same_as_counted_anew(shop)


def test_a_withdrawn_event_does_not_count_and_stays_recorded(shop: sa.Connection) -> None:
    send(shop, tokens("a", 100), tokens("b", 7))
    done = withdrawn(shop, "a")
    assert (done.amended, done.withdrawn) == (0, 1)
    assert rollup(shop)["tokens", LARGE, "10-05 11:00"] == ("7", 1)
    assert number_of(shop, "usage_event") == 2
    assert number_of(shop, "usage_correction", "payload_hash is null and revision = 1") == 1
    assert tallied(shop) == {"acme": 1}


def test_the_same_act_again_changes_nothing(shop: sa.Connection) -> None:
    send(shop, tokens("a", 100), tokens("b", 7))
    amended(shop, tokens("a", 40))
    withdrawn(shop, "b")
    before = number_of(shop, "usage_batch")
    assert amended(shop, tokens("a", 40)) == Correction(None, 0, 0, 0, 1, ())
    assert withdrawn(shop, "b") == Correction(None, 0, 0, 0, 1, ())
    assert number_of(shop, "usage_batch") == before


def test_a_withdrawn_event_comes_back_by_an_amendment(shop: sa.Connection) -> None:
    send(shop, tokens("a", 100))
    withdrawn(shop, "a")
    assert outcomes(send(shop, tokens("a", 100))) == ["duplicate"]
    assert rollup(shop) == {}
    amended(shop, tokens("a", 100))
    assert rollup(shop)["tokens", LARGE, "10-05 11:00"] == ("100", 1)
    assert number_of(shop, "usage_event", "revision = 2 and ended_batch_id is null") == 1


def test_an_unknown_key_fails_the_whole_act(shop: sa.Connection) -> None:
    send(shop, tokens("a", 100))
    with (
        pytest.raises(NotFoundError, match="source 'gateway' never sent an event with key 'typo'"),
        shop.begin_nested(),
    ):
        amended(shop, tokens("a", 1), tokens("typo", 2))
    with pytest.raises(NotFoundError, match="never sent"), shop.begin_nested():
        withdrawn(shop, "a", "typo")
    assert rollup(shop)["tokens", LARGE, "10-05 11:00"] == ("100", 1)


def test_an_amendment_that_no_metric_can_measure_is_refused(shop: sa.Connection) -> None:
    send(shop, tokens("a", 100))
    with pytest.raises(InvalidError, match=r"key 'a': properties\.input_tokens .*must be a number"):
        amended(shop, event("a", properties={"model": "large"}))


def test_an_event_is_amended_once_in_an_act(shop: sa.Connection) -> None:
    send(shop, tokens("a", 100))
    with pytest.raises(InvalidError, match="amended twice with different content"):
        amended(shop, tokens("a", 1), tokens("a", 2))
    with pytest.raises(InvalidError, match="at least one"):
        amended(shop)


def test_a_correction_needs_a_reason(shop: sa.Connection) -> None:
    send(shop, tokens("a", 100))
    with pytest.raises(InvalidError, match="reason ''"):
        amend(shop, parsed(tokens("a", 1)), reason="", by="ada", at=LATER)


def test_content_that_a_key_has_had_is_a_duplicate_and_other_content_a_conflict(shop: sa.Connection) -> None:
    send(shop, tokens("a", 100))
    amended(shop, tokens("a", 40))
    amended(shop, tokens("a", 60))
    answers = outcomes(send(shop, tokens("a", 100), tokens("a", 40), tokens("a", 60), tokens("a", 61)))
    assert answers == ["duplicate", "duplicate", "duplicate", "conflict"]
    assert rollup(shop)["tokens", LARGE, "10-05 11:00"] == ("60", 1)


def test_verification_finds_corrected_usage_right(shop: sa.Connection) -> None:
    send(shop, tokens("a", 100), tokens("b", 7), tokens("c", 1, customer="stranger"))
    amended(shop, tokens("a", 40, timestamp="2026-10-05T09:00:00Z"), tokens("c", 1))
    withdrawn(shop, "b")
    assert [check for check in proofs(shop) if not check.ok] == []
