from decimal import Decimal

import pytest

from pricing.money import currency, round_to_currency, to_ledger_scale, total


@pytest.mark.parametrize(
    ("amount", "code", "rounded"),
    [
        ("2.675", "USD", "2.68"),  # a float would give 2.67
        ("2.665", "EUR", "2.67"),  # half up, not half to even
        ("-2.675", "USD", "-2.68"),  # away from zero on both sides
        ("0.0049999999999999999999999999999999999", "USD", "0.00"),  # more digits than decimal's default keeps
        ("100.5", "JPY", "101"),
        ("100.4999", "JPY", "100"),
        ("1.2345", "KWD", "1.235"),
        ("61.728", "USD", "61.73"),
    ],
)
def test_a_line_is_rounded_half_up_to_the_minor_unit(amount: str, code: str, rounded: str) -> None:
    assert str(round_to_currency(Decimal(amount), currency(code))) == rounded


def test_a_transfer_holds_twelve_decimals() -> None:
    assert to_ledger_scale(Decimal("0.0000000000005")) == Decimal("0.000000000001")
    assert to_ledger_scale(Decimal("0.00000000000049")) == 0


def test_a_sum_loses_no_digit() -> None:
    assert total([Decimal("1e30"), Decimal("1e-12")]) == Decimal("1000000000000000000000000000000.000000000001")
    assert total([Decimal("0.1")] * 3) == Decimal("0.3")


def test_an_unknown_currency_is_named() -> None:
    with pytest.raises(ValueError, match="'XXX' is not known"):
        currency("XXX")
