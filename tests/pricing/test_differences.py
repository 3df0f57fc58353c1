"""What is booked and the differences come, line by line, to what was rated."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from pricing.differences import BookedLine, LineKind, differences
from pricing.money import Currency
from pricing.prices import Tier, Volume
from pricing.splits import SplitPrice, rated_lines, rebilled_lines

D = Decimal
CENTS = Currency("XXX", 2)
KINDS: list[LineKind] = ["usage", "tier_usage", "tier_flat"]
PRICES = st.sampled_from([D(1), D("1.0"), D(2), D("0.5")])


@st.composite
def lines(draw: st.DrawFn) -> BookedLine:
    unit_amount, quantity = draw(PRICES), D(draw(st.integers(1, 50)))
    tier = draw(st.sampled_from([None, 1, 2]))
    discount = D(draw(st.integers(0, 5)))
    return BookedLine(draw(st.sampled_from(KINDS)), unit_amount, quantity, unit_amount * quantity, tier, discount)


LINES = st.lists(lines(), max_size=6)


def sums(booked: tuple[BookedLine, ...]) -> dict[tuple[str, int | None, Decimal], tuple[Decimal, Decimal, Decimal]]:
    found: dict[tuple[str, int | None, Decimal], tuple[Decimal, Decimal, Decimal]] = {}
    for line in booked:
        quantity, amount, discount = found.get((line.kind, line.tier, line.unit_amount), (D(0), D(0), D(0)))
        added = (quantity + line.quantity, amount + line.amount, discount + line.discount)
        found[line.kind, line.tier, line.unit_amount] = added
    return {place: found[place] for place in found if any(found[place])}


@given(LINES, LINES)
def test_what_is_booked_and_the_differences_come_to_what_was_rated(
    booked: list[BookedLine], rated: list[BookedLine]
) -> None:
    assert sums((*booked, *differences(booked, rated))) == sums(tuple(rated))


@given(LINES)
def test_nothing_is_billed_again_of_what_is_booked(booked: list[BookedLine]) -> None:
    assert differences(booked, booked) == ()
    assert all(line.is_correction and line.quantity < 0 for line in differences(booked, ()))


def test_a_flat_fee_that_is_reversed_stands_before_the_usage_that_takes_its_place() -> None:
    # Up to 10 units cost 100 together; the 12 units that are reached cost 5 each, which is 60.
    split = SplitPrice(Volume((Tier(D(10), None, D(100)), Tier(None, D(5)))), CENTS)
    booked = rated_lines(split, D(5), is_last=False)
    assert [(line.kind, line.total) for line in rebilled_lines(split, D(12), booked, is_last=False)] == [
        ("tier_flat", D(-100)),
        ("tier_usage", D(60)),
    ]
