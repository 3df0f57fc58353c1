"""`meterbook price explain`: how amounts came about, of a running period and of an invoice."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from admin.connections import books
from ledger.accrual import accrue
from ledger.invoices import draft_period
from tests.admin.conftest import CONTRACT, Meterbook, written

BERLIN_OCTOBER = datetime(2026, 9, 30, 22, tzinfo=UTC)
BERLIN_NOVEMBER = datetime(2026, 10, 31, 23, tzinfo=UTC)
PRICES = CONTRACT.replace('"0.01"', '"0.000125"').replace(
    "invoicing:", "  - {id: base, name: Base, price: {model: fixed_fee, amount: 10}}\ninvoicing:"
)


@pytest.fixture
def used(parties: Meterbook, tmp_path: Path) -> Meterbook:
    """A contract of October 2026 with 9,990 tokens in it."""
    parties("contract", "start", written(tmp_path / "contract.yaml", PRICES), "--start", "2026-10-01")
    events = "".join(
        f'{{"source":"gateway","key":"{n}","customer":"acme","type":"llm.request",'
        f'"timestamp":"2026-10-0{n}T12:00:00Z","properties":{{"tokens":3330}}}}\n'
        for n in (1, 2, 3)
    )
    answer = parties("usage", "send", written(tmp_path / "events.jsonl", events))
    assert answer.code == 0, answer.err
    with books() as connection:
        accrue(connection, "acme-payg", as_of=BERLIN_NOVEMBER)
    return parties


def test_a_period_that_is_open_is_explained_to_date(used: Meterbook) -> None:
    answer = used("price", "explain", "acme-payg", "--period", "2026-10-31")
    assert answer.code == 0
    # 9,990 x 0.000125 = 1.24875
    assert answer.out.splitlines() == [
        "contract acme-payg, 2026-10-01 until 2026-11-01, to date",
        "  Tokens: 9,990 tokens, 1.25 EUR",
        "    9,990 tokens at 0.125 per thousand = 1.24875",
        "    in all 1.24875, rounded to 1.25",
        "    the price is that of version 1 of the contract's terms, for 2026-10-01 until 2026-11-01",
        "  Base: 10.00 EUR",
        "    in advance, for 2026-10-01 until 2026-11-01, by version 1 of the contract's terms",
    ]


def test_one_product_can_be_picked_and_programs_read_the_same(used: Meterbook) -> None:
    picked = ("price", "explain", "acme-payg", "--period", "2026-10-31", "--product", "base")
    assert "Tokens" not in used(*picked).out
    [period] = used(*picked, "--json").content["open"]
    assert period["explanation"][0] == "Base: 10.00 EUR"
    assert [fee["product_id"] for fee in period["rated"]["fees"]] == ["base"]
    assert (period["rated"]["charges"], period["rated"]["lines"]) == ([], [])
    [period] = used(*picked[:-1], "tokens", "--json").content["open"]
    assert [line["product_id"] for line in period["rated"]["lines"]] == ["tokens"]


def test_a_period_that_is_invoiced_is_explained_by_its_invoice(used: Meterbook) -> None:
    with books() as connection:
        draft_period(connection, "acme-payg", BERLIN_OCTOBER, at=BERLIN_NOVEMBER)
    by_period = used("price", "explain", "acme-payg", "--period", "2026-10-31")
    assert by_period.out.splitlines()[:6] == [
        "invoice acme-payg.2026-10-01, in review, 2026-10-01 until 2026-11-01",
        "  Tokens: 9,990 tokens, 1.25 EUR",
        "    9,990 tokens at 0.125 per thousand = 1.24875",
        "    in all 1.24875, rounded to 1.25",
        "    for 2026-10-01 until 2026-11-01",
        "  Base: 10.00 EUR",
    ]
    by_invoice = used("price", "explain", "acme-payg.2026-10-01")
    assert by_invoice.out == by_period.out
    [told] = used("price", "explain", "acme-payg.2026-10-01", "--product", "tokens", "--json").content["invoices"]
    assert told["explanation"][1] == "  9,990 tokens at 0.125 per thousand = 1.24875"
    assert [line["product_id"] for line in told["invoice"]["lines"]] == ["tokens"]


def test_what_does_not_exist_is_said(used: Meterbook) -> None:
    answer = used("price", "explain", "acme-payg", "--period", "2026-09-30")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("error: acme-payg has no billing period to explain on 2026-09-30; give a day from its")
    assert "contract nobody does not exist" in used("price", "explain", "nobody").err
