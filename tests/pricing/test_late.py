"""Late usage of a billed period: by figures worked out by hand, and by the laws that hold for all usage."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.late import DayShare, LateKey, late_shares
from pricing.money import ZERO, total
from pricing.prices import PerUnit
from pricing.rated import RatedPeriod
from pricing.terms import Lot, Reading
from tests.pricing.april import lot, on, product, rate, terms, used

D = Decimal
CHAT = terms(product("chat", PerUnit(D(1))))
LAST_DAY = 4


def billed(rated: RatedPeriod) -> dict[LateKey, DayShare]:
    """A rated period as the books hold it when it is frozen."""
    found: dict[LateKey, DayShare] = {}
    for charge in rated.charges:
        for part in charge.slices:
            drawn = tuple(
                (draw.lot_id, draw.amount)
                for draw in sorted(rated.draws, key=lambda draw: draw.lot_id)
                if draw.start == part.start
            )
            found[charge.product_id, part.start.date()] = DayShare(part.quantity, part.amount, drawn)
    return found


def late(
    before: Sequence[Reading], after: Sequence[Reading], lots: Sequence[Lot]
) -> tuple[dict[LateKey, DayShare], dict[str, Decimal]]:
    """What a period billed with `before` comes to with `after`, its lots having been whole at its start."""
    first = rate(CHAT, before, lots)
    left = [replace(one, amount=dict(first.lots_after)[one.lot_id]) for one in lots]
    empty = [replace(one, amount=ZERO) for one in lots]
    return late_shares(rate(CHAT, after, empty).charges, billed(first), left, "UTC", [CHAT])


def test_more_usage_draws_what_lots_still_hold_and_the_rest_is_owed() -> None:
    found, left = late([used("6", day=2)], [used("6", day=2), used("6", day=3)], [lot("ten", "10")])
    assert found == {
        ("chat", date(2026, 4, 2)): DayShare(D(6), D(6), (("ten", D(6)),)),
        ("chat", date(2026, 4, 3)): DayShare(D(6), D(6), (("ten", D(4)),)),
    }
    assert found["chat", date(2026, 4, 3)].undrawn == 2
    assert left == {"ten": 0}


def test_past_draws_stay_although_earlier_usage_would_have_drawn_first() -> None:
    found, left = late([used("10", day=3)], [used("5", day=1), used("10", day=3)], [lot("ten", "10")])
    assert found["chat", date(2026, 4, 1)] == DayShare(D(5), D(5))
    assert found["chat", date(2026, 4, 3)].drawn == (("ten", D(10)),)
    assert left == {"ten": 0}


def test_less_usage_takes_off_what_no_lot_paid_before_lots_get_back() -> None:
    found, left = late([used("12", day=2)], [used("9", day=2)], [lot("ten", "10")])
    assert found == {("chat", date(2026, 4, 2)): DayShare(D(9), D(9), (("ten", D(9)),))}
    assert left == {"ten": 1}


def test_usage_that_is_gone_returns_all_that_it_drew_last_lot_first() -> None:
    lots = [lot("a", "4", priority=1), lot("b", "4", priority=2)]
    found, left = late([used("7", day=2)], [used("2", day=2)], lots)
    assert found["chat", date(2026, 4, 2)].drawn == (("a", D(2)),)
    assert left == {"a": 2, "b": 4}
    gone, left = late([used("7", day=2)], [], lots)
    assert gone == {("chat", date(2026, 4, 2)): DayShare(ZERO, ZERO)}
    assert left == {"a": 4, "b": 4}


def test_a_lot_pays_no_more_of_a_day_than_lies_in_its_window() -> None:
    noon = lot("noon", "100", start=on(2, 12))
    morning, afternoon = Reading("tokens", on(2), on(2, 12), D(3)), Reading("tokens", on(2, 12), on(3), D(4))
    found, left = late([], [morning, afternoon], [noon])
    assert found == {("chat", date(2026, 4, 2)): DayShare(D(7), D(7), (("noon", D(4)),))}
    assert left == {"noon": 96}


def test_what_was_given_back_and_drawn_by_a_later_period_is_not_drawn_twice() -> None:
    usage = [used("4", day=2), used("2", day=3)]
    first = billed(rate(CHAT, usage, [lot("ten", "10")]))
    # Once all 6 were gone the next period drew 8: of the ten, 2 are left for this one, and 4 are owed in money.
    found, left = late_shares(rate(CHAT, usage, [lot("ten", "0")]).charges, first, [lot("ten", "-4")], "UTC", [CHAT])
    assert found["chat", date(2026, 4, 2)].drawn == (("ten", D(2)),)
    assert found["chat", date(2026, 4, 3)].drawn == ()
    assert total([share.undrawn for share in found.values()]) == 4
    assert left == {"ten": 0}


READINGS = st.lists(
    st.builds(lambda day, quantity: used(str(quantity), day=day), st.integers(1, LAST_DAY), st.integers(1, 30)),
    max_size=6,
)
LOTS = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, LAST_DAY), st.integers(1, LAST_DAY + 1), st.integers(1, 3)),
    max_size=3,
).map(
    lambda drawn: [
        lot(f"lot{n}", str(amount), start=on(start), end=on(start + length), priority=priority)
        for n, (amount, start, length, priority) in enumerate(drawn)
    ]
)


@settings(max_examples=150, deadline=None)
@given(READINGS, READINGS, LOTS)
def test_nothing_is_lost_and_no_lot_falls_below_zero(
    before: list[Reading], after: list[Reading], lots: list[Lot]
) -> None:
    found, left = late(before, after, lots)
    assert total([share.amount for share in found.values()]) == total([reading.quantity for reading in after])
    for share in found.values():
        assert 0 <= share.undrawn <= share.amount
    for one in lots:
        drawn = total([amount for share in found.values() for lot_id, amount in share.drawn if lot_id == one.lot_id])
        assert left[one.lot_id] >= 0
        assert drawn + left[one.lot_id] == one.amount


@settings(max_examples=100, deadline=None)
@given(READINGS, LOTS)
def test_a_period_whose_usage_did_not_change_stays_as_it_was_billed(usage: list[Reading], lots: list[Lot]) -> None:
    found, _ = late(usage, usage, lots)
    assert found == billed(rate(CHAT, usage, lots))


# --- lots for group values ----------------------------------------------------------------------------------------

REGIONS = terms(replace(product("chat", PerUnit(D(1))), group_by=("region",)))
EU = (("region", "eu"),)


def late_by_region(
    before: Sequence[Reading], after: Sequence[Reading], lots: Sequence[Lot]
) -> tuple[dict[LateKey, DayShare], dict[str, Decimal]]:
    first = rate(REGIONS, before, lots)
    shares: dict[LateKey, DayShare] = {}
    for day in {part.start.date() for charge in first.charges for part in charge.slices}:
        amount = total([s.amount for charge in first.charges for s in charge.slices if s.start.date() == day])
        drawn = {
            lot_id: total([d.amount for d in first.draws if d.lot_id == lot_id and d.start.date() == day])
            for lot_id in sorted({draw.lot_id for draw in first.draws if draw.start.date() == day})
        }
        shares["chat", day] = DayShare(amount, amount, tuple(drawn.items()))
    left = [replace(one, amount=dict(first.lots_after)[one.lot_id]) for one in lots]
    empty = [replace(one, amount=ZERO) for one in lots]
    return late_shares(rate(REGIONS, after, empty).charges, shares, left, "UTC", [REGIONS])


def test_a_lot_for_a_region_gets_back_what_its_usage_became_less_and_pays_for_no_other() -> None:
    eu, rest = replace(lot("eu", "10"), groups=EU), lot("rest", "3", priority=200)
    before = [used("8", day=2, region="eu"), used("2", day=2, region="us")]
    assert late_by_region(before, before, [eu, rest])[0]["chat", date(2026, 4, 2)].drawn == (
        ("eu", D(8)), ("rest", D(2)),
    )  # fmt: skip
    # 5 of the 8 turn out to be of us: eu gets back 5, and the rest pays 1 more of the 7 of us, 4 being owed
    found, left = late_by_region(before, [used("3", day=2, region="eu"), used("7", day=2, region="us")], [eu, rest])
    assert found["chat", date(2026, 4, 2)] == DayShare(D(10), D(10), (("eu", D(3)), ("rest", D(3))))
    assert left == {"eu": 7, "rest": 0}


def test_two_lots_for_a_region_together_pay_no_more_than_its_usage() -> None:
    first, second = replace(lot("a", "4", priority=1), groups=EU), replace(lot("b", "9", priority=2), groups=EU)
    before = [used("4", day=2, region="eu")]
    found, left = late_by_region(before, [*before, used("5", day=2, region="us")], [first, second])
    assert found["chat", date(2026, 4, 2)].drawn == (("a", D(4)),)
    assert left == {"a": 0, "b": 9}


BY_REGION = st.lists(
    st.builds(
        lambda day, quantity, region: used(str(quantity), day=day, region=region),
        st.integers(1, LAST_DAY),
        st.integers(1, 30),
        st.sampled_from(["eu", "us"]),
    ),
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(BY_REGION, BY_REGION, LOTS, st.lists(st.booleans(), min_size=3, max_size=3))
def test_late_usage_never_lets_lots_for_a_region_pay_more_than_its_usage(
    before: list[Reading], after: list[Reading], lots: list[Lot], scoped: list[bool]
) -> None:
    lots = [replace(one, groups=EU) if is_scoped else one for one, is_scoped in zip(lots, scoped, strict=False)]
    found, left = late_by_region(before, after, lots)
    for (_, day), share in found.items():
        of_eu = total([one.quantity for one in after if one.groups == EU and one.start.date() == day])
        assert total([a for lot_id, a in share.drawn if any(o.groups for o in lots if o.lot_id == lot_id)]) <= of_eu
        assert 0 <= share.undrawn <= share.amount
    assert all(amount >= 0 for amount in left.values())


def test_what_two_lots_for_a_region_drew_beyond_its_usage_comes_back_from_the_last_to_burn() -> None:
    first, second = replace(lot("a", "6", priority=1), groups=EU), replace(lot("b", "6", priority=2), groups=EU)
    after = [used("8", day=2, region="eu"), used("4", day=2, region="us")]
    found, left = late_by_region([used("12", day=2, region="eu")], after, [first, second])
    # 12 were paid of eu, which comes to 8: the second gets back 4, and the 4 of us are owed
    assert found["chat", date(2026, 4, 2)] == DayShare(D(12), D(12), (("a", D(6)), ("b", D(2))))
    assert left == {"a": 0, "b": 4}
