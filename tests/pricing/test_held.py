"""Units held for a part of the period: full units pick the tier, prorated units are priced (Lago's worked figures)."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.errors import PricingError
from pricing.held import Movement, effective_unit_price, held_steps
from pricing.money import total
from pricing.prices import Tier

D = Decimal
TWO_TIERS = (Tier(D(5), D(10), D(100)), Tier(None, D(5), D(50)))
PLAIN_TIERS = (Tier(D(5), D(10)), Tier(D(15), D(5)), Tier(None, D(2)))


def movements(*pairs: tuple[str, str]) -> list[Movement]:
    return [Movement(D(full), D(prorated)) for full, prorated in pairs]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        # 5 at 10, then 2 at 5, 4 go (2 of each tier), 10 come (2 and 8): 35 + 5 - (0.8 x 5 + 0.8 x 10)
        # + (0.4 x 10 + 1.6 x 5) = 40, and both flat fees
        ((("5", "3.5"), ("2", "1"), ("-4", "-1.6"), ("10", "2")), "190"),
        # 3.5 x 10 - 1 x 10 and the first flat fee
        ((("5", "3.5"), ("-2", "-1")), "125"),
        # 2.8 x 10 + 0.5 x 10 + 0.5 x 5 - 0.2 x 5 - 0.4 x 10 = 30.50, and both flat fees
        ((("4", "2.8"), ("2", "1"), ("-3", "-0.6")), "180.5"),
        # one unit that comes and goes: what it was held for, and the flat fee
        ((("1", "1"), ("-1", "-0.5")), "105"),
        # filling a tier to its end enters no further one
        ((("5", "5"),), "150"),
        ((("5", "2"), ("-100", "-33.33")), "0"),  # below zero at the end
        ((("5", "1"), ("-4", "-3")), "100"),  # the prorated units come to less than nothing: only the flat fee
        ((("5", "2"), ("-5", "-2")), "0"),  # nothing was held for any time
        ((("7", "0"), ("2", "1")), "110"),  # the seven came too late to be held
        ((("-3", "0"), ("2", "1")), "110"),  # what goes had come too late to be held
        ((), "0"),
    ],
)
def test_full_units_pick_the_tier_and_prorated_units_are_priced(
    pairs: tuple[tuple[str, str], ...], expected: str
) -> None:
    steps = held_steps(TWO_TIERS, movements(*pairs), "seat")
    assert total([step.amount for step in steps]) == D(expected)


def test_the_first_flat_fee_is_due_without_units_only_where_the_price_says_so() -> None:
    steps = held_steps(TWO_TIERS, (), "seat", flat_fee_at_zero_units=True)
    assert [(step.quantity, step.amount) for step in steps] == [(D(0), D(100))]
    cancelled = held_steps(TWO_TIERS, movements(("9", "2"), ("-9", "-2")), "seat", flat_fee_at_zero_units=True)
    assert cancelled == steps


def test_each_tier_is_explained_by_a_step() -> None:
    first, second = held_steps(TWO_TIERS, movements(("8", "4")), "seat")
    # five of the eight units in the first tier: 5/8 of 4
    assert (first.quantity, first.unit_price, first.flat_fee, first.amount) == (D("2.5"), D(10), D(100), D(125))
    assert (second.quantity, second.unit_price, second.flat_fee, second.amount) == (D("1.5"), D(5), D(50), D("57.5"))
    assert first.text == "2.5 seats at 10, prorated, held from 0 to 5, plus 100"
    assert (second.over, second.up_to, second.tier) == (D(5), None, 2)


def test_units_above_a_last_tier_that_ends_are_refused() -> None:
    with pytest.raises(PricingError, match="lies above the last tier"):
        held_steps((Tier(D(5), D(10)),), movements(("6", "3")), "seat")


def test_a_full_unit_costs_its_share_of_the_amount() -> None:
    held = movements(("5", "3.5"), ("-2", "-1"))
    assert effective_unit_price(held_steps(TWO_TIERS, held, "seat"), held) == D("41.66666666666666666667")  # 125 / 3
    assert effective_unit_price((), movements(("1", "0"), ("-1", "0"))) == 0


full_units = st.integers(1, 40).map(Decimal)
shares = st.integers(1, 1000).map(lambda thousandths: Decimal(thousandths).scaleb(-3))


@given(st.lists(st.tuples(full_units, shares), min_size=1, max_size=6))
def test_the_tiers_hold_all_prorated_units_and_steps_are_exact(held: list[tuple[Decimal, Decimal]]) -> None:
    pairs = [Movement(units, units * share) for units, share in held]
    steps = held_steps(PLAIN_TIERS, pairs, "seat")
    assert total([step.quantity for step in steps]) == total([movement.prorated for movement in pairs])
    for step in steps:
        assert step.unit_price is not None
        assert step.quantity * step.unit_price + step.flat_fee == step.amount


@given(full_units, full_units)
def test_units_held_for_the_whole_period_cost_what_a_graduated_price_says(one: Decimal, other: Decimal) -> None:
    steps = held_steps(PLAIN_TIERS, [Movement(one, one), Movement(other, other)], "seat")
    units = one + other
    expected = min(units, D(5)) * 10 + max(min(units, D(15)) - 5, D(0)) * 5 + max(units - 15, D(0)) * 2
    assert total([step.amount for step in steps]) == expected


@given(full_units, shares, full_units, shares)
def test_what_comes_and_goes_with_the_same_share_costs_nothing(
    base: Decimal, base_share: Decimal, units: Decimal, share: Decimal
) -> None:
    alone = [Movement(base, base * base_share)]
    with_visit = [*alone, Movement(units, units * share), Movement(-units, -units * share)]
    assert held_steps(PLAIN_TIERS, with_visit, "seat") == held_steps(PLAIN_TIERS, alone, "seat")
