"""Laws of shared tiers, and of usage that is taken back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.calendar import Period
from pricing.money import currency, total
from pricing.prices import (
    Block,
    Cell,
    CellPrice,
    Dynamic,
    Graduated,
    GraduatedBlocks,
    GraduatedPercentage,
    Matrix,
    Package,
    Percentage,
    PercentTier,
    PerUnit,
    Price,
    Stair,
    StairStep,
    Tier,
    Volume,
    VolumeBlocks,
)
from pricing.rated import RatedPeriod
from pricing.rating import rate_period
from pricing.terms import (
    Allowance,
    Conversion,
    Lot,
    ProductPrice,
    QuantityRounding,
    Reading,
    Terms,
    TierPeriod,
)

D = Decimal
APRIL = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 4, 11, tzinfo=UTC))
MODELS = ("large", "small")
TIERS = (Tier(D(10), D("0.50"), D(1)), Tier(D(100), D("0.25")), Tier(None, D("0.10"), D("0.3")))
CELLS: list[CellPrice] = [
    PerUnit(D("0.123456789012")),
    Package(D(7), D("1.05")),
    Package(D(7), D("1.05"), "none", D(3)),
    Graduated(TIERS),
    Graduated(TIERS, flat_fee_at_zero=True),
    Volume(TIERS),
    StairStep((Stair(D(10), D(5)), Stair(None, D(9)))),
    GraduatedBlocks((Block(D(10), D(2), D(5)), Block(D(100), D(9)))),
    VolumeBlocks((Block(D(10), D(2), D(5)), Block(D(100), D(9)))),
    Percentage(D("2.9"), D("0.30")),
    GraduatedPercentage((PercentTier(D(50), D(3), D(1)), PercentTier(None, D(2)))),
    Dynamic(D("1.5")),
]
PRICES: list[Price] = [
    *CELLS,
    Matrix(("model",), (Cell(("large",), CELLS[3]),), CELLS[0]),
    Matrix(("model",), (Cell(("small",), CELLS[1]), Cell(("*",), CELLS[5]))),
]
PERIODS: list[TierPeriod] = ["billing_period", "day", "month", "contract"]


@st.composite
def products(draw: st.DrawFn) -> ProductPrice:
    price = draw(st.sampled_from(PRICES))
    return ProductPrice(
        "p",
        "Product",
        price,
        "m",
        group_by=draw(st.sampled_from([(), ("model",)])) if not isinstance(price, Matrix) else (),
        rounding=draw(st.sampled_from([None, QuantityRounding("up", 0)])),
        conversion=draw(st.sampled_from([None, Conversion("divide", D(3), "none"), Conversion("divide", D(3), "up")])),
        allowance=draw(st.sampled_from([None, Allowance(D(12))])),
        tier_period=draw(st.sampled_from(PERIODS)),
        minimum=draw(st.sampled_from([None, D(5)])),
        maximum=draw(st.sampled_from([None, D(40)])),
    )


READINGS = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(MODELS), st.decimals(0, 80, places=2)), min_size=1, max_size=12
)


def reading(day: int, model: str, quantity: Decimal, events: int = 1) -> Reading:
    start = APRIL.start + timedelta(days=day)
    return Reading("m", start, start + timedelta(days=1), quantity, (("model", model),), events)


def rated(product: ProductPrice, readings: list[Reading], **options: object) -> RatedPeriod:
    other = replace(product, product_id="q", metric_id="n")
    terms = Terms("acme", 1, APRIL.start, currency("USD"), (product, other), **options)  # type: ignore[arg-type]
    lot = Lot("lot", "Lot", D(7), APRIL.start, None)
    return rate_period([terms], readings, [lot], APRIL, entity_time_zone="UTC")


@given(READINGS)
@settings(deadline=None)
def test_products_of_one_tier_group_cost_what_one_product_would(usage: list[tuple[int, str, Decimal]]) -> None:
    price = Graduated(TIERS)
    shared = [ProductPrice(name, name, price, name, tier_group="all") for name in MODELS]
    terms = Terms("acme", 1, APRIL.start, currency("USD"), tuple(shared))
    parts = [replace(reading(*one), metric_id=one[1], groups=()) for one in usage]
    apart = rate_period([terms], parts, [], APRIL, entity_time_zone="UTC")
    alone = rated(ProductPrice("p", "P", price, "m"), [reading(*one) for one in usage])
    assert total([c.amount for c in apart.charges]) == total([c.amount for c in alone.charges])


@given(products(), READINGS, st.integers(0, 9))
@settings(deadline=None)
def test_what_is_taken_back_was_never_charged(
    product: ProductPrice, usage: list[tuple[int, str, Decimal]], day: int
) -> None:
    usage = [*usage, *((0, model, D(0)) for model in MODELS)]  # a group that is never seen owes no flat fee
    taken_back = [*usage, (day, "large", D(20)), (day, "large", D(-20))]
    without = rated(product, [reading(*one, 0) for one in usage])
    assert rated(product, [reading(*one, 0) for one in taken_back]).lines == without.lines
