"""Each template of `meterbook init`, from its files and its usage to an invoice that is proved."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from admin.cli import run
from ledger.accrual import accrue
from ledger.catalog import apply_catalog, read_catalog
from ledger.files.contracts import parse_contract
from ledger.intake.events import parse_objects
from ledger.intake.store import take_in
from ledger.invoices import Invoice, draft_opening, draft_period, finalise
from ledger.verification import verify

START = datetime(2025, 12, 31, 23, tzinfo=UTC)
LATER = datetime(2026, 2, 2, 9, tzinfo=UTC)

# llm-api: 1,000,000 x 0.000002 + 250,000 x 0.0000015 = 2.375; 4,000,000 x 0.0000005 = 2.00; output at half price
# 500,000 x 0.000004 = 2.00; each less 10 %: 2.1375, 1.80, 1.80, above the minimum of 5.00
# saas-seats: 10 x 31.00 and 365.00 at the start; 25 calls less 20 free ones at 0.50; the seats of February
# cloud-infrastructure: eu 2 servers x 36 h x 0.10, us 12 h x 0.08; the peak 100 x 0.05 + 20 x 0.04; support 2.00
# payments-percentage: 1.75 + 2.392 + 12.00 = 16.142; the account's 9.00
# prepaid-credits: 40 + 10 + 10 credits at 0.02 = 1.20, of which 1.00 is prepaid
EXPECTED = {
    "llm-api": (None, ["2.38", "-0.24", "2.00", "-0.20", "2.00", "-0.20"], "5.74"),
    "saas-seats": ("675.00", ["2.50", "310.00"], "312.50"),
    "cloud-infrastructure": (None, ["7.20", "0.96", "5.80", "2.00"], "15.96"),
    "payments-percentage": (None, ["16.14", "9.00"], "25.14"),
    "prepaid-credits": ("1.00", ["0.80", "-0.80", "0.40", "-0.20"], "0.20"),
}


@pytest.mark.parametrize("template", EXPECTED)
def test_a_template_leads_to_its_invoice(engine: sa.Engine, tmp_path: Path, template: str) -> None:
    assert run(["init", "--template", template, str(tmp_path)]) == 0
    contract_id = parse_contract((tmp_path / "contract.yaml").read_text()).contract_id
    opening, lines, total = EXPECTED[template]
    with engine.begin() as connection:
        files = {path.name: path.read_text() for path in tmp_path.glob("*.yaml")}
        apply_catalog(connection, read_catalog(files), by="ada")
        first = draft_opening(connection, contract_id, at=START)
        assert (first and str(first.total)) == opening
        if first is not None:
            finalise(connection, first.invoice_id, at=START)
    send(engine, tmp_path / "usage.jsonl")
    with engine.begin() as connection:
        accrue(connection, contract_id, as_of=LATER)
        draft = draft_period(connection, contract_id, START, at=LATER)
        invoice = finalise(connection, draft.invoice_id, at=LATER)
    assert shown(invoice) == lines
    assert str(invoice.total) == total
    with engine.connect() as connection:
        assert [check for check in verify(connection, stripe_charges={}) if not check.ok] == []


def test_a_template_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "contract.yaml").write_text("mine")
    assert run(["init", "--template", "llm-api", str(tmp_path)]) == 1
    assert "holds contract.yaml already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["contract.yaml"]


def send(engine: sa.Engine, file: Path) -> None:
    events = [json.loads(line) for line in file.read_text().splitlines()]
    with engine.begin() as connection:
        taken = take_in(connection, parse_objects(events, received_at=LATER), door="file", received_at=LATER)
        assert taken.accepted == len(events)


def shown(invoice: Invoice) -> list[str]:
    return [str(line.amount) for line in invoice.lines]
