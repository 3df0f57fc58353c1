"""Each price model against figures that other billing systems document or test, and against hand arithmetic."""

from decimal import Decimal

import pytest

from pricing.prices import Graduated, Package, PerUnit, UsagePrice, Volume
from tests.pricing.april import charge_for, graduated, product, rate, terms, tiers, used, volume

D = Decimal

FLEXPRICE = (("10", "50"), ("20", "40"), (None, "30"))
FREE_START = (("5", "0"), ("10", "2"), (None, "3"))
ENTRY_FEES = (("5", "0", "1"), ("10", "1", "2"), (None, "2", "0"))
LAGO_GRADUATED = (("10", "10", "2"), ("20", "5", "3"), (None, "5", "3"))
LAGO_VOLUME = (("100", "2", "10"), ("200", "1", "0"), (None, "0.5", "50"))
OPENMETER_FLAT = (("5", "0", "100"), ("10", "0", "50"), ("15", "10"), (None, "5"))
OPENMETER_VOLUME = (("5", "0", "100"), ("10", "0", "150"), ("15", "10"), (None, "5"))
STRIPE_FONTS = (("5", "7.00"), ("10", "6.50"), (None, "6.00"))
METRONOME_GB = (("1000", "0.10"), (None, "0.09"))

WORKED_EXAMPLES: list[tuple[str, UsagePrice, str, str]] = [
    # per unit
    ("Flexprice", PerUnit(D(100)), "5", "500"),  # 5 x 100
    ("Flexprice", PerUnit(D("0.50")), "123.456", "61.728"),  # 123.456 x 0.50, 61.73 on the invoice
    ("Meteroid", PerUnit(D("0.001")), "100", "0.1"),  # a price below the cent
    ("OpenMeter", PerUnit(D(10)), "1400", "14000"),
    ("m3ter", PerUnit(D("0.50")), "120", "60"),
    # package: a package begun is a package charged
    ("Flexprice", Package(D(100), D(1)), "50", "1"),
    ("Flexprice", Package(D(100), D(1)), "100", "1"),  # exactly full opens no other
    ("Flexprice", Package(D(100), D(1)), "101", "2"),
    ("Flexprice", Package(D(100), D(1)), "150", "2"),
    ("Flexprice", Package(D(100), D(1)), "300", "3"),
    ("Lago", Package(D(10), D(100)), "121", "1300"),  # 13 packages, the last with one unit
    ("Meteroid", Package(D(20), D(5)), "45", "15"),
    ("Orb", Package(D(10), D("0.80")), "4", "0.80"),
    ("Orb", Package(D(10), D("0.80")), "11", "1.60"),
    ("Chargebee", Package(D(1_000_000), D("1.25")), "1000000", "1.25"),
    ("Chargebee", Package(D(1_000_000), D("1.25")), "10", "1.25"),
    ("Chargebee", Package(D(1_000_000), D("1.25")), "1500000", "2.50"),
    ("Stripe", Package(D(60), D("10.00")), "150", "30.00"),  # minutes by the hour begun
    # graduated: each unit at the price of its tier
    ("Flexprice", graduated(*FLEXPRICE), "5", "250"),
    ("Flexprice", graduated(*FLEXPRICE), "25", "1050"),  # 10 x 50 + 10 x 40 + 5 x 30
    ("Flexprice", graduated(*FREE_START), "3", "0"),
    ("Flexprice", graduated(*FREE_START), "5", "0"),  # the tier's last unit is still in it
    ("Flexprice", graduated(*FREE_START), "10", "10"),
    ("Flexprice", graduated(*ENTRY_FEES), "3", "1"),
    ("Flexprice", graduated(*ENTRY_FEES), "7", "5"),  # 1 + 2 x 1 + 2
    ("Flexprice", graduated(("1", "10"), ("2", "20"), (None, "30")), "3", "60"),
    ("Lago", graduated(*LAGO_GRADUATED), "1", "12"),  # 10 + 2
    ("Lago", graduated(*LAGO_GRADUATED), "21", "163"),  # 100 + 2 + 50 + 3 + 5 + 3
    ("Lago", graduated(("0.1", "10"), ("1", "5"), (None, "2")), "0.5", "3"),  # 0.1 x 10 + 0.4 x 5
    ("Meteroid", graduated(("100", "1.0"), ("200", "0.5"), (None, "0.25")), "150", "125"),
    ("Meteroid", graduated((None, "1", "10")), "5", "15"),
    ("OpenMeter", graduated(*OPENMETER_FLAT), "3", "100"),
    ("OpenMeter", graduated(*OPENMETER_FLAT), "5", "100"),  # the second tier is not entered
    ("OpenMeter", graduated(*OPENMETER_FLAT), "12", "170"),  # 100 + 50 + 2 x 10
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
    ("OpenMeter", volume(*OPENMETER_VOLUME), "3", "100"),
    ("OpenMeter", volume(*OPENMETER_VOLUME), "5", "100"),
    ("OpenMeter", volume(*OPENMETER_VOLUME), "14", "140"),
    ("OpenMeter", volume(*OPENMETER_VOLUME), "16", "80"),  # the next tier may cost less in all
    ("OpenMeter", volume(*OPENMETER_VOLUME), "100", "500"),
    ("Stripe", volume(*STRIPE_FONTS), "1", "7.00"),
    ("Stripe", volume(*STRIPE_FONTS), "5", "35.00"),
    ("Stripe", volume(*STRIPE_FONTS), "6", "39.00"),
    ("Stripe", volume(*STRIPE_FONTS), "25", "150.00"),
    ("Metronome", volume(*METRONOME_GB), "1000", "100"),
    ("Metronome", volume(*METRONOME_GB), "1500", "135"),
]


@pytest.mark.parametrize(("system", "price", "quantity", "amount"), WORKED_EXAMPLES)
def test_a_price_model_comes_to_the_amount_of_the_worked_example(
    system: str, price: UsagePrice, quantity: str, amount: str
) -> None:
    charge = charge_for(price, quantity)
    assert charge is not None, system
    assert charge.amount == D(amount), system


@pytest.mark.parametrize(
    "price",
    [PerUnit(D(10)), Package(D(10), D(15)), Graduated(tiers((None, "1", "10"))), Volume(tiers((None, "2", "10")))],
)
def test_no_usage_costs_nothing_and_has_no_line(price: UsagePrice) -> None:
    assert charge_for(price, "0") is None  # not even the first tier's flat fee
    assert rate(terms(product("chat", price)), []).lines == ()


def test_a_graduated_charge_is_explained_tier_by_tier() -> None:
    charge = charge_for(graduated(("1000000", "0.50"), ("3000000", "0.40", "25"), (None, "0.30")), "2500000")
    assert charge is not None
    assert [(s.text, s.quantity, s.amount, s.over, s.up_to) for s in charge.steps] == [
        # 1,000,000 x 0.50
        ("first 1,000,000 tokens at 0.50", D(1_000_000), D(500_000), D(0), D(1_000_000)),
        # 1,500,000 x 0.40 + 25
        ("next 1,500,000 tokens at 0.40, plus 25", D(1_500_000), D(600_025), D(1_000_000), D(3_000_000)),
    ]


@pytest.mark.parametrize(
    ("price", "quantity", "unit", "text"),
    [
        (PerUnit(D("0.50")), "1", "request", "1 request at 0.50"),
        (PerUnit(D("0.50")), "1500.50", "query", "1,500.5 queries at 0.50"),
        (PerUnit(D("0.000001")), "1E+6", "GB", "1,000,000 GB at 0.000001"),
        (PerUnit(D(1)), "2", "batch", "2 batches at 1"),
        (PerUnit(D(1)), "2", "day", "2 days at 1"),
        (PerUnit(D(1)), "2", "ms", "2 ms at 1"),
        (Package(D(60), D("10.00")), "150", "minute", "3 packages of 60 minutes at 10.00"),
        (volume(*STRIPE_FONTS), "6", "font", "6 fonts at 6.50 for a volume of 6"),
        (volume(*LAGO_VOLUME), "210", "seat", "210 seats at 0.5 for a volume of 210, plus 50"),
    ],
)
def test_the_explanation_is_short_plain_english(price: UsagePrice, quantity: str, unit: str, text: str) -> None:
    charge = charge_for(price, quantity, unit=unit)
    assert charge is not None
    assert [step.text for step in charge.steps] == [text]


def test_a_quantity_and_a_price_of_many_digits_lose_none() -> None:
    charge = charge_for(PerUnit(D("0.123456789012345678901234")), "98765432109876543210987654.123456789012")
    assert charge is not None
    # in integers, the 12 and 24 decimals moved out of the way
    whole = 98765432109876543210987654_123456789012 * 123456789012345678901234
    assert charge.amount == D(f"{whole}E-36")


def test_a_day_carries_what_it_adds_to_the_amount_so_far() -> None:
    rated = rate(terms(product("chat", graduated(("10", "1"), (None, "0.5")))), [used("8", day=1), used("6", day=2)])
    # day 1: 8 x 1; day 2: 2 x 1 + 4 x 0.5
    assert [(s.start.day, s.quantity, s.amount) for s in rated.charges[0].slices] == [(1, D(8), D(8)), (2, D(6), D(4))]


def test_every_day_of_a_volume_price_costs_the_price_that_the_whole_reaches() -> None:
    rated = rate(
        terms(product("chat", volume(("10", "1", "3"), (None, "0.5", "7")))), [used("8", day=1), used("6", day=2)]
    )
    # 14 units reach 0.5; the flat fee stands on the first day: 8 x 0.5 + 7, 6 x 0.5
    assert [s.amount for s in rated.charges[0].slices] == [D(11), D(3)]


def test_days_at_ledger_scale_add_up_to_the_rounded_charge() -> None:
    rated = rate(terms(product("chat", PerUnit(D("0.0000000000004")))), [used("1", day=day) for day in (1, 2, 3)])
    # 0.4, 0.8, 1.2 of the twelfth place so far: rounded 0, 1, 1, so the days carry 0, 1, 0
    assert [s.amount.scaleb(12) for s in rated.charges[0].slices] == [D(0), D(1), D(0)]
