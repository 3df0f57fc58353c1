"""Shares of money: of a sum, of each event with bounds and free parts, in tiers, and what events carry."""

from decimal import Decimal

import pytest

from pricing.errors import PricingError
from pricing.measures import NOTHING, Measure
from pricing.models import Standing, price_steps
from pricing.prices import CellPrice, Dynamic, GraduatedPercentage, Percentage, PercentTier
from tests.pricing.rates import amount_of, cost, measure, payments, steps_for

D = Decimal

FOUR_PAYMENTS = payments("50", "100", "250", "400")
"""Lago's running totals of 50, 150 and 400, and 800 in all."""
THREE_PAYMENTS = payments("10", "80", "10000")


def percentage(
    rate: str,
    fee: str = "0",
    *,
    least: str | None = None,
    most: str | None = None,
    free_events: int | None = None,
    free_amount: str | None = None,
) -> Percentage:
    return Percentage(
        D(rate),
        D(fee),
        None if least is None else D(least),
        None if most is None else D(most),
        free_events,
        None if free_amount is None else D(free_amount),
    )


@pytest.mark.parametrize(
    ("price", "usage", "amount"),
    [
        (percentage("1.3", "2"), FOUR_PAYMENTS, "18.4"),  # 800 x 1.3 % + 4 x 2
        (percentage("2.9"), measure("4", events=4), "0.116"),
        (percentage("1.3", "2", free_amount="250"), FOUR_PAYMENTS, "11.15"),  # 550 x 1.3 % + 2 x 2
        (percentage("1.3", "2", free_events=3), FOUR_PAYMENTS, "7.2"),  # 400 x 1.3 % + 1 x 2
        (percentage("1.3", "2", free_events=3, free_amount="250"), FOUR_PAYMENTS, "11.15"),  # 250 covers less
        (percentage("1.3", "2", free_events=1, free_amount="250"), FOUR_PAYMENTS, "15.75"),  # 750 x 1.3 % + 3 x 2
        (percentage("1.3", "2", free_events=5), payments("50", "100", "250"), "0"),
        (percentage("1.3", "2", free_events=3, free_amount="250"), payments("50", "100", "250", "-400"), "0"),
        (percentage("2.99"), THREE_PAYMENTS, "301.691"),
        (percentage("2.99", free_events=0, free_amount="0"), THREE_PAYMENTS, "301.691"),  # zero grants nothing
    ],
)
def test_lagos_percentages_come_to_the_figures_of_its_tests(price: Percentage, usage: Measure, amount: str) -> None:
    assert cost(price, usage) == D(amount)


BOUNDED = percentage("2.99", least="1.75", most="12", free_amount="0")
BOUNDED_WITH_FEE = percentage("2.99", "2", least="1.75", most="12", free_amount="0")


@pytest.mark.parametrize(
    ("price", "usage", "amount"),
    [
        (BOUNDED, payments("10"), "1.75"),  # 0.299 lies below the minimum
        (BOUNDED, payments("80"), "2.392"),
        (BOUNDED, payments("10000"), "12"),  # 299 lies above the maximum
        (BOUNDED, THREE_PAYMENTS, "16.142"),
        (BOUNDED_WITH_FEE, payments("10"), "2.299"),  # the bounds apply to share and fee together
        (BOUNDED_WITH_FEE, payments("80"), "4.392"),
        (BOUNDED_WITH_FEE, payments("10000"), "12"),
        (BOUNDED_WITH_FEE, THREE_PAYMENTS, "18.691"),
        (percentage("2.99", least="1.75", most="12", free_amount="30"), THREE_PAYMENTS, "13.794"),  # 60 x 2.99 % + 12
        (percentage("2.99", least="1.75", most="12", free_events=2), THREE_PAYMENTS, "12"),
        (percentage("2.99", least="1.75"), payments("10", "80"), "4.142"),  # 1.75 + 2.392
    ],
)
def test_lagos_bounds_apply_to_the_fee_of_each_event(price: Percentage, usage: Measure, amount: str) -> None:
    assert cost(price, usage) == D(amount)


def test_orbs_basis_points_are_capped_payment_by_payment() -> None:
    price = percentage("0.25", most="25.00")  # 25 bps
    assert [cost(price, payments(value)) for value in ("1000.00", "10000.00", "20000.00")] == [D("2.5"), D(25), D(25)]
    assert cost(price, payments("1000.00", "10000.00", "20000.00")) == D("52.5")


def test_the_event_that_uses_the_free_amount_up_pays_its_fee() -> None:
    price = percentage("10", "1", free_amount="100")
    assert cost(price, payments("99")) == D(0)
    assert cost(price, payments("100")) == D(1)  # nothing lies above, as in Lago: a share of 0 and the fee
    assert cost(price, payments("101")) == D("1.1")
    assert cost(price, payments("99", "101")) == D(11)  # 1 of the second is free, 100 x 10 % + 1


def test_what_earlier_events_used_of_the_free_part_is_gone() -> None:
    price = percentage("1.3", "2", free_events=3, free_amount="250")
    whole = payments("50", "100", "250", "400")
    standing = Standing(payments("50", "100"), whole)
    assert amount_of(price_steps(price, payments("250", "400"), standing, "payment")) == D("11.15")
    later = Standing(payments("50", "100", "250"), whole)
    assert amount_of(price_steps(price, payments("400"), later, "payment")) == D("7.2")  # 400 x 1.3 % + 2


def test_events_that_come_to_nothing_in_all_cost_no_fee() -> None:
    assert cost(percentage("5", "2"), measure("0", events=4)) == D(0)


def test_events_without_their_values_are_refused_where_they_count() -> None:
    with pytest.raises(PricingError, match="800 came without the values of its events"):
        cost(percentage("5", free_events=1), measure("800", events=4))

    unseen = Standing(measure("800", events=4), measure("900", events=5))
    with pytest.raises(PricingError, match="800 came without the values"):
        price_steps(percentage("5", free_events=1), payments("100"), unseen, "payment")
    # bounds alone look at no earlier event
    assert amount_of(price_steps(percentage("5", most="4"), payments("100"), unseen, "payment")) == D(4)


def test_a_percentage_by_events_is_explained_rule_by_rule() -> None:
    price = percentage("2.99", "0.25", least="1.75", most="12", free_amount="30")
    steps = steps_for(price, payments("10", "80", "10", "20", "10000"))
    assert [(step.text, step.quantity, step.unit_price) for step in steps] == [
        ("30 free", D(30), D(0)),
        ("2.99% of 60", D(60), D("0.0299")),
        ("1 event at 0.25", D(1), D("0.25")),
        ("2 events at the minimum of 1.75", D(2), D("1.75")),
        ("1 event at the maximum of 12", D(1), D(12)),
    ]


# --- tiers of percentages -----------------------------------------------------------------------------------------

LAGO_TIERS = GraduatedPercentage(
    (PercentTier(D(10), D(1), D(200)), PercentTier(D(20), D(2), D(300)), PercentTier(None, D(3), D(400))),
    flat_fee_at_zero=True,
)
FREE_START = GraduatedPercentage(
    (PercentTier(D("0.01"), D(0)), PercentTier(D(10), D(1), D(200)), PercentTier(None, D(2), D(300))),
    flat_fee_at_zero=True,
)


@pytest.mark.parametrize(
    ("price", "quantity", "amount"),
    [
        (LAGO_TIERS, "0", "200"),
        (LAGO_TIERS, "1", "200.01"),
        (LAGO_TIERS, "10", "200.1"),
        (LAGO_TIERS, "11", "500.12"),  # 0.1 + 200 + 0.02 + 300
        (LAGO_TIERS, "21", "900.33"),  # 0.1 + 200 + 0.2 + 300 + 0.03 + 400
        (FREE_START, "0", "0"),
        (FREE_START, "1", "200.0099"),  # 0.99 x 1 % + 200
    ],
)
def test_lagos_graduated_percentages_come_to_the_figures_of_its_tests(
    price: GraduatedPercentage, quantity: str, amount: str
) -> None:
    assert cost(price, measure(quantity)) == D(amount)


def test_a_graduated_percentage_is_explained_tier_by_tier() -> None:
    assert [(step.text, step.amount, step.tier) for step in steps_for(LAGO_TIERS, measure("11"))] == [
        ("1% of the first 10, plus 200", D("200.1"), 1),
        ("2% of the next 1, plus 300", D("300.02"), 2),
    ]


# --- amounts that events carry ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "usage", "amount"),
    [
        (Dynamic(source="event_amount"), measure("20", amount="0.402"), "0.402"),  # Lago: 40.2 cents
        (Dynamic(source="event_amount"), measure("0", amount="0.402"), "0"),  # Lago: no units
        (Dynamic(D("1.2"), "event_amount"), measure("5", amount="10"), "12"),
        (Dynamic(D("1.33333")), measure("10"), "13.3333"),  # OpenMeter, 13.33 on the invoice
        (Dynamic(D("0.001")), measure("333"), "0.333"),  # OpenMeter
        (Dynamic(), measure("0"), "0"),
    ],
)
def test_a_dynamic_price_multiplies_what_the_events_bring(price: Dynamic, usage: Measure, amount: str) -> None:
    assert cost(price, usage) == D(amount)


def test_money_carried_before_there_are_units_counts_with_the_first_of_them() -> None:
    price = Dynamic(source="event_amount")
    early, late = measure("0", amount="3"), measure("2", amount="4")
    whole = measure("2", amount="7")
    assert price_steps(price, early, Standing(NOTHING, whole), "call") == ()
    (step,) = price_steps(price, late, Standing(early, whole), "call")
    assert (step.text, step.amount) == ("7 carried by events of 2 calls", D(7))


@pytest.mark.parametrize("price", [percentage("5", "1"), LAGO_TIERS, Dynamic(), Dynamic(source="event_amount")])
def test_a_silent_part_of_a_period_adds_nothing(price: CellPrice) -> None:
    used = measure("5", events=1, amount="5")
    assert price_steps(price, NOTHING, Standing(used, used), "unit") == ()
