"""Currencies, the exact arithmetic that rating runs in, and the one place where money is rounded.

Amounts and quantities are `decimal.Decimal`; a float never enters. While rating, amounts are exact; they are cut to
the ledger's twelve places by `to_ledger_scale` and to the currency's exponent by `round_to_currency`, once per line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation, Overflow

EXACT = Context(prec=96, traps=[Inexact, InvalidOperation, Overflow])
"""Multiplication and addition in this context raise instead of losing a digit."""

WIDE = Context(prec=96, rounding=ROUND_HALF_UP, traps=[InvalidOperation, Overflow])
"""For the few divisions and roundings that are inexact by nature."""

LEDGER_SCALE = Decimal("1e-12")
ZERO = Decimal(0)

CURRENCY_EXPONENTS = {
    "USD": 2, "EUR": 2, "GBP": 2, "CHF": 2, "SEK": 2, "NOK": 2, "DKK": 2, "PLN": 2, "CZK": 2, "CAD": 2, "AUD": 2,
    "NZD": 2, "SGD": 2, "HKD": 2, "INR": 2, "BRL": 2, "MXN": 2, "ZAR": 2, "AED": 2, "ILS": 2, "TRY": 2, "CNY": 2,
    "JPY": 0, "KRW": 0, "VND": 0, "CLP": 0,
    "KWD": 3, "BHD": 3, "OMR": 3, "TND": 3, "JOD": 3,
}  # fmt: skip
"""Minor-unit digits after ISO 4217."""


@dataclass(frozen=True, slots=True)
class Currency:
    """A currency by its ISO 4217 code and the number of its minor-unit digits."""

    code: str
    exponent: int


def currency(code: str) -> Currency:
    """Return the currency of an ISO 4217 code; raise `ValueError` naming the code when it is not known."""
    if code not in CURRENCY_EXPONENTS:
        raise ValueError(f"currency {code!r} is not known; use one of {', '.join(sorted(CURRENCY_EXPONENTS))}")
    return Currency(code, CURRENCY_EXPONENTS[code])


def round_to_currency(amount: Decimal, unit: Currency) -> Decimal:
    """Round an exact amount half up (away from zero) to the minor unit: the rounding of an invoice line."""
    return amount.quantize(Decimal(1).scaleb(-unit.exponent), context=WIDE)


def to_ledger_scale(amount: Decimal) -> Decimal:
    """Round an exact amount half up to the twelve decimal places that a transfer can hold."""
    return amount.quantize(LEDGER_SCALE, context=WIDE)


def share_of_percent(percent: Decimal) -> Decimal:
    """Return a percentage as a share, exactly: 2.9 per cent are 0.029."""
    return EXACT.scaleb(percent, -2)


def total(amounts: Sequence[Decimal]) -> Decimal:
    """Add exactly."""
    result = ZERO
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result
