"""Tax, credits of what was not used, and wallets, by worked examples of Lago."""

from decimal import Decimal
from fractions import Fraction

import pytest

from pricing.documents import credit_of_unused, due_after_credit, paid_from_wallet, share_of_days, subtotal_of, taxed
from pricing.money import Currency, currency

D = Decimal
MINOR = Currency("minor", 0)


def test_unused_days_are_credited_with_their_tax_and_reduce_the_final_invoice() -> None:
    credit = credit_of_unused(D(5000), share_of_days(3, 28), D(20), MINOR)  # 535.71, tax 107.14
    assert (credit.net, credit.tax, credit.gross) == (D(536), D(107), D(643))
    assert due_after_credit(D(893), D(20), credit, MINOR) == 429  # 893 + 179 - 643
    assert due_after_credit(D(100), D(20), credit, MINOR) == 0


def test_tax_is_computed_from_the_exact_net() -> None:
    credit = credit_of_unused(D(16000), Fraction(29, 30), D(25), MINOR)  # 15466.66..., tax 3866.66...
    assert (credit.net, credit.tax, credit.gross) == (D(15467), D(3867), D(19334))
    assert taxed(D(72686), D(20), MINOR).gross == 87223


def test_a_share_of_days_lies_within_its_cycle() -> None:
    with pytest.raises(ValueError, match="29 of 28 days"):
        share_of_days(29, 28)


def test_a_document_is_the_sum_of_what_its_lines_show() -> None:
    assert subtotal_of([D("100.4"), D("200.5"), D("300.6")], currency("JPY")) == 602  # 100 + 201 + 301


def test_a_wallet_pays_as_far_as_it_reaches_and_only_what_it_serves() -> None:
    invoice = taxed(D("14.29"), D(24), currency("EUR"))  # 14.29 + 3.43
    paid = paid_from_wallet(invoice.gross, D("39.00"))
    assert (paid.used, paid.due, paid.balance) == (D("17.72"), D(0), D("21.28"))
    assert paid_from_wallet(D(50), D(39)).due == 11
    assert paid_from_wallet(D(50), D(39), serves=False).used == 0


def test_a_document_that_is_rounded_as_a_whole_may_not_be_the_sum_of_its_lines() -> None:
    lines = [D("100.4"), D("200.4"), D("300.4")]  # 600 as shown, 601.2 exactly
    assert subtotal_of(lines, currency("JPY")) == 600
    assert subtotal_of(lines, currency("JPY"), per="document") == 601
    assert subtotal_of(lines, currency("JPY"), rounding="up") == 603
