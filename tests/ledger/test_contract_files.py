"""Contract files: what a good one says, and that a bad one is told everything at once."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from ledger.definitions import CollectionPolicy, ContractDefinition, InvoicingPolicy, Policy
from ledger.files.contracts import parse_contract
from ledger.files.document import FileError
from pricing.calendar import Anchor
from pricing.money import Currency
from pricing.prices import (
    FixedFee,
    Graduated,
    Package,
    PerUnit,
    Tier,
    Volume,
)
from pricing.terms import (
    CardUse,
    Commit,
    CustomUnit,
    Discount,
    Override,
    ProductPrice,
    Terms,
)

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
    with pytest.raises(FileError) as caught:
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
    [(line, path, message)] = problems(GOOD.replace("model: package", "model: tariff"))
    assert (line, path) == (19, "products[2].price.model")
    assert message == (
        "'tariff' is not known; use one of per_unit, package, graduated, volume, stair_step, graduated_blocks, "
        "volume_blocks, percentage, graduated_percentage, dynamic, matrix, composite, fixed_fee, seats, one_off"
    )


def test_a_key_of_another_model_is_told_with_the_keys_of_this_one() -> None:
    [(line, path, message)] = problems(GOOD.replace("unit_price: 0.1}", "unit_price: 0.1, unit_prise: 2}"))
    assert (line, path) == (18, "products[1].price.unit_prise")
    assert message == "is not a known key; did you mean unit_price?"


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


# --- what a contract may say beside its products ---------------------------------------------------------------------

CARDED = """\
contract: acme-2026
customer: acme
entity: northwind
currency: EUR
time_zone: Asia/Kolkata
start: 2026-01-01
cadence: quarter
anchor: 15
anchor_month: 2
rate_card_alias: standard
overrides:
  - id: half
    products: [tokens, "tag:ai"]
    groups: {region: eu, tier: gold}
    multiplier: 0.5
    start: 2026-02-01
    priority: 1
  - {id: own, products: [calls], price: {model: per_unit, unit_price: 3}, end: 2026-03-01}
discounts:
  - {id: launch, name: Launch, kind: percentage, value: 10, end: 2026-02-01}
  - {id: goodwill, name: Goodwill, kind: fixed, value: "25.00", products: ["tag:ai"]}
units: [{code: credits, exponent: 0, money_per_unit: "0.02"}]
minimum: 100
maximum: "5000.00"
invoicing: {grace: 12h, due_days: 14}
collection: {method: bank_transfer}
"""


def test_a_contract_on_a_rate_card_needs_no_products_of_its_own() -> None:
    february = datetime(2026, 1, 31, 18, 30, tzinfo=UTC)
    march = datetime(2026, 2, 28, 18, 30, tzinfo=UTC)
    definition = parse_contract(CARDED)
    assert (definition.cadence, definition.anchor) == ("quarter", Anchor(15, 2))
    assert definition.terms == Terms(
        "acme-2026",
        1,
        datetime(2025, 12, 31, 18, 30, tzinfo=UTC),
        Currency("EUR", 2),
        (),
        card=CardUse(alias="standard", as_of=definition.start_at),
        overrides=(
            Override(
                "half",
                ("tokens", "tag:ai"),
                (("region", "eu"), ("tier", "gold")),
                multiplier=Decimal("0.5"),
                start=february,
                priority=1,
            ),
            Override("own", ("calls",), price=PerUnit(Decimal(3)), end=march),
        ),
        discounts=(
            Discount("launch", "Launch", "percentage", Decimal(10), end=february),
            Discount("goodwill", "Goodwill", "fixed", Decimal("25.00"), ("tag:ai",)),
        ),
        units=(CustomUnit("credits", 0, Decimal("0.02")),),
        minimum=Decimal(100),
        maximum=Decimal("5000.00"),
    )
    by_id = parse_contract(CARDED.replace("rate_card_alias: standard", "rate_card: card-7"))
    assert by_id.terms.card == CardUse(card_id="card-7")
    following = parse_contract(CARDED.replace("rate_card_alias:", "follow_rate_card: true\nrate_card_alias:"))
    assert following.terms.card == CardUse(alias="standard")


@pytest.mark.parametrize(
    ("before", "after", "line", "path"),
    [
        ("rate_card_alias: standard", "rate_card_alias: standard\nrate_card: other", 11, "rate_card"),
        ("cadence: quarter", "cadence: quarterly", 7, "cadence"),
        ("anchor: 15", "anchor: 32", 8, "anchor"),
        ("anchor: 15\n", "", 8, "anchor_month"),
        ("cadence: quarter", "cadence: month", 9, "anchor_month"),
        ("cadence: quarter\nanchor: 15\nanchor_month: 2", "cadence: week\nanchor: 8", 8, "anchor"),
        ("cadence: quarter\nanchor: 15\nanchor_month: 2", "cadence: day\nanchor: 1", 8, "anchor"),
        ("rate_card_alias: standard", "rate_card: card-7\nfollow_rate_card: true", 11, "follow_rate_card"),
        ("rate_card_alias: standard", "rate_card_alias: standard\nfollow_rate_card: yes", 11, "follow_rate_card"),
        ("multiplier: 0.5", "multiplier: half", 15, "overrides[0].multiplier"),
        ("{region: eu, tier: gold}", "{region: 7}", 14, "overrides[0].groups.region"),
        ("[calls], price: {model: per_unit, unit_price: 3}", "[calls]", 18, "overrides[1].multiplier"),
        ("[calls], price: {model: per_unit,", "[calls], price: {model: seats,", 18, "overrides[1].price.model"),
        ("products: [calls]", "products: []", 18, "overrides[1].products"),
        ('products: ["tag:ai"]', "products: [AI]", 21, "discounts[1].products[0]"),
        ("kind: fixed", "kind: fix", 21, "discounts[1].kind"),
        ("value: 10,", "value: 110,", 20, "discounts[0].value"),
        ("exponent: 0", "exponent: 13", 22, "units[0].exponent"),
        ("minimum: 100", "minimum: 6000", 23, "minimum"),
        ('maximum: "5000.00"', "maximum: lots", 24, "maximum"),
    ],
)
def test_each_fault_beside_the_prices_is_found_where_it_stands(before: str, after: str, line: int, path: str) -> None:
    assert before in CARDED
    assert [(line, path) for line, path, _ in problems(CARDED.replace(before, after, 1))] == [(line, path)]


def test_a_contract_sells_products_of_its_own_or_of_a_card() -> None:
    nothing = CARDED[: CARDED.index("rate_card_alias")] + CARDED[CARDED.index("invoicing") :]
    assert [(path, message) for _, path, message in problems(nothing)] == [
        ("products", "names no product; list at least one with its price, or name a rate_card")
    ]


def test_a_product_that_cannot_be_read_is_not_called_unknown_elsewhere() -> None:
    text = GOOD.replace('flat_fee: "5.00"', "flat_fee: five")
    assert [path for _, path, _ in problems(text)] == ["products[0].price.tiers[1].flat_fee"]


def test_a_price_may_be_repeated_by_an_alias_but_not_without_end() -> None:
    shared = GOOD.replace("{model: volume, tiers: [{unit_price: 0}]}", "&price {model: per_unit, unit_price: 2}")
    shared = shared.replace(
        "price: {model: per_unit, unit_price: 0.1}", "price: &other {model: per_unit, unit_price: 2}"
    )
    assert parse_contract(shared).terms.prices[1].price == PerUnit(Decimal(2))
    [(_, _, message)] = problems("contract: &a [*a]\n")
    assert message == "is nested too deeply, or repeats too much by aliases; write it flat"
    bomb = "".join(f"k{n}: &l{n} [{', '.join([f'*l{n - 1}' if n else 'x'] * 10)}]\n" for n in range(9))
    assert problems(bomb)[0][2] == message
