from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from pricing.calendar import Period
from pricing.errors import TermsError
from pricing.prices import FixedFee, PerUnit
from pricing.rating import rate_fees
from tests.pricing.april import APRIL, on, product, rate, terms, used

D = Decimal
PLATFORM = terms(product("platform", FixedFee(D("100.00"))))


def test_a_fee_is_billed_whole_and_stands_beside_the_lines_of_usage() -> None:
    rated = rate(terms(product("platform", FixedFee(D("100.00"))), product("chat", PerUnit(D(1)))), [used("2")])
    assert [(fee.product_id, fee.name, fee.terms_version, fee.amount) for fee in rated.fees] == [
        ("platform", "Platform", 1, D("100.00"))
    ]
    assert [line.kind for line in rated.lines] == ["usage"]


def test_a_fee_is_earned_evenly_over_days_of_equal_length_without_losing_a_fraction() -> None:
    (fee,) = rate_fees([PLATFORM], APRIL, "UTC")
    amounts = [earned.amount for earned in fee.earned]
    # 100 / 30 = 3.333...: the running sum is rounded at twelve places, so single days differ in the last
    assert set(amounts) == {D("3.333333333333"), D("3.333333333334")}
    assert sum(amounts) == D(100)
    assert [earned.day for earned in fee.earned] == [date(2026, 4, day) for day in range(1, 31)]


def test_the_short_day_of_summer_time_earns_less() -> None:
    march = Period(datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 30, 22, tzinfo=UTC))
    (fee,) = rate_fees(
        [terms(product("platform", FixedFee(D(47))), effective_from=march.start)], march, "Europe/Berlin"
    )
    # 23 hours on 29 March and 24 on the 30th
    assert [(e.day, e.amount) for e in fee.earned] == [(date(2026, 3, 29), D(23)), (date(2026, 3, 30), D(24))]


def test_a_day_that_the_period_touches_in_part_earns_by_its_part() -> None:
    (fee,) = rate_fees([PLATFORM], Period(on(1, 18), on(3)), "UTC")
    # 6 of 30 hours on the first day
    assert [e.amount for e in fee.earned] == [D(20), D(80)]


def test_days_are_those_of_the_entity() -> None:
    (fee,) = rate_fees([PLATFORM], Period(on(1), on(2)), "Asia/Kolkata")
    # midnight in India is 18:30 in UTC: 18.5 of 24 hours fall on its 1 April
    assert [(e.day.day, e.amount) for e in fee.earned] == [(1, D("77.083333333333")), (2, D("22.916666666667"))]


def test_a_fee_changed_within_the_period_counts_from_the_next_one() -> None:
    dearer = terms(product("platform", FixedFee(D(200))), version=2, effective_from=on(2))
    assert rate_fees([PLATFORM, dearer], APRIL, "UTC")[0].amount == D(100)
    assert rate_fees([PLATFORM, dearer], Period(on(31), on(61)), "UTC")[0].amount == D(200)


def test_a_fee_changed_at_the_start_of_the_period_counts_at_once() -> None:
    dearer = terms(product("platform", FixedFee(D(200))), version=2, effective_from=APRIL.start)
    assert rate_fees([PLATFORM, dearer], APRIL, "UTC")[0].amount == D(200)


def test_a_period_that_begins_before_all_terms_is_refused() -> None:
    with pytest.raises(TermsError, match="no terms are in force at 2026-03-31"):
        rate_fees([PLATFORM], Period(on(0), on(31)), "UTC")
