"""Expressions over the properties of an event: exact, and nothing in them depends on anything else."""

from decimal import Decimal

import pytest

from ledger.errors import InvalidError
from ledger.expressions import EvaluationError, PropertyValue, compiled

EVENT: dict[str, PropertyValue] = {"input": Decimal(1250), "output": Decimal("0.1"), "region": "eu", "cached": True}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("input + 2 * output", "1250.2"),
        ("0.1 + 0.2", "0.3"),  # a float would give 0.30000000000000004
        ("output / 3", "0.033333333333"),  # twelve places
        ("input / 0.000000000003 * 0.000000000003", "1250"),  # 96 digits on the way
        ("input > 1000 ? input - 1000 : 0", "250"),
        ("(discount ?? 5) + input", "1255"),
        ("$max([input, output, 2000])", "2000"),
        ("$abs(-input)", "1250"),
        ("-input % 1000", "-250"),
    ],
)
def test_numbers_are_exact_decimals(text: str, value: str) -> None:
    assert compiled(text).number(EVENT) == Decimal(value)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('region == "eu" and input >= 1250', True),
        ('region in ["us", "apac"]', False),
        ("not cached or output < 0", False),
        ('(plan ?? "free") == "free"', True),
        ("region == 1", False),
    ],
)
def test_conditions_are_true_or_false(text: str, holds: bool) -> None:
    assert compiled(text).holds(EVENT) is holds


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        ("input + missing", "missing", "is missing"),
        ("input + region", "region", "is no number"),
        ("input / (output - output)", None, "division by zero"),
        ("region", None, "no number"),
        ("input ** 20", None, "26 whole digits"),
    ],
)
def test_an_event_that_does_not_suit_is_told_with_its_property(text: str, name: str | None, reason: str) -> None:
    with pytest.raises(EvaluationError) as refused:
        compiled(text).number(EVENT)
    assert refused.value.name == name
    assert reason in refused.value.reason


def test_a_condition_is_no_number_and_a_number_no_condition() -> None:
    with pytest.raises(EvaluationError, match="gives true, which is no number"):
        compiled("cached").number(EVENT)
    with pytest.raises(EvaluationError, match="neither true nor false"):
        compiled("input").holds(EVENT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "input +",
        "$now",
        "$today",
        "$random(10)",
        "$pi * input",
        "input.real",
        'region =~ ".*"',
        "[n for n in [1, 2]]",
        "input[0]",
        "input & 1",
        "$map($abs, [input])",
        '$parse_datetime("2026-01-01")',
        '__import__("os")',
        "x" * 1001,
    ],
)
def test_what_is_not_arithmetic_on_properties_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="expression"):
        compiled(text)
