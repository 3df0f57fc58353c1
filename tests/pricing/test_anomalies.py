"""Anomalies: bands worked out by hand, what an hour is compared with, and laws that hold for any history."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.anomalies import (
    ALL,
    HOUR,
    GroupUsage,
    HourlyUsage,
    Newcomer,
    judged,
    judged_hours,
    median,
    newcomer,
    newcomers_by_hour,
)
from pricing.money import EXACT

SIX = Decimal(6)
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = timedelta(weeks=1)

quantities = st.decimals(min_value=0, max_value=10**12, places=6)
histories = st.lists(quantities, min_size=1, max_size=30)


def figures(*numbers: int) -> list[Decimal]:
    return [Decimal(number) for number in numbers]


def hourly(weeks: int, figure: Callable[[datetime], int], *, zone: str = "UTC", **changed: int) -> HourlyUsage:
    """Usage from Monday on for so many weeks, each unit an event; `changed` are hours after its end by number."""
    hours = [MONDAY + number * HOUR for number in range(weeks * 168)]
    used = {hour: figure(hour) for hour in hours}
    used |= {MONDAY + weeks * WEEK + int(number.strip("h")) * HOUR: units for number, units in changed.items()}
    used = {hour: units for hour, units in used.items() if units}
    return HourlyUsage({hour: Decimal(units) for hour, units in used.items()}, used, zone)


def test_the_band_is_the_median_and_so_many_deviations_to_both_sides() -> None:
    # Median of 80, 90, 100, 110, 140 is 100; deviations 20, 10, 0, 10, 40: median 10. 6 * 14.826 = 88.956.
    one = judged(Decimal(150), figures(100, 140, 80, 110, 90), SIX)
    assert (one.expected, one.low, one.high) == (Decimal(100), Decimal("11.044"), Decimal("188.956"))
    assert not one.is_anomalous
    assert judged(Decimal(189), figures(100, 140, 80, 110, 90), SIX).is_above
    low = judged(Decimal(11), figures(100, 140, 80, 110, 90), SIX)
    assert (low.is_anomalous, low.is_above) == (True, False)


def test_a_figure_that_never_varied_may_begin_to_by_a_tenth_and_by_the_floor() -> None:
    assert judged(Decimal(1), figures(50, 50), SIX).high == 80  # 50 + 6 * 5
    assert judged(Decimal(1), figures(50, 50), SIX, floor=Decimal(8)).high == 98  # 50 + 6 * 8
    assert judged(Decimal(1), figures(50, 50), SIX, floor=Decimal(10)).low == 0  # 50 - 60 is cut off
    with pytest.raises(ValueError, match="have no median"):
        judged(Decimal(1), [], SIX)


@settings(max_examples=60)
@given(st.data(), quantities, histories)
def test_the_order_of_the_history_changes_nothing(
    data: st.DataObject, observed: Decimal, history: list[Decimal]
) -> None:
    assert judged(observed, data.draw(st.permutations(history)), SIX) == judged(observed, history, SIX)


@settings(max_examples=60)
@given(quantities, histories, st.decimals(min_value="0.001", max_value=1000, places=3), quantities)
def test_a_band_scales_with_what_it_is_of(
    observed: Decimal, history: list[Decimal], factor: Decimal, floor: Decimal
) -> None:
    def scaled(figure: Decimal) -> Decimal:
        return EXACT.multiply(figure, factor)

    one = judged(observed, history, SIX, floor=floor)
    other = judged(scaled(observed), [scaled(figure) for figure in history], SIX, floor=scaled(floor))
    assert other.expected == scaled(one.expected)
    assert (other.low, other.high) == (scaled(one.low), scaled(one.high))
    assert other.is_anomalous == one.is_anomalous


@settings(max_examples=60)
@given(quantities, st.integers(1, 30), st.decimals(min_value="0.1", max_value=100, places=1))
def test_a_value_within_its_own_constant_history_is_never_anomalous(
    figure: Decimal, length: int, sensitivity: Decimal
) -> None:
    assert not judged(figure, [figure] * length, sensitivity).is_anomalous


@settings(max_examples=60)
@given(histories)
def test_a_median_has_as_many_figures_below_as_above(history: list[Decimal]) -> None:
    middle = median(history)
    assert sum(figure < middle for figure in history) <= len(history) / 2
    assert sum(figure > middle for figure in history) <= len(history) / 2


def test_an_hour_is_compared_with_the_same_hour_of_the_week() -> None:
    def by_weekday(hour: datetime) -> int:
        return 100 if hour.weekday() < 5 else 30

    usage = hourly(5, by_weekday, h0=100, h120=100)  # Monday and Saturday at midnight
    monday, saturday = judged_hours(usage, [MONDAY + 5 * WEEK, MONDAY + 5 * WEEK + 5 * DAY], SIX)
    assert (monday.judgement.expected, monday.is_raised) == (Decimal(100), False)
    assert (saturday.judgement.expected, saturday.judgement.high, saturday.is_raised) == (
        Decimal(30),
        Decimal(48),
        True,
    )


def test_with_less_than_four_weeks_an_hour_is_compared_with_the_same_hour_of_the_day() -> None:
    usage = hourly(1, lambda hour: 40 if hour.hour == 9 else 100, h9=100)
    [nine] = judged_hours(usage, [MONDAY + WEEK + 9 * HOUR], SIX)
    assert (nine.judgement.expected, nine.judgement.high, nine.is_raised) == (Decimal(40), Decimal(64), True)


def test_the_hours_are_those_of_the_zone_also_where_its_clocks_change() -> None:
    # Berlin changes on 29 March: nine o'clock is 08:00 in UTC before and 07:00 after.
    def at_nine(hour: datetime) -> int:
        return 300 if hour.hour == 8 else 100

    usage = hourly(12, at_nine, zone="Europe/Berlin", h7=300, h8=300)
    monday = MONDAY + 12 * WEEK
    nine, ten = judged_hours(usage, [monday + 7 * HOUR, monday + 8 * HOUR], SIX)
    assert (nine.judgement.expected, nine.is_raised) == (Decimal(300), False)
    assert (ten.judgement.expected, ten.is_raised) == (Decimal(100), True)


def test_tiny_counts_raise_nothing() -> None:
    quiet = hourly(5, lambda _: 1, h0=19, h1=20)
    first, second = judged_hours(quiet, [MONDAY + 5 * WEEK, MONDAY + 5 * WEEK + HOUR], SIX)
    assert (first.judgement.is_above, first.is_raised) == (True, False)
    assert second.is_raised


def test_usage_in_bursts_is_compared_with_the_hours_that_had_any() -> None:
    def on_tenth_days(hour: datetime) -> int:
        return 1000 if hour.hour == 3 and (hour - MONDAY).days % 10 == 0 else 0

    usage = hourly(8, on_tenth_days, h3=1000, h4=1601)
    usual, more = judged_hours(usage, [MONDAY + 8 * WEEK + n * HOUR for n in (3, 4)], SIX)
    assert (usual.judgement.expected, usual.is_raised) == (Decimal(1000), False)
    assert (more.judgement.high, more.is_raised) == (Decimal(1600), True)


def test_a_new_customer_is_compared_with_its_peers_or_not_at_all() -> None:
    used = {MONDAY: 100, MONDAY + HOUR: 100}
    peers = {MONDAY: figures(40, 50, 60), MONDAY + HOUR: figures(40, 50)}
    usage = HourlyUsage({hour: Decimal(units) for hour, units in used.items()}, used, "UTC", peers)
    # Median 50, deviations 10, 0, 10: 50 + 6 * 14.826 = 138.956. Of two peers nothing is concluded.
    [only] = judged_hours(usage, used, SIX)
    assert (only.hour, only.judgement.high, only.is_raised) == (MONDAY, Decimal("138.956"), False)
    assert [one.is_raised for one in judged_hours(usage, used, Decimal(3))] == [True]  # 50 + 44.478


def test_a_judgement_looks_only_at_what_lies_before_it() -> None:
    usage = hourly(5, lambda hour: 100 + hour.hour)
    hours = [MONDAY + 4 * WEEK + number * HOUR for number in range(24)]
    until = MONDAY + 4 * WEEK + DAY
    known = {hour: units for hour, units in usage.figures.items() if hour < until}
    cut = HourlyUsage(known, usage.events, "UTC")
    assert [*judged_hours(cut, hours, SIX)] == [*judged_hours(usage, hours, SIX)]


def test_the_newcomer_is_the_largest_of_those_not_seen_that_counts() -> None:
    groups = {
        ALL: GroupUsage(Decimal(400), 400),
        ("region", "eu"): GroupUsage(Decimal(250), 250),
        ("region", "apac"): GroupUsage(Decimal(100), 100),
        ("key", "k9"): GroupUsage(Decimal(50), 19),
    }
    seen = {("region", "eu")}
    assert newcomer(groups, seen=seen, usual=Decimal(0)) == Newcomer("region", "apac", Decimal(25))
    assert newcomer(groups, seen=seen, usual=Decimal(1000)) == Newcomer("region", "apac", Decimal(10))
    assert newcomer(groups, seen={*groups}, usual=Decimal(0)) is None


def test_a_group_is_new_on_its_first_two_days_and_to_no_new_customer() -> None:
    def used(region: str, units: int) -> dict[tuple[str, str], GroupUsage]:
        one = GroupUsage(Decimal(units), units)
        return {ALL: one, ("region", region): one}

    regions = ["eu", "eu", "eu", "us", "us", "us"]
    by_hour = {MONDAY + number * DAY: used(region, 100) for number, region in enumerate(regions)}
    found = [one and one.value for _, _, one in newcomers_by_hour(by_hour, "UTC")]
    assert found == [None, None, None, "us", "us", None]
