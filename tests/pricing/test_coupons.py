"""Coupons on documents, by worked examples of Lago and Meteroid."""

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from pricing.coupons import Coupon, apply_coupon, discount_of, exact_shares, spread_to_last
from pricing.money import Currency, total

D = Decimal
MINOR = Currency("minor", 0)
LINES = st.lists(st.integers(0, 10**7).map(Decimal), min_size=1, max_size=6)


def test_a_fixed_coupon_is_spread_by_weight_and_used_up() -> None:
    applied = apply_coupon(Coupon("fixed", D(12)), [D(200), D(100)], MINOR)
    assert applied is not None
    assert (applied.discount, applied.line_discounts, applied.left) == (D(12), (D(8), D(4)), None)


def test_what_a_small_document_leaves_of_a_coupon_is_kept() -> None:
    applied = apply_coupon(Coupon("fixed", D(12)), [D(4), D(2)], MINOR)
    assert applied is not None
    assert (applied.discount, applied.left) == (D(6), Coupon("fixed", D(6)))


def test_a_recurring_coupon_counts_its_periods_down() -> None:
    coupon: Coupon | None = Coupon("fixed", D(12), remaining_periods=2)
    periods = 0
    while coupon is not None:
        applied = apply_coupon(coupon, [D(100)], MINOR)
        assert applied is not None
        assert applied.discount == 12
        coupon, periods = applied.left, periods + 1
    assert periods == 2


def test_a_percentage_applies_once_and_another_currency_not_at_all() -> None:
    applied = apply_coupon(Coupon("percentage", D(20)), [D(200), D(100)], MINOR)
    assert applied is not None
    assert (applied.discount, applied.line_discounts, applied.left) == (D(60), (D(40), D(20)), None)
    assert apply_coupon(Coupon("fixed", D(10), currency="NOK"), [D(200)], Currency("EUR", 0)) is None


def test_percentages_come_before_fixed_amounts_and_nothing_goes_below_zero() -> None:
    fixed, half = Coupon("fixed", D(4000)), Coupon("percentage", D(50))
    assert discount_of([fixed, half], D(10000), MINOR) == 9000  # 5000, and 4000 of the 5000 left
    assert discount_of([Coupon("fixed", D(8000)), Coupon("fixed", D(5000))], D(10000), MINOR) == 10000


def test_the_last_line_takes_the_rest() -> None:
    assert spread_to_last(D(100), [D(333), D(333), D(334)], MINOR) == (D(33), D(33), D(34))
    assert spread_to_last(D(4000), [D(1000), D(2000)], MINOR) == (D(1000), D(2000))
    assert spread_to_last(D(2), [D(1), D(1), D(1), D(0)], MINOR) == (D(0), D(1), D(1), D(0))  # as far as there is room


def test_exact_shares_keep_what_no_minor_unit_shows() -> None:
    assert exact_shares(D(10), [D(100), D(200)]) == (Fraction(10, 3), Fraction(20, 3))
    assert exact_shares(D(0), [D(0), D(0)]) == (Fraction(0), Fraction(0))


@given(LINES, st.integers(0, 10**8).map(Decimal))
def test_a_discount_spread_to_the_last_line_adds_up_and_never_exceeds_one(lines: list[Decimal], off: Decimal) -> None:
    shares = spread_to_last(off, lines, MINOR)
    assert total(shares) == min(off, total(lines)) == sum(exact_shares(min(off, total(lines)), lines))
    assert all(0 <= share <= line for share, line in zip(shares, lines, strict=True))


@given(LINES, st.integers(0, 10**8).map(Decimal), st.sampled_from(["fixed", "percentage"]))
def test_a_discount_adds_up_over_lines_and_never_exceeds_one(lines: list[Decimal], value: Decimal, kind: str) -> None:
    applied = apply_coupon(Coupon("fixed" if kind == "fixed" else "percentage", min(value, D(150))), lines, MINOR)
    assert applied is not None
    assert total(applied.line_discounts) == applied.discount <= total(lines)
    assert all(0 <= off <= line for off, line in zip(applied.line_discounts, lines, strict=True))
