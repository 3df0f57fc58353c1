"""Burning grants down: their order, their beginnings and ends, recurrences, resets and overage. All times are UTC."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.burndown import BurnDown, Grant, Recurrence, Used, burn_down
from pricing.calendar import Period
from pricing.errors import NegativeQuantityError, PricingError
from pricing.money import total

D = Decimal


def on(day: int, hour: int = 0) -> datetime:
    """A moment of January 2024; day 32 is 1 February."""
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day - 1, hours=hour)


JANUARY = Period(on(1), on(32))


def grant(grant_id: str, *, since: datetime = JANUARY.start, expires: datetime | None = None, **rest: object) -> Grant:
    return Grant(grant_id, D(100), since, expires, **rest)  # type: ignore[arg-type] # fields by their names


def used(day: int, quantity: int, *, hour: int = 0) -> Used:
    return Used(on(day, hour), D(quantity))


def run(grants: Sequence[Grant], *usage: Used, period: Period = JANUARY, **rest: object) -> BurnDown:
    opening = {each.grant_id: each.amount if each.is_active(period.start) else D(0) for each in grants}
    return burn_down(grants, opening, usage, period, **rest)  # type: ignore[arg-type] # fields by their names


# --- order --------------------------------------------------------------------------------------------------------


def test_priority_goes_before_expiry_and_expiry_before_creation() -> None:
    grants = [
        grant("never expires"),
        grant("created later", expires=on(20), created_at=on(3)),
        grant("created first", expires=on(20), created_at=on(2)),
        grant("first by priority", priority=0),
    ]
    found = run(grants, used(5, 100), used(6, 100), used(7, 130))
    assert found.balances == {  # 330 of 400: each but the last is used up in its order
        "first by priority": D(0), "created first": D(0), "created later": D(0), "never expires": D(70),
    }  # fmt: skip


def test_grants_alike_burn_in_the_order_given() -> None:
    assert run([grant("a"), grant("b")], used(2, 30)).balances == {"a": D(70), "b": D(100)}


# --- beginnings and ends ------------------------------------------------------------------------------------------


def test_usage_in_the_moment_of_a_start_burns_the_grant_and_in_the_moment_of_an_end_does_not() -> None:
    found = run([grant("short", since=on(5), expires=on(6))], used(5, 10), used(6, 20))
    assert found.balances == {"short": D(0)}
    assert found.overage == D(20)


def test_a_grant_that_ends_with_the_run_still_holds_its_balance() -> None:
    assert run([grant("january", expires=JANUARY.end)], used(5, 10)).balances == {"january": D(90)}


def test_a_voided_grant_holds_nothing_though_it_expires_later() -> None:
    found = run([grant("void", expires=on(30), ends_at=on(10))], used(9, 40), used(11, 5))
    assert (found.balances, found.overage) == ({"void": D(0)}, D(5))


def test_overage_burns_the_next_grant_that_starts() -> None:
    found = run([grant("late", since=on(10))], used(2, 30), used(11, 20))
    assert found.balances == {"late": D(50)}  # 100 - 30 - 20
    assert found.overage == D(0)
    assert found.opening_balances("late") == (D(0), D(100))


def test_overage_from_before_the_run_burns_first() -> None:
    assert run([grant("g")], used(2, 10), overage=D(15)).balances == {"g": D(75)}


def test_a_run_without_length_changes_nothing() -> None:
    found = run([grant("g")], used(1, 10), period=Period(on(1), on(1)))
    assert (found.balances, found.overage, found.usage_since_reset) == ({"g": D(100)}, D(0), D(0))


# --- recurrences --------------------------------------------------------------------------------------------------


def test_a_recurrence_fills_a_grant_up_and_does_not_add_to_it() -> None:
    weekly = grant("weekly", recurrence=Recurrence("week", on(4)))
    found = run([weekly], used(2, 30), used(5, 90), used(6, 20), period=Period(on(1), on(12)))
    # from the 4th on 100 again: 90 and 10 of the 20 are used, and the other 10 are overage, which the 11th covers
    assert [segment.start for segment in found.segments] == [on(1), on(4), on(11)]
    assert found.opening_balances("weekly") == (D(100), D(100), D(100))
    assert found.balances == {"weekly": D(90)}
    assert found.overage == D(0)


def test_a_recurrence_ends_with_its_grant() -> None:
    daily = grant("daily", expires=on(3), recurrence=Recurrence("day", on(1)))
    assert [segment.start for segment in run([daily]).segments] == [on(1), on(2), on(3)]


def test_a_monthly_recurrence_on_the_31st_turns_on_the_last_day_of_a_short_month_at_its_hour() -> None:
    turns = Recurrence("month", datetime(2023, 10, 31, 6, tzinfo=UTC)).after(on(31, 6))
    assert [next(turns), next(turns)] == [
        datetime(2024, 2, 29, 6, tzinfo=UTC),
        datetime(2024, 3, 31, 6, tzinfo=UTC),
    ]


# --- resets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("least", "most", "left"),
    [("0", "0", "0"), ("0", "50", "40"), ("0", "30", "30"), ("60", "80", "60")],
)
def test_a_reset_rolls_over_what_is_left_within_its_bounds(least: str, most: str, left: str) -> None:
    found = run([grant("g", rollover_min=D(least), rollover_max=D(most))], used(2, 60), resets=[on(10)])
    assert found.balances == {"g": D(left)}  # of the 40 that are left
    assert found.usage_since_reset == D(0)


@pytest.mark.parametrize(("keeps", "balance"), [(True, "45"), (False, "50")])
def test_a_reset_forgets_overage_unless_it_is_kept(keeps: bool, balance: str) -> None:
    lifted = grant("g", rollover_min=D(50), rollover_max=D(50))
    found = run([lifted], used(2, 105), resets=[on(10)], keeps_overage=keeps)
    assert found.balances == {"g": D(balance)}  # 50, less the 5 that 100 did not cover
    assert found.overage == D(0)
    assert [reset.overage_before for reset in found.resets] == [D(5)]


def test_a_reset_at_the_very_end_counts() -> None:
    found = run([grant("g", rollover_max=D(10))], used(2, 60), resets=[JANUARY.end])
    assert (found.balances, found.usage_since_reset) == ({"g": D(10)}, D(0))


def test_usage_since_the_reset_is_told() -> None:
    assert run([grant("g", rollover_max=D(100))], used(2, 60), used(11, 7), resets=[on(10)]).usage_since_reset == D(7)


# --- faults and laws ----------------------------------------------------------------------------------------------


def test_a_grant_given_twice_or_without_a_balance_and_negative_usage_are_refused() -> None:
    with pytest.raises(PricingError, match="given twice"):
        run([grant("g"), grant("g")])
    with pytest.raises(PricingError, match="'g' has no opening balance"):
        burn_down([grant("g")], {}, [], JANUARY)
    with pytest.raises(NegativeQuantityError, match="-1"):
        run([grant("g")], used(2, -1))


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 30), st.integers(0, 3)), max_size=6),
    st.lists(st.tuples(st.integers(1, 31), st.integers(0, 90)), max_size=8),
)
def test_what_ever_lasting_grants_lose_and_overage_are_the_usage(
    granted: list[tuple[int, int, int]], usage: list[tuple[int, int]]
) -> None:
    grants = [
        Grant(f"g{n}", D(amount), on(day), None, priority=priority) for n, (day, amount, priority) in enumerate(granted)
    ]
    found = run(grants, *(used(day, quantity) for day, quantity in usage))
    lost = total([each.amount - found.balances[each.grant_id] for each in grants])
    assert lost + found.overage == total([D(quantity) for _, quantity in usage])
    assert found.overage == 0 or not any(found.balances.values())


def test_a_hundred_thousand_grants_burn_in_their_order() -> None:
    grants = [Grant(f"g{n}", D(1), on(1), on(40) - timedelta(seconds=n * 7919 % 100_000)) for n in range(100_000)]
    found = run(grants, used(2, 60_000))
    left = {name for name, balance in found.balances.items() if balance}
    soonest = sorted(grants, key=lambda each: each.expires_at or JANUARY.end)
    assert left == {each.grant_id for each in soonest[60_000:]}
