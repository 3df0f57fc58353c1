"""Slices: what each day of a charge carries, so that nothing is lost between the days."""

from dataclasses import replace
from decimal import Decimal

import pytest

from pricing.prices import CellPrice, Dynamic, Graduated, Package, Percentage, PerUnit, Volume
from pricing.terms import Conversion, Reading
from tests.pricing.april import by_day, charge_for, graduated, on, product, rate, terms, tiers, used, volume

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


def test_money_that_is_carried_without_a_quantity_stays_on_its_day() -> None:
    days = [
        Reading("tokens", on(day), on(day + 1), D(quantity), amount=D(amount))
        for day, quantity, amount in ((1, "1", "5"), (2, "0", "7"), (4, "1", "1"))
    ]
    rated = rate(terms(product("chat", Dynamic(D(1), "event_amount"))), days)
    assert by_day(rated.charges[0]) == [(1, "5"), (2, "7"), (4, "1")]


def test_thirds_add_up_to_the_whole() -> None:
    thirds = replace(product("chat", PerUnit(D(10) ** 10)), conversion=Conversion("divide", D(3)))
    rated = rate(terms(thirds), [used("1", day=day) for day in (1, 2, 3)])
    assert rated.charges[0].amount == sum(part.amount for part in rated.charges[0].slices) == D(10) ** 10


def test_events_of_one_moment_stand_in_one_order_whichever_is_given_first() -> None:
    payments = [Reading("tokens", on(1), on(2), D(n), events=1, values=(D(n),)) for n in (30, 20)]
    first_free = terms(product("chat", Percentage(D(10), free_events=1)))
    # the smaller one comes first and is free: 10% of 30
    for readings in (payments, payments[::-1]):
        assert rate(first_free, readings).charges[0].amount == 3
