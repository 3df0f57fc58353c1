"""A changed rule is a metric's next version: it counts from its hour on, and what was counted before stays."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.customers import Customer, create_customer
from ledger.errors import ConflictError, InvalidError
from ledger.intake.readings import read_metrics
from ledger.metric_trials import MetricDifference, try_metric
from ledger.metrics import create_metric, get_metric
from pricing.calendar import Period
from pricing.metrics import Filter
from pricing.money import total
from tests.ledger.usage import NOON, cover, event, number_of, outcomes, rollup, send, tokens
from tests.metrics import metric

TEN = datetime(2026, 10, 5, 10, tzinfo=UTC)
ELEVEN = TEN + timedelta(hours=1)
DAY = (NOON.replace(hour=0), NOON.replace(hour=0) + timedelta(days=1))


def at(hour: int, key: str, number: int, **properties: object) -> dict[str, object]:
    timestamp = f"2026-10-05T{hour:02}:30:00Z"
    return event(key, timestamp=timestamp, properties={"model": "large", "input_tokens": number, **properties})


def quantity(connection: sa.Connection, metric_id: str, *cuts: datetime) -> list[Decimal]:
    """What each interval adds to a metric, its groups added up."""
    readings = [r for m in read_metrics(connection, "acme", cuts) if m.metric_id == metric_id for r in m.readings]
    return [total([r.quantity for r in readings if r.start == start]) for start in cuts[:-1]]


def test_events_count_under_the_version_in_force_at_their_timestamp(shop: sa.Connection) -> None:
    send(shop, at(9, "a", 1), at(11, "b", 2, output=100))
    changed = metric("tokens", "llm.request", "sum", expression="input_tokens + output", effective_from=ELEVEN)
    assert create_metric(shop, changed) == "changed"
    send(shop, at(9, "c", 4), at(11, "d", 8, output=200))
    assert {bucket: total for (name, _, bucket), total in rollup(shop).items() if name == "tokens"} == {
        "10-05 09:00": ("5", 2),  # 1 + 4, tokens in alone
        "10-05 11:00": ("310", 2),  # 2 + 100 + 8 + 200
    }
    assert [version.version for version in get_metric(shop, "tokens").versions] == [1, 2]
    assert quantity(shop, "tokens", *DAY) == [315]


def test_recording_a_version_again_is_harmless(shop: sa.Connection) -> None:
    changed = metric("tokens", "llm.request", "sum", "output_tokens", effective_from=ELEVEN)
    assert create_metric(shop, changed) == "changed"
    assert create_metric(shop, changed) == "exists"
    assert create_metric(shop, metric("tokens", "llm.request", "sum", "input_tokens", ("model",))) == "exists"
    assert number_of(shop, "metric", "metric_id = 'tokens'") == 2


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({}, "a changed rule needs effective_from"),
        ({"effective_from": TEN}, "must be after that of version 2"),
        ({"effective_from": ELEVEN}, "must be after that of version 2"),
    ],
)
def test_a_changed_rule_says_from_when_it_counts(
    shop: sa.Connection, changes: dict[str, datetime], refusal: str
) -> None:
    create_metric(shop, metric("tokens", "llm.request", "sum", "output_tokens", effective_from=ELEVEN))
    with pytest.raises(ConflictError, match=refusal):
        create_metric(shop, metric("tokens", "llm.request", "max", "output_tokens", (), **changes))


def test_a_rule_begins_on_a_full_hour(shop: sa.Connection) -> None:
    half_past = TEN + timedelta(minutes=30)
    with pytest.raises(InvalidError, match="must be a full hour"):
        create_metric(shop, metric("tokens", "llm.request", "sum", "output_tokens", effective_from=half_past))


def test_what_is_invoiced_is_not_counted_anew(shop: sa.Connection) -> None:
    send(shop, at(9, "a", 1))
    cover(shop, "one", "2026-10-05T00:00:00Z")
    shop.execute(
        sa.text(
            "insert into contract_period (contract_id, start_at, end_at, state, cutoff_batch_id, frozen_at)"
            " values ('one', '2026-10-05T00:00:00Z', '2026-10-05T10:00:00Z', 'frozen', 1, now())"
        )
    )
    before = metric("tokens", "llm.request", "sum", "output_tokens", effective_from=TEN - timedelta(hours=3))
    with pytest.raises(ConflictError, match="lies before 2026-10-05T10:00:00"):
        create_metric(shop, before)
    shop.rollback()


def test_a_version_may_begin_where_the_invoiced_period_ends(shop: sa.Connection) -> None:
    send(shop, at(9, "a", 1), at(10, "b", 2))
    cover(shop, "one", "2026-10-05T00:00:00Z")
    shop.execute(
        sa.text(
            "insert into contract_period (contract_id, start_at, end_at, state, cutoff_batch_id, frozen_at)"
            " values ('one', '2026-10-05T00:00:00Z', '2026-10-05T10:00:00Z', 'frozen', 1, now())"
        )
    )
    shop.execute(sa.text("delete from usage_dirty"))
    changed = metric("tokens", "llm.request", "count", effective_from=TEN)
    assert create_metric(shop, changed) == "changed"
    assert quantity(shop, "tokens", DAY[0], TEN, DAY[1]) == [1, 1]  # 1 token, then 1 event
    assert number_of(shop, "usage_dirty", "contract_id = 'one' and batch_id = 0") >= 1


def test_a_highest_value_goes_on_where_only_a_filter_changes(shop: sa.Connection) -> None:
    create_metric(shop, metric("peak", "llm.request", "max", "input_tokens"))
    large = (Filter("model", equals="large"),)
    create_metric(shop, metric("peak", "llm.request", "max", "input_tokens", filters=large, effective_from=TEN))
    send(shop, at(9, "a", 7, model="small"), at(11, "b", 5), at(11, "c", 9, model="small"))
    # 7 by the first version; of 5 and 9 the second counts 5 alone, which is not above 7
    assert quantity(shop, "peak", DAY[0], TEN, DAY[1]) == [7, 0]


def test_parts_that_are_counted_in_another_way_add_up(shop: sa.Connection) -> None:
    create_metric(shop, metric("mixed", "llm.request", "max", "input_tokens"))
    create_metric(shop, metric("mixed", "llm.request", "sum", "input_tokens", effective_from=TEN))
    send(shop, at(9, "a", 7), at(9, "b", 3), at(11, "c", 5), at(11, "d", 6))
    assert quantity(shop, "mixed", DAY[0], TEN, DAY[1]) == [7, 11]  # the highest of 7 and 3, then 5 + 6


def test_what_carries_over_goes_on_in_every_period(shop: sa.Connection) -> None:
    create_metric(shop, metric("stored", "disk", "time_weighted", "delta", carry_over=True, time_unit="hour"))
    for hour, delta in ((8, 10), (10, -4)):
        send(
            shop, event(f"k{hour}", type="disk", timestamp=f"2026-10-05T{hour:02}:30:00Z", properties={"delta": delta})
        )
    cuts = (TEN, ELEVEN, NOON)
    # from 10 to 11: 10 for half an hour, then 6 for half an hour; from 11 to 12: 6 for an hour
    assert quantity(shop, "stored", *cuts) == [8, 6]
    until = [r.quantity for m in read_metrics(shop, "acme", cuts, until=ELEVEN) for r in m.readings]
    assert until == [8]  # at eleven, nothing has lasted beyond


def test_counting_begins_anew_with_each_billing_period(shop: sa.Connection) -> None:
    create_metric(shop, metric("models", "llm.request", "unique", "model"))
    send(shop, at(9, "a", 1), at(9, "b", 1, model="small"), at(10, "c", 1), at(11, "d", 1), at(11, "e", 1))
    cuts = (DAY[0], TEN, ELEVEN, NOON)
    (found,) = (m for m in read_metrics(shop, "acme", cuts, restarts=[ELEVEN]) if m.metric_id == "models")
    # two models until ten, none of them new until eleven; the next period counts the large one again
    figures = [(r.start, int(r.quantity), r.events) for r in found.readings]
    assert figures == [(DAY[0], 2, 2), (TEN, 0, 1), (ELEVEN, 1, 2)]


def test_readings_carry_money_and_single_values_where_they_are_asked_for(shop: sa.Connection) -> None:
    create_metric(shop, metric("sales", "sale", "sum", "size", amount_property="price"))
    for key, minute, size, price in (("a", 40, 2, "9.99"), ("b", 10, 3, "0.01")):
        properties = {"size": size, "price": Decimal(price)}
        send(shop, event(key, type="sale", timestamp=f"2026-10-05T09:{minute}:00Z", properties=properties))
    (found,) = read_metrics(shop, "acme", DAY, values_of=["sales"])
    (reading,) = found.readings
    assert (int(reading.quantity), reading.events, reading.amount) == (5, 2, Decimal("10.00"))
    assert reading.values == (Decimal(3), Decimal(2))  # in the order of time


@pytest.mark.parametrize(
    ("more", "properties", "field", "reason"),
    [
        ({"expression": "size * 2"}, {}, "properties.size", "is missing, and the expression size * 2 of metric m"),
        ({"expression": "size * 2"}, {"size": "big"}, "properties.size", "is no number"),
        ({"expression": "1 / size"}, {"size": 0}, "properties", "division by zero"),
        ({"value": "size", "amount_property": "price"}, {"size": 1}, "properties.price", "metric m carries its money"),
    ],
)
def test_an_event_that_a_rule_cannot_measure_is_rejected_with_field_and_metric(
    shop: sa.Connection, more: dict[str, str], properties: dict[str, object], field: str, reason: str
) -> None:
    create_metric(shop, metric("m", "sale", "sum", **more))  # type: ignore[arg-type]
    result = send(shop, event("bad", type="sale", properties=properties))
    assert outcomes(result) == ["rejected"]
    assert result.results[0].field == field
    assert reason in (result.results[0].reason or "")


def test_what_a_filter_leaves_out_needs_no_number(shop: sa.Connection) -> None:
    sold = (Filter("state", equals="sold"),)
    create_metric(shop, metric("m", "sale", "sum", "size", filters=sold))
    create_metric(shop, metric("n", "sale", "sum", expression="size + 1", filters=sold))
    result = send(shop, event("a", type="sale", properties={}), event("b", type="sale", properties={"state": "sold"}))
    assert outcomes(result) == ["accepted", "rejected"]


def test_older_events_that_cannot_be_measured_do_not_count(shop: sa.Connection) -> None:
    send(shop, event("a", type="sale", properties={}), event("b", type="sale", properties={"size": 2}))
    create_metric(shop, metric("m", "sale", "sum", expression="size * 10"))
    assert {name: total for (name, _, _), total in rollup(shop).items()} == {"m": ("20", 1)}


def test_a_removal_must_say_so(shop: sa.Connection) -> None:
    create_metric(shop, metric("seats", "seat", "unique", "user", operation_property="op", carry_over=True))
    result = send(
        shop,
        event("a", type="seat", properties={"user": "ann"}),
        event("b", type="seat", properties={"user": "bob", "op": "remove"}),
        event("c", type="seat", properties={"user": "cyd", "op": "delete"}),
        event("d", type="seat", properties={"op": "add"}),
    )
    assert outcomes(result) == ["accepted", "accepted", "rejected", "rejected"]
    assert quantity(shop, "seats", *DAY) == [1]


# --- trials -------------------------------------------------------------------------------------------------------


def test_a_trial_shows_what_another_rule_would_have_counted(engine: sa.Engine, shop: sa.Connection) -> None:
    create_customer(shop, Customer("bolt", "Bolt"))
    send(shop, at(9, "a", 1), at(11, "b", 2), tokens("c", 5, customer="bolt"))
    cover(shop, "one", "2026-10-05T00:00:00Z", "2026-10-05T11:00:00Z")
    shop.commit()
    changed = metric("tokens", "llm.request", "sum", expression="input_tokens * 10")
    with engine.connect() as connection:
        before = number_of(connection, "usage_rollup")
        connection.rollback()
        found = try_metric(connection, changed, Period(*DAY))
        connection.rollback()
        assert found == (
            MetricDifference("tokens", "acme", "one", Decimal(1), Decimal(10)),  # the contract ends at eleven
            MetricDifference("tokens", "bolt", None, Decimal(5), Decimal(50)),
        )
        assert [one.difference for one in found] == [9, 45]
        assert number_of(connection, "usage_rollup") == before
        connection.rollback()
        fresh = try_metric(connection, metric("peak", "llm.request", "max", "input_tokens"), Period(*DAY))
        assert [(int(one.before), int(one.after)) for one in fresh] == [(0, 1), (0, 5)]


def test_a_trial_wants_a_span_of_full_hours(engine: sa.Engine) -> None:
    for span in (Period(TEN, TEN), Period(TEN, ELEVEN + timedelta(minutes=1))):
        with engine.connect() as connection, pytest.raises(InvalidError, match="to "):
            try_metric(connection, metric("m", "t", "count"), span)
