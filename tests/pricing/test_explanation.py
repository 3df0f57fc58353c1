"""Explanations: what a person reads is what was computed, to the last figure."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.calendar import Period
from pricing.explanation import explained, explained_line, explained_period
from pricing.money import EXACT, currency, total
from pricing.prices import (
    Block,
    CellPrice,
    Composite,
    Dynamic,
    FixedFee,
    Graduated,
    GraduatedBlocks,
    GraduatedPercentage,
    Package,
    Percentage,
    PercentTier,
    PerUnit,
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
    Commit,
    Conversion,
    CustomUnit,
    Discount,
    Lot,
    ProductPrice,
    Reading,
    Terms,
    WindowedCommitment,
)
from pricing.wording import amount_text, unit_price_text

D = Decimal
APRIL = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
FIRST_HOUR = Period(APRIL.start, datetime(2026, 4, 1, 1, tzinfo=UTC))
USD = currency("USD")


def rated(
    products: tuple[ProductPrice, ...],
    usage: tuple[tuple[str, str], ...],
    *,
    discounts: tuple[Discount, ...] = (),
    commit: Commit | None = None,
    units: tuple[CustomUnit, ...] = (),
    minimum: Decimal | None = None,
) -> RatedPeriod:
    """April, all usage in its first hour."""
    terms = Terms("acme", 1, APRIL.start, USD, products, discounts=discounts, units=units, minimum=minimum)
    lots = [] if commit is None else [Lot(commit.commit_id, commit.name, commit.amount, commit.start, commit.end)]
    readings = [
        Reading(metric_id, FIRST_HOUR.start, FIRST_HOUR.end, D(quantity), (("model", "large"),))
        for metric_id, quantity in usage
    ]
    return rate_period([terms], readings, lots, APRIL, entity_time_zone="UTC")


def test_it_reads_as_a_person_would_write_it() -> None:
    tiers = (Tier(D(1000000), D("0.000002")), Tier(None, D("0.0000015")))
    product = ProductPrice("in", "Input tokens", Graduated(tiers), "tokens", unit="token", group_by=("model",))
    period = rated((replace(product, source="rate card list, override vip"),), (("tokens", "1250000"),))
    assert explained_period(period, time_zone="UTC") == (
        "Input tokens (model large): 1,250,000 tokens, 2.38 USD",
        "  first 1,000,000 tokens at 2.00 per million = 2.00",
        "  next 250,000 tokens at 1.50 per million = 0.375",
        "  in all 2.375, rounded to 2.38",
        (
            "  the price is that of rate card list, override vip, by version 1 of the contract's terms, "
            "for 2026-04-01 until 2026-05-01"
        ),
    )


def test_days_are_those_of_the_zone_and_hours_are_told_where_they_matter() -> None:
    period = rated((ProductPrice("calls", "Calls", PerUnit(D(1)), "calls", "call"),), (("calls", "1"),))
    assert explained_period(period, time_zone="Europe/Berlin")[-1].endswith(
        "for 2026-04-01 02:00:00 until 2026-05-01 02:00:00"
    )


def test_free_units_discounts_and_commits_are_told() -> None:
    product = ProductPrice(
        "calls", "Calls", PerUnit(D("0.5")), "calls", "call", conversion=Conversion("divide", D(10), "up"),
        allowance=Allowance(D(2)),
    )  # fmt: skip
    commit = Commit("prepaid-26", "Prepaid", D(3), APRIL.start, None)
    told = explained_period(
        rated((product,), (("calls", "95"),), discounts=(Discount("d", "Launch", "percentage", D(10)),), commit=commit)
    )
    # 95 are 10 tens, 2 of them free: 8 x 0.50 = 4.00, less 10 %, of which 3.00 are prepaid
    assert told == (
        "Calls: 10 calls, 3.60 USD",
        "  2 calls of the allowance, free = 0.00",
        "  8 calls at 0.5 = 4.00",
        "  Launch = -0.40",
        "  the price is that of version 1 of the contract's terms, for 2026-04-01 until 2026-05-01",
        "  of it 3.00 is paid by Prepaid (prepaid-26)",
    )


def test_composites_and_minimums_are_told_without_a_quantity() -> None:
    products = (
        ProductPrice("calls", "Calls", PerUnit(D("0.5")), "calls", "call"),
        ProductPrice("support", "Support", Composite(("calls",), D(10), minimum=D(5))),
    )
    told = explained_period(rated(products, (("calls", "20"),), minimum=D(100)))
    # 20 x 0.50 = 10.00; 10 % of it is 1.00, at least 5.00; 85.00 are missing to 100.00
    assert [line for line in told if " is that of " not in line] == [
        "Calls: 20 calls, 10.00 USD",
        "  20 calls at 0.5 = 10.00",
        "Support: 5.00 USD",
        "  10% of 10 = 1.00",
        "  4 more, up to the minimum of 5 = 4.00",
        "Minimum spend: 85.00 USD",
        "  Minimum spend = 85.00",
    ]


def test_amounts_in_a_custom_unit_are_turned_into_money_in_the_text() -> None:
    product = ProductPrice("calls", "Calls", PerUnit(D(2)), "calls", "call", pricing_unit="credit")
    told = explained_period(rated((product,), (("calls", "10"),), units=(CustomUnit("credit", 0, D("0.002")),)))
    assert told[1] == "  10 calls at 2: 20 credits at 2.00 per thousand = 0.04"


def test_packages_of_many_days_are_told_as_packages() -> None:
    product = ProductPrice("calls", "Calls", Package(D(10), D(3)), "calls", "call", tier_period="day")
    days = [APRIL.start.replace(day=day) for day in (1, 2, 3)]
    readings = [Reading("calls", start, end, D(11)) for start, end in pairwise(days)]
    terms = Terms("acme", 1, APRIL.start, USD, (product,))
    told = explained_period(rate_period([terms], readings, [], APRIL, entity_time_zone="UTC"))
    # 11 calls begin 2 packages on each of two days
    assert told[:2] == ("Calls: 22 calls, 12.00 USD", "  4 packages at 3, in 2 parts = 12.00")


def test_a_fee_is_told_with_its_days() -> None:
    assert explained_period(rated((ProductPrice("base", "Base", FixedFee(D(49))),), ())) == (
        "Base: 49.00 USD",
        "  in advance, for 2026-04-01 until 2026-05-01, by version 1 of the contract's terms",
    )


def test_a_line_of_an_invoice_is_told_by_what_it_holds() -> None:
    product = ProductPrice("calls", "Calls", PerUnit(D("0.0003")), "calls", "call", source="rate card list")
    [line] = rated((product,), (("calls", "50"),)).lines
    assert explained_line(line, USD) == (
        "Calls: 50 calls, 0.02 USD",
        "  50 calls at 0.30 per thousand = 0.015",
        "  in all 0.015, rounded to 0.02",
        "  the price is that of rate card list",
        "  for 2026-04-01 until 2026-05-01",
    )


def test_small_prices_are_told_per_thousand_or_million() -> None:
    assert unit_price_text(D("0.000002")) == "2.00 per million"
    assert unit_price_text(D("0.0003")) == "0.30 per thousand"
    assert unit_price_text(D("0.00012345")) == "0.12345 per thousand"
    assert unit_price_text(D("0.01")) == "0.01"
    assert unit_price_text(D(0)) == "0"


def test_amounts_lose_no_digit() -> None:
    assert amount_text(D("1234.5")) == "1,234.50"
    assert amount_text(D("1234567890123456789012345678901234.123456")) == (
        "1,234,567,890,123,456,789,012,345,678,901,234.123456"
    )
    assert amount_text(D(2000), 0) == "2,000"


# --- the figures in the text ---------------------------------------------------------------------------------------

FIGURE = r"-?[0-9][0-9,]*(?:\.[0-9]+)?"
SCALES = {"thousand": D(1000), "million": D(1000000), "": D(1)}
PER = rf"(?P<price>{FIGURE})(?: per (?P<scale>thousand|million))?"
FORMS = [
    re.compile(form)
    for form in (
        rf"(?:first |next )?(?P<quantity>{FIGURE}) .*? at (?:the m..imum of )?{PER}(?:,| for a| plus|$).*",
        rf"(?P<percent>{FIGURE})% of (?:the first |the next )?(?P<quantity>{FIGURE})(?:,|$).*",
        rf"(?P<quantity>{FIGURE}) .*?times (?P<price>{FIGURE})",
        rf"(?:first |next )?{FIGURE} .*at (?:a flat fee of |flat fees of |no further charge).*",
        rf"flat fee of {FIGURE} without usage",
        rf"(?P<quantity>{FIGURE}) carried by .*",
        rf"{FIGURE} free",
    )
]
FLAT = re.compile(rf"(?:, plus|flat fees? of) (?P<fee>{FIGURE})")


def figure(text: str) -> Decimal:
    return D(text.replace(",", ""))


def computed(text: str) -> Decimal:
    """Compute an amount from the words of one step alone, as a reader with a calculator would."""
    flat = FLAT.search(text)
    fee = figure(flat["fee"]) if flat else D(0)
    for form in FORMS:
        match = form.fullmatch(text)
        if match is None:
            continue
        said = {name: value for name, value in match.groupdict().items() if value}
        if "quantity" not in said:
            return fee
        price = figure(said.get("price", "1"))
        if "percent" in said:
            price = EXACT.scaleb(figure(said["percent"]), -2)
        units = EXACT.multiply(figure(said["quantity"]), price)
        return EXACT.add(EXACT.divide(units, SCALES[said.get("scale", "")]), fee)
    raise AssertionError(f"a reader cannot compute {text!r}")


def test_a_step_that_says_another_figure_would_be_found() -> None:
    assert computed("first 1,000 tokens at 2.00 per thousand, plus 5") == D(7)
    assert computed("2.5% of the next 200, plus 1") == D(6)
    assert computed("3 packages of 1,000 tokens at 5.00, after 100 tokens free") == D(15)
    with pytest.raises(AssertionError, match="cannot compute"):
        computed("about 5 tokens")


money = st.decimals(0, 100, places=9)
ends = st.lists(st.integers(1, 500), min_size=1, max_size=2, unique=True).map(lambda found: (*sorted(found), None))


@st.composite
def prices(draw: st.DrawFn) -> CellPrice:
    """Any price of usage, also at far below a cent."""
    bounds = [None if end is None else D(end) for end in draw(ends)]
    tiers = tuple(Tier(end, draw(st.none() | money), draw(money)) for end in bounds)
    blocks = (Block(D(draw(st.integers(1, 9))), draw(money), D(3)), Block(D(5), draw(money)))
    options: list[CellPrice] = [
        PerUnit(draw(money)),
        Package(D(draw(st.integers(1, 90))), draw(money), "up", D(draw(st.integers(0, 9)))),
        Graduated(tiers, flat_fee_at_zero=True),
        Volume(tiers, flat_fee_at_zero=True),
        StairStep(tuple(Stair(end, draw(money)) for end in bounds), amount_at_zero=True),
        GraduatedBlocks(blocks),
        VolumeBlocks(blocks),
        Percentage(draw(money), draw(money)),
        Percentage(draw(money), draw(money), D("0.5"), D(20), draw(st.integers(0, 3))),
        GraduatedPercentage(tuple(PercentTier(end, draw(money), draw(money)) for end in bounds)),
        Dynamic(draw(money)),
        Dynamic(draw(money), "event_amount"),
    ]
    return draw(st.sampled_from(options))


values_of_events = st.lists(st.decimals("0.01", 400, places=2), max_size=5)


@given(prices(), values_of_events, st.sampled_from(("billing_period", "day")))
def test_the_figures_in_the_text_of_the_steps_come_to_the_amount_of_the_charge(
    price: CellPrice, values: list[Decimal], tier_period: str
) -> None:
    product = ProductPrice("p", "Product", price, "m", "token", tier_period="billing_period")
    reading = Reading(
        "m", FIRST_HOUR.start, FIRST_HOUR.end, total(values), (), len(values), total(values), tuple(values)
    )
    second = replace(reading, start=APRIL.start.replace(day=2), end=APRIL.start.replace(day=2, hour=1))
    daily = replace(product, tier_period="day") if tier_period == "day" else product
    readings = [reading, second] if tier_period == "day" else [reading]
    period = rate_period([Terms("acme", 1, APRIL.start, USD, (daily,))], readings, [], APRIL, entity_time_zone="UTC")
    for charge in period.charges:
        assert total([computed(step.text) for step in charge.steps]) == charge.amount
        said = [line.rpartition(" = ")[2] for line in explained(charge, USD) if " = " in line]
        assert total([figure(amount) for amount in said]) == charge.amount


@given(st.decimals(0, 100, places=4), st.decimals(0, 500, places=2))
def test_the_lines_of_a_charge_add_up_to_what_it_comes_to_with_its_adjustments(
    quantity: Decimal, minimum: Decimal
) -> None:
    product = ProductPrice("p", "Product", PerUnit(D("1.2345")), "m", minimum=minimum)
    discount = Discount("launch", "Launch", "percentage", D("12.5"))
    for charge in rated((product,), (("m", str(quantity)),), discounts=(discount,)).charges:
        said = [line.rpartition(" = ")[2] for line in explained(charge, USD) if " = " in line]
        gross = EXACT.multiply(quantity, D("1.2345"))
        reached = EXACT.subtract(gross, EXACT.multiply(gross, D("0.125")))
        assert total([figure(amount) for amount in said]) == max(reached, minimum)


def test_a_windowed_commitment_says_what_it_adds() -> None:
    commitment = WindowedCommitment("day", amount=D(10), overage_factor=D("1.5"))
    product = ProductPrice("p", "Product", PerUnit(D(1)), "m", "call", commitment=commitment)
    [charge] = rated((product,), (("m", "30"),)).charges
    # the first of 30 days: 10.00 within, 20.00 above at 1.5 times
    assert [(step.amount, amount_text(step.amount) in step.text) for step in charge.steps if step.amount] == [
        (D(10), True),
        (D(30), True),
    ]
