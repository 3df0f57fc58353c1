"""Recharges in contract files: what is read, and what is refused with the remedy."""

from datetime import timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.amendments import amend_contract
from ledger.contracts import create_contract, get_contract
from ledger.definitions import RechargePolicy
from ledger.errors import ConflictError, InvalidError
from ledger.files.contracts import parse_contract
from ledger.files.document import FileError
from ledger.files.writing import contract_content, yaml_text
from tests.ledger.books import FEBRUARY_STARTS

PLAN = """\
contract: plan
customer: acme
entity: northwind
currency: EUR
time_zone: Europe/Berlin
start: 2026-01-01
invoicing: {grace: 3d, due_days: 14}
collection: {method: card}
products:
  - {id: tokens, name: Tokens, metric: tokens, price: {model: per_unit, unit_price: "0.0003"}}
"""
BY_AMOUNT = '{below: "10.00", amount: "50.00"}'
UP_TO = """\
{below: "10", to: "60.00", discount: "0.1", most_per_day: "54.00", most_per_month: 500, least_gap: 1h, name: Top-up}"""


def plan(recharge: str) -> str:
    return f"{PLAN}recharge: {recharge}\n"


def problems(text: str) -> list[tuple[str, str]]:
    with pytest.raises(FileError) as caught:
        parse_contract(text)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_a_recharge_by_an_amount_has_its_defaults() -> None:
    assert parse_contract(plan(BY_AMOUNT)).policy.recharge == RechargePolicy(
        Decimal("10.00"), Decimal("50.00"), None, None, None, Decimal(0), timedelta(minutes=10), "Recharge"
    )
    assert parse_contract(PLAN).policy.recharge is None


def test_a_recharge_up_to_a_balance_is_read_exactly_and_written_as_it_was_read() -> None:
    definition = parse_contract(plan(UP_TO))
    assert definition.policy.recharge == RechargePolicy(
        Decimal(10),
        None,
        Decimal("60.00"),
        Decimal("54.00"),
        Decimal(500),
        Decimal("0.1"),
        timedelta(hours=1),
        "Top-up",
    )
    assert parse_contract(yaml_text(contract_content(definition, definition.terms))) == definition


@pytest.mark.parametrize(
    ("recharge", "path", "words"),
    [
        ('{below: "-1", amount: 50}', "recharge.below", "-1 must not be negative"),
        ("{below: 10}", "recharge", "write one of them"),
        ("{below: 10, amount: 50, to: 60}", "recharge", "write one of them"),
        ("{below: 10, amount: 10}", "recharge.amount", "10 must be above below, 10"),
        ('{below: 10, amount: "-5"}', "recharge.amount", "-5 must be above below, 10"),
        ("{below: 0, amount: 0}", "recharge.amount", "0 must be above below, 0"),
        ("{below: 10, to: 10}", "recharge.to", "10 must be above below, 10"),
        ('{below: 10, amount: "50.001"}', "recharge.amount", "at most 2 decimal places"),
        ('{below: 10, to: "60.001"}', "recharge.to", "at most 2 decimal places"),
        ("{below: 10, amount: 50, discount: 1}", "recharge.discount", "a fraction from 0 to below 1"),
        ('{below: 10, amount: 50, discount: "-0.1"}', "recharge.discount", "a fraction from 0 to below 1"),
        ('{below: 0, amount: "0.01", discount: "0.9"}', "recharge.discount", "leaves nothing to charge"),
        ('{below: 10, to: "10.01", discount: "0.9"}', "recharge.discount", "leaves nothing to charge"),
        ('{below: 10, amount: 50, most_per_day: "49.99"}', "recharge.most_per_day", "less than one recharge"),
        ("{below: 10, to: 60, most_per_month: 59}", "recharge.most_per_month", "may be charged, 60.00"),
        ("{below: 10, amount: 50, least_gap: soon}", "recharge.least_gap", "is not a duration"),
    ],
)
def test_a_recharge_that_cannot_work_is_refused_with_the_remedy(recharge: str, path: str, words: str) -> None:
    [(found, message)] = problems(plan(recharge))
    assert found == path
    assert words in message


def test_a_cap_is_compared_with_what_is_charged() -> None:
    recharge = parse_contract(plan('{below: 10, amount: 50, discount: "0.1", most_per_day: 45}')).policy.recharge
    assert recharge is not None
    assert recharge.most_per_day == Decimal(45)  # 50 less a tenth


def test_a_recharge_needs_a_card() -> None:
    [(path, message)] = problems(plan(BY_AMOUNT).replace("method: card", "method: bank_transfer"))
    assert path == "recharge"
    assert "needs a card, and collection.method is bank_transfer" in message


def test_a_commit_may_not_take_the_id_of_a_recharge() -> None:
    commit = "commits: [{id: recharge-1, name: Prepaid, amount: 10}]\n"
    [(path, message)] = problems(plan(BY_AMOUNT) + commit)
    assert (path, "recharge-1" in message) == ("recharge", True)
    assert parse_contract(PLAN + commit).terms.commits[0].commit_id == "recharge-1"


def test_a_recharge_is_kept_with_the_contract_and_another_one_is_another_contract(shop: sa.Connection) -> None:
    definition = parse_contract(plan(UP_TO))
    assert create_contract(shop, definition, by="ada") == "created"
    assert create_contract(shop, parse_contract(plan(UP_TO)), by="ada") == "exists"
    assert get_contract(shop, "plan").policy == definition.policy
    with pytest.raises(ConflictError, match="recharge"):
        create_contract(shop, parse_contract(plan(BY_AMOUNT)), by="ada")
    with pytest.raises(InvalidError, match="recharge is None"):
        amend_contract(shop, "plan", parse_contract(PLAN), effective_from=FEBRUARY_STARTS, reason="cheaper", by="ada")
