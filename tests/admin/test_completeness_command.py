"""Whether all usage came and is rated, asked for by command and over HTTP."""

import json
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from ledger.api_keys import create_api_key
from tests.admin.conftest import Meterbook, written

SPAN = ("--from", "2026-10-05", "--to", "2026-10-06")


@pytest.fixture
def used(parties: Meterbook, tmp_path: Path) -> Meterbook:
    """The command, after an event of acme, whom no contract covers, came from the source gateway."""
    event = {
        "source": "gateway", "key": "a", "customer": "acme", "type": "llm.request",
        "timestamp": "2026-10-05T12:30:00Z", "properties": {"tokens": 100},
    }  # fmt: skip
    assert parties("usage", "send", written(tmp_path / "events.jsonl", json.dumps(event) + "\n")).code == 0
    return parties


def test_what_was_declared_and_is_missing_fails_the_command(used: Meterbook) -> None:
    assert used("usage", "completeness", *SPAN).code == 0
    declared = used("usage", "declare", "gateway", "2026-10-05T12:00:00Z", "3", "--by", "ada")
    assert (declared.code, "is declared" in declared.out) == (0, True)
    again = used("usage", "declare", "gateway", "2026-10-05T12:00:00Z", "3", "--by", "bob")
    assert "was declared already" in again.out
    answer = used("usage", "completeness", *SPAN)
    assert answer.code == 1
    assert "gateway declared 3 for 2026-10-05T12:00:00Z: 2 are missing" in answer.out
    [usage] = used("usage", "completeness", *SPAN, "--json").content["usage"]
    assert (usage["accepted"], usage["unmatched"], usage["missing"], usage["declared_by"]) == (1, 1, 2, "ada")


def test_unmatched_usage_is_shown_with_its_fix(used: Meterbook) -> None:
    answer = used("usage", "unmatched")
    assert answer.code == 0, answer.err
    assert "gateway a" in answer.out
    assert "fix: meterbook contract start contract.yaml --start 2026-10-05  # a contract of customer acme" in answer.out


@pytest.mark.usefixtures("used")
def test_sources_declare_over_http_what_they_made(http: httpx.Client, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        headers = {"authorization": f"Bearer {create_api_key(connection, 'gateway-eu')[1]}"}
    body = [{"source": "gateway", "hour": "2026-10-05T12:00:00Z", "events": 2}]
    assert http.post("/v1/usage/declared", json=body).status_code == 401
    assert http.post("/v1/usage/declared", json=body, headers=headers).json() == {"changed": 1}
    assert http.post("/v1/usage/declared", json=body, headers=headers).json() == {"changed": 0}
    uneven = [{**body[0], "hour": "2026-10-05T12:30:00Z"}]
    assert http.post("/v1/usage/declared", json=uneven, headers=headers).status_code == 400
    span = {"start": "2026-10-05T00:00:00Z", "end": "2026-10-06T00:00:00Z"}
    [usage] = http.get("/v1/usage/completeness", params=span, headers=headers).json()["usage"]
    assert (usage["declared"], usage["missing"], usage["declared_by"]) == (2, 1, "API key gateway-eu")
