"""Backfills: a window of usage that is sent again counts as a whole, can be seen in money before, and be undone."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.backfill_previews import preview_backfill
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.intake.backfills import (
    Backfill,
    Mode,
    Staged,
    commit_backfill,
    get_backfill,
    list_backfills,
    open_backfill,
    revert_backfill,
    stage,
)
from ledger.intake.corrections import Correction, amend
from ledger.intake.events import parse_objects
from tests.ledger.books import FOURTH_OF_FEBRUARY, JANUARY_STARTS, MID_JANUARY, january, open_invoice, start, use
from tests.ledger.counted import same_as_counted_anew
from tests.ledger.test_corrections import parsed
from tests.ledger.usage import NOON, event, number_of, outcomes, rollup, send, tokens

LATER = NOON + timedelta(hours=1)
LARGE = '{"model": "large"}'
ELEVEN = ("tokens", LARGE, "10-05 11:00")


def window(name: str = "october", *, mode: Mode = "replace", alias: str | None = "acme") -> Backfill:
    """Events of 5 October 2026 (UTC) that come from the gateway."""
    return Backfill(
        name, alias, (), ("gateway",), datetime(2026, 10, 5, tzinfo=UTC), datetime(2026, 10, 6, tzinfo=UTC), mode,
        "the gateway counted wrong", "ada", NOON,
    )  # fmt: skip


def staged(connection: sa.Connection, *objects: object, name: str = "october") -> Staged:
    return stage(connection, name, parse_objects(objects, received_at=NOON))


def committed(connection: sa.Connection, name: str = "october") -> Correction:
    return commit_backfill(connection, name, by="ada", at=LATER)


def reverted(connection: sa.Connection, name: str = "october") -> Correction:
    return revert_backfill(connection, name, reason="it was right before", by="ada", at=LATER)


def test_a_replaced_window_holds_exactly_what_was_sent_again(shop: sa.Connection) -> None:
    send(shop, tokens("a", 1), tokens("b", 2), tokens("c", 4), tokens("d", 8, source="other"))
    open_backfill(shop, window())
    assert staged(shop, tokens("a", 1), tokens("b", 20), tokens("e", 300)).staged == 3
    assert rollup(shop)[ELEVEN] == ("15", 4)  # nothing counts before the commit
    done = committed(shop)
    assert (done.added, done.amended, done.withdrawn, done.unchanged) == (1, 1, 1, 1)  # e; b; c; a
    assert rollup(shop)[ELEVEN] == ("329", 4)  # 1 + 20 + 300, and 8 of another source
    assert get_backfill(shop, "october").state == "committed"
    assert number_of(shop, "usage_batch", "door = 'correction' and accepted = 1") == 1
    accepted = shop.execute(sa.text("select sum(accepted) from usage_outcome")).scalar_one()
    assert accepted == number_of(shop, "usage_key") == 5
    same_as_counted_anew(shop)


def test_an_added_window_withdraws_nothing(shop: sa.Connection) -> None:
    send(shop, tokens("a", 1), tokens("b", 2))
    open_backfill(shop, window(mode="add"))
    staged(shop, tokens("b", 20), tokens("e", 300))
    done = committed(shop)
    assert (done.added, done.amended, done.withdrawn) == (1, 1, 0)
    assert rollup(shop)[ELEVEN] == ("321", 3)  # 1 + 20 + 300


def test_an_empty_replacement_withdraws_what_its_filter_finds(shop: sa.Connection) -> None:
    send(shop, tokens("a", 1), tokens("b", 2, customer="bolt"), tokens("c", 4, timestamp="2026-10-04T23:59:59Z"))
    open_backfill(shop, window())
    assert committed(shop).withdrawn == 1
    assert rollup(shop)["tokens", LARGE, "10-04 23:00"] == ("4", 1)
    assert ELEVEN not in rollup(shop)


def test_a_key_of_a_backfill_that_is_sent_later_is_a_duplicate(shop: sa.Connection) -> None:
    open_backfill(shop, window(mode="add"))
    staged(shop, tokens("e", 300))
    committed(shop)
    assert outcomes(send(shop, tokens("e", 300), tokens("e", 301))) == ["duplicate", "conflict"]


def test_a_reverted_backfill_leaves_everything_as_it_was(shop: sa.Connection) -> None:
    send(shop, tokens("a", 1), tokens("b", 2), tokens("c", 4))
    before = rollup(shop)
    open_backfill(shop, window())
    staged(shop, tokens("a", 1), tokens("b", 20, timestamp="2026-10-05T09:30:00Z"), tokens("e", 300))
    committed(shop)
    done = reverted(shop)
    assert (done.added, done.amended, done.withdrawn) == (0, 2, 1)  # b and c come back; e goes
    assert rollup(shop) == before
    assert reverted(shop).batch_id is None
    with pytest.raises(StateError, match="october was reverted"):
        committed(shop)
    same_as_counted_anew(shop)


def test_a_backfill_whose_events_were_corrected_since_is_not_reverted(shop: sa.Connection) -> None:
    open_backfill(shop, window())
    staged(shop, tokens("e", 300))
    committed(shop)
    amend(shop, parsed(tokens("e", 5)), reason="wrong", by="bob", at=LATER)
    with pytest.raises(StateError, match="key 'e' was corrected since, by bob"):
        reverted(shop)


def test_an_open_backfill_is_dropped_without_a_trace_in_the_totals(shop: sa.Connection) -> None:
    open_backfill(shop, window())
    staged(shop, tokens("e", 300))
    assert reverted(shop).batch_id is None
    assert get_backfill(shop, "october").state == "reverted"
    assert number_of(shop, "usage_change") == 0
    with pytest.raises(StateError, match="is reverted; open another"):
        staged(shop, tokens("e", 300))


def test_events_outside_the_window_are_refused_each_on_its_own(shop: sa.Connection) -> None:
    open_backfill(shop, window())
    answer = staged(
        shop,
        tokens("a", 1),
        tokens("b", 2, timestamp="2026-10-06T00:00:00Z"),
        tokens("c", 3, customer="bolt"),
        tokens("d", 4, source="other"),
        {**tokens("e", 5), "key": ""},
    )
    assert answer.staged == 1
    assert [(one.index, one.field) for one in answer.refused] == [
        (4, "key"),
        (1, "timestamp"),
        (2, "customer"),
        (3, "source"),
    ]


def test_a_key_that_is_sent_again_into_a_backfill_takes_its_last_content(shop: sa.Connection) -> None:
    open_backfill(shop, window())
    staged(shop, tokens("e", 300))
    staged(shop, tokens("e", 7))
    committed(shop)
    assert rollup(shop)[ELEVEN] == ("7", 1)


def test_what_no_metric_can_measure_fails_the_whole_commit(shop: sa.Connection) -> None:
    open_backfill(shop, window())
    staged(shop, tokens("a", 1), event("b", properties={}))
    with pytest.raises(InvalidError, match="key 'b'"), shop.begin_nested():
        committed(shop)
    assert rollup(shop) == {}
    assert get_backfill(shop, "october").state == "open"


def test_opening_and_committing_again_is_harmless_and_another_window_is_refused(shop: sa.Connection) -> None:
    assert open_backfill(shop, window()) == "created"
    assert open_backfill(shop, window()) == "exists"
    with pytest.raises(ConflictError, match="october exists with another window"):
        open_backfill(shop, window(mode="add"))
    staged(shop, tokens("e", 300))
    committed(shop)
    assert committed(shop).batch_id is None
    assert [(one.backfill_id, one.state, one.events) for one in list_backfills(shop)] == [("october", "committed", 1)]
    with pytest.raises(NotFoundError, match="november does not exist"):
        committed(shop, "november")


def test_a_preview_tells_the_difference_in_money_and_changes_nothing(shop: sa.Connection) -> None:
    start(shop, commits=())
    use(shop, "a", 10_000, "2026-01-10T10:00:00Z")
    use(shop, "b", 20_000, "2026-01-10T11:00:00Z")
    day = (datetime(2026, 1, 10, tzinfo=UTC), datetime(2026, 1, 11, tzinfo=UTC))
    open_backfill(shop, Backfill("day", "acme", (), (), *day, "replace", "wrong", "ada", MID_JANUARY))
    staged(shop, tokens("a", 15_000, timestamp="2026-01-10T10:00:00Z"), name="day")
    found = preview_backfill(shop, "day", by="ada", at=MID_JANUARY)
    assert (found.events.amended, found.events.withdrawn) == (1, 1)
    [difference] = found.differences
    assert (difference.contract_id, difference.product_id, difference.state) == ("plan", "tokens", "open")
    # 30,000 tokens at 0.0003 are 9.00; 15,000 are 4.50
    assert (difference.amount_before, difference.amount_after) == (Decimal("9.00"), Decimal("4.50"))
    assert difference.amount == Decimal("-4.50")
    assert found.problems == {}
    assert number_of(shop, "usage_change") == 0
    assert number_of(shop, "transfer") == 0
    assert get_backfill(shop, "day").state == "open"


def test_a_preview_tells_what_a_frozen_period_would_be_adjusted_by(shop: sa.Connection) -> None:
    start(shop, commits=())
    open_invoice(shop)
    use(shop, "a", 10_000, "2026-01-10T10:00:00Z")
    january(shop)
    day = (datetime(2026, 1, 10, tzinfo=UTC), datetime(2026, 1, 11, tzinfo=UTC))
    open_backfill(shop, Backfill("day", "acme", (), (), *day, "add", "forgotten", "ada", FOURTH_OF_FEBRUARY))
    staged(shop, tokens("b", 20_000, timestamp="2026-01-10T10:30:00Z"), name="day")
    [difference] = preview_backfill(shop, "day", by="ada", at=FOURTH_OF_FEBRUARY).differences
    assert (difference.period_start, difference.state) == (JANUARY_STARTS, "frozen")
    assert difference.amount == Decimal("6.00")  # 20,000 at 0.0003
    commit_backfill(shop, "day", by="ada", at=FOURTH_OF_FEBRUARY)
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    amount = shop.execute(
        sa.text("select sum(amount) from accrued where product_id = 'tokens' and period_start = :start"),
        {"start": JANUARY_STARTS},
    ).scalar_one()
    assert amount == Decimal("9.00")  # 3.00 + 6.00, as the preview said
