"""The page on pricing shows what the commands print."""

import re

import pytest

from tests.examples import PAGE, rendered

MODELS = (
    "per_unit", "package", "graduated", "volume", "stair_step", "graduated_blocks", "volume_blocks", "percentage",
    "graduated_percentage", "dynamic", "matrix", "composite", "fixed_fee", "seats", "one_off",
)  # fmt: skip


def test_every_example_prints_what_the_page_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    page = PAGE.read_text(encoding="utf-8")
    assert rendered(page) == page, "run `python -m tests.examples`, and read what it changes in docs/pricing.md"


@pytest.mark.parametrize("model", MODELS)
def test_the_page_has_an_example_of_every_model(model: str) -> None:
    assert re.search(rf"model: {model}\b", PAGE.read_text(encoding="utf-8"))


def test_a_figure_that_the_command_does_not_print_is_found() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert "= 3.125\n" in page
    assert rendered(page.replace("= 3.125\n", "= 3.126\n")) == page
