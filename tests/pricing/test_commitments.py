"""Windowed commitments, by the worked examples of Flexprice's tests."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from pricing.commitments import shortfall, true_up, window_charge, window_steps
from pricing.money import Currency, currency, total
from pricing.prices import PerUnit
from pricing.terms import HoursOfDay, WindowedCommitment

D = Decimal
ONE, THREE = PerUnit(D(1)), PerUnit(D(3))
MORNING = HoursOfDay(9, 12, D(2), amount=D(5), overage_factor=D(2))
HOURLY = WindowedCommitment("hour", amount=D(10), overage_factor=D(2), true_up=True, hours=(MORNING,))
NIGHT = HoursOfDay(0, 6, D(1), quantity=D(4), overage_factor=D(2))
NIGHTLY = WindowedCommitment("hour", hours=(NIGHT,))


def test_each_window_stands_for_itself() -> None:
    assert window_charge(ONE, HOURLY, 9, D(10)).amount == 35  # 5 within, (20 - 5) x 2 above
    assert window_charge(ONE, HOURLY, 10, D(1)).amount == 2  # 2 of 5, without true-up in the morning
    assert window_charge(ONE, HOURLY, 18, D(3)).amount == 10  # 3 of 10, and 7 up to it
    assert window_charge(ONE, HOURLY, 12, D(3)).true_up == 7  # the morning ends before twelve


def test_windows_together_say_what_is_within_above_and_missing() -> None:
    steps = window_steps(ONE, HOURLY, [(9, D(10)), (10, D(1)), (18, D(3))], "call")
    assert [step.amount for step in steps] == [10, 30, 7]
    assert total([step.amount for step in steps]) == 47


def test_a_quantity_is_committed_at_the_price_of_its_hours_and_other_hours_are_free_of_it() -> None:
    steps = window_steps(THREE, NIGHTLY, [(2, D(10)), (10, D(5))], "call")
    assert [step.amount for step in steps] == [19, 12]  # 4 x 1 + 5 x 3; 6 x 1 x 2


def test_nothing_is_trued_up_before_the_period_is_over() -> None:
    assert window_charge(ONE, HOURLY, 18, D(3), true_up=False).amount == 3
    assert window_steps(ONE, HOURLY, [(18, D(0))], "call", true_up=False) == ()


def test_a_true_up_is_what_is_missing_after_rounding() -> None:
    assert true_up(D(1000), D(750), currency("USD")) == 250
    assert true_up(D(10000), D("8500.5"), currency("JPY")) == 1499  # half a yen rounds up
    assert true_up(D(10), D(11), currency("USD")) == 0


def test_a_minimum_is_short_by_what_rounded_amounts_leave_and_by_nothing_once_it_is_reached() -> None:
    # Lago: 2 of 29 days of 1,000,000 are 68,966, of a fee of 10,000 they are 690; usage came to 3,000.
    minor = Currency("minor", 0)
    assert shortfall(D("68965.517"), [D("689.655"), D(1000), D(1000), D(1000)], minor) == 65276
    assert shortfall(D(1000), [D(1500)], minor) is None
    assert shortfall(D(1000), [D(1000)], minor) is None


@given(st.integers(0, 23), st.integers(0, 1000).map(Decimal), st.sampled_from([HOURLY, NIGHTLY]))
def test_a_window_costs_its_usage_and_more_only_above_or_below_its_commitment(
    hour: int, quantity: Decimal, commitment: WindowedCommitment
) -> None:
    charge = window_charge(ONE, commitment, hour, quantity)
    without = window_charge(ONE, WindowedCommitment("hour", hours=_uncommitted(commitment)), hour, quantity)
    assert charge.amount >= without.amount == without.utilized
    assert charge.utilized <= without.utilized
    assert not (charge.overage and charge.true_up)
    assert total([step.amount for step in window_steps(ONE, commitment, [(hour, quantity)], "call")]) == charge.amount


def _uncommitted(commitment: WindowedCommitment) -> tuple[HoursOfDay, ...]:
    return tuple(HoursOfDay(hours.start, hours.end, hours.unit_price) for hours in commitment.hours)
