"""Every event counts once: duplicates, conflicts, order and batches change nothing."""

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count, pairwise

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.intake.events import MAX_BATCH_EVENTS
from ledger.intake.readings import read_metrics
from ledger.intake.rules import event_types_of, read_rules
from tests.ledger.usage import (
    NOON,
    counts,
    cover,
    event,
    number_of,
    outcomes,
    rollup,
    same_figures,
    send,
    tokens,
)

LARGE = '{"model": "large"}'


def test_events_are_summed_counted_and_answered(shop: sa.Connection) -> None:
    result = send(shop, tokens("a", Decimal("0.1")), tokens("b", Decimal("0.2")), tokens("c", 5, source="other"))
    assert outcomes(result) == ["accepted", "accepted", "accepted"]
    assert rollup(shop) == {
        ("tokens", LARGE, "10-05 11:00"): ("5.3", 3),  # 0.1 + 0.2 + 5, exactly
        ("requests", "{}", "10-05 11:00"): ("3", 3),
    }
    same_figures(shop)


def test_the_same_event_by_another_door_and_in_other_words_is_a_duplicate(shop: sa.Connection) -> None:
    send(shop, tokens("a", 1))
    again = tokens("a", Decimal("1.0"), timestamp="2026-10-05T13:30:00+02:00")
    assert counts(send(shop, again, again)) == (0, 2, 0, 0)
    same_figures(shop)


def test_within_one_batch_the_first_content_wins(shop: sa.Connection) -> None:
    result = send(shop, tokens("a", 1), tokens("a", 2), tokens("a", 1), tokens("a", 3))
    assert outcomes(result) == ["accepted", "conflict", "duplicate", "conflict"]
    assert rollup(shop)["tokens", LARGE, "10-05 11:00"] == ("1", 1)


def test_what_is_stored_wins_over_the_first_of_a_batch(shop: sa.Connection) -> None:
    send(shop, tokens("a", 1))
    assert outcomes(send(shop, tokens("a", 2), tokens("a", 1))) == ["conflict", "duplicate"]


def test_a_conflict_is_kept_once_with_its_event(shop: sa.Connection) -> None:
    send(shop, tokens("a", 1))
    for _ in range(2):
        (answer,) = send(shop, tokens("a", 2)).results
        assert (answer.field, answer.value) == ("key", "a")
        assert "new key" in (answer.reason or "")
    kept = shop.execute(sa.text("select key, event -> 'properties' ->> 'input_tokens' from usage_conflict"))
    assert [tuple(row) for row in kept] == [("a", "2")]


def test_a_key_belongs_to_its_source(shop: sa.Connection) -> None:
    assert counts(send(shop, tokens("a", 1), tokens("a", 2, source="other"))) == (2, 0, 0, 0)


@pytest.mark.parametrize("value", ["12", True, None])
def test_an_event_must_carry_the_number_that_its_metric_sums(shop: sa.Connection, value: object) -> None:
    properties = {} if value is None else {"input_tokens": value}
    result = send(shop, event("bad", properties=properties), tokens("good", 1))
    assert outcomes(result) == ["rejected", "accepted"]
    assert result.results[0].field == "properties.input_tokens"
    assert "metric tokens" in (result.results[0].reason or "")
    assert number_of(shop, "usage_rejected", "key = 'bad' and field = 'properties.input_tokens'") == 1


def test_a_rejected_event_leaves_its_key_free(shop: sa.Connection) -> None:
    send(shop, tokens("a", "many"))
    assert counts(send(shop, tokens("a", 4))) == (1, 0, 0, 0)


def test_every_outcome_is_counted_by_source_and_hour_and_batch(shop: sa.Connection) -> None:
    result = send(shop, tokens("a", 1), tokens("a", 1), tokens("a", 2), event(source=None), event(type=None))
    assert counts(result) == (1, 1, 1, 2)
    by_source = shop.execute(sa.text("select source, accepted, duplicate, conflict, rejected from usage_outcome"))
    assert sorted(tuple(row) for row in by_source) == [("", 0, 0, 0, 1), ("gateway", 1, 1, 1, 1)]
    batch = shop.execute(sa.text("select batch_id, door, accepted, duplicate, conflict, rejected from usage_batch"))
    assert [tuple(row) for row in batch] == [(result.batch_id, "http", 1, 1, 1, 2)]


def test_groups_are_kept_apart_and_a_missing_property_is_a_group_of_its_own(shop: sa.Connection) -> None:
    def of(key: str, **properties: object) -> dict[str, object]:
        return event(key, properties={"input_tokens": 1, **properties})

    send(shop, of("a", model="1"), of("b", model=1), of("c", model=Decimal("1.0")), of("d"), of("e", model=True))
    groups = {groups: events for (metric, groups, _), (_, events) in rollup(shop).items() if metric == "tokens"}
    assert groups == {'{"model": "1"}': 1, '{"model": 1}': 2, "{}": 1, '{"model": true}': 1}


def test_usage_on_the_bound_of_a_bucket_belongs_to_the_bucket_it_opens(shop: sa.Connection) -> None:
    send(
        shop,
        tokens("a", 1, timestamp="2026-10-05T10:59:59.999999Z"),
        tokens("b", 2, timestamp="2026-10-05T11:00:00Z"),
    )
    assert rollup(shop)["tokens", LARGE, "10-05 10:00"] == ("1", 1)
    assert rollup(shop)["tokens", LARGE, "10-05 11:00"] == ("2", 1)


def test_the_largest_numbers_of_a_bucket_add_up(shop: sa.Connection) -> None:
    send(shop, *[tokens(f"k{n}", 10**26 - 1) for n in range(11)])
    assert rollup(shop)["tokens", LARGE, "10-05 11:00"] == (str(11 * (10**26 - 1)), 11)


def test_events_go_into_the_partition_of_their_month(shop: sa.Connection) -> None:
    send(shop, event("old", timestamp="2000-01-01T00:00:00Z"), event("a", timestamp="2026-09-30T23:59:59Z"))
    send(shop, event("b", timestamp="2026-10-01T00:00:00Z"))
    for month in ("2000_01", "2026_09", "2026_10"):
        assert number_of(shop, "usage_event", f"tableoid = 'usage_event_{month}'::regclass") == 1


def test_the_contracts_that_cover_an_event_are_marked_once_a_batch(shop: sa.Connection) -> None:
    cover(shop, "past", "2026-01-01T00:00:00Z", "2026-10-05T11:00:00Z")
    cover(shop, "present", "2026-10-05T11:00:00Z", "2026-10-05T12:00:00Z")
    cover(shop, "open", "2026-10-05T11:00:00Z")
    cover(shop, "future", "2026-10-05T12:00:00Z")
    result = send(shop, tokens("a", 1), tokens("b", 1))  # both at 11:30
    assert result.contracts == ("open", "present")
    marks = shop.execute(sa.text("select contract_id, batch_id, received_at from usage_dirty order by 1"))
    expected = [("open", result.batch_id, NOON), ("present", result.batch_id, NOON)]
    assert [tuple(row) for row in marks] == expected


@pytest.mark.parametrize(
    "again", [[tokens("a", 1)], [tokens("a", 2)], [event("b", type="unknown")], [event(type=None)]]
)
def test_what_counts_for_nothing_marks_nothing(shop: sa.Connection, again: list[dict[str, object]]) -> None:
    cover(shop, "open", "2026-01-01T00:00:00Z")
    send(shop, tokens("a", 1))
    assert send(shop, *again).contracts == ()
    assert number_of(shop, "usage_dirty") == 1


def test_an_empty_batch_is_harmless(shop: sa.Connection) -> None:
    assert counts(send(shop)) == (0, 0, 0, 0)


def test_a_full_batch_is_taken_in_one_transaction(shop: sa.Connection) -> None:
    batch = [tokens(f"k{n}", 1) for n in range(MAX_BATCH_EVENTS)]
    assert counts(send(shop, *batch)) == (MAX_BATCH_EVENTS, 0, 0, 0)
    shop.rollback()
    assert number_of(shop, "usage_event") == 0
    assert counts(send(shop, *batch)) == (MAX_BATCH_EVENTS, 0, 0, 0)
    same_figures(shop)


def test_readings_are_cut_half_open_and_kept_apart_by_groups(shop: sa.Connection) -> None:
    def at(hour: int, number: int, model: str) -> dict[str, object]:
        properties = {"model": model, "input_tokens": number}
        return event(f"{hour}{model}", timestamp=f"2026-10-05T{hour:02}:00:00Z", properties=properties)

    send(shop, at(1, 1, "large"), at(2, 10, "large"), at(2, 100, "small"), at(4, 1000, "large"), at(5, 7, "large"))
    cuts = [datetime(2026, 10, 5, hour, tzinfo=UTC) for hour in (2, 3, 4, 5)]
    requests, summed = read_metrics(shop, "acme", cuts)
    assert (requests.metric_id, summed.metric_id) == ("requests", "tokens")
    # 2 to 3: 10 large and 100 small; 3 to 4: nothing; 4 to 5: 1000 large; the events at 1 and 5 lie outside
    assert [(one.groups, one.start.hour, one.end.hour, int(one.quantity)) for one in summed.readings] == [
        ((("model", "large"),), 2, 3, 10),
        ((("model", "large"),), 4, 5, 1000),
        ((("model", "small"),), 2, 3, 100),
    ]
    assert [(one.groups, int(one.quantity), one.events) for one in requests.readings] == [((), 2, 2), ((), 1, 1)]
    assert read_metrics(shop, "acme", cuts[:1]) == ()
    assert event_types_of(read_rules(shop)) == {"tokens": "llm.request", "requests": "llm.request"}


@pytest.mark.parametrize(
    "cuts", [[NOON.replace(minute=15), NOON.replace(hour=13)], [NOON, NOON], [NOON.replace(hour=13), NOON]]
)
def test_readings_refuse_cuts_that_split_a_bucket_or_do_not_ascend(shop: sa.Connection, cuts: list[datetime]) -> None:
    with pytest.raises(ValueError, match="cut"):
        read_metrics(shop, "acme", cuts)


examples = count()
sent = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 2), st.sampled_from([9, 10])), max_size=14)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent, st.sets(st.integers(1, 13)))
def test_any_order_and_any_batches_count_like_a_dictionary(
    shop: sa.Connection, sent: list[tuple[int, int, int]], cuts: set[int]
) -> None:
    source = f"source-{next(examples)}"
    stored: dict[int, tuple[int, int]] = {}
    expected: list[str] = []
    for key, number, hour in sent:
        first = stored.setdefault(key, (number, hour))
        expected.append("duplicate" if first == (number, hour) else "conflict")
    for key in stored:
        expected[next(n for n, one in enumerate(sent) if one[0] == key)] = "accepted"
    events = [
        tokens(str(key), number, source=source, timestamp=f"2026-10-05T{hour:02}:30:00Z") for key, number, hour in sent
    ]
    before = rollup(shop)
    answers: list[str] = []
    bounds = [0, *sorted(cuts), len(events)]
    for start, end in pairwise(bounds):
        answers += outcomes(send(shop, *events[start:end]))
    assert answers == expected
    totals: dict[str, int] = defaultdict(int)
    for number, hour in stored.values():
        totals[f"10-05 {hour:02}:00"] += number
    after = rollup(shop)
    for bucket in ("10-05 09:00", "10-05 10:00"):
        grown = int(after.get(("tokens", LARGE, bucket), ("0", 0))[0]) - int(
            before.get(("tokens", LARGE, bucket), ("0", 0))[0]
        )
        assert grown == totals[bucket]
    same_figures(shop)
