"""Credits, recharges, prepayments, cancellations and recognition, by worked examples of vendors' documentation."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.allowances import carried_over, free_units
from pricing.calendar import Period
from pricing.cancellation import owed_fees, undone_invoices
from pricing.credit_blocks import CreditBlock, balance, cost_basis, discount_share, expiry_moved, purchase_amount, used
from pricing.cycles import Cycles, DayRange
from pricing.errors import PricingError
from pricing.issuing import issued_at
from pricing.money import currency, total
from pricing.prepayments import at_commit_rate, instalments, settled_advance
from pricing.recharge import is_low, recharge
from pricing.recognition import recognised_months
from pricing.renewal import nearest_share, renewal_after_change
from pricing.terms import Allowance

D = Decimal
USD = currency("USD")


def test_credits_cost_their_basis_and_are_recognised_by_it() -> None:
    block = CreditBlock(D(100), D("0.20"), date(2022, 12, 28))  # Orb's ledger
    assert purchase_amount(block, USD) == 20
    use = used([block], D(20))
    assert (use.revenue, balance(use.blocks)) == (D("4.00"), D(80))
    moved = expiry_moved(use.blocks, D(10), date(2022, 12, 28), date(2023, 12, 28))
    assert [(one.credits, one.expires_on) for one in moved] == [
        (D(70), date(2022, 12, 28)),
        (D(10), date(2023, 12, 28)),
    ]
    with pytest.raises(PricingError, match="20 of them"):
        expiry_moved(use.blocks, D(100), date(2022, 12, 28), None)
    with pytest.raises(PricingError, match="81 credits cannot be used, 1 are lacking"):
        used(use.blocks, D(81))


def test_a_discounted_grant_has_a_lower_basis() -> None:
    assert cost_basis(D(8500), D(10000)) == D("0.85")  # Metronome
    assert discount_share(D(8000), D(10000)) == D("0.2")


def test_a_recharge_grants_in_full_and_charges_less() -> None:
    assert (recharge(D(20), D("0.10"), USD).charged, is_low(D(50), D(200))) == (D(18), True)
    with pytest.raises(ValueError, match="is no fraction"):
        recharge(D(20), D(10), USD)


def test_an_advance_is_refunded_or_charged_beyond() -> None:
    assert settled_advance(D(1000), D(800)).refund == 200
    assert settled_advance(D(200), D(300)).charge == 100


def test_units_beyond_a_commit_cost_the_list_rate() -> None:
    use = at_commit_rate(D(130), commit_rate=D(1), list_rate=D(0), balance=D(100))
    assert (use.drawn, use.beyond, use.overage) == (D(100), D(30), D(0))


@given(st.integers(1, 10**8), st.sampled_from(["month", "quarter", "year"]))
def test_instalments_come_to_the_amount(cents: int, cadence: str) -> None:
    amount = D(cents).scaleb(-2)
    year = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    parts = instalments(amount, year, cadence, "UTC", USD)  # type: ignore[arg-type] # a cadence
    assert total([part.amount for part in parts]) == amount
    assert max(part.amount for part in parts) - min(part.amount for part in parts) <= D("0.01")


def test_revenue_of_a_year_is_recognised_by_its_days() -> None:
    year = DayRange(date(2019, 1, 1), date(2020, 1, 1))  # Stripe: 365.00 over 365 days
    months = list(recognised_months(D(365), year, date(2019, 1, 1), USD))
    assert [(m.revenue, m.deferred) for m in months[:2]] == [(D(31), D(334)), (D(28), D(-28))]
    assert (total([m.revenue for m in months]), total([m.deferred for m in months])) == (D(365), D(0))


def test_a_cancellation_in_the_past_undoes_the_invoices_after_it() -> None:
    cycles = Cycles(date(2022, 1, 1), "month", 1)
    whole = list(undone_invoices(cycles, date(2022, 1, 1), date(2022, 1, 15)))
    assert [(one.invoice_date, one.usage) for one in whole] == [(date(2022, 1, 1), None)]
    [february] = undone_invoices(cycles, date(2022, 2, 1), date(2022, 2, 15))
    assert february.usage == DayRange(date(2022, 1, 1), date(2022, 2, 1))
    assert [fee.amount for fee in owed_fees(D(50), cycles, date(2022, 2, 1), date(2022, 2, 15), USD)] == [D(50), D(0)]


def test_an_invoice_without_usage_does_not_wait() -> None:
    first = datetime(2024, 8, 1, tzinfo=UTC)
    assert issued_at(first, timedelta(hours=12), has_usage=True) == datetime(2024, 8, 1, 12, tzinfo=UTC)
    assert issued_at(first, timedelta(hours=12), has_usage=False) == first


def test_a_change_is_settled_with_the_renewal() -> None:
    half = nearest_share(Fraction(17, 31), 2)
    renewal = renewal_after_change(D(10), D(20), half, USD)
    assert (renewal.proration, renewal.total) == (D(5), D(25))


def test_unused_units_roll_over_up_to_the_cap() -> None:
    assert free_units(Allowance(D(100), per_metric="apps"), D(5)) == 500  # m3ter
    assert carried_over(Allowance(D(1000), rollover_cap=D(150)), D(1000), D(800)) == 150
    assert carried_over(Allowance(D(1000)), D(1000), D(800)) == 0
