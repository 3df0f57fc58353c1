"""Contract files: what a good one says, and that a bad one is told everything at once."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from ledger.contract_files import (
    CollectionPolicy,
    ContractDefinition,
    ContractFileError,
    InvoicingPolicy,
    Policy,
    parse_contract,
)
from pricing.money import Currency
from pricing.prices import FixedFee, Graduated, Package, PerUnit, Tier, Volume
from pricing.terms import Commit, ProductPrice, Terms

GOOD = """\
contract: acme-2026
customer: acme
entity: northwind
currency: EUR
time_zone: Asia/Kolkata
start: 2026-01-01
end: "2027-01-01T00:00:00+05:30"
products:
  - id: tokens
    name: Tokens
    metric: tokens
    unit: token
    price:
      model: graduated
      tiers:
        - {up_to: 1000000, unit_price: 0.000000000001}
        - {unit_price: "0.00002", flat_fee: "5.00"}
  - {id: calls, name: Calls, metric: calls, price: {model: per_unit, unit_price: 0.1}}
  - {id: images, name: Images, metric: images, price: {model: package, size: 1000, package_price: "20.00"}}
  - {id: rows, name: Rows, metric: rows, price: {model: volume, tiers: [{unit_price: 0}]}}
  - {id: support, name: Support, price: {model: fixed_fee, amount: "49.00"}}
commits:
  - {id: prepaid, name: Prepaid, amount: "150.00", end: 2026-07-01, products: [tokens], priority: 10}
  - {id: rest, name: For everything, amount: 10}
invoicing: {grace: 12h, due_days: 14, review_above: "1000.00", review_growth: 2.5}
collection: {method: card, retry_after: [1d, 30s]}
"""


def problems(text: str, start: str | None = None) -> list[tuple[int, str, str]]:
    with pytest.raises(ContractFileError) as caught:
        parse_contract(text, start=start)
    return [(problem.line, problem.path, problem.message) for problem in caught.value.problems]


def test_a_good_file_is_read_exactly() -> None:
    # Midnight in Kolkata (+05:30) is 18:30 UTC of the day before.
    start = datetime(2025, 12, 31, 18, 30, tzinfo=UTC)
    products = (
        ProductPrice(
            "tokens",
            "Tokens",
            Graduated(
                (
                    Tier(Decimal(1000000), Decimal("0.000000000001")),
                    Tier(None, Decimal("0.00002"), Decimal("5.00")),
                )
            ),
            "tokens",
            "token",
        ),
        ProductPrice("calls", "Calls", PerUnit(Decimal("0.1")), "calls"),
        ProductPrice("images", "Images", Package(Decimal(1000), Decimal("20.00")), "images"),
        ProductPrice("rows", "Rows", Volume((Tier(None, Decimal(0)),)), "rows"),
        ProductPrice("support", "Support", FixedFee(Decimal("49.00"))),
    )
    commits = (
        Commit(
            "prepaid", "Prepaid", Decimal("150.00"), start, datetime(2026, 6, 30, 18, 30, tzinfo=UTC), ("tokens",), 10
        ),
        Commit("rest", "For everything", Decimal(10), start, None),
    )
    euro = Currency("EUR", 2)
    assert parse_contract(GOOD) == ContractDefinition(
        "acme-2026",
        "acme",
        "northwind",
        euro,
        "Asia/Kolkata",
        start,
        datetime(2026, 12, 31, 18, 30, tzinfo=UTC),
        Policy(
            InvoicingPolicy(timedelta(hours=12), 14, Decimal("1000.00"), Decimal("2.5")),
            CollectionPolicy("card", (timedelta(days=1), timedelta(seconds=30))),
        ),
        Terms("acme-2026", 1, start, euro, products, commits),
    )


def test_a_given_start_replaces_that_of_the_file_and_moves_commits_without_a_start() -> None:
    april = datetime(2026, 3, 31, 18, 30, tzinfo=UTC)
    moved = parse_contract(GOOD, start="2026-04-01")
    assert (moved.start_at, moved.terms.effective_from, moved.terms.commits[1].start) == (april, april, april)
    without = parse_contract(GOOD.replace("start: 2026-01-01\n", ""), start="2026-03-31T18:30:00Z")
    assert without == moved
    assert problems(GOOD, start="soon") == [
        (0, "start", "'soon' is not a date; write 2026-01-01, or 2026-01-01T00:00:00Z")
    ]


def test_a_bad_file_is_told_everything_at_once_with_line_and_remedy() -> None:
    text = """\
contract: Acme 2026
customer: acme
customer: acme2
entity: 7
currency: DOGE
time_zone: Mars/Olympus
start: 2026-02-30
prices: []
products:
  - id: tokens
    name: Tokens
    metric: tokens
    price: {model: per_units, unit_price: 1}
  - id: calls
    name: ""
    price: {model: per_unit, unit_price: 1e3}
  - id: support
    name: Support
    metric: tokens
    price: {model: fixed_fee, amount: "-1"}
  - id: support
    name: Rows
    metric: rows
    price:
      model: volume
      tiers:
        - {up_to: 10, unit_price: 1}
        - {up_to: 5, unit_price: 1}
commits:
  - {id: a.b, name: Prepaid, amount: 0}
  - {id: c, name: Prepaid, amount: "0", products: [support]}
invoicing: {grace: 3, due_days: 1.5}
collection: {method: cash, retry_after: [soon]}
"""
    found = problems(text)
    assert [(line, path) for line, path, _ in found] == [
        (1, "contract"),
        (3, "customer"),
        (4, "entity"),
        (5, "currency"),
        (6, "time_zone"),
        (7, "start"),
        (8, "prices"),
        (13, "products[0].price.model"),
        (15, "products[1].name"),
        (16, "products[1].price.unit_price"),
        (19, "products[2].metric"),
        (20, "products[2].price.amount"),
        (21, "products[3].id"),
        (28, "products[3].price.tiers[1].up_to"),
        (30, "commits[0].id"),
        (31, "commits[1].amount"),
        (32, "invoicing.grace"),
        (32, "invoicing.due_days"),
        (33, "collection.method"),
        (33, "collection.retry_after[0]"),
    ]
    messages = {path: message for _, path, message in found}
    assert messages["customer"] == "stands here again, first in line 2; keep one"
    assert messages["entity"] == "'7' must be an id; put it in quotes"
    assert messages["prices"].startswith("is not a known key; use one of contract, customer, ")
    assert messages["products[0].price.model"] == "'per_units' is not known; did you mean per_unit?"
    assert (
        messages["invoicing.grace"] == "'3' is not a duration; write a whole number with its unit: 30s, 10m, 12h or 3d"
    )
    assert messages["start"] == "'2026-02-30' is not a date; write 2026-01-01, or 2026-01-01T00:00:00Z"


def test_an_unknown_price_model_lists_the_known_ones() -> None:
    [(line, path, message)] = problems(GOOD.replace("model: package", "model: seats"))
    assert (line, path) == (19, "products[2].price.model")
    assert message == "'seats' is not known; use one of per_unit, package, graduated, volume, fixed_fee"


@pytest.mark.parametrize(
    ("before", "after", "line", "path"),
    [
        ("unit: token", "unit: [token]", 12, "products[0].unit"),  # a list for a text
        ("customer: acme\n", "customer:\n", 2, "customer"),  # null is missing
        ("customer: acme", "customer: yes", 2, "customer"),  # YAML's other spelling of true
        ("up_to: 1000000", "up_to: 1_000_000", 16, "products[0].price.tiers[0].up_to"),  # YAML reads it, people differ
        ("up_to: 1000000", "up_to: 010", 16, "products[0].price.tiers[0].up_to"),  # octal in YAML
        ("unit_price: 0.1}", "unit_price: .inf}", 18, "products[1].price.unit_price"),
        ("unit_price: 0.1}", "unit_price: 0.0000000000001}", 18, "products[1].price.unit_price"),  # 13 places
        ('amount: "49.00"', 'amount: "49.001"', 21, "products[4].price.amount"),  # no invoice shows a tenth of a cent
        ("name: Support,", "name: Support, unit: seat,", 21, "products[4].unit"),
        ("start: 2026-01-01", "start: 2026-01-01T00:00:00", 6, "start"),  # which zone?
        ("start: 2026-01-01", "start: 1026-01-01", 6, "start"),
        ('end: "2027', 'end: "2025', 7, "end"),
        ("retry_after: [1d, 30s]", "retry_after: [400d]", 26, "collection.retry_after[0]"),
        ("method: card", "method: bank_transfer", 26, "collection.retry_after"),
        ("products: [tokens]", "products: [token]", 23, "commits[0].products[0]"),
        ("products: [tokens]", "products: []", 23, "commits[0].products"),
        ("tiers: [{unit_price: 0}]", "tiers: []", 20, "products[3].price.tiers"),
        ("currency: EUR", "<<: {currency: EUR}\ncurrency: EUR", 4, "<<"),
    ],
)
def test_each_single_fault_is_found_where_it_stands(before: str, after: str, line: int, path: str) -> None:
    assert before in GOOD
    assert [(line, path) for line, path, _ in problems(GOOD.replace(before, after, 1))] == [(line, path)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("just words", 1),
        ("contract: a\n  customer: b: c\n", 2),
        ("contract: a\n---\ncontract: b\n", 2),
        ("contract: \x00", 1),
        ("[" * 5000, 1),
        ("a" * 300_000, 1),
    ],
)
def test_what_is_no_contract_file_at_all_is_one_problem(text: str, line: int) -> None:
    assert [found for found, _, _ in problems(text)] == [line]
