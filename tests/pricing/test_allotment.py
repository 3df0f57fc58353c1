"""Free units: how many each window has, what rolls over, and what they are counted in."""

from dataclasses import replace
from decimal import Decimal

import pytest

from pricing.money import total
from pricing.prices import PerUnit, Seats
from pricing.terms import Allowance, Conversion, Reading, Terms
from tests.pricing.april import (
    amounts,
    by_day,
    graduated,
    on,
    product,
    rate,
    terms,
    used,
    used_before,
)

D = Decimal
ONE = product("chat", PerUnit(D(1)))


def free(units: str, *, cap: str | None = None, per_metric: str | None = None) -> Allowance:
    return Allowance(D(units), per_metric, rollover_cap=None if cap is None else D(cap))


def total_of(versions: Terms | list[Terms], *readings: Reading) -> Decimal:
    return total([charge.amount for charge in rate(versions, readings).charges])


def test_the_first_units_are_free_and_the_first_tiers_begin_after_them() -> None:
    price = replace(product("chat", graduated(("10", "1"), (None, "0.5"))), allowance=free("100"))
    rated = rate(terms(price), [used("80", day=1), used("40", day=2)])
    # 20 units are charged: 10 x 1 + 10 x 0.5, all of them on the second day
    assert by_day(rated.charges[0]) == [(1, "0"), (2, "15")]
    assert rated.charges[0].quantity == 120
    free_step = rated.charges[0].steps[0]
    assert (free_step.text, free_step.amount) == ("100 tokens of the allowance, free", D(0))


def test_free_units_are_counted_after_conversion() -> None:
    price = replace(ONE, conversion=Conversion("divide", D(1000), "up"), allowance=free("2"))
    assert total_of(terms(price), used("2500")) == 1  # three thousands begun, two free


def test_each_day_has_its_own_free_units() -> None:
    price = replace(ONE, tier_period="day", allowance=free("10"))
    assert amounts(rate(terms(price), [used("15", day=1), used("5", day=2)])) == [("chat", "", "5")]


def test_each_group_has_its_own_free_units() -> None:
    price = replace(ONE, group_by=("model",), allowance=free("10"))
    rated = rate(terms(price), [used("15", model="large"), used("12", model="small")])
    assert amounts(rated) == [("chat", "large", "5"), ("chat", "small", "2")]


def test_unused_units_roll_over_to_the_next_day_up_to_the_cap() -> None:
    price = replace(ONE, tier_period="day", allowance=free("10", cap="4"))
    # Day 1 leaves 8, of which 4 go on. Day 2 has 14 and uses 13, leaves 1. Day 3 has 11 and uses 15.
    rated = rate(terms(price, effective_from=on(1)), [used("2", day=1), used("13", day=2), used("15", day=3)])
    assert by_day(rated.charges[0]) == [(1, "0"), (2, "0"), (3, "4")]


@pytest.mark.parametrize(
    ("february", "march", "charged"),
    [
        ("0", "60", "20"),  # March has 130, leaves 70, of which 30 go on: 150 - 130
        ("100", "95", "45"),  # February leaves nothing, March 5: 150 - 105
        ("60", "125", "45"),  # February leaves 40, of which 30 go on; March has 130 and leaves 5: 150 - 105
        ("60", "200", "50"),  # nothing is left of March
    ],
)
def test_unused_units_of_earlier_periods_roll_over_one_by_one(february: str, march: str, charged: str) -> None:
    price = replace(ONE, allowance=free("100", cap="30"))
    readings = [used_before(february, 2), used_before(march, 3), used("150")]
    assert total_of(terms(price), *readings) == D(charged)


def test_without_a_cap_unused_units_are_lost() -> None:
    assert total_of(terms(replace(ONE, allowance=free("100"))), used_before("0", 3), used("150")) == 50


def test_an_earlier_period_leaves_what_its_own_allowance_left() -> None:
    versions = [
        terms(replace(ONE, allowance=free("100", cap="500")), effective_from=on(-60)),
        terms(replace(ONE, allowance=free("1000", cap="500")), version=2, effective_from=on(1)),
    ]
    # March had 100 and used 60; it cannot leave what only April's allowance of 1000 would have left.
    assert total_of(versions, used_before("60", 3), used("1050")) == 10


def test_an_allowance_per_contract_is_granted_once() -> None:
    price = replace(ONE, tier_period="contract", allowance=free("100"))
    assert total_of(terms(price), used_before("50", 2), used_before("30", 3), used("50")) == 30
    assert total_of(terms(price), used_before("150", 3), used("50")) == 50


def test_tiers_per_contract_stand_on_what_was_charged_before() -> None:
    price = replace(
        product("chat", graduated(("10", "1"), (None, "0.5"))), tier_period="contract", allowance=free("100")
    )
    # March charged 5 of its 105 units, so that 5 more cost 1 each and the rest 0.5.
    assert total_of(terms(price), used_before("105", 3), used("7")) == 6


def test_free_units_for_each_unit_of_another_metric_need_no_price_for_it() -> None:
    price = replace(ONE, allowance=free("10", per_metric="apps"))
    assert total_of(terms(price), used("50"), used("3", day=20, metric="apps")) == 20


def test_earlier_periods_grant_by_what_the_other_metric_counted_then() -> None:
    price = replace(ONE, allowance=free("10", cap="100", per_metric="apps"))
    # March: 5 apps, 50 free, 20 used, 30 go on. April: 1 app, 10 and 30 free.
    readings = [used_before("20", 3), used_before("5", 3, metric="apps"), used("50"), used("1", metric="apps")]
    assert total_of(terms(price), *readings) == 10


def test_free_units_for_each_seat_that_is_agreed_when_the_period_begins() -> None:
    def version(seats: str, number: int, day: int) -> Terms:
        team = product("team", Seats(D(seats), PerUnit(D(0))), metric=None, unit="seat")
        chat = replace(ONE, allowance=Allowance(D(10), per_seats="team"))
        return terms(chat, team, version=number, effective_from=on(day))

    assert total_of([version("3", 1, 1), version("9", 2, 15)], used("50", day=20)) == 20
