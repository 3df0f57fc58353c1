"""How figures and times are written for programs and people."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admin.plain import decimal_text, duration_text, json_text, moment_text, plain
from admin.screen import money


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("12.500000000000", "12.5"),
        ("1E+3", "1000"),
        ("0E-12", "0"),
        ("-0.00", "0"),
        ("-0.10", "-0.1"),
        ("100", "100"),  # zeros before the point stay
    ],
)
def test_a_decimal_is_written_in_full_without_trailing_zeros(value: str, text: str) -> None:
    assert decimal_text(Decimal(value)) == text


@settings(max_examples=50)
@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**20), max_value=10**20))
def test_writing_a_decimal_never_changes_it(value: Decimal) -> None:
    assert Decimal(decimal_text(value)) == value
    assert Decimal(money(value, "EUR")) == value


def test_money_shows_at_least_the_digits_of_its_currency() -> None:
    assert money(Decimal(5), "EUR") == "5.00"
    assert money(Decimal("0.00012"), "EUR") == "0.00012"
    assert money(Decimal(5), "JPY") == "5"
    assert money(Decimal("5.1"), "KWD") == "5.100"


def test_times_are_utc_and_durations_read_as_in_contract_files() -> None:
    berlin = timezone(timedelta(hours=2))
    assert moment_text(datetime(2026, 10, 5, 14, 30, tzinfo=berlin)) == "2026-10-05T12:30:00Z"
    assert [duration_text(timedelta(**span)) for span in ({"days": 3}, {"hours": 36}, {"seconds": 90}, {})] == [
        "3d",
        "36h",
        "90s",
        "0s",
    ]


def test_what_has_no_json_form_is_refused_rather_than_guessed() -> None:
    assert json_text({"at": datetime(2026, 1, 1, tzinfo=UTC), "sum": (Decimal("1.10"), None)}) == (
        '{"at": "2026-01-01T00:00:00Z", "sum": ["1.1", null]}'
    )
    with pytest.raises(TypeError):
        plain(object())
