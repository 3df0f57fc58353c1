"""Prices in files: every model and product option, by the names of the fields that pricing gives them."""

import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.files.contracts import parse_contract
from ledger.files.document import FileError
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
from pricing.terms import Allowance, Conversion, HoursOfDay, ProductPrice, QuantityRounding, WindowedCommitment
from tests.ledger.test_contract_files import CARDED, GOOD, problems


def with_price(price: str, *options: str) -> str:
    """Put a price, and options of its product, in the place of the product `calls`, which stands in line 18."""
    before = "  - {id: calls, name: Calls, metric: calls, price: {model: per_unit, unit_price: 0.1}}"
    return GOOD.replace(before, f"  - {{{', '.join(['id: calls', 'name: Calls', *options])}, price: {{{price}}}}}")


USAGE = "metric: calls"


@pytest.mark.parametrize(
    ("price", "options", "expected"),
    [
        (
            "model: package, size: 1000, package_price: 20, rounding: none, free_units: 500",
            [USAGE],
            Package(Decimal(1000), Decimal(20), "none", Decimal(500)),
        ),
        (
            "model: graduated, tiers: [{up_to: 10, flat_fee: 5}, {unit_price: 1}], flat_fee_at_zero: true",
            [USAGE],
            Graduated((Tier(Decimal(10), None, Decimal(5)), Tier(None, Decimal(1))), flat_fee_at_zero=True),
        ),
        (
            "model: stair_step, stairs: [{up_to: 100, amount: 9.99}, {amount: 99}], amount_at_zero: true",
            [USAGE],
            StairStep((Stair(Decimal(100), Decimal("9.99")), Stair(None, Decimal(99))), amount_at_zero=True),
        ),
        (
            "model: graduated_blocks, blocks: [{size: 10, block_price: 5, most_blocks: 2}, {size: 99, block_price: 1}]",
            [USAGE],
            GraduatedBlocks((Block(Decimal(10), Decimal(5), Decimal(2)), Block(Decimal(99), Decimal(1)))),
        ),
        (
            "model: volume_blocks, blocks: [{size: 10, block_price: 5}]",
            [USAGE],
            VolumeBlocks((Block(Decimal(10), Decimal(5)),)),
        ),
        (
            (
                'model: percentage, rate_percent: 1.2, fee_per_event: "0.10", minimum_per_event: 0.5, '
                "maximum_per_event: 9, free_events: 3, free_amount: 500"
            ),
            [USAGE],
            Percentage(
                Decimal("1.2"), Decimal("0.10"), Decimal("0.5"), Decimal(9), free_events=3, free_amount=Decimal(500)
            ),
        ),
        (
            "model: graduated_percentage, tiers: [{up_to: 1000, rate_percent: 3}, {rate_percent: 2, flat_fee: 1}]",
            [USAGE],
            GraduatedPercentage((PercentTier(Decimal(1000), Decimal(3)), PercentTier(None, Decimal(2), Decimal(1)))),
        ),
        (
            "model: dynamic, multiplier: 1.2, source: event_amount",
            [USAGE],
            Dynamic(Decimal("1.2"), "event_amount"),
        ),
        (
            (
                "model: matrix, keys: [region], cells: [{values: [eu], price: {model: per_unit, unit_price: 2}}, "
                "{values: ['*'], price: {model: volume, tiers: [{unit_price: 1}]}}], "
                "default: {model: package, size: 5, package_price: 1}"
            ),
            [USAGE],
            Matrix(
                ("region",),
                (Cell(("eu",), PerUnit(Decimal(2))), Cell(("*",), Volume((Tier(None, Decimal(1)),)))),
                Package(Decimal(5), Decimal(1)),
            ),
        ),
        (
            'model: composite, products: [tokens, "tag:ai"], rate_percent: 10, minimum: 100',
            [],
            Composite(("tokens", "tag:ai"), Decimal(10), Decimal(100)),
        ),
        (
            "model: fixed_fee, amount: 600, cadence: year, timing: arrears, proration: day",
            [],
            FixedFee(Decimal(600), "year", "arrears", "day"),
        ),
        (
            (
                "model: seats, quantity: 12, price: {model: per_unit, unit_price: 30}, proration: second, "
                "credit_removals: true"
            ),
            [],
            Seats(Decimal(12), PerUnit(Decimal(30)), proration="second", credit_removals=True),
        ),
        (  # midnight of 15 April in Kolkata
            "model: one_off, amount: 250, due: 2026-04-15",
            [],
            OneOff(Decimal(250), datetime(2026, 4, 14, 18, 30, tzinfo=UTC)),
        ),
    ],
)
def test_every_price_model_is_read_by_the_names_of_its_fields(price: str, options: list[str], expected: Price) -> None:
    text = with_price(price, *options)
    text = text.replace("metric: images,", "metric: images, tags: [ai],")
    assert parse_contract(text).terms.prices[1].price == expected


def test_a_product_says_how_its_quantity_is_counted() -> None:
    text = with_price(
        "model: per_unit, unit_price: 2",
        "metric: calls, tags: [ai, eu], group_by: [region], rounding: {rounding: up, places: -3}",
        "conversion: {operation: divide, factor: 1000, rounding: up}, tier_period: day, tier_group: shared",
        "allowance: {units: 100, per_metric: apps, rollover_cap: 50}, minimum: 5, maximum: 500, pricing_unit: credits",
    )
    product = parse_contract(text + "units: [{code: credits, exponent: 3, money_per_unit: 0.01}]\n").terms.prices[1]
    assert product == ProductPrice(
        "calls",
        "Calls",
        PerUnit(Decimal(2)),
        "calls",
        tags=("ai", "eu"),
        group_by=("region",),
        rounding=QuantityRounding("up", -3),
        conversion=Conversion("divide", Decimal(1000), "up"),
        allowance=Allowance(Decimal(100), "apps", None, Decimal(50)),
        tier_period="day",
        tier_group="shared",
        minimum=Decimal(5),
        maximum=Decimal(500),
        pricing_unit="credits",
    )


def test_a_commitment_is_read_with_its_hours_of_the_day() -> None:
    text = with_price(
        "model: per_unit, unit_price: 2",
        "metric: calls, commitment: {window: hour, quantity: 10, overage_factor: 1.5, true_up: true, "
        "hours: [{start: 22, end: 24, unit_price: 1, amount: 3}]}",
    )
    assert parse_contract(text).terms.prices[1].commitment == WindowedCommitment(
        "hour",
        quantity=Decimal(10),
        overage_factor=Decimal("1.5"),
        true_up=True,
        hours=(HoursOfDay(22, 24, Decimal(1), Decimal(3)),),
    )


@pytest.mark.parametrize(
    ("price", "path"),
    [
        ("unit_price: 1", "price.model"),  # no model at all
        ("model: [per_unit], unit_price: 1", "price.model"),
        ("model: matrix, keys: region, cells: []", "price.keys"),
        ("model: matrix, keys: [r], cells: [{values: [a], price: 3}]", "price.cells[0].price"),
        (
            "model: matrix, keys: [r], cells: [{values: [a], price: {model: per_unit}}]",
            "price.cells[0].price.unit_price",
        ),
        ("model: dynamic, source: events", "price.source"),
        ("model: percentage, rate_percent: 1, free_events: 1.5", "price.free_events"),
        ("model: graduated, tiers: [{unit_price: 1}], flat_fee_at_zero: yes", "price.flat_fee_at_zero"),
    ],
)
def test_a_fault_inside_a_price_is_told_with_its_whole_path(price: str, path: str) -> None:
    assert [(line, path) for line, path, _ in problems(with_price(price, USAGE))] == [(18, f"products[1].{path}")]


# --- laws ---------------------------------------------------------------------------------------------------------


@given(st.decimals(min_value=0, max_value=Decimal("999999999999999.999999999999"), places=12))
def test_a_number_is_read_exactly_quoted_or_not(number: Decimal) -> None:
    for written in (f"{number:f}", f'"{number:f}"'):
        text = GOOD.replace("unit_price: 0.1}", f"unit_price: {written}}}")
        assert parse_contract(text).terms.prices[1].price == PerUnit(number)


ODD = [
    "",
    "~",
    "yes",
    "-1",
    "1e3",
    "0x1F",
    "2026-01-01",
    "[]",
    "{}",
    "[a, [b]]",
    "{a: b}",
    "{model: matrix}",
    "'*'",
    "é",
]


@given(st.integers(0, 200), st.sampled_from(ODD))
def test_whatever_stands_in_a_place_the_file_is_read_or_its_faults_are_told(n: int, odd: str) -> None:
    text = GOOD + CARDED[CARDED.index("overrides") : CARDED.index("invoicing")]
    places = [*re.finditer(r"(?<=: )[^{}\[\],\n]+(?=[,}\n])", text)]
    place = places[n % len(places)]
    try:
        parse_contract(text[: place.start()] + odd + text[place.end() :])
    except FileError as error:
        found = error.problems
    else:
        found = ()
    assert all(problem.line and problem.message for problem in found)
