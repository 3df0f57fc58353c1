"""Deciding which of two contents under one key counts."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from ledger.errors import InvalidError, NotFoundError, StateError
from ledger.intake.conflicts import list_open_conflicts, resolve
from ledger.intake.corrections import Correction
from ledger.metrics import create_metric
from tests.ledger.counted import same_as_counted_anew
from tests.ledger.usage import NOON, event, number_of, outcomes, rollup, send, tokens
from tests.metrics import metric

LATER = NOON + timedelta(hours=1)
LARGE = '{"model": "large"}'


def decide(connection: sa.Connection, conflict_id: int, *, new: bool) -> Correction | None:
    return resolve(connection, conflict_id, "new" if new else "old", reason="asked the team", by="ada", at=LATER)


def in_conflict(connection: sa.Connection) -> int:
    """Send 100 tokens, then 40 under the same key; the 100 count."""
    assert outcomes(send(connection, tokens("a", 100), tokens("a", 40))) == ["accepted", "conflict"]
    [conflict] = list_open_conflicts(connection)
    return conflict.conflict_id


def test_an_open_conflict_shows_what_was_sent_and_what_counts(shop: sa.Connection) -> None:
    in_conflict(shop)
    [conflict] = list_open_conflicts(shop)
    assert (conflict.source, conflict.key) == ("gateway", "a")
    assert conflict.sent["properties"] == {"input_tokens": 40, "model": "large"}
    assert conflict.counting is not None
    assert conflict.counting["properties"] == {"input_tokens": 100, "model": "large"}


def test_taking_the_new_content_amends_the_event(shop: sa.Connection) -> None:
    conflict_id = in_conflict(shop)
    done = decide(shop, conflict_id, new=True)
    assert done is not None
    assert done.amended == 1
    assert rollup(shop)["tokens", LARGE, "10-05 11:00"] == ("40", 1)
    assert list_open_conflicts(shop) == ()
    assert number_of(shop, "usage_change", "kind = 'conflict' and reason = 'asked the team'") == 1
    same_as_counted_anew(shop)


def test_keeping_the_old_content_changes_nothing_but_the_list(shop: sa.Connection) -> None:
    conflict_id = in_conflict(shop)
    assert decide(shop, conflict_id, new=False) is None
    assert rollup(shop)["tokens", LARGE, "10-05 11:00"] == ("100", 1)
    assert list_open_conflicts(shop) == ()
    assert number_of(shop, "usage_conflict", "resolution = 'kept_old' and resolved_by = 'ada'") == 1


def test_the_same_decision_again_is_harmless_and_another_one_is_refused(shop: sa.Connection) -> None:
    conflict_id = in_conflict(shop)
    decide(shop, conflict_id, new=True)
    assert decide(shop, conflict_id, new=True) is None
    with pytest.raises(StateError, match="decided by ada already"):
        decide(shop, conflict_id, new=False)
    with pytest.raises(NotFoundError, match="conflict 77 does not exist"):
        decide(shop, 77, new=True)


def test_content_that_a_later_metric_cannot_measure_is_not_taken(shop: sa.Connection) -> None:
    send(shop, event("a", type="job", properties={"seconds": 5}), event("a", type="job", properties={"seconds": "?"}))
    create_metric(shop, metric("seconds", "job", "sum", "seconds"))
    [conflict] = list_open_conflicts(shop)
    with pytest.raises(InvalidError, match=r"properties\.seconds \? must be a number"):
        decide(shop, conflict.conflict_id, new=True)
