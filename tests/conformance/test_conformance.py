"""Every case, as a test of its own; and the page that shows them."""

from pathlib import Path

import pytest

from tests.conformance.__main__ import CASES
from tests.conformance.case import Case, read_cases
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
