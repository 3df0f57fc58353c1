"""Files of rate cards and catalogs: what a good one says, and that a bad one is told everything at once."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from ledger.files.cards import parse_catalog, parse_rate_card
from ledger.files.document import FileError
from pricing.cards import AliasEntry, CardProduct, CardRate, RateCard
from pricing.money import Currency
from pricing.prices import FixedFee, Package, PerUnit, Tier, Volume
from pricing.terms import CustomUnit, ProductPrice

CARD = """\
rate_card: standard-2026
currency: EUR
time_zone: Europe/Berlin
units: [{code: credits, exponent: 2, money_per_unit: "0.01"}]
aliases: [{alias: standard, from: 2026-01-01}, {alias: default}]
products:
  - {id: seat-fee, name: Fee, price: {model: fixed_fee, amount: 49}}
  - id: calls
    name: Calls
    metric: calls
    unit: call
    tags: [ai]
    pricing_unit: credits
    rates:
      - price: {model: per_unit, unit_price: 2}
      - {from: 2026-02-01, price: {model: package, size: 10, package_price: 3}}
      - from: "2026-07-01T00:00:00Z"
        price:
          model: volume
          tiers:
            - {up_to: 5, unit_price: 1}
            - {unit_price: "0.5"}
"""


def problems(text: str) -> list[tuple[int, str]]:
    with pytest.raises(FileError) as caught:
        parse_rate_card(text)
    return [(problem.line, problem.path) for problem in caught.value.problems]


def test_a_card_has_prices_and_dated_rates_in_its_own_zone() -> None:
    fee, first = FixedFee(Decimal(49)), PerUnit(Decimal(2))
    calls = ProductPrice("calls", "Calls", first, "calls", "call", tags=("ai",), pricing_unit="credits")
    january, february = datetime(2025, 12, 31, 23, tzinfo=UTC), datetime(2026, 1, 31, 23, tzinfo=UTC)
    assert parse_rate_card(CARD) == RateCard(
        "standard-2026",
        Currency("EUR", 2),
        (CustomUnit("credits", 2, Decimal("0.01")),),
        (
            CardProduct(ProductPrice("seat-fee", "Fee", fee), (CardRate(None, fee),)),
            CardProduct(
                calls,
                (
                    CardRate(None, first),
                    CardRate(february, Package(Decimal(10), Decimal(3))),
                    CardRate(
                        datetime(2026, 7, 1, tzinfo=UTC),
                        Volume((Tier(Decimal(5), Decimal(1)), Tier(None, Decimal("0.5")))),
                    ),
                ),
            ),
        ),
        (AliasEntry("standard", january), AliasEntry("default")),
    )


def test_dates_of_a_card_without_a_zone_are_midnights_in_utc() -> None:
    card = parse_rate_card(CARD.replace("time_zone: Europe/Berlin\n", ""))
    assert card.aliases[0].effective_from == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "after", "line", "path"),
    [
        ("currency: EUR", "currency: EURO", 2, "currency"),
        ("time_zone: Europe/Berlin", "time_zone: Berlin", 3, "time_zone"),
        ("exponent: 2", "exponent: -1", 4, "units[0].exponent"),
        ("{alias: default}", "{alias: standard}", 5, "aliases[1].alias"),
        ("{alias: default}", "{alias: default, form: 2026-01-01}", 5, "aliases[1].form"),
        ("price: {model: fixed_fee, amount: 49}", "metric: fees", 7, "products[0]"),  # no price at all
        ("amount: 49}", "amount: 49}, rates: [{price: {model: fixed_fee, amount: 1}}]", 7, "products[0]"),  # both
        ("amount: 49}", "amount: 49.001}", 7, "products[0].price.amount"),
        ("    metric: calls\n", "", 8, "products[1].metric"),
        ("pricing_unit: credits", "pricing_unit: tokens", 13, "products[1].pricing_unit"),
        ("unit_price: 2}", "unit_price: -2}", 15, "products[1].rates[0].price.unit_price"),
        ("size: 10", "size: 0", 16, "products[1].rates[1].price.size"),
        ("model: package", "model: packages", 16, "products[1].rates[1].price.model"),
        ("from: 2026-02-01, ", "", 16, "products[1].rates[1].from"),
        ("2026-07-01T00:00:00Z", "2026-01-01", 17, "products[1].rates[2].from"),
        ('{unit_price: "0.5"}', '{up_to: 4, unit_price: "0.5"}', 22, "products[1].rates[2].price.tiers[1].up_to"),
    ],
)
def test_each_single_fault_is_found_where_it_stands(before: str, after: str, line: int, path: str) -> None:
    assert before in CARD
    assert problems(CARD.replace(before, after, 1)) == [(line, path)]


def test_a_card_needs_products() -> None:
    assert problems("rate_card: empty\ncurrency: EUR\nproducts: []\n") == [(3, "products")]


def test_a_catalog_holds_metrics_and_cards() -> None:
    indented = CARD.strip().replace("\n", "\n    ")
    text = f"metrics:\n  - {{metric: calls, event_type: call, aggregation: count}}\nrate_cards:\n  - {indented}\n"
    catalog = parse_catalog(text)
    assert [metric.metric_id for metric in catalog.metrics] == ["calls"]
    assert catalog.rate_cards == (parse_rate_card(CARD),)
    with pytest.raises(FileError) as caught:
        parse_catalog(text.replace("aggregation: count", "aggregation: sum").replace("size: 10", "size: ten"))
    assert [(problem.line, problem.path) for problem in caught.value.problems] == [
        (2, "metrics[0].property"),
        (19, "rate_cards[0].products[1].rates[1].price.size"),
    ]
