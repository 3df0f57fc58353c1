"""The cadence and anchor of a contract's file become those of the contract, and stay them."""

import pytest
import sqlalchemy as sa

from ledger.amendments import amend_contract, read_amendment
from ledger.contracts import create_contract, get_contract
from ledger.errors import ConflictError, InvalidError
from ledger.files.contracts import parse_contract
from pricing.calendar import Anchor
from tests.ledger.test_contracts import FILE, MID_JANUARY

QUARTERS = f"{FILE}cadence: quarter\nanchor: 15\nanchor_month: 2\n"


def test_a_contract_keeps_the_cadence_and_anchor_of_its_file(shop: sa.Connection) -> None:
    create_contract(shop, parse_contract(QUARTERS), by="ada")
    contract = get_contract(shop, "plan")
    assert (contract.cadence, contract.anchor) == ("quarter", Anchor(15, 2))
    assert create_contract(shop, parse_contract(QUARTERS), by="ada") == "exists"
    with pytest.raises(ConflictError, match="these differ: anchor, cadence;"):
        create_contract(shop, parse_contract(FILE), by="ada")


def test_an_amendment_keeps_cadence_and_anchor(shop: sa.Connection) -> None:
    create_contract(shop, parse_contract(QUARTERS), by="ada")
    definition = read_amendment(shop, "plan", FILE)
    with pytest.raises(InvalidError, match=r"cadence is month instead of quarter; .*anchor is None instead of Anchor"):
        amend_contract(shop, "plan", definition, effective_from=MID_JANUARY, reason="new prices", by="ada")
