"""`meterbook feature`, `meterbook gate` and `meterbook hold`, as an operator uses them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa

from ledger.contracts import create_contract
from ledger.files.contracts import parse_contract
from ledger.holds import hold
from tests.admin.conftest import CONTRACT, Meterbook

COMMIT = '\ncommits: [{id: prepaid, name: Prepaid, amount: "10.00", start: 2026-01-01}]\n'


def start(engine: sa.Engine) -> None:
    """Start a contract of acme with 10.00 prepaid, as Temporal is away."""
    with engine.begin() as connection:
        create_contract(connection, parse_contract(CONTRACT + COMMIT, start="2026-01-01"), by="test")


def test_an_operator_grants_a_feature_asks_its_gate_and_sees_what_is_held(
    parties: Meterbook, engine: sa.Engine
) -> None:
    start(engine)
    created = parties("feature", "create", "writing", "--kind", "balance", "--product", "tokens")
    assert (created.code, created.out) == (0, "feature writing: created\n")
    assert "nothing is granted yet" in parties("feature", "list").out
    granted = parties("feature", "grant", "acme-payg", "writing", "--by", "ada")
    assert "contract acme-payg has feature writing since" in granted.out
    assert parties("feature", "list", "--contract", "acme-payg", "--json").content["grants"][0]["granted_by"] == "ada"
    assert "acme-payg" in parties("feature", "list").out
    now = datetime.now(UTC)
    with engine.begin() as connection:
        hold(connection, "h1", "acme", "writing", amount=Decimal(4), expires_at=now + timedelta(hours=1), at=now)
    allowed = parties("gate", "check", "acme", "writing", "--units", "600")
    assert allowed.out.splitlines()[0] == "allowed"
    denied = parties("gate", "check", "acme", "writing", "--amount", "6.01")
    assert denied.out.splitlines()[0] == "denied: too little money is left"
    assert parties("gate", "check", "acme", "writing", "--json").content["left_amount"] == "6"
    assert "h1" in parties("hold", "list", "--customer", "acme").out
    assert [one["hold_id"] for one in parties("hold", "list", "--json").content] == ["h1"]
    assert parties("hold", "list", "--state", "expired").out == "nothing is held\n"
    revoked = parties("feature", "revoke", "acme-payg", "writing")
    assert "has feature writing no more since" in revoked.out
    assert "denied: no contract grants it" in parties("gate", "check", "acme", "writing").out


def test_what_cannot_be_is_refused_in_one_sentence(parties: Meterbook, engine: sa.Engine) -> None:
    start(engine)
    assert parties("feature", "create", "calls", "--kind", "metered").code == 1
    parties("feature", "create", "calls", "--kind", "metered", "--product", "tokens")
    missing = parties("feature", "grant", "acme-payg", "calls", "--by", "ada")
    assert (missing.code, missing.err) == (
        1,
        "error: feature calls is metered: most_units is missing; give the units of a billing period\n",
    )
    assert parties("feature", "grant", "acme-payg", "calls", "--most-units", "many").code == 2
    units = parties("feature", "grant", "acme-payg", "calls", "--most-units", "1000", "--by", "ada", "--json")
    assert units.content["most_units"] == "1000"
    assert "unpriced" in parties("gate", "check", "acme", "calls", "--amount", "1", "--json").out
    assert "left in units" in parties("gate", "check", "acme", "calls").out
