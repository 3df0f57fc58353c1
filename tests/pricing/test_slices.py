"""Slices: what each day of a charge carries, so that nothing is lost between the days."""

from decimal import Decimal

import pytest

from pricing.prices import CellPrice, Graduated, Package, PerUnit, Volume
from tests.pricing.april import charge_for, graduated, product, rate, terms, tiers, used, volume

D = Decimal


@pytest.mark.parametrize(
    "price",
    [PerUnit(D(10)), Package(D(10), D(15)), Graduated(tiers((None, "1", "10"))), Volume(tiers((None, "2", "10")))],
)
def test_no_usage_costs_nothing_and_has_no_line(price: CellPrice) -> None:
    assert charge_for(price, "0") is None  # not even the first tier's flat fee
    assert rate(terms(product("chat", price)), []).lines == ()


def test_a_day_carries_what_it_adds_to_the_amount_so_far() -> None:
    rated = rate(terms(product("chat", graduated(("10", "1"), (None, "0.5")))), [used("8", day=1), used("6", day=2)])
    # day 1: 8 x 1; day 2: 2 x 1 + 4 x 0.5
    assert [(s.start.day, s.quantity, s.amount) for s in rated.charges[0].slices] == [(1, D(8), D(8)), (2, D(6), D(4))]


def test_every_day_of_a_volume_price_costs_the_price_that_the_whole_reaches() -> None:
    rated = rate(
        terms(product("chat", volume(("10", "1", "3"), (None, "0.5", "7")))), [used("8", day=1), used("6", day=2)]
    )
    # 14 units reach 0.5; the flat fee stands on the first day: 8 x 0.5 + 7, 6 x 0.5
    assert [s.amount for s in rated.charges[0].slices] == [D(11), D(3)]


def test_days_at_ledger_scale_add_up_to_the_rounded_charge() -> None:
    rated = rate(terms(product("chat", PerUnit(D("0.0000000000004")))), [used("1", day=day) for day in (1, 2, 3)])
    # 0.4, 0.8, 1.2 of the twelfth place so far: rounded 0, 1, 1, so the days carry 0, 1, 0
    assert [s.amount.scaleb(12) for s in rated.charges[0].slices] == [D(0), D(1), D(0)]
