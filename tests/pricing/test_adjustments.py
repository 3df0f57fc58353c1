"""Composites, discounts, minimums and maximums within a rated period."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.adjustments import net_amount
from pricing.calendar import Period
from pricing.money import currency, to_ledger_scale, total
from pricing.prices import Composite, PerUnit
from pricing.rated import RatedPeriod
from pricing.rating import rate_period
from pricing.terms import Discount, ProductPrice, Reading, Terms

D = Decimal
APRIL = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
TOKENS = ProductPrice("tokens", "Tokens", PerUnit(D(1)), "tokens", tags=("ai",))
CALLS = ProductPrice("calls", "Calls", PerUnit(D(1)), "calls")


def terms(*products: ProductPrice, **options: object) -> Terms:
    return replace(Terms("acme", 1, APRIL.start, currency("USD"), products or (TOKENS, CALLS)), **options)  # type: ignore[arg-type]


def used(metric_id: str, quantity: str, day: int = 10) -> Reading:
    return Reading(
        metric_id, datetime(2026, 4, day, tzinfo=UTC), datetime(2026, 4, day + 1, tzinfo=UTC), D(quantity), (), 1
    )


def rated(agreed: Terms, *readings: Reading, is_over: bool = True) -> RatedPeriod:
    return rate_period([agreed], readings, [], APRIL, entity_time_zone="UTC", is_over=is_over)


def lines(period: RatedPeriod) -> list[tuple[str, str, str]]:
    return [(line.kind, line.product_id, str(line.amount)) for line in period.lines]


def test_percentages_come_before_fixed_amounts_whatever_their_order() -> None:
    fixed = Discount("off", "Ten off", "fixed", D(10))
    half = Discount("half", "Half price", "percentage", D(50))
    period = rated(terms(discounts=(fixed, half)), used("tokens", "100"))
    # 100.00 less 50 % is 50.00, less 10.00 is 40.00
    assert lines(period) == [
        ("usage", "tokens", "100.00"), ("discount", "tokens", "-50.00"), ("discount", "tokens", "-10.00"),
    ]  # fmt: skip
    assert total([part.amount for part in period.charges[0].slices]) == 40


def test_a_fixed_discount_is_spread_in_proportion_and_never_goes_below_zero() -> None:
    agreed = terms(discounts=(Discount("off", "Off", "fixed", D(30)),))
    period = rated(agreed, used("tokens", "60"), used("calls", "30"))
    assert [(c.product_id, c.adjustments[0].amount) for c in period.charges] == [("tokens", D(-20)), ("calls", D(-10))]
    capped = rated(agreed, used("tokens", "10"), used("calls", "5"))
    assert total([line.amount for line in capped.lines]) == 0


def test_a_discount_counts_in_periods_that_begin_in_its_window() -> None:
    def net(start: datetime | None, end: datetime | None) -> Decimal:
        off = Discount("off", "Off", "percentage", D(10), (), start, end)
        return net_amount(rated(terms(discounts=(off,)), used("tokens", "100")).charges[0])

    march, may = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
    assert [net(None, None), net(APRIL.start, may), net(march, may)] == [D(90), D(90), D(90)]
    assert [net(may, None), net(None, APRIL.start), net(march, APRIL.start)] == [D(100), D(100), D(100)]


def test_a_discount_on_a_tag_leaves_other_products_alone() -> None:
    agreed = terms(discounts=(Discount("ai", "AI", "percentage", D(10), ("tag:ai",)),))
    period = rated(agreed, used("tokens", "100"), used("calls", "100"))
    assert [net_amount(charge) for charge in period.charges] == [90, 100]


@pytest.mark.parametrize(("quantity", "comes_to"), [("20", "50"), ("700", "700"), ("1500", "1000")])
def test_a_product_stays_between_its_minimum_and_maximum(quantity: str, comes_to: str) -> None:
    # Orb's documentation: minimum 50 and maximum 1000
    bounded = replace(TOKENS, minimum=D(50), maximum=D(1000))
    assert total([line.amount for line in rated(terms(bounded), used("tokens", quantity)).lines]) == D(comes_to)


def test_a_minimum_is_charged_without_usage_but_not_before_the_period_is_over() -> None:
    agreed = terms(replace(TOKENS, minimum=D(50)), minimum=D(80))
    assert rated(agreed, is_over=False).lines == ()
    # 50.00 for the product, and 30.00 more up to the contract's 80.00
    assert lines(rated(agreed)) == [("minimum", "tokens", "50.00"), ("minimum", "minimum", "30.00")]


def test_the_maximum_of_a_contract_takes_off_every_charge_in_proportion() -> None:
    period = rated(terms(maximum=D(60)), used("tokens", "80"), used("calls", "40"))
    assert [net_amount(charge) for charge in period.charges] == [40, 20]


def test_a_composite_is_a_share_of_others_within_its_bounds() -> None:
    support = ProductPrice("support", "Support", Composite(("tag:ai",), D(10), minimum=D(5), maximum=D(20)))
    assert [c.amount for c in rated(terms(TOKENS, CALLS, support), used("tokens", "100")).charges] == [100, 10]
    few = rated(terms(TOKENS, support), used("tokens", "10")).charges[1]
    assert (few.amount, [step.amount for step in few.steps]) == (D(5), [D(1), D(4)])  # 1.00, and 4.00 up to the minimum
    many = rated(terms(TOKENS, support), used("tokens", "1000")).charges[1]
    assert (many.amount, many.slices[-1].amount) == (D(20), D(20))
    running = rated(terms(TOKENS, support), used("tokens", "10"), is_over=False).charges[1]
    assert running.amount == 1


def test_a_composite_of_a_composite_takes_what_that_comes_to() -> None:
    support = ProductPrice("support", "Support", Composite(("tokens",), D(10)), tags=("service",))
    premium = ProductPrice("premium", "Premium", Composite(("tag:service",), D(50)))
    period = rated(terms(TOKENS, premium, support), used("tokens", "100"))
    assert {charge.product_id: charge.amount for charge in period.charges} == {
        "tokens": 100, "premium": 5, "support": 10,
    }  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from(["tokens", "calls"]), st.integers(0, 10**6), st.integers(1, 29)), max_size=6),
    st.decimals(0, 100, places=3),
    st.decimals(0, 10**6, places=4),
    st.decimals(0, 10**6, places=2),
)
def test_slices_add_up_to_what_adjustments_leave_and_none_is_below_zero(
    usage: list[tuple[str, int, int]], percent: Decimal, fixed: Decimal, bound: Decimal
) -> None:
    agreed = terms(
        discounts=(Discount("p", "P", "percentage", percent), Discount("f", "F", "fixed", fixed)),
        maximum=bound + 1,
        minimum=bound / 2,
    )
    period = rated(agreed, *(used(metric, str(n), day) for metric, n, day in usage))
    for charge in period.charges:
        assert total([part.amount for part in charge.slices]) == to_ledger_scale(net_amount(charge))
        assert all(part.amount >= 0 for part in charge.slices)
        assert charge.amount == total([step.amount for step in charge.steps])
    shown = total([line.amount for line in period.lines])
    assert bound / 2 - 1 <= shown <= bound + 2
