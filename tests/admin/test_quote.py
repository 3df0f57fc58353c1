"""`meterbook quote`: a price for usage that is only said, without a database."""

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from admin.cli import run

CONTRACT = """\
contract: acme
customer: nobody-yet
entity: northwind
currency: EUR
time_zone: Europe/Berlin
start: 2026-01-15
end: 2026-12-15
anchor: 1
rate_card: list
overrides:
  - {id: half, products: [tokens], groups: {model: large}, multiplier: "0.5"}
discounts:
  - {id: launch, name: Launch discount, kind: percentage, value: 10, products: [tokens]}
commits:
  - {id: prepaid, name: Prepaid, amount: "2.00", end: 2026-02-01}
products:
  - id: payments
    name: Payments
    metric: spent
    price: {model: percentage, rate_percent: "2.99", minimum_per_event: "1.75"}
  - id: cards
    name: Card fees
    metric: cards
    unit: EUR
    price: {model: percentage, rate_percent: "1.5", fee_per_event: "0.25"}
  - id: resale
    name: Resale
    metric: resale
    price: {model: dynamic, source: event_amount, multiplier: "1.1"}
  - {id: base, name: Base, price: {model: fixed_fee, amount: 10}}
invoicing: {grace: 0h, due_days: 14}
collection: {method: card, retry_after: [1d]}
"""
CARD = """\
rate_card: list
currency: EUR
products:
  - id: tokens
    name: Tokens
    metric: tokens
    unit: token
    group_by: [model]
    price: {model: per_unit, unit_price: "0.0003"}
"""
USAGE = ("--usage", "tokens[model=large]=20000", "--usage", "tokens[model=small]=10000", "--values", "spent=10,80,1000")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A contract and its card as arguments, on a screen of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    contract, card = tmp_path / "contract.yaml", tmp_path / "card.yaml"
    contract.write_text(CONTRACT)
    card.write_text(CARD)
    return str(contract), "--card", str(card)


def answered(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> Any:  # noqa: ANN401 - the shape is JSON's
    assert run(["quote", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_quote_adds_up_from_lines_over_discounts_and_credits_to_the_total(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    told = answered([*files, *USAGE], capsys)
    # large: 20,000 x 0.00015 = 3.00; small: 10,000 x 0.0003 = 3.00; payments: 1.75 + 2.392 + 29.90 = 34.042; base 10.00
    assert [(line["description"], line["amount"]) for line in told["lines"]] == [
        ("Payments", "34.04"),
        ("Tokens", "3"),
        ("Tokens", "3"),
        ("Base", "10"),
        ("Prepaid", "2"),
    ]
    assert told["subtotal"] == "52.04"
    assert [(change["kind"], change["name"], change["amount"]) for change in told["changes"]] == [
        ("discount", "Launch discount", "-0.6"),
        ("credit", "Prepaid", "-2"),
    ]
    assert told["total"] == "49.44"


def test_the_table_shows_what_the_json_says_and_the_explanation_follows(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    told = answered([*files, *USAGE], capsys)
    assert run(["quote", *files, *USAGE]) == 0
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert shown[0] == "Quote of contract acme for 2026-01-15 until 2026-02-01, before tax"
    amounts = [re.split(r" {2,}", line.strip()) for line in shown[1:17] if re.search(r" {2}-?[0-9.]+$", line)]
    assert amounts == [
        ["Payments", "1,090 units", "34.04"],
        ["Tokens (large)", "20,000 tokens", "3.00"],
        ["Tokens (small)", "10,000 tokens", "3.00"],
        ["Base", "10.00"],
        ["Prepaid", "2.00"],
        ["subtotal", "52.04"],
        ["Launch discount", "-0.60"],
        ["Prepaid, credit", "-2.00"],
        ["total", "49.44"],
    ]
    assert len({len(line) for line in shown[1:17] if re.search(r" {2}-?[0-9.]+$", line)}) == 1  # right-aligned
    for line in told["explanation"]:
        assert line in shown
    assert "  20,000 tokens at 0.15 per thousand = 3.00" in shown
    assert max(len(line) for line in shown[1:17]) <= 80


def test_a_quote_without_usage_bills_what_is_due_without_any(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["quote", *files, "--period", "2026-03-31"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Quote of contract acme for 2026-03-01 until 2026-04-01, before tax")
    assert re.search(r"total +10\.00", shown)
    assert "subtotal" not in shown


def test_the_last_period_ends_with_the_contract(files: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    told = answered([*files, "--period", "2026-12-14"], capsys)
    assert (told["period"]["start"], told["period"]["end"]) == ("2026-11-30T23:00:00Z", "2026-12-14T23:00:00Z")


def test_numbers_and_money_of_events_are_said_beside_the_quantity(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    usage = ["--usage", "cards=412.80", "--events", "cards=17", "--usage", "resale=3", "--amount", "resale=20.00"]
    told = answered([*files, *usage, "--period", "2026-03-31"], capsys)
    # 1.5 % of 412.80 = 6.192, 17 x 0.25 = 4.25; 1.1 x 20.00 = 22.00; base 10.00
    assert [Decimal(line["amount"]) for line in told["lines"]] == [Decimal("10.44"), Decimal(22), Decimal(10)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--usage", "tokens"), "--usage 'tokens' cannot be read; write METRIC=NUMBER"),
        (("--usage", "tokens=-1"), "cannot be read"),
        (("--usage", "tokens=1,000"), "cannot be read"),
        (("--usage", "tokens[model=1"), "cannot be read"),
        (("--usage", "tokens[model]=1"), "names a group without a value; write [KEY=VALUE,KEY=VALUE]"),
        (("--usage", "tokens[model=a,model=b]=1"), "names a group twice; give each key one value"),
        (("--usage", "tokens[modle=a]=1"), "no price of metric 'tokens' looks at 'modle'; use model"),
        (("--usage", "spent[model=a]=1"), "no price of metric 'spent' looks at 'model'; leave the groups away"),
        (("--usage", "calls=1"), "metric 'calls' is not priced by this contract; use one of spent, cards, resale, tok"),
        (("--values", "spent=1,x"), "cannot be read; write METRIC=VALUE,VALUE"),
        (("--values", "spent=1", "--usage", "spent=1"), "usage of spent is given by --usage and by --values"),
        (("--values", "spent=1", "--events", "spent=1"), "leave --events away, each value is one"),
        (("--events", "cards=1"), "usage of cards has no quantity; give it by --usage as well"),
        (("--usage", "cards=9", "--events", "cards=1.5"), "usage of cards is given no number of events; give --e"),
        (("--usage", "spent=100"), "product 'payments' is priced by each event of metric 'spent'; give its values"),
        (("--usage", "cards=9"), "is priced by the number of events of metric 'cards'; give its events as well"),
        (("--usage", "resale=9"), "is priced by the money in events of metric 'resale'; give its amount as well"),
        (("--period", "2026-01-14"), "the contract has no period on 2026-01-14; it starts on 2026-01-15"),
        (("--period", "2026-12-15"), "the contract has no period on 2026-12-15; it ends on 2026-12-15"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_remedy_and_never_guessed(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert run(["quote", *files, *options]) == 1
    assert said in capsys.readouterr().err


def test_the_help_shows_how_groups_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quote", "--help"]) == 0
    assert "'tokens[model=large]=1250000'" in capsys.readouterr().out
