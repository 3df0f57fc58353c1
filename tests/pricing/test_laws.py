"""Laws that hold for every contract, all usage and all lots."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from itertools import accumulate, groupby

from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.money import to_ledger_scale
from pricing.prices import Graduated, Package, PerUnit, Tier, UsagePrice, Volume
from pricing.rated import RatedPeriod
from pricing.terms import Lot, Reading, Terms
from tests.pricing.april import APRIL, on, product, rate, terms

METRICS = ("tokens", "calls")
LAST_DAY = 6


def decimals(smallest: str, largest: str, places: int) -> st.SearchStrategy[Decimal]:
    return st.decimals(Decimal(smallest), Decimal(largest), places=places)


UNIT_PRICES = st.one_of(decimals("0", "3", 2), decimals("0", "0.01", 15))
QUANTITIES = st.one_of(st.integers(1, 300).map(Decimal), decimals("0.001", "50", 3))


@st.composite
def tier_lists(draw: st.DrawFn) -> tuple[Tier, ...]:
    widths = draw(st.lists(st.integers(1, 60), max_size=3))
    bounds: list[Decimal | None] = [*map(Decimal, accumulate(widths)), None]
    return tuple(Tier(bound, draw(UNIT_PRICES), draw(decimals("0", "9", 2))) for bound in bounds)


PRICES: st.SearchStrategy[UsagePrice] = st.one_of(
    UNIT_PRICES.map(PerUnit),
    st.builds(Package, st.integers(1, 50).map(Decimal), UNIT_PRICES),
    tier_lists().map(Graduated),
    tier_lists().map(Volume),
)
READINGS = st.lists(
    st.builds(
        lambda metric, day, quantity: Reading(metric, on(day), on(day + 1), quantity),
        st.sampled_from(METRICS),
        st.integers(1, LAST_DAY),
        QUANTITIES,
    ),
    max_size=10,
)


@st.composite
def version_lists(draw: st.DrawFn) -> tuple[Terms, ...]:
    dates = [APRIL.start, *draw(st.lists(st.integers(2, LAST_DAY).map(on), max_size=2))]
    return tuple(
        terms(
            product("chat", draw(PRICES)),
            product("search", draw(PRICES), metric="calls"),
            product("storage", draw(PRICES)),
            version=number,
            effective_from=moment,
        )
        for number, moment in enumerate(dates, start=1)
    )


@st.composite
def lot_lists(draw: st.DrawFn) -> tuple[Lot, ...]:
    return tuple(
        Lot(
            f"lot-{n}",
            f"Lot {n}",
            draw(decimals("0", "200", 4)),
            on(start := draw(st.integers(-2, LAST_DAY))),
            draw(st.none() | st.integers(start + 1, LAST_DAY + 2).map(on)),
            draw(st.sampled_from([(), ("chat",), ("search", "storage")])),
            draw(st.integers(1, 2)),
            draw(st.sampled_from([Decimal(0), Decimal(1)])),
        )
        for n in range(draw(st.integers(0, 3)))
    )


@dataclass(frozen=True, slots=True)
class Case:
    versions: tuple[Terms, ...]
    readings: list[Reading]
    lots: tuple[Lot, ...]

    def rated(self, *, readings: Sequence[Reading] | None = None, lots: Sequence[Lot] | None = None) -> RatedPeriod:
        return rate(self.versions, self.readings if readings is None else readings, self.lots if lots is None else lots)


CASES = st.builds(Case, version_lists(), READINGS, lot_lists())
LAW = settings(max_examples=60, deadline=None)


@LAW
@given(case=CASES, data=st.data())
def test_the_order_of_readings_lots_and_versions_does_not_matter(case: Case, data: st.DataObject) -> None:
    shuffled = Case(
        tuple(data.draw(st.permutations(case.versions))),
        data.draw(st.permutations(case.readings)),
        tuple(data.draw(st.permutations(case.lots))),
    )
    expected, found = case.rated(), shuffled.rated()
    assert dict(found.lots_after) == dict(expected.lots_after)
    assert replace(found, lots_after=()) == replace(expected, lots_after=())


@LAW
@given(case=CASES, share=decimals("0", "1", 2))
def test_a_reading_may_come_in_parts(case: Case, share: Decimal) -> None:
    parts = [
        Reading(reading.metric_id, on(reading.start.day, hour), on(reading.start.day, hour + 12), quantity)
        for reading in case.readings
        for hour, quantity in ((0, reading.quantity * share), (12, reading.quantity - reading.quantity * share))
    ]
    assert case.rated(readings=parts) == case.rated()


@LAW
@given(case=CASES)
def test_steps_and_slices_add_up_to_their_charge(case: Case) -> None:
    for charge in case.rated().charges:
        assert sum(step.amount for step in charge.steps) == charge.amount
        assert all(s.quantity * (s.unit_price or 0) + s.flat_fee == s.amount for s in charge.steps)
        assert sum(part.amount for part in charge.slices) == to_ledger_scale(charge.amount)
        assert sum(part.quantity for part in charge.slices) == charge.quantity
        assert all(part.amount >= 0 and charge.segment.start <= part.start < part.end for part in charge.slices)
        assert all(part.end <= charge.segment.end for part in charge.slices)


@LAW
@given(case=CASES)
def test_every_unit_is_charged_to_each_product_of_its_metric(case: Case) -> None:
    charged: defaultdict[str, Decimal] = defaultdict(Decimal)
    for charge in case.rated().charges:
        charged[charge.product_id] += charge.quantity
    used = {metric: sum((r.quantity for r in case.readings if r.metric_id == metric), Decimal(0)) for metric in METRICS}
    expected = {"chat": used["tokens"], "search": used["calls"], "storage": used["tokens"]}
    assert charged == {name: quantity for name, quantity in expected.items() if quantity}


@LAW
@given(case=CASES)
def test_what_is_drawn_and_what_is_left_is_the_lot(case: Case) -> None:
    rated = case.rated()
    after = dict(rated.lots_after)
    for lot in case.lots:
        draws = [draw for draw in rated.draws if draw.lot_id == lot.lot_id]
        assert sum(draw.amount for draw in draws) + after[lot.lot_id] == lot.amount
        assert after[lot.lot_id] >= 0
        assert all(lot.start <= draw.start and (lot.end is None or draw.end <= lot.end) for draw in draws)
        assert all(not lot.products or draw.product_id in lot.products for draw in draws)


@LAW
@given(case=CASES)
def test_a_slice_stays_unpaid_only_when_no_lot_that_serves_it_holds_anything(case: Case) -> None:
    rated = case.rated()
    after = dict(rated.lots_after)
    for charge in rated.charges:
        for part in charge.slices:
            paid = sum(d.amount for d in rated.draws if (d.product_id, d.start) == (charge.product_id, part.start))
            assert paid <= part.amount
            if paid < part.amount:
                serving = [
                    lot.lot_id
                    for lot in case.lots
                    if lot.start <= part.start
                    and (lot.end is None or part.end <= lot.end)
                    and (not lot.products or charge.product_id in lot.products)
                ]
                assert all(after[lot_id] == 0 for lot_id in serving)


@LAW
@given(case=CASES)
def test_credits_never_exceed_the_usage_that_they_follow(case: Case) -> None:
    rated = case.rated()
    groups: list[list[Decimal]] = []
    for kind, lines in groupby(rated.lines, key=lambda line: line.kind):
        for line in lines:
            if kind == "usage":
                groups.append([line.amount])
            else:
                assert line.amount <= 0
                groups[-1].append(line.amount)
    assert len(groups) == len(rated.charges)
    assert all(sum(group) >= 0 for group in groups)


@LAW
@given(case=CASES)
def test_an_endless_lot_leaves_nothing_to_pay(case: Case) -> None:
    endless = Lot("endless", "Endless", Decimal(1_000_000), APRIL.start, None)
    assert sum(line.amount for line in case.rated(lots=[*case.lots, endless]).lines) == 0


@LAW
@given(case=CASES, later=st.integers(0, LAST_DAY))
def test_an_amendment_without_a_change_changes_nothing(case: Case, later: int) -> None:
    newest = case.versions[-1]
    date = max(version.effective_from for version in case.versions) + timedelta(days=later)
    same_again = replace(newest, version=newest.version + 1, effective_from=date)
    amended = Case((*case.versions, same_again), case.readings, case.lots).rated()
    assert _without_version(amended) == _without_version(case.rated())


@LAW
@given(price=UNIT_PRICES, first=QUANTITIES, second=QUANTITIES)
def test_per_unit_is_additive(price: Decimal, first: Decimal, second: Decimal) -> None:
    assert _amount(PerUnit(price), first) + _amount(PerUnit(price), second) == _amount(PerUnit(price), first + second)


@LAW
@given(tiers=tier_lists(), quantity=QUANTITIES, more=decimals("0.0001", "20", 4))
def test_a_graduated_price_without_flat_fees_has_no_jump(
    tiers: tuple[Tier, ...], quantity: Decimal, more: Decimal
) -> None:
    price = Graduated(tuple(replace(tier, flat_fee=Decimal(0)) for tier in tiers))
    added = _amount(price, quantity + more) - _amount(price, quantity)
    prices = [tier.unit_price or Decimal(0) for tier in tiers]
    assert more * min(prices) <= added <= more * max(prices)


@LAW
@given(tiers=tier_lists(), quantity=st.integers(1, 120))
def test_a_graduated_price_is_the_sum_of_its_units_one_by_one(tiers: tuple[Tier, ...], quantity: int) -> None:
    tier_of_unit = [
        next(tier for tier in tiers if tier.up_to is None or unit <= tier.up_to) for unit in range(1, quantity + 1)
    ]
    entered = [tier for tier, _ in groupby(tier_of_unit)]
    expected = sum(t.unit_price or Decimal(0) for t in tier_of_unit) + sum(tier.flat_fee for tier in entered)
    assert _amount(Graduated(tiers), Decimal(quantity)) == expected


@LAW
@given(price=PRICES, quantity=QUANTITIES, more=QUANTITIES)
def test_only_a_volume_price_may_fall_with_more_usage(price: UsagePrice, quantity: Decimal, more: Decimal) -> None:
    if not isinstance(price, Volume):
        assert _amount(price, quantity) <= _amount(price, quantity + more)


def _without_version(rated: RatedPeriod) -> RatedPeriod:
    return replace(rated, charges=tuple(replace(charge, terms_version=0) for charge in rated.charges))


def _amount(price: UsagePrice, quantity: Decimal) -> Decimal:
    rated = rate(terms(product("chat", price)), [Reading("tokens", on(1), on(2), quantity)])
    return rated.charges[0].amount
