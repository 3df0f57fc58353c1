"""Tier windows: where tiers begin anew, what a fall takes back, and tiers that products share."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from pricing.calendar import Period
from pricing.errors import NegativeQuantityError
from pricing.prices import Dynamic, Package, Percentage, PerUnit
from pricing.rating import slice_cuts
from pricing.terms import Conversion, QuantityRounding, Reading, TierPeriod, WindowedCommitment
from tests.pricing.april import (
    APRIL,
    amounts,
    by_day,
    graduated,
    on,
    paid,
    product,
    rate,
    terms,
    used,
    used_at,
    used_before,
    volume,
)

D = Decimal
TIERS = graduated(("10", "1"), (None, "0.5"))
CHAT = product("chat", TIERS)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("tier_period", "amount"),
    [
        ("billing_period", "22.5"),  # 10 x 1 + 25 x 0.5
        ("month", "22.5"),
        ("day", "27.5"),  # the 1st: 10 x 1 + 10 x 0.5; the 2nd: 10 x 1 + 5 x 0.5
        ("hour", "32.5"),  # 10 x 1, 10 x 1, and 10 x 1 + 5 x 0.5
        ("contract", "17.5"),  # 35 x 0.5, for March went beyond the first tier
    ],
)
def test_tiers_begin_anew_with_each_tier_period(tier_period: TierPeriod, amount: str) -> None:
    readings = [used_before("40", 3), used_at("10", 1, 3), used_at("10", 1, 4), used_at("15", 2, 3)]
    assert amounts(rate(terms(replace(CHAT, tier_period=tier_period)), readings)) == [("chat", "", amount)]


def test_days_and_months_are_those_of_the_contract() -> None:
    # 22:00 UTC on 1 April is midnight in Berlin, so that these are two days there: 8 x 1 each.
    readings = [used_at("8", 1, 21), used_at("8", 1, 22)]
    daily = terms(replace(CHAT, tier_period="day"))
    assert amounts(rate(daily, readings, contract_zone="Europe/Berlin")) == [("chat", "", "16")]
    assert amounts(rate(daily, readings)) == [("chat", "", "13")]  # one day in UTC: 10 x 1 + 6 x 0.5


def test_a_month_is_a_window_within_a_period_that_runs_over_its_end() -> None:
    quarter = Period(on(1), on(92))
    readings = [used("12", day=5), used("12", day=35)]
    monthly = terms(replace(CHAT, tier_period="month"))
    assert amounts(rate(monthly, readings, period=quarter)) == [("chat", "", "22")]  # twice 10 x 1 + 2 x 0.5
    assert amounts(rate(terms(CHAT), readings, period=quarter)) == [("chat", "", "17")]


def test_readings_are_cut_at_the_local_windows_of_tiers_and_commitments() -> None:
    period = Period(on(1), on(1, 3))
    hourly = terms(replace(CHAT, tier_period="hour"))
    # Kolkata is five and a half hours ahead, so that its hours begin at half past.
    halves = tuple(datetime(2026, 4, 1, hour, 30, tzinfo=UTC) for hour in range(3))
    assert slice_cuts([hourly], [], period, "UTC", time_zone="Asia/Kolkata") == (on(1), *halves, on(1, 3))
    committed = terms(replace(product("chat", PerUnit(D(1))), commitment=WindowedCommitment("hour", D(5))))
    assert slice_cuts([committed], [], period, "UTC") == tuple(on(1, hour) for hour in range(4))


def test_the_hour_that_summer_time_repeats_is_two_windows() -> None:
    # In Berlin clocks went back on 25 October 2026, 01:00 UTC: the hours from 00:00 and 01:00 UTC are both 02:00 there.
    night = Period(datetime(2026, 10, 25, 0, tzinfo=UTC), datetime(2026, 10, 25, 2, tzinfo=UTC))
    readings = [Reading("tokens", night.start + n * HOUR, night.start + (n + 1) * HOUR, D(10)) for n in range(2)]
    hourly = terms(replace(CHAT, tier_period="hour"), effective_from=night.start)
    assert amounts(rate(hourly, readings, period=night, contract_zone="Europe/Berlin")) == [("chat", "", "20")]


def test_the_units_of_earlier_periods_stay_as_they_were_charged() -> None:
    price = replace(product("chat", volume(("100", "2", "5"), (None, "1", "7"))), tier_period="contract")
    # The contract reaches 120 units, so that April's 40 cost 1 each; the flat fee was charged with March.
    assert amounts(rate(terms(price), [used_before("80", 3), used("40")])) == [("chat", "", "40")]


def test_packages_and_conversions_run_over_the_contract() -> None:
    readings = [used_before("15", 3), used("5", day=1), used("1", day=2)]
    packages = replace(product("chat", Package(D(10), D(3))), tier_period="contract")
    # March began two packages of ten; five more units fit into the second, the sixth begins the third.
    assert by_day(rate(terms(packages), readings).charges[0]) == [(1, "0"), (2, "3")]
    tens = replace(product("chat", PerUnit(D(3))), tier_period="contract", conversion=Conversion("divide", D(10), "up"))
    assert by_day(rate(terms(tens), readings).charges[0]) == [(2, "3")]


def test_quantities_are_rounded_as_they_add_up() -> None:
    whole = replace(product("chat", PerUnit(D(1))), rounding=QuantityRounding("up"))
    # 0.4, 0.8 and 1.2 so far are 1, 1 and 2 units: the second day adds nothing.
    rated = rate(terms(whole), [used("0.4", day=day) for day in (1, 2, 3)])
    assert by_day(rated.charges[0]) == [(1, "1"), (3, "1")]
    assert rated.charges[0].quantity == 2


# --- falls --------------------------------------------------------------------------------------------------------


def test_a_fall_takes_back_the_latest_units_first() -> None:
    rated = rate(terms(CHAT), [used("8", day=1), used("8", day=2), used("-5", day=3)])
    # 11 units are left: 8 of day 1, 3 of day 2, of which 2 at 1 and 1 at 0.5
    assert by_day(rated.charges[0]) == [(1, "8"), (2, "2.5")]


def test_a_fall_takes_back_units_at_the_price_of_their_own_time() -> None:
    cheap, dear = product("chat", PerUnit(D(1))), product("chat", PerUnit(D(10)))
    versions = [terms(cheap), terms(dear, version=2, effective_from=on(11))]
    readings = [used("8", day=5), used("2", day=15), used("-3", day=20)]
    assert amounts(rate(versions, readings)) == [("chat", "", "7")]  # the 2 dear ones go, then 1 of 8 cheap ones


@pytest.mark.parametrize(("tier_period", "window"), [("day", "2026-04-02"), ("billing_period", "2026-04-01")])
def test_only_a_window_below_zero_is_refused(tier_period: TierPeriod, window: str) -> None:
    price = terms(replace(CHAT, tier_period=tier_period))
    falls = "-5" if tier_period == "day" else "-9"
    with pytest.raises(NegativeQuantityError, match=f"'tokens' from {window}T00:00.* adds up to -"):
        rate(price, [used("8", day=1), used(falls, day=2)])


def test_a_refund_takes_back_the_latest_payment_but_not_its_fee() -> None:
    price = Percentage(D(10), D(1), free_amount=D(20))
    rated = rate(terms(product("chat", price)), [paid(1, "100"), paid(2, "-50")])
    # 50 are left of the payment, 20 free: 10% of 30 and two fees of 1
    assert by_day(rated.charges[0]) == [(1, "4"), (2, "1")]


def test_money_that_events_carry_is_taken_back_likewise() -> None:
    day = Reading("tokens", on(1), on(2), D(10), events=1, amount=D(30))
    refund = Reading("tokens", on(2), on(3), D(-1), events=1, amount=D(-5))
    dynamic = terms(product("chat", Dynamic(D(2), "event_amount")))
    assert by_day(rate(dynamic, [day, refund]).charges[0]) == [(1, "50")]  # (30 - 5) x 2
    with pytest.raises(NegativeQuantityError, match=r"money that events carry .* adds up to -10"):
        rate(dynamic, [day, replace(refund, amount=D(-40))])


# --- tier groups --------------------------------------------------------------------------------------------------


def test_products_of_a_tier_group_fill_the_same_tiers_in_time_order() -> None:
    small = replace(product("small", graduated(("100", "1"), (None, "0.5"))), tier_group="ai")
    large = replace(product("large", graduated(("100", "4"), (None, "3")), metric="calls"), tier_group="ai")
    readings = [used("60", day=1), used("60", day=2, metric="calls"), used("10", day=3)]
    # small: 60 x 1 below 100, 10 x 0.5 above 120; large: 40 x 4 up to 100, 20 x 3
    assert amounts(rate(terms(small, large), readings)) == [("small", "", "65"), ("large", "", "220")]


def test_of_one_day_the_products_of_a_tier_group_stand_in_the_order_of_the_terms() -> None:
    first = replace(product("first", TIERS, metric="calls"), tier_group="ai")
    second = replace(product("second", TIERS), tier_group="ai")
    rated = rate(terms(first, second), [used("10"), used("10", metric="calls")])
    assert amounts(rated) == [("first", "", "10"), ("second", "", "5")]


def test_a_volume_price_of_a_tier_group_reaches_the_tier_of_all_its_products_and_owes_one_flat_fee() -> None:
    tiers = volume(("10", "2", "5"), (None, "1", "7"))
    first = replace(product("first", tiers), tier_group="ai")
    second = replace(product("second", tiers, metric="calls"), tier_group="ai")
    rated = rate(terms(first, second), [used("8", day=1), used("8", day=2, metric="calls")])
    assert amounts(rated) == [("first", "", "15"), ("second", "", "8")]  # 8 x 1 + 7, 8 x 1


def test_a_fee_without_usage_is_owed_once_a_window_and_stands_on_its_first_day() -> None:
    price = replace(graduated(("10", "1", "5"), (None, "0.5")), flat_fee_at_zero=True)
    rated = rate(terms(product("chat", price)), [])
    assert [(c.segment, c.quantity, by_day(c)) for c in rated.charges] == [(APRIL, D(0), [(1, "5")])]
