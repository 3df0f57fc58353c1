"""Figures that grow within a period: invoices by threshold, windows of cumulative figures, units of packages."""

from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from pricing.blocks import packaged_units
from pricing.calendar import Period
from pricing.cycles import Cycles, DayRange, cumulative_windows
from pricing.money import total
from pricing.prices import Package
from pricing.progressive import increments, threshold_invoices
from pricing.proration import moment_at

D = Decimal
AMOUNTS = st.lists(st.decimals(0, 1000, places=2), min_size=1, max_size=8)


def test_a_later_threshold_invoice_subtracts_the_earlier_ones() -> None:
    # 100 units at 1.00 and the rest at 0.50: 120, 400 and 450 units come to 110, 250 and 275
    found = list(threshold_invoices([D(110), D(250), D(275)], D(100), is_over=True))
    assert [(one.amount, one.billed_before, one.is_final) for one in found] == [
        (D(110), D(0), False),
        (D(140), D(110), False),
        (D(25), D(250), True),
    ]


def test_below_the_threshold_nothing_is_billed_before_the_end() -> None:
    assert list(threshold_invoices([D("99.99")], D(100), is_over=False)) == []
    assert [one.amount for one in threshold_invoices([D(100)], D(100), is_over=False)] == [D(100)]


@given(AMOUNTS, st.decimals(1, 500, places=2))
def test_the_invoices_of_a_period_come_to_its_last_gross_amount(amounts: list[Decimal], threshold: Decimal) -> None:
    invoices = list(threshold_invoices(amounts, threshold, is_over=True))
    assert total([one.amount for one in invoices]) == amounts[-1]


def test_a_fall_is_an_increment_below_zero() -> None:
    assert increments([D(7), D(9), D(10), D(5)]) == (D(7), D(2), D(1), D(-5))  # Metronome's latest value by day
    assert increments([]) == ()


def test_cumulative_windows_begin_anew_on_the_billing_day() -> None:
    june = DayRange(date(2023, 6, 1), date(2023, 7, 1))  # Orb, with the billing day 15
    windows = cumulative_windows(Cycles(june.start, "month", 15), june)
    assert len(windows) == 30
    assert windows[0] == DayRange(date(2023, 5, 15), date(2023, 6, 2))
    assert windows[13] == DayRange(date(2023, 5, 15), date(2023, 6, 15))
    assert windows[14] == DayRange(date(2023, 6, 15), date(2023, 6, 16))
    assert windows[29] == DayRange(date(2023, 6, 15), date(2023, 7, 1))


def test_a_package_that_is_begun_holds_all_its_units() -> None:
    package = Package(D(10), D("0.80"))  # Orb: 4 units are billed as 10, 11 as 20
    assert [packaged_units(package, D(units)) for units in (0, 4, 10, 11)] == [D(0), D(10), D(10), D(20)]


def test_half_of_a_month_of_thirty_days_has_passed_at_the_end_of_the_fifteenth() -> None:
    april = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
    assert moment_at(april, Fraction(1, 2)) == datetime(2026, 4, 16, tzinfo=UTC)
    assert moment_at(april, Fraction(1)) == april.end
