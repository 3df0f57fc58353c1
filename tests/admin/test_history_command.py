"""Asking for the past by command."""

from pathlib import Path

from tests.admin.conftest import CONTRACT, Meterbook, written
from tests.admin.test_correction_command import line, sent


def test_readings_and_spend_are_told_as_of_a_time(parties: Meterbook, tmp_path: Path) -> None:
    file = written(tmp_path / "contract.yaml", CONTRACT)
    parties("contract", "start", file, "--start", "2026-10-01")  # Temporal is away: recorded, but not started
    sent(parties, tmp_path, line("a", 100))
    for what in ("readings", "spend"):
        assert parties("usage", what, "acme-payg", "--json").code == 0
        too_early = parties("usage", what, "acme-payg", "--as-of", "2026-10-05T12:00:00Z")
        assert too_early.code == 1
        assert "contract acme-payg was not recorded at 2026-10-05" in too_early.err
        assert parties("usage", what, "acme-payg", "--as-of", "2099-01-01T00:00:00Z").code == 0
        assert parties("usage", what, "acme-payg", "--as-of", "yesterday").code == 2


def test_invoices_are_listed_as_of_a_time(parties: Meterbook) -> None:
    assert "no invoice matches" in parties("invoice", "list", "--as-of", "2026-10-05T12:00:00Z").out
    assert parties("invoice", "show", "none", "--as-of", "2026-10-05T12:00:00Z").code == 1
