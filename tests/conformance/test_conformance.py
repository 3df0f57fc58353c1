"""Every case, as a test of its own; and the page that shows them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.__main__ import CASES, main
from tests.conformance.case import OPEN_SOURCE, VENDORS, Case, read_cases
from tests.conformance.comparison import differences
from tests.conformance.document import document
from tests.conformance.run import run_case, run_cases

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


@pytest.mark.parametrize("case", read_cases(CASES), ids=lambda case: case.id)
def test_a_case_comes_out_as_its_source_says(case: Case) -> None:
    result = run_case(case)
    assert result.outcome != "failed", result.reason


def test_the_page_shows_what_the_cases_come_to() -> None:
    assert PAGE.read_text() == document([*run_cases(read_cases(CASES))])


def test_a_wrong_figure_is_a_difference() -> None:
    assert differences({"amount": "150.0", "lines": []}, {"amount": "150", "lines": []}) == []
    assert differences({"amount": "1.00"}, {"amount": "1.001"}) == ["amount is 1.001 instead of 1.00"]
    assert differences({"amount_rounded": "1.00"}, {"amount_rounded": "1.001"}) == []
    assert differences({"lines": [{"tier": 1}]}, {"lines": []}) == ["lines is [] instead of [{'tier': 1}]"]
    assert differences({"amount": "1"}, {}) == ["amount is missing"]
    assert differences({"true_up_minor": None}, {"true_up_minor": 0}) == ["true_up_minor is 0 instead of None"]


def test_a_broken_case_fails_alone_and_the_report_tells_what_became_of_each(tmp_path: Path) -> None:
    per_unit = {"model": "per_unit", "unit_amount": "3"}
    write_cases(
        tmp_path,
        rating("right", per_unit, {"quantity": "2"}, {"amount": "6.00"}),
        rating("wrong", per_unit, {"quantity": "2"}, {"amount": "7"}),
        rating("broken", per_unit, {"quantity": 2.5}, {"amount": "7.5"}),
        rating("refused", per_unit, {"quantity": "-1"}, {"amount": "-3"}),
        rating("unknown", {"model": "barter"}, {"quantity": "1"}, {"amount": "1"}),
        {"id": "empty-1"},
    )
    report = tmp_path / "report.json"
    assert main(["--cases", str(tmp_path), "--report", str(report)]) == 1
    told = json.loads(report.read_text())
    assert [(one["id"], one["outcome"]) for one in told] == [
        ("right", "passed"),
        ("wrong", "failed"),
        ("broken", "failed"),
        ("refused", "failed"),
        ("unknown", "unsupported"),
        ("empty-1", "unsupported"),
    ]
    assert told[0] == {
        "id": "right", "kind": "rating", "outcome": "passed", "expected": {"amount": "6.00"}, "got": told[0]["got"],
        "reason": "",
    }  # fmt: skip
    assert told[0]["got"]["amount"] == "6"
    assert told[1]["reason"] == "amount is 6 instead of 7"
    assert "write it as a text or a whole number" in told[2]["reason"]
    assert told[3]["reason"].startswith("it is refused: ")


def test_without_failures_the_exit_code_is_zero(tmp_path: Path) -> None:
    write_cases(tmp_path, rating("unknown", {"model": "barter"}, {"quantity": "1"}, {"amount": "1"}))
    assert main(["--cases", str(tmp_path)]) == 0


def rating(case_id: str, pricing: object, given: object, expected: object) -> dict[str, Any]:
    return {
        "id": case_id, "kind": "rating", "title": case_id, "source": "ours", "pricing": pricing, "input": given,
        "expected": expected,
    }  # fmt: skip


def write_cases(folder: Path, *cases: dict[str, Any]) -> None:
    (folder / OPEN_SOURCE).write_text(json.dumps({"schema": {}, "cases": cases}))
    (folder / VENDORS).write_text("[]")
