"""Each price model against figures that other billing systems document or test, and against hand arithmetic."""

from decimal import Decimal

import pytest

from pricing.errors import NegativeQuantityError, PricingError
from pricing.measures import NOTHING
from pricing.models import Standing, cell_price, price_steps, scaled, wants_values
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
    Rounding,
    Stair,
    StairStep,
    Tier,
    Volume,
    VolumeBlocks,
)
from tests.pricing.april import graduated, tiers, volume
from tests.pricing.rates import amount_of, cost, measure, steps_for

D = Decimal

FLEXPRICE = (("10", "50"), ("20", "40"), (None, "30"))
FREE_START = (("5", "0"), ("10", "2"), (None, "3"))
ENTRY_FEES = (("5", "0", "1"), ("10", "1", "2"), (None, "2", "0"))
LAGO_GRADUATED = (("10", "10", "2"), ("20", "5", "3"), (None, "5", "3"))
LAGO_VOLUME = (("100", "2", "10"), ("200", "1", "0"), (None, "0.5", "50"))
STRIPE_FONTS = (("5", "7.00"), ("10", "6.50"), (None, "6.00"))
METRONOME_GB = (("1000", "0.10"), (None, "0.09"))
ZUORA = (("50", "11"), ("100", "10"), (None, "9"))

OPENMETER_GRADUATED = (
    Tier(D(5), None, D(100)),
    Tier(D(10), None, D(50)),
    Tier(D(15), D(10)),
    Tier(None, D(5)),
)
OPENMETER_VOLUME = (
    Tier(D(5), None, D(100)),
    Tier(D(10), None, D(150)),
    Tier(D(15), D(10)),
    Tier(None, D(5)),
)


def package(size: str, price: str, *, rounding: Rounding = "up", free: str = "0") -> Package:
    return Package(D(size), D(price), rounding, D(free))


def blocks(*rows: tuple[str, str, str | None]) -> tuple[Block, ...]:
    """Blocks from rows of size, price and the most of them that the tier holds."""
    return tuple(Block(D(size), D(price), None if most is None else D(most)) for size, price, most in rows)


KILL_BILL_BLOCKS = blocks(("100", "1", "10"), ("1000", "1", "100"), ("1000", "0.5", "100"))
KILL_BILL_FOO = GraduatedBlocks(blocks(("1", "1", "10"), ("1", "10", "50"), ("1", "100", "75")))
KILL_BILL_BAR = GraduatedBlocks(blocks(("1", "2", "100"), ("1", "20", "500"), ("1", "200", "750")))
BANDS = StairStep((Stair(D(1000), D(49)), Stair(D(5000), D(199)), Stair(None, D(499))))

WORKED_EXAMPLES: list[tuple[str, CellPrice, str, str]] = [
    # per unit
    ("Flexprice", PerUnit(D(100)), "5", "500"),  # 5 x 100
    ("Flexprice", PerUnit(D("0.50")), "123.456", "61.728"),  # 123.456 x 0.50, 61.73 on the invoice
    ("Meteroid", PerUnit(D("0.001")), "100", "0.1"),  # a price below the cent
    ("OpenMeter", PerUnit(D(10)), "1400", "14000"),
    ("m3ter", PerUnit(D("0.50")), "120", "60"),
    # package: a package begun is a package charged
    ("Flexprice", package("100", "1"), "50", "1"),
    ("Flexprice", package("100", "1"), "100", "1"),  # exactly full opens no other
    ("Flexprice", package("100", "1"), "101", "2"),
    ("Flexprice", package("100", "1"), "150", "2"),
    ("Flexprice", package("100", "1"), "300", "3"),
    ("Flexprice", package("100", "1", rounding="down"), "50", "0"),  # whole packages only
    ("Flexprice", package("100", "1", rounding="down"), "250", "2"),
    ("half up", package("100", "1", rounding="half_up"), "149.999", "1"),
    ("half up", package("100", "1", rounding="half_up"), "150", "2"),
    ("shares of packages", package("100", "8", rounding="none"), "250", "20"),  # 2.5 x 8
    ("Lago", package("10", "100"), "121", "1300"),  # 13 packages, the last with one unit
    ("Lago", package("10", "100", free="120"), "121", "100"),  # one unit above the free ones
    ("Lago", package("10", "100", free="200"), "121", "0"),
    ("Meteroid", package("20", "5"), "45", "15"),
    ("OpenMeter", package("10", "15"), "10", "15"),
    ("OpenMeter", package("10", "15"), "11", "30"),
    ("Orb", package("10", "0.80"), "4", "0.80"),
    ("Orb", package("10", "0.80"), "11", "1.60"),
    ("Chargebee", package("1000000", "1.25"), "1000000", "1.25"),
    ("Chargebee", package("1000000", "1.25"), "10", "1.25"),
    ("Chargebee", package("1000000", "1.25"), "1500000", "2.50"),
    ("Stripe", package("60", "10.00"), "150", "30.00"),  # minutes by the hour begun
    # graduated: each unit at the price of its tier
    ("Flexprice", graduated(*FLEXPRICE), "5", "250"),
    ("Flexprice", graduated(*FLEXPRICE), "25", "1050"),  # 10 x 50 + 10 x 40 + 5 x 30
    ("Flexprice", graduated(*FREE_START), "3", "0"),
    ("Flexprice", graduated(*FREE_START), "5", "0"),  # the tier's last unit is still in it
    ("Flexprice", graduated(*FREE_START), "10", "10"),
    ("Flexprice", graduated(*ENTRY_FEES), "3", "1"),
    ("Flexprice", graduated(*ENTRY_FEES), "7", "5"),  # 1 + 2 x 1 + 2
    ("Flexprice", graduated(("1", "10"), ("2", "20"), (None, "30")), "1", "10"),
    ("Flexprice", graduated(("1", "10"), ("2", "20"), (None, "30")), "2", "30"),
    ("Flexprice", graduated(("1", "10"), ("2", "20"), (None, "30")), "3", "60"),
    ("Lago", graduated(*LAGO_GRADUATED), "1", "12"),  # 10 + 2
    ("Lago", graduated(*LAGO_GRADUATED), "21", "163"),  # 100 + 2 + 50 + 3 + 5 + 3
    ("Lago", graduated(("0.1", "10"), ("1", "5"), (None, "2")), "0.5", "3"),  # 0.1 x 10 + 0.4 x 5
    ("Meteroid", graduated(("100", "1.0"), ("200", "0.5"), (None, "0.25")), "150", "125"),
    ("Meteroid", graduated((None, "1", "10")), "5", "15"),
    ("OpenMeter", Graduated(OPENMETER_GRADUATED), "3", "100"),
    ("OpenMeter", Graduated(OPENMETER_GRADUATED), "5", "100"),  # the second tier is not entered
    ("OpenMeter", Graduated(OPENMETER_GRADUATED), "12", "170"),  # 100 + 50 + 2 x 10
    ("Orb", graduated(("10", "0.50"), (None, "0.10")), "10", "5.00"),
    ("Orb", graduated(("10", "0.50"), (None, "0.10")), "11", "5.10"),
    ("Orb", graduated(("10", "0.50"), (None, "0.10")), "25", "6.50"),
    ("Orb", graduated(("100", "1.00"), (None, "0.50")), "450", "275"),
    ("m3ter", graduated(("500", "0.15"), (None, "0.10")), "800", "105"),  # 75 + 30
    ("Metronome", graduated(*METRONOME_GB), "1500", "145"),  # 100 + 45
    ("Stripe", graduated(("100000", "0"), (None, "0.001")), "100001", "0.001"),
    ("Stripe", graduated(("100000", "0"), (None, "0.001")), "150000", "50"),
    ("Stripe", graduated(("100000", "0", "4.00"), (None, "0.000065")), "100070", "4.00455"),  # 4 + 70 x 0.000065
    # volume: all units at the price of the tier that the whole reaches
    ("Flexprice", volume(*FLEXPRICE), "5", "250"),
    ("Flexprice", volume(*FLEXPRICE), "15", "600"),
    ("Lago", volume(*LAGO_VOLUME), "1", "12"),
    ("Lago", volume(*LAGO_VOLUME), "100", "210"),
    ("Lago", volume(*LAGO_VOLUME), "100.5", "100.5"),  # above 100, if only by half a unit
    ("Lago", volume(*LAGO_VOLUME), "200", "200"),
    ("Lago", volume(*LAGO_VOLUME), "210", "155"),  # 105 + 50
    ("OpenMeter", Volume(OPENMETER_VOLUME), "3", "100"),
    ("OpenMeter", Volume(OPENMETER_VOLUME), "5", "100"),
    ("OpenMeter", Volume(OPENMETER_VOLUME), "7", "150"),
    ("OpenMeter", Volume(OPENMETER_VOLUME), "14", "140"),
    ("OpenMeter", Volume(OPENMETER_VOLUME), "16", "80"),  # the next tier may cost less in all
    ("OpenMeter", Volume(OPENMETER_VOLUME), "100", "500"),
    ("Orb", volume(("10", "0.50"), ("1000", "0.40")), "101", "40.40"),
    ("Stripe", volume(*STRIPE_FONTS), "1", "7.00"),
    ("Stripe", volume(*STRIPE_FONTS), "5", "35.00"),
    ("Stripe", volume(*STRIPE_FONTS), "6", "39.00"),
    ("Stripe", volume(*STRIPE_FONTS), "20", "120.00"),
    ("Metronome", volume(*METRONOME_GB), "1000", "100"),
    ("Metronome", volume(*METRONOME_GB), "1500", "135"),
    ("Zuora", volume(*ZUORA), "160", "1440"),  # January: 20 + 90 + 50
    ("Zuora", volume(*ZUORA), "90", "900"),
    # stair-step: the whole quantity costs the amount of its stair
    ("stairs", BANDS, "1", "49"),
    ("stairs", BANDS, "1000", "49"),
    ("stairs", BANDS, "1000.000001", "199"),
    ("stairs", BANDS, "5000", "199"),
    ("stairs", BANDS, "80000", "499"),
    # blocks that fill tier by tier
    ("Kill Bill", GraduatedBlocks(blocks(("100", "1", "10"), ("1000", "1", None))), "5325", "15"),  # 10 + 5 blocks
    ("Kill Bill", KILL_BILL_FOO, "5", "5"),
    ("Kill Bill", KILL_BILL_FOO, "75", "2010"),  # 10 x 1 + 50 x 10 + 15 x 100
    ("Kill Bill", KILL_BILL_BAR, "101", "220"),  # 100 x 2 + 1 x 20
    ("Kill Bill", KILL_BILL_BAR, "0.5", "2"),  # a block begun
    # blocks all of the tier that the quantity reaches
    ("Kill Bill", VolumeBlocks(KILL_BILL_BLOCKS), "1000", "10"),  # 10 blocks of 100
    ("Kill Bill", VolumeBlocks(KILL_BILL_BLOCKS), "101000", "101"),  # as much as the first two tiers hold
    ("Kill Bill", VolumeBlocks(KILL_BILL_BLOCKS), "101001", "51"),  # 102 blocks at 0.5
    ("Kill Bill", VolumeBlocks(KILL_BILL_BLOCKS), "300000", "150"),  # the last tier takes what passes its end
    ("Kill Bill", VolumeBlocks(blocks(("100", "10", "10"), ("100", "1", None))), "2000", "20"),
    ("Kill Bill", VolumeBlocks(blocks(("1", "1.5", "10"), ("1", "1.0", "100"), ("1", "0.5", "1000"))), "111", "55.5"),
]


@pytest.mark.parametrize(("system", "price", "quantity", "amount"), WORKED_EXAMPLES)
def test_a_price_model_comes_to_the_amount_of_the_worked_example(
    system: str, price: CellPrice, quantity: str, amount: str
) -> None:
    assert cost(price, measure(quantity)) == D(amount), system


SMALLEST = "100.000000000001"
"""One unit of the twelfth decimal above a boundary at 100."""
FINE = "0.123456789012"
FINEST = "0.000000000001"
MANY = "1000000000000000"

EDGES: list[tuple[CellPrice, dict[str, str]]] = [
    (PerUnit(D(FINE)), {"1": FINE, "0.000000000001": "0.000000000000123456789012", MANY: "123456789012000"}),
    (
        package("100", FINE),
        {"1": FINE, "100": FINE, SMALLEST: "0.246913578024", MANY: "1234567890120"},  # 10^13 packages
    ),
    (
        graduated(("100", FINE, "1"), (None, FINEST)),
        {
            "1": "1.123456789012",
            "100": "13.3456789012",
            SMALLEST: "13.345678901200000000000001",  # 10^-12 units at 10^-12
            MANY: "1013.3456789011",  # (10^15 - 100) x 10^-12 = 1000 - 10^-10
        },
    ),
    (
        volume(("100", FINE, "1"), (None, FINEST)),
        {"1": "1.123456789012", "100": "13.3456789012", SMALLEST: "0.000000000100000000000001", MANY: "1000"},
    ),
    (
        StairStep((Stair(D(100), D(FINE)), Stair(None, D("99.000000000001")))),
        {"1": FINE, "100": FINE, SMALLEST: "99.000000000001", MANY: "99.000000000001"},
    ),
    (
        GraduatedBlocks(blocks(("10", FINE, "10"), ("100", FINEST, None))),
        {"1": FINE, "100": "1.23456789012", SMALLEST: "1.234567890121", MANY: "11.234567890119"},  # 10^13 - 1 blocks
    ),
    (
        VolumeBlocks(blocks(("10", FINE, "10"), ("100", FINEST, None))),
        {"1": FINE, "100": "1.23456789012", SMALLEST: "0.000000000002", MANY: "10"},
    ),
    (
        GraduatedPercentage((PercentTier(D(100), D(FINE), D(1)), PercentTier(None, D(FINEST)))),
        {
            "1": "1.00123456789012",
            "100": "1.123456789012",
            SMALLEST: "1.12345678901200000000000001",  # 10^-12 at 10^-14
            MANY: "11.123456789011",  # (10^15 - 100) x 10^-14 = 10 - 10^-12
        },
    ),
    (Percentage(D(FINE)), {"1": "0.00123456789012", "100": FINE, MANY: "1234567890120"}),
    (Dynamic(D(FINE)), {"1": FINE, "100": "12.3456789012", MANY: "123456789012000"}),
]


@pytest.mark.parametrize(
    ("price", "quantity", "amount"),
    [(price, quantity, amount) for price, figures in EDGES for quantity, amount in {"0": "0", **figures}.items()],
)
def test_every_model_is_exact_at_its_edges(price: CellPrice, quantity: str, amount: str) -> None:
    assert cost(price, measure(quantity)) == D(amount)


def test_a_quantity_and_a_price_of_many_digits_lose_none() -> None:
    amount = cost(PerUnit(D("0.123456789012345678901234")), measure("98765432109876543210987654.123456789012"))
    # in integers, the 12 and 24 decimals moved out of the way
    whole = 98765432109876543210987654_123456789012 * 123456789012345678901234
    assert amount == D(f"{whole}E-36")


# --- without usage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "price",
    [
        PerUnit(D(10)),
        package("10", "15"),
        Graduated(tiers((None, "1", "10"))),
        Volume(tiers((None, "2", "10"))),
        BANDS,
        KILL_BILL_FOO,
        VolumeBlocks(KILL_BILL_BLOCKS),
        Percentage(D(5), D(1)),
        GraduatedPercentage((PercentTier(None, D(1), D(200)),)),
        Dynamic(),
    ],
)
def test_no_usage_costs_nothing_not_even_the_first_flat_fee(price: CellPrice) -> None:
    assert steps_for(price, NOTHING) == ()


@pytest.mark.parametrize(
    ("price", "amount", "unit_price"),
    [
        (Volume(tiers(*LAGO_VOLUME), flat_fee_at_zero=True), "10", D(2)),  # Lago
        (Graduated(OPENMETER_GRADUATED, flat_fee_at_zero=True), "100", None),  # OpenMeter
        (Volume(OPENMETER_VOLUME, flat_fee_at_zero=True), "100", None),  # OpenMeter
        (StairStep(BANDS.stairs, amount_at_zero=True), "49", None),
        (
            GraduatedPercentage((PercentTier(D(10), D(1), D(200)), PercentTier(None, D(2))), flat_fee_at_zero=True),
            "200",
            D("0.01"),
        ),
    ],
)
def test_the_first_flat_fee_is_due_without_usage_where_the_price_says_so(
    price: CellPrice, amount: str, unit_price: Decimal | None
) -> None:
    (step,) = steps_for(price, NOTHING)
    assert (step.quantity, step.unit_price, step.amount, step.tier) == (D(0), unit_price, D(amount), 1)
    assert step.text == f"flat fee of {amount} without usage"


def test_the_first_flat_fee_is_due_once_whether_or_not_there_is_usage() -> None:
    price = Graduated(OPENMETER_GRADUATED, flat_fee_at_zero=True)
    assert cost(price, measure("3")) == D(100)
    silent_part = price_steps(price, NOTHING, Standing(measure("3"), measure("3")), "token")
    assert silent_part == ()  # the period has usage elsewhere, which pays the fee
    assert price_steps(price, NOTHING, Standing(NOTHING, NOTHING, owes_flat_fee=False), "token") == ()


# --- usage that stands on earlier usage ---------------------------------------------------------------------------


def standing_on(price: CellPrice, before: str, usage: str, *, owes_flat_fee: bool = True) -> Decimal:
    whole = measure(D(before) + D(usage))
    return amount_of(
        price_steps(price, measure(usage), Standing(measure(before), whole, owes_flat_fee=owes_flat_fee), "token")
    )


def test_a_graduated_flat_fee_is_charged_when_its_tier_is_entered_and_not_again() -> None:
    price = graduated(*LAGO_GRADUATED)
    assert standing_on(price, "0", "10") == D(102)  # 10 x 10 + 2
    assert standing_on(price, "10", "1") == D(8)  # 5 + 3: the tier before was full
    assert standing_on(price, "10.5", "1") == D(5)


def test_openmeters_split_after_twelve_units_pays_the_tiers_that_remain() -> None:
    price = Graduated(
        (Tier(D(5), D(0), D(100)), Tier(D(10), None, D(50)), Tier(D(15), D(5)), Tier(None, D(1))),
        flat_fee_at_zero=True,
    )
    assert standing_on(price, "12", "10") == D(22)  # 3 x 5 + 7 x 1
    assert standing_on(price, "7", "1") == D(0)
    assert cost(price, measure("22")) == D(182)  # 100 + 50 + 25 + 7


def test_a_package_that_earlier_usage_began_is_not_charged_again() -> None:
    assert standing_on(package("10", "15"), "1", "8") == D(0)
    assert standing_on(package("10", "15"), "9", "1") == D(0)
    assert standing_on(package("10", "15"), "9", "2") == D(15)


def test_blocks_that_earlier_usage_began_are_not_charged_again() -> None:
    price = GraduatedBlocks(blocks(("100", "1", "10"), ("1000", "7", None)))
    assert standing_on(price, "950", "50") == D(0)
    assert standing_on(price, "950", "60") == D(7)  # the last block of 100 was begun
    assert standing_on(VolumeBlocks(KILL_BILL_BLOCKS), "300", "701") == D(1)  # 1,001 units: 2 blocks less 1


def test_volume_tiers_and_stairs_look_at_the_whole_and_charge_their_fee_once() -> None:
    assert standing_on(volume(*LAGO_VOLUME), "150", "60") == D(80)  # 60 x 0.5 + 50
    assert standing_on(volume(*LAGO_VOLUME), "150", "60", owes_flat_fee=False) == D(30)
    assert standing_on(BANDS, "900", "200") == D(199)
    assert standing_on(BANDS, "900", "200", owes_flat_fee=False) == D(0)


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "end"),
    [
        (graduated(("10", "1"), ("20", "2")), "20"),
        (volume(("10", "1"), ("20", "2")), "20"),
        (StairStep((Stair(D(20), D(1)),)), "20"),
        (GraduatedBlocks(blocks(("1", "1", "5"), ("5", "2", "3"))), "20"),
        (GraduatedPercentage((PercentTier(D(20), D(1)),)), "20"),
    ],
)
def test_units_above_the_last_tier_are_refused(price: CellPrice, end: str) -> None:
    assert cost(price, measure(end)) > 0
    with pytest.raises(PricingError, match=r"quantity 20\.5 lies above the last tier, which ends at 20"):
        cost(price, measure("20.5"))


@pytest.mark.parametrize("price", [PerUnit(D(1)), package("1", "1"), BANDS, Dynamic()])
def test_a_quantity_below_zero_is_refused(price: CellPrice) -> None:
    with pytest.raises(NegativeQuantityError, match="-1 token"):
        cost(price, measure("-1"))


# --- explanation --------------------------------------------------------------------------------------------------


def test_a_graduated_charge_is_explained_tier_by_tier() -> None:
    steps = steps_for(graduated(("1000000", "0.50"), ("3000000", "0.40", "25"), (None, "0.30")), measure("2500000"))
    assert [(s.text, s.quantity, s.amount, s.over, s.up_to, s.tier) for s in steps] == [
        # 1,000,000 x 0.50
        ("first 1,000,000 tokens at 0.50", D(1_000_000), D(500_000), D(0), D(1_000_000), 1),
        # 1,500,000 x 0.40 + 25
        ("next 1,500,000 tokens at 0.40, plus 25", D(1_500_000), D(600_025), D(1_000_000), D(3_000_000), 2),
    ]


def test_blocks_are_explained_tier_by_tier() -> None:
    steps = steps_for(GraduatedBlocks(blocks(("100", "1", "10"), ("1000", "1", None))), measure("5325"))
    assert [(s.text, s.quantity, s.over, s.up_to, s.tier) for s in steps] == [
        ("10 blocks of 100 tokens at 1", D(10), D(0), D(1000), 1),
        ("5 blocks of 1,000 tokens at 1", D(5), D(1000), None, 2),
    ]


@pytest.mark.parametrize(
    ("price", "quantity", "unit", "text"),
    [
        (PerUnit(D("0.50")), "1", "request", "1 request at 0.50"),
        (PerUnit(D("0.50")), "1500.50", "query", "1,500.5 queries at 0.50"),
        (PerUnit(D("0.000001")), "1E+6", "GB", "1,000,000 GB at 1.00 per million"),
        (PerUnit(D(1)), "2", "batch", "2 batches at 1"),
        (PerUnit(D(1)), "2", "day", "2 days at 1"),
        (PerUnit(D(1)), "2", "ms", "2 ms at 1"),
        (package("60", "10.00"), "150", "minute", "3 packages of 60 minutes at 10.00"),
        (
            package("60", "10.00", free="30"),
            "150",
            "minute",
            "2 packages of 60 minutes at 10.00, after 30 minutes free",
        ),
        (volume(*STRIPE_FONTS), "6", "font", "6 fonts at 6.50 for a volume of 6"),
        (volume(*LAGO_VOLUME), "210", "seat", "210 seats at 0.5 for a volume of 210, plus 50"),
        (Volume(OPENMETER_VOLUME), "3", "seat", "3 seats at a flat fee of 100 for a volume of 3"),
        (Graduated(OPENMETER_GRADUATED), "3", "seat", "first 3 seats at a flat fee of 100"),
        (BANDS, "1200", "call", "1,200 calls at a flat fee of 199 for a volume of 1,200"),
        (KILL_BILL_FOO, "5", "unit", "5 blocks of 1 unit at 1"),
        (Dynamic(D("1.5")), "10", "credit", "10 credits times 1.5"),
    ],
)
def test_the_explanation_is_short_plain_english(price: CellPrice, quantity: str, unit: str, text: str) -> None:
    assert [step.text for step in steps_for(price, measure(quantity), unit=unit)] == [text]


# --- matrices and scaling -----------------------------------------------------------------------------------------

EU_LARGE, EU, ELSEWHERE = PerUnit(D(3)), PerUnit(D(2)), PerUnit(D(1))
REGIONS = Matrix(("region", "size"), (Cell(("eu", "large"), EU_LARGE), Cell(("eu", "*"), EU)), ELSEWHERE)


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        ({"region": "eu", "size": "large"}, EU_LARGE),
        ({"size": "large", "region": "eu", "model": "m"}, EU_LARGE),
        ({"region": "eu", "size": "small"}, EU),
        ({"region": "eu"}, EU),
        ({"region": "us", "size": "large"}, ELSEWHERE),
        ({}, ELSEWHERE),
    ],
)
def test_the_first_cell_that_fits_prices_a_combination_of_values(
    groups: dict[str, str], found: CellPrice | None
) -> None:
    assert cell_price(REGIONS, groups) == found


def test_the_first_of_two_cells_that_fit_applies() -> None:
    matrix = Matrix(("region",), (Cell(("*",), EU), Cell(("eu",), EU_LARGE)))
    assert cell_price(matrix, {"region": "eu"}) == EU


def test_a_combination_without_cell_or_default_has_no_price() -> None:
    assert cell_price(Matrix(("region",), (Cell(("eu",), EU),)), {"region": "us"}) is None


def test_a_price_without_matrix_is_the_price_of_all_values() -> None:
    assert cell_price(EU, {"region": "us"}) == EU


@pytest.mark.parametrize(
    ("price", "scaled_price"),
    [
        (PerUnit(D("0.10")), PerUnit(D("0.080"))),
        (package("10", "5", free="3"), package("10", "4", free="3")),
        (graduated(("10", "5", "10"), (None, "1")), graduated(("10", "4", "8"), (None, "0.8"))),
        (Volume(OPENMETER_VOLUME[:1]), Volume((Tier(D(5), None, D(80)),))),
        (BANDS, StairStep((Stair(D(1000), D("39.2")), Stair(D(5000), D("159.2")), Stair(None, D("399.2"))))),
        (GraduatedBlocks(blocks(("5", "10", "2"))), GraduatedBlocks(blocks(("5", "8", "2")))),
        (VolumeBlocks(blocks(("5", "10", "2"))), VolumeBlocks(blocks(("5", "8", "2")))),
        (
            Percentage(D(5), D(10), D(1), D(20), free_events=2, free_amount=D(100)),
            Percentage(D(4), D(8), D("0.8"), D(16), free_events=2, free_amount=D(100)),
        ),
        (
            GraduatedPercentage((PercentTier(D(10), D(5), D(1)), PercentTier(None, D(10)))),
            GraduatedPercentage((PercentTier(D(10), D(4), D("0.8")), PercentTier(None, D(8)))),
        ),
        (Dynamic(D(2), "event_amount"), Dynamic(D("1.6"), "event_amount")),
    ],
)
def test_a_multiplier_scales_every_amount_of_a_price_and_no_quantity(price: CellPrice, scaled_price: CellPrice) -> None:
    assert scaled(price, D("0.8")) == scaled_price


@pytest.mark.parametrize(
    ("price", "wanted"),
    [
        (Percentage(D(1), D(2)), False),
        (Percentage(D(1), minimum_per_event=D(0)), True),
        (Percentage(D(1), maximum_per_event=D(1)), True),
        (Percentage(D(1), free_events=1), True),
        (Percentage(D(1), free_amount=D(1)), True),
        (Percentage(D(1), free_events=0, free_amount=D(0)), False),
        (PerUnit(D(1)), False),
        (Matrix(("a",), (Cell(("b",), PerUnit(D(1))),), Percentage(D(1), free_events=1)), True),
        (Matrix(("a",), (Cell(("b",), PerUnit(D(1))),)), False),
    ],
)
def test_only_some_percentages_want_the_values_of_single_events(price: CellPrice | Matrix, wanted: bool) -> None:
    assert wants_values(price) is wanted
