"""Aggregation: what each aggregation makes of events, what periods take over, and the laws that hold for all."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.aggregation import Opening, aggregate, aggregate_groups, closing, counted
from pricing.calendar import Period, local_midnight
from pricing.metrics import Aggregation, MeasuredEvent, MetricVersion, Operation
from pricing.money import total
from pricing.terms import Conversion, QuantityRounding

D = Decimal


def at(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, 4, day, hour, minute, tzinfo=UTC)


APRIL = Period(at(1), datetime(2026, 5, 1, tzinfo=UTC))
MARCH = Period(datetime(2026, 3, 1, tzinfo=UTC), at(1))
STORAGE = MetricVersion(1, None, "stored", "time_weighted", property="gigabytes", carry_over=True)
DAILY = replace(STORAGE, time_unit="period", granularity="day")
SEATS = MetricVersion(1, None, "seat", "unique", property="user", operation_property="op", carry_over=True)
HELD_SEATS = replace(SEATS, aggregation="time_weighted", time_unit="period", granularity="day")


def metric(aggregation: Aggregation, *, carry_over: bool = False, percentile: str | None = None) -> MetricVersion:
    rank = None if percentile is None else D(percentile)
    return MetricVersion(1, None, "usage", aggregation, property="x", carry_over=carry_over, percentile=rank)


def values(*texts: str) -> list[MeasuredEvent]:
    return [MeasuredEvent(at(2, n), D(text)) for n, text in enumerate(texts)]


def seat(member: str, moment: datetime, operation: Operation = "add", order: str = "") -> MeasuredEvent:
    return MeasuredEvent(moment, member=member, operation=operation, order=order)


# --- figures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "texts", "expected"),
    [
        (metric("sum"), ("1.5", "2", "-0.5"), "3"),
        (metric("sum"), (), "0"),
        (metric("count"), ("7", "7", "7"), "3"),
        (metric("max"), ("12", "14.2", "3"), "14.2"),
        (metric("max"), ("-3", "-1"), "-1"),
        (metric("max"), (), "0"),
        (metric("min"), ("12", "14.2", "3"), "3"),
        (metric("latest"), ("18", "18", "14"), "14"),
        (metric("latest"), ("18", "-5"), "0"),  # a latest value below zero counts as zero
        (metric("average"), ("1", "2", "4"), "2.33333333333333333333"),  # 7 / 3
        (metric("average"), ("1", "4"), "2.5"),
        (metric("average"), (), "0"),
        (metric("percentile", percentile="50"), ("15", "20", "35", "40", "50"), "35"),
        (metric("percentile", percentile="40"), ("15", "20", "35", "40", "50"), "29"),  # rank 1.6: 20 + 0.6 x 15
        (metric("percentile", percentile="0"), ("3", "1", "2"), "1"),
        (metric("percentile", percentile="100"), ("3", "1", "2"), "3"),
        (metric("percentile", percentile="99.5"), ("0", "100"), "99.5"),
        (metric("percentile", percentile="95"), ("7",), "7"),
        (metric("percentile", percentile="95"), (), "0"),
    ],
)
def test_each_aggregation_makes_its_figure(version: MetricVersion, texts: tuple[str, ...], expected: str) -> None:
    assert aggregate(version, values(*texts), APRIL) == D(expected)


def test_events_of_one_moment_are_told_apart_by_their_order() -> None:
    events = [MeasuredEvent(at(3), D(8), order="b"), MeasuredEvent(at(3), D(12), order="a")]
    assert aggregate(metric("latest"), events, APRIL) == 8
    assert aggregate(metric("latest"), events[::-1], APRIL) == 8


def test_a_period_has_its_first_moment_and_not_its_end() -> None:
    events = [MeasuredEvent(moment, D(1)) for moment in (APRIL.start, APRIL.end - timedelta(microseconds=1), APRIL.end)]
    assert aggregate(metric("sum"), events, APRIL) == 2
    assert len(counted(metric("sum"), events, APRIL)) == 2


@pytest.mark.parametrize(("aggregation", "alone", "carried"), [
    ("sum", "48", "53"),
    ("count", "2", "4"),
    ("max", "24", "24"),
    ("min", "24", "2.5"),
    ("latest", "24", "24"),
])  # fmt: skip
def test_earlier_events_count_where_the_metric_carries_over(aggregation: Aggregation, alone: str, carried: str) -> None:
    before = [MeasuredEvent(MARCH.start, D("2.5"), order=name) for name in ("a", "b")]
    events = [*before, MeasuredEvent(at(2), D(24)), MeasuredEvent(at(3), D(24))]
    assert aggregate(metric(aggregation), events, APRIL) == D(alone)
    assert aggregate(metric(aggregation, carry_over=True), events, APRIL) == D(carried)


def test_a_quantity_is_rounded_and_then_converted() -> None:
    version = replace(
        metric("sum"), rounding=QuantityRounding("up", -2), conversion=Conversion("divide", D(1000), "half_up")
    )
    # 1,401 up to hundreds is 1,500, and 1.5 thousand is 2; the sum alone would be 1.401, that is 1
    assert aggregate(version, values("1400", "1"), APRIL) == 2


def test_each_combination_of_group_values_is_counted_alone() -> None:
    europe, america, asia = ((("region", name),) for name in ("eu", "us", "as"))
    events = [
        MeasuredEvent(at(1), D(2), groups=europe),
        MeasuredEvent(at(1, 1), D(3), groups=america),
        MeasuredEvent(at(1, 2), D(-1), groups=europe),
        MeasuredEvent(APRIL.end, D(9), groups=asia),
    ]
    version = replace(STORAGE, time_unit="period", rounding=QuantityRounding("half_up", 5))
    found = aggregate_groups(version, events, APRIL, openings={america: Opening(D(10))})
    # 720 hours: 2 - 718/720 and 10 + 3 x 719/720
    assert found == {europe: D("1.00278"), america: D("12.99583")}


# --- members ------------------------------------------------------------------------------------------------------


def test_a_member_counts_once_however_often_it_is_seen() -> None:
    version = replace(SEATS, operation_property=None, carry_over=False)
    events = [seat("ann", at(2)), seat("ann", at(3)), seat("bob", at(4)), seat("eve", MARCH.start)]
    assert aggregate(version, events, APRIL) == 2
    assert aggregate(replace(version, carry_over=True), events, APRIL) == 3


def test_who_was_removed_last_does_not_count() -> None:
    events = [
        seat("ann", at(2)),
        seat("ann", at(3), "remove"),
        seat("bob", at(2)),
        seat("bob", at(3), "remove", order="1"),
        seat("bob", at(3), "add", order="2"),  # of the same moment, and later
        seat("eve", at(4), "remove"),  # was never there
    ]
    assert aggregate(SEATS, events, APRIL) == 1
    assert closing(SEATS, events, APRIL).members == {"bob"}


@pytest.mark.parametrize(
    ("events", "days"),
    [
        ([seat("ann", at(16, 9))], 15),  # from the 16th to the 30th
        ([seat("ann", MARCH.start)], 30),
        ([seat("ann", MARCH.start), seat("ann", at(15, 23), "remove")], 15),  # the day of leaving counts
        ([seat("ann", MARCH.start), seat("ann", at(1), "remove")], 1),
        ([seat("ann", MARCH.start), seat("ann", at(30, 23), "remove")], 30),
        ([seat("ann", MARCH.start), seat("ann", at(1) - timedelta(seconds=1), "remove")], 0),
        ([seat("ann", at(2)), seat("ann", at(29, 23), "remove")], 28),
        # three visits on one day are one day
        ([seat("ann", at(2, hour), "remove" if hour % 2 else "add") for hour in range(6)], 1),
        ([seat("ann", at(2)), seat("ann", at(5, 1), "remove"), seat("ann", at(5, 2))], 29),
        ([seat("ann", at(30, 23)), seat("ann", APRIL.end, "remove")], 1),
    ],
)
def test_a_seat_counts_for_the_share_of_days_on_which_it_was_held(events: list[MeasuredEvent], days: int) -> None:
    held = aggregate(replace(HELD_SEATS, time_unit="day"), events, APRIL)
    assert held == days
    assert aggregate(replace(HELD_SEATS, rounding=QuantityRounding("up", 5)), events, APRIL) == round_up(days, 30)


def round_up(days: int, of_days: int) -> Decimal:
    return D(-(-days * 100_000 // of_days)).scaleb(-5)


# --- levels over time ---------------------------------------------------------------------------------------------


def test_a_level_counts_for_the_time_that_it_lasts() -> None:
    events = [MeasuredEvent(at(1, 6), D(10)), MeasuredEvent(at(1, 18), D(-4))]
    day = Period(at(1), at(2))
    # 10 for twelve hours and 6 for six
    assert aggregate(replace(STORAGE, time_unit="hour"), events, day) == 156
    assert aggregate(STORAGE, events, day) == 156 * 3600
    assert aggregate(replace(STORAGE, time_unit="minute"), events, day) == 156 * 60
    assert aggregate(replace(STORAGE, time_unit="day"), events, day) == D("6.5")
    assert aggregate(replace(STORAGE, time_unit="period"), events, day) == D("6.5")


def test_a_part_of_a_period_weighs_as_much_as_its_time() -> None:
    part = Period(at(16), APRIL.end)
    assert aggregate(replace(STORAGE, time_unit="period"), [], part, opening=Opening(D(8)), whole=APRIL) == 4
    assert aggregate(DAILY, [], part, opening=Opening(D(8)), whole=APRIL) == 4


def test_whole_days_are_those_of_the_time_zone() -> None:
    new_york = "America/New_York"
    period = Period(local_midnight(at(1).date(), new_york), local_midnight(APRIL.end.date(), new_york))
    late = [MeasuredEvent(at(16, 2), D(30))]  # 22:00 on the 15th in New York: 16 days are left
    assert aggregate(DAILY, late, period, time_zone=new_york) == 16
    assert aggregate(DAILY, late, APRIL) == 15


def test_a_day_of_23_hours_is_a_whole_day() -> None:
    berlin = "Europe/Berlin"
    march = Period(datetime(2026, 2, 28, 23, tzinfo=UTC), datetime(2026, 3, 31, 22, tzinfo=UTC))
    events = [MeasuredEvent(datetime(2026, 3, 29, 12, tzinfo=UTC), D(31))]  # the day on which the clocks go forward
    assert aggregate(DAILY, events, march, time_zone=berlin) == 3


# --- laws ---------------------------------------------------------------------------------------------------------

AGGREGATIONS: tuple[MetricVersion, ...] = (
    metric("sum"),
    metric("count"),
    metric("max", carry_over=True),
    metric("min"),
    metric("latest", carry_over=True),
    metric("average"),
    metric("percentile", percentile="87.5"),
    replace(metric("unique"), operation_property="op"),
    SEATS,
    STORAGE,
    replace(STORAGE, carry_over=False),
    DAILY,
    HELD_SEATS,
    replace(HELD_SEATS, granularity="second"),
)
WINDOW = Period(MARCH.start, APRIL.end + timedelta(days=2))
moments = st.integers(0, int((WINDOW.end - WINDOW.start) / timedelta(hours=1))).map(
    lambda hours: WINDOW.start + timedelta(hours=hours)
)
amounts = st.decimals(-100, 100, places=2)


@st.composite
def some_events(draw: st.DrawFn) -> list[MeasuredEvent]:
    """Draw events with values, members and an order of their own, some before and some after April."""
    operations: st.SearchStrategy[Operation] = st.sampled_from(("add", "remove"))
    return [
        MeasuredEvent(draw(moments), draw(amounts), draw(st.sampled_from("abc")), (), draw(operations), f"{n:03}")
        for n in range(draw(st.integers(0, 8)))
    ]


@given(st.sampled_from(AGGREGATIONS), some_events(), st.randoms(use_true_random=False))
def test_the_order_in_which_events_arrive_does_not_matter(
    version: MetricVersion, events: list[MeasuredEvent], chance: Random
) -> None:
    shuffled = list(events)
    chance.shuffle(shuffled)
    assert aggregate(version, shuffled, APRIL) == aggregate(version, events, APRIL)


@given(st.sampled_from([version for version in AGGREGATIONS if version.carry_over]), some_events())
def test_carrying_over_is_the_same_as_opening_at_what_the_period_before_closed_with(
    version: MetricVersion, events: list[MeasuredEvent]
) -> None:
    opening = closing(version, events, MARCH)
    since = [event for event in events if event.at >= APRIL.start]
    assert aggregate(version, since, APRIL, opening=opening) == aggregate(version, events, APRIL)
    assert closing(version, since, APRIL, opening=opening) == closing(version, events, APRIL)


@given(some_events(), st.lists(st.integers(1, 29), max_size=4, unique=True))
def test_the_parts_of_a_period_add_up_for_additive_aggregations(events: list[MeasuredEvent], days: list[int]) -> None:
    bounds = [APRIL.start, *(at(day + 1) for day in sorted(days)), APRIL.end]
    parts = [Period(start, end) for start, end in pairwise(bounds)]
    additive = (
        metric("sum"), metric("count"), STORAGE, replace(DAILY, time_unit="day"), replace(HELD_SEATS, time_unit="day"),
    )  # fmt: skip
    for version in additive:
        split = total([aggregate(version, events, part) for part in parts])
        assert split == aggregate(version, events, APRIL)


@given(amounts, st.integers(1, 30 * 24))
def test_a_constant_level_is_worth_the_level_times_the_time(level: Decimal, hours: int) -> None:
    period = Period(at(1), at(1) + timedelta(hours=hours))
    opening = Opening(level)
    assert aggregate(replace(STORAGE, time_unit="hour"), [], period, opening=opening) == level * hours
    assert aggregate(replace(STORAGE, time_unit="period"), [], period, opening=opening) == level
    assert aggregate(DAILY, [], period, opening=opening) == level


@given(st.lists(amounts, min_size=1, max_size=9), st.integers(0, 1000), st.integers(0, 1000))
def test_a_percentile_rises_with_its_rank_between_the_lowest_and_the_highest_value(
    found: list[Decimal], one: int, other: int
) -> None:
    events = [MeasuredEvent(at(2), value, order=str(n)) for n, value in enumerate(found)]
    low, high = (
        aggregate(metric("percentile", percentile=str(D(rank).scaleb(-1))), events, APRIL)
        for rank in sorted((one, other))
    )
    assert min(found) <= low <= high <= max(found)


@given(st.lists(amounts, min_size=1, max_size=9), amounts)
def test_shifting_all_values_shifts_average_and_percentile(found: list[Decimal], shift: Decimal) -> None:
    for version in (metric("average"), metric("percentile", percentile="90")):
        before, after = (
            aggregate(version, [MeasuredEvent(at(2), value + by, order=str(n)) for n, value in enumerate(found)], APRIL)
            for by in (D(0), shift)
        )
        assert abs(after - before - shift) <= D("1e-20")


@given(st.lists(amounts, min_size=1, max_size=9))
def test_an_average_lies_between_the_lowest_and_the_highest_value(found: list[Decimal]) -> None:
    events = [MeasuredEvent(at(2), value, order=str(n)) for n, value in enumerate(found)]
    assert min(found) <= aggregate(metric("average"), events, APRIL) <= max(found)
