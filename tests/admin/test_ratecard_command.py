"""`meterbook ratecard`: recorded by file, listed, and shown with every dated price."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from admin.cli import run
from ledger.metrics import create_metric
from tests.metrics import metric

CARD = """\
rate_card: list
currency: EUR
aliases: [{alias: standard}]
products:
  - id: tokens
    name: Tokens
    metric: tokens
    unit: token
    rates:
      - {price: {model: per_unit, unit_price: "0.0003"}}
      - {from: 2026-07-01, price: {model: per_unit, unit_price: "0.0002"}}
"""


@pytest.mark.usefixtures("environment")
def test_a_card_is_recorded_once_listed_and_shown(
    engine: sa.Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with engine.begin() as connection:
        create_metric(connection, metric("tokens", "llm.request", "sum", "tokens"))
    file = tmp_path / "card.yaml"
    file.write_text(CARD)
    assert run(["ratecard", "create", str(file), "--by", "ada"]) == 0
    assert "rate card list is recorded" in capsys.readouterr().out
    assert run(["ratecard", "create", str(file), "--by", "ada"]) == 0
    assert "with the same content" in capsys.readouterr().out
    file.write_text(CARD.replace("0.0002", "0.0001"))
    assert run(["ratecard", "create", str(file), "--by", "ada"]) == 0
    assert "has a new version" in capsys.readouterr().out
    assert run(["ratecard", "list"]) == 0
    assert "standard" in capsys.readouterr().out
    assert run(["ratecard", "show", "list"]) == 0
    shown = capsys.readouterr().out
    assert "0.0003 per token" in shown
    assert "2026-07-01T00:00:00Z" in shown
    assert run(["ratecard", "show", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["products"][0]["rates"][1]["price"]["unit_price"] == "0.0001"
    assert run(["ratecard", "show", "other"]) == 1
    assert "rate card other does not exist" in capsys.readouterr().err
