"""Explaining what no usage of its own makes, by command and over HTTP: parts are named, and open to their events."""

import json
from datetime import datetime
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.api_keys import create_api_key
from ledger.contracts import create_contract
from ledger.files.contracts import parse_contract
from ledger.invoices import draft_period
from tests.admin.conftest import CONTRACT, Meterbook, written

NOVEMBER = datetime.fromisoformat("2026-11-04T09:00:00Z")
OCTOBER_STARTS = datetime.fromisoformat("2026-09-30T22:00:00Z")
SHARE = "  - {id: help, name: Help, price: {model: composite, products: [tokens], rate_percent: 10}}\n"


def event(key: str, tokens: int) -> dict[str, object]:
    return {
        "source": "gateway",
        "key": key,
        "customer": "acme",
        "type": "llm.request",
        "timestamp": "2026-10-05T12:30:00Z",
        "properties": {"tokens": tokens},
    }


@pytest.fixture
def billed(parties: Meterbook, engine: sa.Engine, tmp_path: Path) -> Meterbook:
    """The command, after acme used 300 tokens for 3.00 EUR, with 0.30 for help and 6.70 up to its minimum of 10.00."""
    text = CONTRACT.replace("invoicing:", f"{SHARE}minimum: 10\ninvoicing:")
    with engine.begin() as connection:
        create_contract(connection, parse_contract(text, start="2026-10-01"), by="test")
    lines = [json.dumps(event("a", 100)), json.dumps(event("b", 200))]
    assert parties("usage", "send", written(tmp_path / "events.jsonl", "\n".join(lines) + "\n")).code == 0
    with engine.begin() as connection:
        accrue(connection, "acme-payg", as_of=NOVEMBER)
        draft_period(connection, "acme-payg", OCTOBER_STARTS, at=NOVEMBER)
    return parties


def test_a_share_and_a_minimum_are_shown_with_the_lines_that_they_were_computed_from(billed: Meterbook) -> None:
    share = billed("explain", "acme-payg.2026-10-01/2")
    assert share.code == 0, share.err
    for told in (
        "line 2 of acme-payg.2026-10-01 (usage)",
        "no usage of its own: 10% of 3.00, what 1 charge comes to before discounts and bounds",
        "acme-payg.2026-10-01/1",
        "equal: the parts add up to the line's base (3)",
    ):
        assert told in share.out, share.out
    minimum = billed("explain", "acme-payg.2026-10-01/3", "--json").content
    assert (minimum["explanation"]["base"], minimum["differences"]) == ("3.3", [])
    assert [(one["subject"], one["amount"]) for one in minimum["explanation"]["parts"]] == [
        ("acme-payg.2026-10-01/1", "3"),
        ("acme-payg.2026-10-01/2", "0.3"),
    ]
    opened = billed("explain", "acme-payg.2026-10-01/1", "--limit", "1")
    assert "this page: 1 events, values 100" in opened.out
    assert "more: --after" in opened.out


def test_a_whole_invoice_says_of_each_line_what_stands_behind_it(billed: Meterbook) -> None:
    answer = billed("explain", "acme-payg.2026-10-01")
    assert answer.code == 0, answer.err
    assert "usage, counted by metric tokens from 2 events" in answer.out
    assert "is 6.70 short of the minimum of 10.00 of the contract" in " ".join(answer.out.split())


@pytest.mark.usefixtures("billed")
def test_parts_are_followed_over_http_down_to_pages_of_events(http: httpx.Client, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        headers = {"authorization": f"Bearer {create_api_key(connection, 'test')[1]}"}
    share = http.get("/v1/explanations/acme-payg.2026-10-01/2", headers=headers).json()
    assert (share["base"], share["says"][:22]) == ("3", "no usage of its own: 1")
    [part] = share["parts"]
    path = f"/v1/explanations/{part['subject']}"
    opened = http.get(path, headers=headers).json()
    assert [(one["events"], one["amount"]) for one in opened["charge"]["slices"]] == [(2, part["amount"])]
    first = http.get(f"{path}/events", params={"limit": 1}, headers=headers).json()
    second = http.get(f"{path}/events", params={"limit": 1, "after": first["following"]}, headers=headers).json()
    assert [page["value"] for page in (first, second)] == ["100", "200"]
    assert http.get("/v1/explanations/acme-payg.2026-10-01/2/events", headers=headers).json()["events"] == []
    unknown = http.get("/v1/explanations/credit-note-request/acme-payg.2026-10-01/1", headers=headers)
    assert unknown.status_code == 404
