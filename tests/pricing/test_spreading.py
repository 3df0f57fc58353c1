"""Spreading an amount by largest remainder."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.money import total
from pricing.spreading import spread

D = Decimal
WEIGHTS = st.lists(st.decimals(min_value=0, max_value=10**6, places=4), min_size=1, max_size=8)


def test_the_largest_remainder_takes_the_last_step() -> None:
    # 100 over 333, 333, 334: 33.3, 33.3, 33.4 in whole cents 33 + 33 + 33, and the last cent to the largest remainder
    assert spread(D(100), [D(333), D(333), D(334)], 0) == (D(33), D(33), D(34))
    assert spread(D(12), [D(200), D(100)], 0) == (D(8), D(4))
    assert spread(D("0.01"), [D(1), D(1)], 2) == (D("0.01"), D(0))  # of equal remainders the first


def test_nothing_is_spread_over_nothing() -> None:
    assert spread(D(0), [D(0), D(0)]) == (D(0), D(0))
    with pytest.raises(ValueError, match="all zero"):
        spread(D(1), [D(0)])
    with pytest.raises(ValueError, match="below zero"):
        spread(D(1), [D(-1), D(2)])


@given(WEIGHTS, st.decimals(min_value=0, max_value=1, places=6), st.integers(0, 12))
def test_shares_add_up_and_stay_within_their_weights(weights: list[Decimal], part: Decimal, places: int) -> None:
    amount = total(weights) * part
    if not amount:
        return
    shares = spread(amount, weights, places)
    assert total(shares) == amount
    assert all(0 <= share <= weight for share, weight in zip(shares, weights, strict=True))
