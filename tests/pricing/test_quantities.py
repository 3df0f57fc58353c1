"""The way of a quantity: corrections settled, rounded, converted, less what is free."""

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.money import total
from pricing.prices import PerUnit, Rounding
from pricing.quantities import billable, converted, divided, round_whole, rounded, settled
from pricing.terms import Conversion, ProductPrice, QuantityRounding

D = Decimal


def decimals(*texts: str) -> tuple[Decimal, ...]:
    return tuple(Decimal(text) for text in texts)


# --- corrections --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("additions", "expected"),
    [
        ((), ()),
        (("3", "4", "5"), ("3", "7", "12")),
        (("3", "4", "-2"), ("3", "5", "5")),  # the fall takes back two of the latest four
        (("3", "4", "-5"), ("2", "2", "2")),  # and, beyond those, one of the first three
        (("3", "-3", "4"), ("0", "0", "4")),
        (("10", "-4", "6", "-1"), ("6", "6", "11", "11")),
        (("-2", "5"), ("-2", "3")),  # what was not there yet cannot be taken back from later
        (("1", "-3"), ("-2", "-2")),  # the total is below zero: the caller refuses it
    ],
)
def test_a_fall_takes_back_the_latest_units_first(additions: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert settled(decimals(*additions)) == decimals(*expected)


units = st.decimals(-1000, 1000, places=3)


@given(st.lists(units, min_size=1, max_size=12))
def test_settled_quantities_never_fall_and_end_at_the_total(additions: list[Decimal]) -> None:
    reached = settled(additions)
    assert all(before <= after for before, after in pairwise(reached))
    assert reached[-1] == total(additions)


@given(st.lists(st.decimals(0, 1000, places=3), max_size=12))
def test_quantities_that_only_rise_stand_at_their_sums(additions: list[Decimal]) -> None:
    assert settled(additions) == tuple(total(additions[: n + 1]) for n in range(len(additions)))


# --- rounding and conversion --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "rounding", "expected"),
    [
        ("2", "up", "2"),
        ("2.000000000001", "up", "3"),
        ("2.999", "down", "2"),
        ("2.4999", "half_up", "2"),
        ("2.5", "half_up", "3"),
        ("2.5", "none", "2.5"),
        ("-2.5", "up", "-2"),  # up and down are towards the sky and the ground
        ("-2.5", "down", "-3"),
        ("-2.5", "half_up", "-2"),
        ("-2.6", "half_up", "-3"),
    ],
)
def test_a_value_rounds_to_whole_numbers(value: str, rounding: Rounding, expected: str) -> None:
    assert round_whole(D(value), rounding) == D(expected)


@pytest.mark.parametrize(
    ("quantity", "rounding", "places", "expected"),
    [
        ("1.234", "up", 2, "1.24"),
        ("1.234", "down", 2, "1.23"),
        ("1.235", "half_up", 2, "1.24"),
        ("1.235", "none", 2, "1.235"),
        ("1201", "up", -2, "1300"),
        ("1249", "half_up", -2, "1200"),
        ("1250", "half_up", -2, "1300"),
        ("7.0001", "up", 0, "8"),
    ],
)
def test_a_quantity_rounds_to_decimals_tens_or_hundreds(
    quantity: str, rounding: Rounding, places: int, expected: str
) -> None:
    assert rounded(D(quantity), QuantityRounding(rounding, places)) == D(expected)


@pytest.mark.parametrize(
    ("quantity", "conversion", "expected"),
    [
        ("7400", Conversion("divide", D(1000), "up"), "8"),  # OpenMeter
        ("7000", Conversion("divide", D(1000), "up"), "7"),
        ("7400", Conversion("divide", D(1000)), "7.4"),
        ("1500", Conversion("divide", D(1000), "half_up"), "2"),
        ("1499", Conversion("divide", D(1000), "half_up"), "1"),
        ("1999", Conversion("divide", D(1000), "down"), "1"),
        ("2.5", Conversion("multiply", D(60)), "150"),
        ("0.01", Conversion("multiply", D(60), "up"), "1"),
        ("1", Conversion("divide", D(3)), "0.33333333333333333333"),
        ("2", Conversion("divide", D(3)), "0.66666666666666666667"),
    ],
)
def test_a_metrics_unit_becomes_the_prices(quantity: str, conversion: Conversion, expected: str) -> None:
    assert converted(D(quantity), conversion) == D(expected)


def product(rounding: QuantityRounding | None = None, conversion: Conversion | None = None) -> ProductPrice:
    return ProductPrice("chat", "Chat", PerUnit(D(1)), "tokens", rounding=rounding, conversion=conversion)


def test_a_quantity_is_rounded_then_converted_then_freed_of_its_allowance() -> None:
    thousands = product(QuantityRounding("up", -2), Conversion("divide", D(1000), "down"))
    assert billable(D(2901), thousands, D(1)) == D(2)  # 3,000 is 3 thousands, less 1
    assert billable(D(2899), thousands, D(1)) == D(1)
    assert billable(D(2899), thousands, D(5)) == D(0)  # an allowance never turns into money back
    assert billable(D("12.5"), product(), D(0)) == D("12.5")


roundings: st.SearchStrategy[Rounding] = st.sampled_from(("up", "down", "half_up", "none"))
amounts = st.decimals(0, 10**9, places=6)


products = st.builds(
    product,
    st.none() | st.builds(QuantityRounding, roundings, st.integers(-2, 6)),
    st.none()
    | st.builds(
        Conversion, st.sampled_from(("divide", "multiply")), st.decimals("0.001", 5000, places=3), rounding=roundings
    ),
)


@given(amounts, amounts, products, amounts)
def test_more_usage_never_means_fewer_billable_units(
    some: Decimal, more: Decimal, rule: ProductPrice, free: Decimal
) -> None:
    low, high = sorted((some, more))
    assert 0 <= billable(low, rule, free) <= billable(high, rule, free)


@given(amounts, st.decimals("0.001", 5000, places=3))
def test_a_whole_quotient_is_the_exact_one_rounded(quantity: Decimal, divisor: Decimal) -> None:
    down, up = divided(quantity, divisor, "down"), divided(quantity, divisor, "up")
    assert down * divisor <= quantity <= up * divisor
    assert up - down in (0, 1)
    half = divided(quantity, divisor, "half_up")
    assert abs(half * divisor - quantity) * 2 <= divisor
