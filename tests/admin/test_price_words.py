"""Prices in words: what a person reads in `contract show`."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from admin.price_words import other_facts, periods_text, price_text, product_text
from pricing.calendar import Anchor
from pricing.money import Currency
from pricing.prices import (
    Block,
    Cell,
    Composite,
    Dynamic,
    FixedFee,
    Graduated,
    GraduatedBlocks,
    GraduatedPercentage,
    Matrix,
    OneOff,
    Package,
    Percentage,
    PercentTier,
    PerUnit,
    Price,
    Seats,
    Stair,
    StairStep,
    Tier,
    Volume,
    VolumeBlocks,
)
from pricing.terms import (
    Allowance,
    CardUse,
    Conversion,
    CustomUnit,
    Discount,
    HoursOfDay,
    Override,
    ProductPrice,
    QuantityRounding,
    Terms,
    WindowedCommitment,
)

TEN, ONE = Decimal(10), Decimal(1)
APRIL = datetime(2026, 4, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("price", "words"),
    [
        (PerUnit(Decimal("0.00003")), "0.00003 per token"),
        (Package(Decimal(1000), Decimal(20), "up", TEN), "20 per 1,000 tokens begun, the first 10 tokens free"),
        (
            Graduated((Tier(TEN, None, Decimal(5)), Tier(None, ONE, Decimal(2))), flat_fee_at_zero=True),
            "graduated: 5 in all up to 10; 1 per token beyond plus 2; the first also without usage",
        ),
        (Volume((Tier(None, ONE),)), "by volume: 1 per token beyond"),
        (
            Volume((Tier(None, ONE, Decimal(2), Decimal(9)),)),
            "by volume: 1 per token beyond plus 2, at most 9",
        ),
        (
            StairStep((Stair(TEN, ONE), Stair(None, Decimal("9.50")))),
            "one amount by volume: 1 up to 10; 9.5 beyond",
        ),
        (
            GraduatedBlocks((Block(TEN, ONE, Decimal(3)), Block(TEN, Decimal(2)))),
            "graduated, in whole blocks: 1 per 10 tokens, at most 3 of them; 2 per 10 tokens",
        ),
        (VolumeBlocks((Block(TEN, ONE),)), "by volume, in whole blocks: 1 per 10 tokens"),
        (
            Percentage(Decimal("2.9"), Decimal("0.30"), ONE, TEN, free_events=3, free_amount=Decimal(500)),
            (
                "2.9% of the amount, plus 0.3 per event, at least 1 per event, at most 10 per event, "
                "the first 3 events free, the first 500 free"
            ),
        ),
        (
            GraduatedPercentage((PercentTier(TEN, ONE), PercentTier(None, Decimal(2), ONE))),
            "graduated: 1% up to 10; 2% beyond plus 1",
        ),
        (Dynamic(Decimal("1.2"), "event_amount"), "1.2 times the amount that the events carry"),
        (
            Matrix(("region", "tier"), (Cell(("eu", "*"), PerUnit(ONE)),), PerUnit(TEN)),
            "by region and tier: eu and *: 1 per token; otherwise 10 per token",
        ),
        (Composite(("tag:ai",), TEN, Decimal(100)), "10% of what tag:ai come to, at least 100"),
        (
            FixedFee(Decimal(49), "year", "arrears", "day"),
            "49 a year, in arrears, a part of it by the day",
        ),
        (
            Seats(TEN, PerUnit(Decimal(30)), credit_removals=True),
            "10 seats a period, 30 per seat, in advance, a part of it by the day, removed seats are credited",
        ),
        (OneOff(Decimal(250), APRIL), "250 once, on 2026-04-01T00:00:00Z"),
    ],
)
def test_every_price_model_is_said_in_words(price: Price, words: str) -> None:
    assert price_text(price, "token") == words


def test_a_product_is_said_with_what_changes_its_quantity() -> None:
    product = ProductPrice(
        "tokens",
        "Tokens",
        PerUnit(ONE),
        "tokens",
        "token",
        group_by=("model",),
        rounding=QuantityRounding("half_up", 2),
        conversion=Conversion("divide", Decimal(1000), "up"),
        allowance=Allowance(TEN, per_seats="seats", rollover_cap=Decimal(50)),
        tier_period="day",
        tier_group="shared",
        minimum=TEN,
        maximum=Decimal(500),
        commitment=WindowedCommitment("hour", quantity=TEN, hours=(HoursOfDay(22, 24, ONE),), true_up=True),
        pricing_unit="credits",
        source="card standard-2026",
    )
    assert product_text(product) == (
        "1 per token, in credits, for each model, quantity rounded half up to 2 places, quantity divided by 1000, "
        "rounded up, 10 tokens free per seats, at most 50 kept over, tiers counted by the day, tiers shared with "
        "shared, at least 10, at most 500, 10 tokens committed per hour, beyond it 1 times the price, charged also "
        "where it is not used, other figures from 22 to 24 o'clock, from card standard-2026"
    )


def test_what_terms_say_beside_products_is_said_too() -> None:
    terms = Terms(
        "acme",
        1,
        APRIL,
        Currency("EUR", 2),
        (),
        card=CardUse(alias="standard"),
        overrides=(Override("half", ("tokens",), (("region", "eu"),), Decimal("0.5"), start=APRIL),),
        discounts=(
            Discount("launch", "Launch", "percentage", TEN),
            Discount("goodwill", "Goodwill", "fixed", TEN, ("tokens",), end=APRIL),
        ),
        units=(CustomUnit("credits", 2, Decimal("0.01")),),
        minimum=TEN,
    )
    assert [*other_facts(terms)] == [
        ("rate card", "alias standard"),
        ("override half", "0.5 times the card's price, for tokens, where region is eu, from 2026-04-01T00:00:00Z"),
        ("discount launch", "Launch: 10% off all usage"),
        ("discount goodwill", "Goodwill: 10 off tokens a billing period, until 2026-04-01T00:00:00Z"),
        ("unit credits", "0.01 EUR each"),
        ("minimum", "10 a billing period"),
    ]


def test_billing_periods_are_said_with_the_day_on_which_they_turn() -> None:
    assert periods_text("month", None) == "each month, from the day of the start"
    assert periods_text("quarter", Anchor(15, 2)) == "each quarter, from day 15 of month 2"
