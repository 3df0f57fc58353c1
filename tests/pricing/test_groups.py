"""Group values: what is rated alone, and which price of a matrix applies."""

from dataclasses import replace
from decimal import Decimal

import pytest

from pricing.errors import MissingPriceError
from pricing.prices import Cell, CellPrice, Matrix, PerUnit
from tests.pricing.april import amounts, bill, drawn, graduated, lot, on, product, rate, terms, used

D = Decimal
TIERS = graduated(("100", "1"), (None, "0.5"))
BY_MODEL = replace(product("chat", TIERS), group_by=("model",))


def matrix(*cells: tuple[str, str], default: CellPrice | None = None) -> Matrix:
    return Matrix(("model",), tuple(Cell((value,), PerUnit(D(price))) for value, price in cells), default)


def test_each_combination_of_values_fills_its_own_tiers() -> None:
    readings = [used("80", model="large"), used("120", day=2, model="small")]
    # large: 80 x 1; small: 100 x 1 + 20 x 0.5
    assert amounts(rate(terms(BY_MODEL), readings)) == [("chat", "large", "80"), ("chat", "small", "110")]


def test_without_group_by_all_groups_fill_the_tiers_together() -> None:
    readings = [used("80", model="large"), used("120", day=2, model="small")]
    assert amounts(rate(terms(product("chat", TIERS)), readings)) == [("chat", "", "150")]  # 100 x 1 + 100 x 0.5


def test_keys_that_the_product_does_not_name_are_added_up() -> None:
    readings = [used("80", model="large", region="eu"), used("40", model="large", region="us")]
    assert amounts(rate(terms(BY_MODEL), readings)) == [("chat", "large", "110")]  # 100 x 1 + 20 x 0.5


def test_usage_without_the_key_is_a_group_of_its_own() -> None:
    assert amounts(rate(terms(BY_MODEL), [used("1"), used("2", model="large")])) == [
        ("chat", "", "1"),
        ("chat", "large", "2"),
    ]


def test_a_matrix_prices_each_value_by_the_first_cell_that_fits() -> None:
    price = matrix(("large", "3"), ("*", "1"))
    readings = [used("10", model="large"), used("10", model="tiny")]
    assert amounts(rate(terms(product("chat", price)), readings)) == [("chat", "large", "30"), ("chat", "tiny", "10")]


def test_usage_that_no_cell_prices_stops_the_period_and_names_its_values() -> None:
    with pytest.raises(MissingPriceError, match=r"model 'tiny' from 2026-04-03.* matrix of product 'chat' has no cell"):
        rate(terms(product("chat", matrix(("large", "3")))), [used("1", day=3, model="tiny")])


def test_another_cell_that_changes_does_not_cut_a_charge() -> None:
    versions = [
        terms(product("chat", matrix(("large", "3"), ("small", "1")))),
        terms(product("chat", matrix(("large", "3"), ("small", "2"))), version=2, effective_from=on(11)),
    ]
    readings = [used("1", day=day, model=model) for day in (5, 15) for model in ("large", "small")]
    # large: 2 x 3 in one charge; small: 1 x 1, then 1 x 2
    assert amounts(rate(versions, readings)) == [
        ("chat", "large", "6"),
        ("chat", "small", "1"),
        ("chat", "small", "2"),
    ]


def test_a_lot_is_drawn_by_each_group_and_each_line_has_its_own_credit() -> None:
    readings = [used("8", day=2, model="large"), used("5", day=1, model="small")]
    rated = rate(terms(BY_MODEL), readings, [lot("paid", "10")])
    assert drawn(rated) == [("paid", 1, "5"), ("paid", 2, "5")]
    assert [(draw.groups, draw.amount) for draw in rated.draws] == [
        ((("model", "small"),), D(5)),
        ((("model", "large"),), D(5)),
    ]
    assert bill(rated) == [
        ("usage", "chat", "8.00"),
        ("credit", "paid", "-5.00"),
        ("usage", "chat", "5.00"),
        ("credit", "paid", "-5.00"),
    ]
