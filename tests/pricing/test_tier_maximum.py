"""Tiers with a maximum: what a tier costs, its fee included, ends there (Meteroid's cap)."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.measures import Measure, joined
from pricing.models import Standing, price_steps, scaled
from pricing.money import ZERO, total
from pricing.prices import Graduated, Tier, Volume

D = Decimal
TIERS = (Tier(D(100), D(1), D(5), maximum=D(50)), Tier(None, D("0.5"), maximum=D(20)))
GRADUATED, VOLUME = Graduated(TIERS), Volume(TIERS)


def amount(price: Graduated | Volume, usage: Decimal, before: Decimal = ZERO, whole: Decimal | None = None) -> Decimal:
    """What usage costs after `before`, in a window of `whole` units, in which earlier usage has paid the flat fee."""
    standing = Standing(Measure(before), Measure(before + usage if whole is None else whole), owes_flat_fee=not before)
    return total([step.amount for step in price_steps(price, Measure(usage), standing, "unit")])


@pytest.mark.parametrize(
    ("quantity", "graduated"),
    [
        ("10", "15"),  # 5 + 10 x 1
        ("45", "50"),  # 5 + 45 x 1, exactly the maximum
        ("60", "50"),  # not 65
        ("120", "60"),  # 50 + 20 x 0.5
        ("200", "70"),  # 50 + 20, not 50
    ],
)
def test_each_graduated_tier_costs_at_most_its_maximum(quantity: str, graduated: str) -> None:
    assert amount(GRADUATED, D(quantity)) == D(graduated)


@pytest.mark.parametrize(("quantity", "volume"), [("30", "35"), ("60", "50"), ("101", "20"), ("1000", "20")])
def test_a_volume_costs_at_most_the_maximum_of_the_tier_it_reaches(quantity: str, volume: str) -> None:
    assert amount(VOLUME, D(quantity)) == D(volume)


def test_later_usage_costs_what_earlier_usage_left_of_the_maximum() -> None:
    assert amount(GRADUATED, D(20), before=D(40)) == D(5)  # 45 are charged, 50 are the most
    assert amount(GRADUATED, D(20), before=D(60)) == D(0)


def test_the_step_says_what_the_most_is() -> None:
    (step,) = price_steps(GRADUATED, Measure(D(60)), Standing(Measure(), Measure(D(60))), "unit")
    assert step.text == "first 60 units at 1, plus 5, at most 50"
    assert (step.quantity, step.unit_price, step.flat_fee, step.amount) == (D(60), None, D(50), D(50))


def test_a_multiplier_scales_the_maximum_too() -> None:
    dearer = scaled(GRADUATED, D(2))
    assert isinstance(dearer, Graduated)
    assert amount(dearer, D(60)) == D(100)


@given(st.sampled_from([GRADUATED, VOLUME]), st.lists(st.integers(1, 90).map(Decimal), min_size=1, max_size=6))
def test_usage_in_parts_costs_what_it_costs_at_once(price: Graduated | Volume, parts: list[Decimal]) -> None:
    whole = total(parts)
    reached, charged = Measure(), D(0)
    for part in parts:
        added = amount(price, part, before=reached.quantity, whole=whole)
        assert added >= 0
        charged += added
        reached = joined((reached, Measure(part)))
    assert charged == amount(price, whole)
