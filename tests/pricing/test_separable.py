"""Separable usage: a series rated alone, and a product drawn as a whole, come to what everything together does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.calendar import Period
from pricing.money import EXACT, ZERO, currency
from pricing.prices import Cell, Composite, Graduated, Matrix, Package, PerUnit, Tier
from pricing.rated import RatedPeriod
from pricing.rating import rate_period
from pricing.separable import Separated, draw_products, separated, series_amounts
from pricing.terms import Allowance, Discount, Lot, ProductPrice, Reading, Terms

START = datetime(2026, 1, 1, tzinfo=UTC)
PERIOD = Period(START, datetime(2026, 2, 1, tzinfo=UTC))
DAY = timedelta(days=1)
TIERS = Graduated((Tier(Decimal(10), Decimal("0.333")), Tier(None, Decimal("0.1"), Decimal("0.07"))))
CALLS = Matrix(
    ("model",), (Cell(("a",), Package(Decimal(3), Decimal("0.7"))), Cell(("*",), PerUnit(Decimal("0.0000000000007"))))
)
PRODUCTS = (
    ProductPrice("words", "Words", TIERS, "words", group_by=("model",), tags=("ai",)),
    ProductPrice("calls", "Calls", CALLS, "calls"),
    ProductPrice("plain", "Plain", PerUnit(Decimal("0.011")), "words", allowance=Allowance(Decimal(5))),
)
TERMS = Terms(
    "one",
    1,
    START,
    currency("EUR"),
    PRODUCTS,
    discounts=(Discount("ai", "AI", "percentage", Decimal("33.3"), ("tag:ai",)),),
)
MODELS = st.sampled_from(["a", "b", "c"])
USAGE = st.dictionaries(
    st.tuples(st.sampled_from(["words", "calls"]), st.integers(0, 30), MODELS), st.integers(0, 12), max_size=12
)
LOTS = st.lists(
    st.tuples(
        st.integers(0, 8), st.integers(0, 20), st.integers(1, 31), st.sampled_from([(), ("words",), ("calls", "plain")])
    ),
    max_size=4,
)


def reading(metric_id: str, day: int, model: str, number: int) -> Reading:
    begin = START + day * DAY
    return Reading(metric_id, begin, begin + DAY, Decimal(number), (("model", model),), events=1)


def lots_of(found: Sequence[tuple[int, int, int, tuple[str, ...]]]) -> tuple[Lot, ...]:
    return tuple(
        Lot(f"lot-{n}", "Lot", Decimal(amount), START + first * DAY, START + (first + days) * DAY, products)
        for n, (amount, first, days, products) in enumerate(found)
    )


def parts_of(terms: Terms = TERMS, lots: Sequence[Lot] = (), *, is_over: bool = False) -> Separated | None:
    return separated([terms], lots, PERIOD, "UTC", time_zone="UTC", is_over=is_over)


def rated(readings: Sequence[Reading], lots: Sequence[Lot]) -> RatedPeriod:
    return rate_period([TERMS], readings, lots, PERIOD, entity_time_zone="UTC", is_over=False)


def amounts_of(result: RatedPeriod) -> Mapping[tuple[str, datetime], Decimal]:
    found: dict[tuple[str, datetime], Decimal] = {}
    for charge in result.charges:
        for part in charge.slices:
            place = charge.product_id, part.start
            found[place] = EXACT.add(found.get(place, ZERO), part.amount)
    return found


@given(usage=USAGE, lots=LOTS)
@settings(max_examples=60, deadline=None)
def test_series_rated_alone_and_drawn_by_product_come_to_what_the_period_comes_to(
    usage: Mapping[tuple[str, int, str], int], lots: Sequence[tuple[int, int, int, tuple[str, ...]]]
) -> None:
    readings = [reading(*place, number) for place, number in usage.items()]
    given_lots = lots_of(lots)
    whole = rated(readings, given_lots)
    parts = parts_of(lots=given_lots)
    assert parts is not None
    found: dict[tuple[str, datetime], Decimal] = {}
    for product_id, counted in parts.products.items():
        own = [one for one in readings if one.metric_id == counted.metric_id]
        for groups in {counted.series(one.groups) for one in own}:
            series = [replace(one, groups=groups) for one in own if counted.series(one.groups) == groups]
            for start, (_, amount) in series_amounts(parts, product_id, series).items():
                found[product_id, start] = EXACT.add(found.get((product_id, start), ZERO), amount)
    assert found == amounts_of(whole)
    drawn: dict[tuple[str, str, datetime], Decimal] = {}
    for draw in whole.draws:
        place = draw.lot_id, draw.product_id, draw.start
        drawn[place] = EXACT.add(drawn.get(place, ZERO), draw.amount)
    assert draw_products(parts, found, given_lots) == (drawn, dict(whole.lots_after))


def test_what_reaches_over_series_is_not_rated_by_series() -> None:
    share = ProductPrice("fee", "Fee", Composite(("words",), Decimal(3)))
    fixed = Discount("off", "Off", "fixed", Decimal(5))
    pooled = replace(PRODUCTS[0], tier_group="together")
    back = replace(PRODUCTS[0], tier_period="contract")
    per_app = replace(PRODUCTS[0], allowance=Allowance(Decimal(5), per_metric="apps"))
    assert parts_of() is not None
    for reaching in (
        replace(TERMS, maximum=Decimal(5)),
        replace(TERMS, prices=(*PRODUCTS, share)),
        replace(TERMS, discounts=(fixed,)),
        replace(TERMS, prices=(pooled,)),
        replace(TERMS, prices=(back,)),
        replace(TERMS, prices=(per_app,)),
        replace(TERMS, prices=(replace(PRODUCTS[0], maximum=Decimal(5)),)),
    ):
        assert parts_of(reaching) is None


def test_a_minimum_reaches_over_series_only_once_the_period_is_over() -> None:
    for terms in (
        replace(TERMS, minimum=Decimal(50)),
        replace(TERMS, prices=(replace(PRODUCTS[0], minimum=Decimal(50)),)),
    ):
        assert parts_of(terms) is not None
        assert parts_of(terms, is_over=True) is None
