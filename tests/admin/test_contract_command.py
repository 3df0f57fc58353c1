"""Contract files by the command: checked with lines, recorded once, whether Temporal is there or not."""

from pathlib import Path

import psycopg

from tests.admin.conftest import CONTRACT, Meterbook, written


def test_a_right_file_is_said_to_be_right_and_nothing_is_recorded(parties: Meterbook, tmp_path: Path) -> None:
    path = written(tmp_path / "contract.yaml", CONTRACT)
    answer = parties("contract", "validate", path, "--start", "2026-10-01")
    assert answer.code == 0
    assert "is right: contract acme-payg of customer acme with entity nordlicht from 2026-10-01" in answer.out
    assert parties("contract", "list", "--json").content == []
    assert parties("contract", "validate", path, "--start", "2026-10-01", "--json").content["currency"]["code"] == "EUR"


def test_every_problem_of_a_file_is_told_with_its_line(parties: Meterbook, tmp_path: Path) -> None:
    broken = CONTRACT.replace("EUR", "EURO").replace('"0.01"', "cheap").replace("bank_transfer", "cash")
    answer = parties("contract", "start", written(tmp_path / "contract.yaml", broken), "--start", "2026-10-01")
    assert answer.code == 1
    lines = answer.err.splitlines()
    assert lines[0].endswith("contract.yaml was not taken; correct it and repeat:")
    assert [line.split(":")[0] for line in lines[1:]] == ["  line 5", "  line 12", "  line 14"]
    assert parties("contract", "list", "--json").content == []


def test_without_temporal_a_contract_is_recorded_and_the_same_command_is_asked_for(
    parties: Meterbook, tmp_path: Path
) -> None:
    path = written(tmp_path / "contract.yaml", CONTRACT)
    for _ in range(2):
        answer = parties("contract", "start", path, "--start", "2026-10-01")
        assert answer.code == 1
        assert "contract acme-payg is recorded, but its workflow is not started" in answer.err
        assert "run the same command again to start it" in answer.err
    assert [one["contract_id"] for one in parties("contract", "list", "--json").content] == ["acme-payg"]


def test_other_content_under_the_same_id_is_refused(parties: Meterbook, tmp_path: Path) -> None:
    path = written(tmp_path / "contract.yaml", CONTRACT)
    parties("contract", "start", path, "--start", "2026-10-01")
    answer = parties("contract", "start", path, "--start", "2026-10-02")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("error: contract acme-payg exists with other content")


def test_a_contract_is_shown_with_its_terms_and_its_spend(parties: Meterbook, tmp_path: Path) -> None:
    parties("contract", "start", written(tmp_path / "contract.yaml", CONTRACT), "--start", "2026-10-01")
    shown = parties("contract", "show", "acme-payg", "--json").content
    assert shown["terms"][0]["prices"][0]["price"] == {"unit_price": "0.01", "model": "per_unit"}
    assert shown["contract"]["policy"]["invoicing"]["grace"] == "0s"
    assert (shown["spend"]["total"], shown["lots"], shown["workflow"]) == ("0", [], None)
    said = parties("contract", "show", "acme-payg").out
    assert "0.01 per token" in said
    assert "total 0.00 EUR" in said


def test_nothing_is_changed_without_temporal(parties: Meterbook, tmp_path: Path) -> None:
    path = written(tmp_path / "contract.yaml", CONTRACT)
    parties("contract", "start", path, "--start", "2026-10-01")
    for arguments in (
        ("contract", "end", "acme-payg", "2026-12-01", "moved"),
        ("contract", "amend", path, "--from", "2026-11-01", "--reason", "cheaper"),
        ("usage", "signal", "acme-payg", written(tmp_path / "u.jsonl", "{}\n")),
        ("close", "start", "nordlicht", "2026-09"),
    ):
        answer = parties(*arguments)
        assert answer.code == 1, arguments
        assert "Temporal at 127.0.0.1:1 does not answer" in answer.err, arguments
    assert len(parties("contract", "show", "acme-payg", "--json").content["terms"]) == 1


def test_the_books_can_be_read_before_anything_is_posted(parties: Meterbook) -> None:
    balance = parties("ledger", "trial-balance", "nordlicht", "--json").content
    assert (balance["rows"], balance["totals"]) == ([], [])
    assert parties("ledger", "journal", "nordlicht", "--json").content == []
    assert parties("ledger", "account", "nordlicht", "bank", "--json").content == []
    assert parties("ledger", "customers", "nordlicht", "--json").content == []
    assert parties("invoice", "list", "--json").content == []
    assert parties("payment", "list", "--json").content == []
    assert "does not exist" in parties("invoice", "show", "nothing").err
    assert "was not begun" in parties("close", "show", "nordlicht", "2026-09").err


def test_malformed_days_months_and_amounts_are_usage_errors(parties: Meterbook) -> None:
    assert parties("close", "start", "nordlicht", "2026-13").code == 2
    assert parties("contract", "end", "acme-payg", "tomorrow", "why").code == 2
    paid = ("payment", "record", "--invoice", "x", "--currency", "EUR", "--reference", "b", "--received-on")
    for day, amount in (("2026-10-01", "NaN"), ("2026-10-01", "-1"), ("2026-10-32", "1.00")):
        assert parties(*paid, day, "--amount", amount).code == 2


def test_verification_holds_on_books_without_usage_and_says_so_for_programs(parties: Meterbook, tmp_path: Path) -> None:
    parties("contract", "start", written(tmp_path / "contract.yaml", CONTRACT), "--start", "2026-10-01")
    proved = parties("verify", "--json")
    assert (proved.code, proved.content["ok"]) == (0, True)
    said = parties("verify")
    assert f"all {len(proved.content['checks'])} checks hold" in said.out
    assert "STRIPE_API_KEY is not set" in said.err


def test_verification_finds_a_falsified_figure_and_exits_with_1(
    parties: Meterbook, tmp_path: Path, database_url: str
) -> None:
    header = "source,key,customer,type,timestamp,tokens\n"
    usage = written(tmp_path / "u.csv", f"{header}gate,1,acme,llm.request,2026-10-05T12:00:00Z,5\n")
    assert parties("usage", "send", usage).code == 0
    with psycopg.connect(database_url, autocommit=True) as books:
        books.execute("update usage_rollup set quantity = quantity + 1")
    proved = parties("verify", "--json")
    assert (proved.code, proved.content["ok"]) == (1, False)
    assert "found a difference" in parties("verify").out
