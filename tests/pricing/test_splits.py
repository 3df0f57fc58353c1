"""Billing a period in parts: they add up to the whole, and differences lead from what is booked to what is rated."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.differences import BookedLine, bounded, differences, with_credits
from pricing.errors import PricingError
from pricing.money import Currency, total
from pricing.prices import CellPrice, Dynamic, Graduated, Package, PerUnit, Tier, Volume
from pricing.splits import Part, SplitPrice, rated_lines, rebilled_lines, split_lines, total_of
from pricing.terms import Conversion

D = Decimal
CENTS = Currency("XXX", 2)
TIERS = (Tier(D(5), D(0), D(100)), Tier(D(10), None, D(50)), Tier(D(15), D(5)), Tier(None, D(1)))
PRICES: list[CellPrice] = [
    PerUnit(D("0.5")),
    Package(D(10), D(15)),
    Graduated(TIERS),
    Graduated(TIERS, flat_fee_at_zero=True),
    Volume((Tier(D(15), D(10)), Tier(None, D(5)))),
    Dynamic(D("1.5")),
]
QUANTITIES = st.lists(st.integers(0, 30).map(Decimal), min_size=2, max_size=5)


@given(st.sampled_from(PRICES), QUANTITIES, st.sampled_from([None, D(20), D(60)]), st.sampled_from([None, D(40)]))
def test_the_parts_of_a_period_bill_what_the_whole_does(
    price: CellPrice, parts: list[Decimal], maximum: Decimal | None, minimum: Decimal | None
) -> None:
    if minimum is not None and maximum is not None and minimum > maximum:
        minimum = None
    split = SplitPrice(price, CENTS, minimum=minimum, maximum=maximum)
    whole = total_of(split_lines(split, total(parts), part="whole"))
    billed, before = D(0), D(0)
    for n, quantity in enumerate(parts):
        part: Part = "first" if n == 0 else "last" if n == len(parts) - 1 else "middle"
        lines = split_lines(split, quantity, part=part, before=before, billed_before=billed)
        billed, before = billed + total_of(lines), before + quantity
    assert billed == whole


@given(st.sampled_from(PRICES), QUANTITIES, st.sampled_from([None, D(20)]))
def test_each_run_books_what_leads_to_the_cumulative_quantity(
    price: CellPrice, cumulative: list[Decimal], maximum: Decimal | None
) -> None:
    split = SplitPrice(price, CENTS, maximum=maximum)
    booked: tuple[BookedLine, ...] = ()
    billed = D(0)
    for quantity in cumulative:
        billed += total_of(rebilled_lines(split, quantity, booked, is_last=False))
        booked = rated_lines(split, quantity, is_last=False)
        assert billed == total_of(booked)
        assert rebilled_lines(split, quantity, booked, is_last=False) == ()


def test_a_price_that_is_gone_is_reversed_whole_after_what_takes_its_place() -> None:
    old = BookedLine("tier_usage", D(10), D(15), D(150), 1, discount=D(50))
    new = BookedLine("tier_usage", D(5), D(16), D(80), 2)
    reversal = BookedLine("tier_usage", D(10), D(-15), D(-150), 1, discount=D(-50), is_correction=True)
    assert differences([old], [new]) == (new, reversal)
    assert differences([old], [replace(old, quantity=D(12), amount=D(120), discount=D(20))]) == (
        replace(old, quantity=D(-3), amount=D(-30), discount=D(-30)),
    )


def test_a_reversal_stands_where_its_line_stood_and_the_minimum_after_it() -> None:
    # 15 at 10 come to 150; the 16th unit makes all 16 cost 5, which is 80, and the period must come to 100.
    split = SplitPrice(Volume((Tier(D(15), D(10)), Tier(None, D(5)))), CENTS, minimum=D(100))
    booked = rated_lines(split, D(15), is_last=False)
    final = rebilled_lines(split, D(16), booked, is_last=True)
    assert [(line.kind, line.total) for line in final] == [
        ("tier_usage", D(80)),
        ("tier_usage", D(-150)),
        ("minimum_commitment", D(20)),
    ]


def test_units_that_cost_nothing_are_not_billed_again() -> None:
    split = SplitPrice(Graduated((Tier(D(5), D(0), D(100)), Tier(None, D(1)))), CENTS)
    booked = rated_lines(split, D(2), is_last=False)
    assert rebilled_lines(split, D(4), booked, is_last=False) == ()


def test_a_package_that_is_begun_already_makes_no_line() -> None:
    split = SplitPrice(Package(D(10), D(15)), CENTS)
    assert split_lines(split, D(3), part="middle", before=D(5), billed_before=D(15)) == ()


def test_a_line_above_a_maximum_that_is_passed_already_is_free_and_gives_nothing_back() -> None:
    [line] = bounded([BookedLine("usage", D(10), D(1), D(10))], billed_before=D(120), maximum=D(100), currency=CENTS)
    assert (line.discount, line.total) == (D(10), D(0))


def test_a_percentage_comes_off_before_the_bounds() -> None:
    lines = [BookedLine("usage", D(10), D(20), D(200))]
    [capped] = bounded(lines, billed_before=D(0), maximum=D(150), percent_off=D(10), currency=CENTS)
    assert (capped.discount, capped.total) == (D(50), D(150))  # 20 by the percentage, 30 by the maximum
    _, missing = bounded(lines, billed_before=D(0), minimum=D(200), percent_off=D(10), currency=CENTS)
    assert missing.commitment_charge == 20  # 180 are below the minimum


def test_converting_each_line_alone_rounds_more_often_than_converting_what_is_cumulative() -> None:
    split = SplitPrice(PerUnit(D(10)), CENTS, Conversion("divide", D(1000), "up"))
    assert split.use(D(1300), D(1400)).charged == 1  # 2700 are 3, of which 1400 were 2
    assert split.use(D(1300), D(1400), convert_alone=True).charged == 2  # OpenMeter


def test_credits_pay_lines_in_order_and_are_refused_when_some_are_left() -> None:
    lines = [BookedLine("usage", D(1), D(10), D(10)), BookedLine("usage", D(2), D(10), D(20))]
    assert [line.total for line in with_credits(lines, [D(4), D(10)])] == [D(0), D(16)]
    with pytest.raises(PricingError, match="credits of 1 are left"):
        with_credits(lines, [D(31)])
