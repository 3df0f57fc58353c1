"""Documents: tax on nets, and credit notes for what was billed in advance and not used."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from pricing.money import EXACT, WIDE, Currency, round_to_currency, share_of_percent, total
from pricing.proration import RoundingMode, prorated, rounded


@dataclass(frozen=True, slots=True)
class Taxed:
    """A net amount with its tax and their sum, rounded; `exact_net` is the net before it was rounded."""

    exact_net: Decimal
    net: Decimal
    tax: Decimal

    @property
    def gross(self) -> Decimal:
        """Net and tax."""
        return EXACT.add(self.net, self.tax)


def taxed(net: Decimal, tax_percent: Decimal, currency: Currency) -> Taxed:
    """Round a net amount, and its tax, computed from the exact net, each once."""
    tax = WIDE.multiply(net, share_of_percent(tax_percent))
    return Taxed(net, round_to_currency(net, currency), round_to_currency(tax, currency))


def share_of_days(part: int, whole: int) -> Fraction:
    """Return which share so many days are of a cycle's; raise `ValueError` for more days than the cycle has."""
    if not 0 <= part <= whole or not whole:
        raise ValueError(f"{part} of {whole} days is no share of a cycle; give days from 0 to those of the cycle")
    return Fraction(part, whole)


def credit_of_unused(fee: Decimal, unused: Fraction, tax_percent: Decimal, currency: Currency) -> Taxed:
    """Return the credit for the part of a fee, billed in advance, whose days are not used."""
    return taxed(prorated(fee, unused), tax_percent, currency)


def due_after_credit(subtotal: Decimal, tax_percent: Decimal, credit: Taxed, currency: Currency) -> Decimal:
    """Return what is due on an invoice of a net subtotal once a credit note is applied to it; never below zero."""
    owed = EXACT.subtract(taxed(subtotal, tax_percent, currency).gross, credit.gross)
    return max(owed, round_to_currency(Decimal(0), currency))


def subtotal_of(
    amounts: Sequence[Decimal],
    currency: Currency,
    *,
    rounding: RoundingMode = "half_up",
    per: Literal["line", "document"] = "line",
) -> Decimal:
    """Round each line once and add what is shown, so that the document adds up on paper.

    Per `document` the exact sum is rounded instead, which the lines as they are shown may not come to.
    """
    if per == "document":
        return rounded(total(amounts), currency.exponent, rounding)
    return total([rounded(amount, currency.exponent, rounding) for amount in amounts])


@dataclass(frozen=True, slots=True)
class WalletPayment:
    """What a wallet pays of a document, what is left to pay, and what is left in the wallet."""

    used: Decimal
    due: Decimal
    balance: Decimal


def paid_from_wallet(gross: Decimal, balance: Decimal, *, serves: bool = True) -> WalletPayment:
    """Pay a document, tax included, from a prepaid wallet as far as that reaches (Lago's prepaid credits).

    A wallet that does not serve what the document bills pays nothing. Lots, by contrast, are drawn before tax.
    """
    used = min(gross, balance) if serves else Decimal(0)
    return WalletPayment(used, EXACT.subtract(gross, used), EXACT.subtract(balance, used))
