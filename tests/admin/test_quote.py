"""`meterbook quote`: a price for usage that is only said, without a database."""

import json
from pathlib import Path

import pytest

from admin.cli import run

CONTRACT = """\
contract: acme
customer: nobody-yet
entity: northwind
currency: EUR
time_zone: Europe/Berlin
start: 2026-01-01
rate_card: list
overrides:
  - {id: half, products: [tokens], groups: {model: large}, multiplier: "0.5"}
products:
  - {id: payments, name: Payments, metric: spent, price: {model: percentage, rate_percent: "2.99", minimum_per_event: "1.75"}}
  - {id: base, name: Base, price: {model: fixed_fee, amount: 10}}
invoicing: {grace: 0h, due_days: 14}
collection: {method: card, retry_after: [1d]}
"""  # noqa: E501 - a line of a file
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


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    contract, card = tmp_path / "contract.yaml", tmp_path / "card.yaml"
    contract.write_text(CONTRACT)
    card.write_text(CARD)
    return str(contract), str(card)


def test_a_contract_is_quoted_with_its_card_its_override_and_single_events(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    contract, card = files
    arguments = ["quote", contract, "--card", card, "--usage", "tokens[model=large]=20000"]
    arguments += ["--usage", "tokens[model=small]=10000", "--values", "spent=10,80,1000"]
    assert run([*arguments, "--json"]) == 0
    # large: 20,000 x 0.00015 = 3.00; small: 10,000 x 0.0003 = 3.00; payments: 1.75 + 2.392 + 29.90 = 34.042; base 10.00
    told = json.loads(capsys.readouterr().out)
    assert told["total"] == "50.04"
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert "total before tax" in shown
    assert "50.04" in shown
    assert "the price is that of rate card list, override half" in shown


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--usage", "tokens", "cannot be read; write METRIC=QUANTITY"),
        ("--usage", "tokens=-1", "cannot be read"),
        ("--usage", "tokens[model]=1", "names a group without a value"),
        ("--usage", "calls=1", "metric 'calls' is not priced by this contract; use one of spent, tokens"),
        ("--values", "spent=1,x", "cannot be read; write METRIC=VALUE,VALUE"),
    ],
)
def test_usage_that_cannot_be_meant_is_refused_with_its_remedy(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], option: str, value: str, said: str
) -> None:
    contract, card = files
    assert run(["quote", contract, "--card", card, option, value]) == 1
    assert said in capsys.readouterr().err


def test_a_price_that_misses_what_it_needs_is_not_guessed(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    contract, card = files
    assert run(["quote", contract, "--card", card, "--usage", "spent=100"]) == 1
    assert "came without the values of its events" in capsys.readouterr().err
