"""Quotes of commits in instalments and postpaid, by figures worked out by hand: a unit costs 1.00."""

from datetime import UTC, datetime
from decimal import Decimal

from pricing.calendar import Period
from pricing.money import currency
from pricing.prices import PerUnit
from pricing.quotes import Quote, SaidUsage, quote_period
from pricing.terms import Commit, Instalment, ProductPrice, Segment, Terms

JANUARY = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
MARCH = datetime(2026, 3, 1, tzinfo=UTC)


def quote(commit: Commit, used: int) -> Quote:
    product = ProductPrice("units", "Units", PerUnit(Decimal(1)), "units")
    terms = Terms("plan", 1, JANUARY.start, currency("EUR"), (product,), (commit,))
    said = SaidUsage("units", Decimal(used))
    return quote_period([terms], [said], JANUARY, time_zone="UTC", contract_start=JANUARY.start)


def lines_of(found: Quote) -> list[tuple[str, str, str]]:
    return [(line.kind, line.description, str(line.amount)) for line in found.lines]


def test_a_postpaid_commit_that_ends_with_the_period_is_quoted_with_what_is_missing() -> None:
    found = quote(Commit("least", "Least", Decimal(100), JANUARY.start, JANUARY.end, type="postpaid"), 70)
    assert lines_of(found) == [("usage", "Units", "70.00"), ("true_up", "Least", "30.00")]
    assert found.total == 100


def test_a_postpaid_commit_that_goes_on_is_quoted_without_a_true_up() -> None:
    found = quote(Commit("least", "Least", Decimal(100), JANUARY.start, MARCH, type="postpaid"), 70)
    assert lines_of(found) == [("usage", "Units", "70.00")]
    assert (found.total, found.changes) == (Decimal(70), ())


def test_instalments_are_quoted_in_the_period_that_they_are_due_in() -> None:
    access = (Segment(Decimal(50), JANUARY.start, JANUARY.end), Segment(Decimal(50), JANUARY.end, MARCH))
    invoices = (Instalment(Decimal(40), JANUARY.start), Instalment(Decimal(40), JANUARY.end))
    found = quote(Commit("year", "Year", Decimal(100), JANUARY.start, MARCH, access=access, invoices=invoices), 70)
    assert lines_of(found) == [("usage", "Units", "70.00"), ("commit", "Year, instalment 1 of 2", "40.00")]
    assert found.total == 60  # 70.00 less 50.00 of the first segment, and 40.00
