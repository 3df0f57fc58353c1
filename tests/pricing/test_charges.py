"""Charges in units of their own, and windows that are committed to."""

from dataclasses import replace
from decimal import Decimal

from pricing.prices import PerUnit
from pricing.terms import CustomUnit, Discount, HoursOfDay, Terms, WindowedCommitment
from tests.pricing.april import amounts, bill, by_day, graduated, on, product, rate, terms, used, used_at

D = Decimal
TWO = product("chat", PerUnit(D(2)))


def in_credits(money_per_unit: str, *, version: int = 1, day: int = 1) -> Terms:
    priced = replace(product("chat", graduated(("10", "3"), (None, "2"))), pricing_unit="credit")
    agreed = terms(priced, version=version, effective_from=on(day))
    return replace(agreed, units=(CustomUnit("credit", 0, D(money_per_unit)),))


def test_a_custom_unit_becomes_money_in_one_step_that_says_so() -> None:
    charge = rate(in_credits("0.05"), [used("8", day=1), used("6", day=2)]).charges[0]
    # 10 x 3 + 4 x 2 = 38 credits at 0.05; day 1: 8 x 3 x 0.05
    assert (charge.amount, by_day(charge)) == (D("1.90"), [(1, "1.2"), (2, "0.7")])
    assert len(charge.steps) == 1
    assert (charge.steps[0].quantity, charge.steps[0].unit_price, charge.steps[0].amount) == (
        D(38),
        D("0.05"),
        D("1.90"),
    )
    assert "38 credits at 0.05" in charge.steps[0].text


def test_another_rate_of_a_custom_unit_begins_another_charge_in_the_same_tiers() -> None:
    versions = [in_credits("1"), in_credits("2", version=2, day=11)]
    rated = rate(versions, [used("8", day=5), used("6", day=15)])
    # 8 x 3 x 1; then 2 x 3 + 4 x 2 = 14 credits x 2
    assert amounts(rated) == [("chat", "", "24"), ("chat", "", "28")]


def test_each_hour_is_measured_against_its_commitment() -> None:
    commitment = WindowedCommitment("hour", quantity=D(10), overage_factor=D("1.5"), true_up=True)
    committed = terms(replace(TWO, commitment=commitment))
    readings = [used_at("12", 1, 3), used_at("4", 1, 4)]
    # Of 720 hours one uses 12: 10 x 2 + 2 x 2 x 1.5 = 26. All others come to 20 each.
    assert amounts(rate(committed, readings)) == [("chat", "", str(26 + 719 * 20))]
    # While the period goes on nothing is trued up: 26 + 4 x 2
    assert amounts(rate(committed, readings, is_over=False)) == [("chat", "", "34")]


def test_hours_of_the_day_are_those_of_the_contract() -> None:
    night = HoursOfDay(0, 6, unit_price=D(1))
    committed = terms(replace(TWO, commitment=WindowedCommitment("hour", hours=(night,))))
    readings = [used_at("10", 1, 4), used_at("10", 1, 22)]  # in Berlin 06:00 and midnight
    assert amounts(rate(committed, readings, contract_zone="Europe/Berlin")) == [("chat", "", "30")]
    assert amounts(rate(committed, readings)) == [("chat", "", "30")]  # in UTC 04:00 is night and 22:00 is not
    assert by_day(rate(committed, readings, contract_zone="Europe/Berlin").charges[0]) == [(1, "20"), (1, "10")]
    assert by_day(rate(committed, readings).charges[0]) == [(1, "10"), (1, "20")]


def test_a_window_is_charged_with_its_last_interval_so_that_its_day_carries_it_whole() -> None:
    committed = terms(replace(TWO, commitment=WindowedCommitment("day", quantity=D(10), true_up=True)))
    rated = rate(committed, [used("4", day=day) for day in range(1, 31)])
    assert by_day(rated.charges[0]) == [(day, "20") for day in range(1, 31)]


def test_a_window_within_which_the_price_changes_has_the_commitment_that_it_began_with() -> None:
    commitment = WindowedCommitment("day", quantity=D(10), true_up=True)
    three = product("chat", PerUnit(D(3)))
    versions = [
        terms(replace(TWO, commitment=commitment)),
        terms(replace(three, commitment=commitment), version=2, effective_from=on(2, 12)),
    ]
    # 2 April, in which the price rises at noon, is committed to once, at the price of its morning.
    found = [by_day(charge) for charge in rate(versions, []).charges]
    assert found == [[(1, "20"), (2, "20")], [(day, "30") for day in range(3, 31)]]


def test_the_lines_of_a_charge_add_up_to_its_rounded_amount() -> None:
    discounted = replace(
        terms(product("chat", PerUnit(D("0.333")))), discounts=(Discount("off", "Half off", "percentage", D(50)),)
    )
    rated = rate(discounted, [used("1", day=1), used("1", day=2), used("1", day=3)])
    # exact: 0.999 - 0.4995 = 0.4995, rounded 0.50: the lines are 1.00 and what is missing to 0.50
    assert bill(rated) == [("usage", "chat", "1.00"), ("discount", "chat", "-0.50")]
    assert sum(part.amount for part in rated.charges[0].slices) == D("0.4995")
