"""Thresholds: what raises an alert, what clears it, and the laws that every sequence of figures keeps."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.thresholds import (
    MOST_DAYS,
    Crossing,
    Direction,
    Threshold,
    crossing,
    days_left,
    forecast,
    hours_of,
    percent_left,
)

FIGURES = st.decimals(min_value=-50, max_value=250, places=2)
THRESHOLDS = st.builds(
    Threshold,
    bound=st.decimals(min_value="0.01", max_value=200, places=2),
    rearm=st.one_of(st.just(Decimal(0)), st.decimals(min_value=0, max_value=40, places=2)),
    direction=st.sampled_from(["rising", "falling"]),
)


def replayed(threshold: Threshold, figures: Sequence[Decimal]) -> list[Crossing | None]:
    raised = False
    found = []
    for figure in figures:
        one = crossing(threshold, figure, raised=raised)
        raised = one == "raised" or (raised and one is None)
        found.append(one)
    return found


def is_raised(crossings: Sequence[Crossing | None]) -> bool:
    happened = [one for one in crossings if one is not None]
    return bool(happened) and happened[-1] == "raised"


@pytest.mark.parametrize(
    ("direction", "rearm", "figures", "expected"),
    [
        # the bound itself is crossed, and one cent back it is not
        ("rising", "0", ["99.99", "100", "100", "99.99", "101"], [None, "raised", None, "cleared", "raised"]),
        # 100 - 20 = 80: at 80 it is not yet back, below it is
        (
            "rising",
            "20",
            ["100", "99", "80", "79.99", "99.99", "100"],
            ["raised", None, None, "cleared", None, "raised"],
        ),
        ("falling", "0", ["100.01", "100", "0", "100.01", "-1"], [None, "raised", None, "cleared", "raised"]),
        # 100 + 20 = 120
        ("falling", "20", ["100", "101", "120", "120.01", "100"], ["raised", None, None, "cleared", "raised"]),
    ],
)
def test_the_bound_raises_and_a_figure_beyond_the_margin_clears(
    direction: Direction, rearm: str, figures: Sequence[str], expected: Sequence[Crossing | None]
) -> None:
    threshold = Threshold(Decimal(100), Decimal(rearm), direction)
    assert replayed(threshold, [Decimal(figure) for figure in figures]) == expected


@given(THRESHOLDS, st.lists(FIGURES, max_size=20))
@settings(max_examples=100)
def test_raises_and_clears_take_turns_and_a_raise_comes_first(threshold: Threshold, figures: list[Decimal]) -> None:
    happened = [one for one in replayed(threshold, figures) if one is not None]
    assert happened == [("raised", "cleared")[place % 2] for place in range(len(happened))]


@given(THRESHOLDS, FIGURES, st.booleans())
@settings(max_examples=100)
def test_the_same_figure_twice_does_nothing_the_second_time(
    threshold: Threshold, figure: Decimal, raised: bool
) -> None:
    after = {"raised": True, "cleared": False, None: raised}[crossing(threshold, figure, raised=raised)]
    assert crossing(threshold, figure, raised=after) is None


@given(THRESHOLDS, st.lists(FIGURES, max_size=12).flatmap(lambda some: st.tuples(st.just(some), st.permutations(some))))
@settings(max_examples=100)
def test_a_last_figure_outside_the_margin_decides_whatever_came_before(
    threshold: Threshold, orders: tuple[list[Decimal], list[Decimal]]
) -> None:
    crossed, back = threshold.bound, threshold.bound + threshold.rearm + Decimal("0.01")
    if threshold.direction == "rising":
        back = threshold.bound - threshold.rearm - Decimal("0.01")
    for figures in orders:
        assert is_raised(replayed(threshold, [*figures, crossed]))
        assert not is_raised(replayed(threshold, [*figures, back]))


@given(THRESHOLDS, st.lists(st.decimals(min_value=0, max_value=1, places=4), max_size=20))
@settings(max_examples=100)
def test_inside_the_margin_an_alert_does_not_flap(threshold: Threshold, shares: list[Decimal]) -> None:
    sign = -1 if threshold.direction == "rising" else 1
    inside = [threshold.bound + sign * threshold.rearm * share for share in shares]
    assert replayed(threshold, [threshold.bound, *inside]) == ["raised", *[None] * len(inside)]


def test_a_balance_in_percent_is_exact_to_twelve_decimals() -> None:
    assert percent_left(Decimal(25), Decimal(200)) == Decimal("12.5")
    assert percent_left(Decimal(1), Decimal(3)) == Decimal("33.333333333333")
    assert percent_left(Decimal(0), Decimal(0)) == 0


def test_a_balance_lasts_as_long_as_it_is_drawn_at_the_same_pace() -> None:
    assert days_left(Decimal(30), Decimal(70), days=7) == 3  # 10 a day
    assert days_left(Decimal(10), Decimal(3), days=1) == Decimal("3.333333333333")
    assert days_left(Decimal(0), Decimal(70), days=7) == 0
    assert days_left(Decimal(30), Decimal(0), days=7) == MOST_DAYS
    assert days_left(Decimal(30), Decimal(70), days=0) == MOST_DAYS
    assert days_left(Decimal(10) ** 20, Decimal("0.01"), days=7) == MOST_DAYS


def test_a_forecast_adds_to_what_is_spent_the_mean_of_the_last_days_for_all_the_time_left() -> None:
    ten, seven = Decimal(10), Decimal(7)
    assert forecast(ten, seven, days=7, left=timedelta(days=3, hours=12)) == Decimal("13.5")  # 1.00 a day
    assert forecast(ten, Decimal(1), days=3, left=timedelta(days=1)) == Decimal("10.333333333333")
    assert forecast(ten, seven, days=0, left=timedelta(days=3)) == ten
    assert forecast(ten, seven, days=7, left=timedelta()) == ten
    assert forecast(ten, Decimal(-7), days=7, left=timedelta(days=3)) == seven  # corrections count, too


def test_hours_are_of_whole_seconds_and_never_below_zero() -> None:
    assert hours_of(timedelta(hours=6)) == 6
    assert hours_of(timedelta(minutes=90, microseconds=999_999)) == Decimal("1.5")
    assert hours_of(timedelta(seconds=-1)) == 0
