from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.calendar import Anchor, Period, periods
from pricing.errors import TermsError
from pricing.fees import rate_fees
from pricing.money import currency
from pricing.prices import Cadence, FixedFee, Graduated, OneOff, PerUnit, Price, Proration, Seats, Tier
from pricing.rated import Fee
from pricing.terms import CustomUnit, ProductPrice, Terms
from tests.pricing.april import APRIL, on, product, rate, terms, used

D = Decimal
PLATFORM = terms(product("platform", FixedFee(D("100.00"))))
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)


def version(number: int, effective_from: datetime, *prices: Price) -> Terms:
    """Terms of one product per price, each named by its place: p0, p1."""
    products = tuple(ProductPrice(f"p{n}", f"Product {n}", price, unit="seat") for n, price in enumerate(prices))
    return Terms("acme", number, effective_from, currency("USD"), products)


def all_fees(
    versions: Sequence[Terms],
    start: datetime,
    end: datetime,
    zone: str = "UTC",
    *,
    cadence: Cadence = "month",
    anchor: Anchor | None = None,
) -> list[tuple[Period, Fee]]:
    """The fees of every billing period of a contract, each with its billing period."""
    billing = periods(start, end, zone, end, cadence=cadence, anchor=anchor)
    return [
        (period, fee)
        for period in billing
        for fee in rate_fees(
            versions,
            period,
            "Europe/Berlin",
            time_zone=zone,
            contract_start=start,
            contract_end=end,
            cadence=cadence,
            anchor=anchor,
        )
    ]


def billed(fees: Sequence[tuple[Period, Fee]]) -> list[tuple[str, str]]:
    """The start of each billing period that bills something, as month-day, and what it bills."""
    return [(f"{period.start:%m-%d}", f"{fee.amount.normalize():f}") for period, fee in fees if fee.amount]


def day(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}").replace(tzinfo=UTC)


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


# --- fixed fees with a cadence, a timing and a proration ----------------------------------------------------------


@pytest.mark.parametrize(
    ("timing", "expected"),
    [
        ("advance", [("01-01", "365"), ("01-01", "365")]),  # a year from 1 January 2026, and one from 2027
        ("arrears", [("12-01", "365"), ("12-01", "365")]),
    ],
)
def test_a_yearly_fee_is_billed_with_one_month_and_earned_by_all(
    timing: Literal["advance", "arrears"], expected: list[tuple[str, str]]
) -> None:
    fees = all_fees([version(1, JANUARY, FixedFee(D(365), "year", timing))], JANUARY, datetime(2028, 1, 1, tzinfo=UTC))
    assert billed(fees) == expected
    # In Berlin's days, the 1st of January begins an hour earlier: February earns 28 of the 365 days.
    assert sum(earned.amount for earned in fees[1][1].earned) == D(28)
    assert (fees[1][1].service, fees[1][1].timing) == (Period(JANUARY, datetime(2027, 1, 1, tzinfo=UTC)), timing)


def test_a_weekly_fee_is_billed_several_times_by_a_month() -> None:
    fees = all_fees([version(1, JANUARY, FixedFee(D(7), "week"))], JANUARY, day("03-01"))
    assert [amount for start, amount in billed(fees) if start == "01-01"] == ["7"] * 5  # from 1, 8, 15, 22, 29 January
    assert [amount for start, amount in billed(fees) if start == "02-01"] == ["7"] * 4  # from 5, 12, 19, 26 February
    assert sum(amount for _, fee in fees for amount in [e.amount for e in fee.earned]) == D(63)


@pytest.mark.parametrize(
    ("proration", "expected"),
    [
        ("none", [("01-15", "31"), ("02-01", "31"), ("03-01", "31")]),
        ("day", [("01-15", "17"), ("02-01", "31"), ("03-01", "10")]),  # 17 of 31 days, all, 10 of 31
    ],
)
def test_a_first_and_a_last_period_cut_short_are_charged_as_the_proration_says(
    proration: Proration, expected: list[tuple[str, str]]
) -> None:
    versions = [version(1, day("01-15"), FixedFee(D(31), proration=proration))]
    assert billed(all_fees(versions, day("01-15"), day("03-11"), anchor=Anchor(1))) == expected


def test_a_prorated_fee_says_which_part_of_it_is_charged() -> None:
    versions = [version(1, day("01-15"), FixedFee(D("31.00"), proration="day"))]
    fees = [fee for _, fee in all_fees(versions, day("01-15"), day("03-01"), anchor=Anchor(1))]
    assert [[step.text for step in fee.steps] for fee in fees] == [["31.00 for 17 of 31 days"], []]
    by_time = [version(1, day("01-15"), FixedFee(D("31.00"), proration="second"))]
    (first, _) = (fee for _, fee in all_fees(by_time, day("01-15"), day("03-01"), anchor=Anchor(1)))
    assert first.steps[0].text == "31.00 for 1,468,800 of 2,678,400 seconds"


def test_a_contract_that_begins_within_the_day_of_its_anniversary_pays_its_first_period_whole() -> None:
    start = JANUARY + timedelta(hours=14)
    fees = all_fees([version(1, start, FixedFee(D(31), proration="second"))], start, day("02-01"))
    assert billed(fees) == [("01-01", "31")]


def test_a_fee_added_later_begins_with_the_next_billing_period() -> None:
    versions = [
        version(1, JANUARY, FixedFee(D(1))),
        version(2, day("02-10"), FixedFee(D(1)), FixedFee(D(365), "year", proration="day")),
    ]
    fees = [(p, f) for p, f in all_fees(versions, JANUARY, datetime(2027, 1, 1, tzinfo=UTC)) if f.product_id == "p1"]
    # from 1 March: 306 of the 365 days of its year
    assert billed(fees) == [("03-01", "306")]
    assert fees[0][1].service.start == day("03-01")


def test_a_fee_in_arrears_that_is_removed_ends_with_the_billing_period() -> None:
    fee = FixedFee(D(365), "year", "arrears", "day")
    versions = [version(1, JANUARY, FixedFee(D(1)), fee), version(2, day("02-10"), FixedFee(D(1)))]
    fees = [(p, f) for p, f in all_fees(versions, JANUARY, datetime(2027, 1, 1, tzinfo=UTC)) if f.product_id == "p1"]
    assert billed(fees) == [("02-01", "59")]  # January and February


def test_a_fee_in_a_custom_unit_is_billed_in_money() -> None:
    fee = ProductPrice("p", "P", FixedFee(D(40)), pricing_unit="credits")
    priced = Terms("acme", 1, APRIL.start, currency("USD"), (fee,), units=(CustomUnit("credits", 0, D("0.25")),))
    assert rate_fees([priced], APRIL, "UTC")[0].amount == D(10)
    with pytest.raises(TermsError, match="'credits', which the terms do not define"):
        rate_fees([Terms("acme", 1, APRIL.start, currency("USD"), (fee,))], APRIL, "UTC")


# --- seats --------------------------------------------------------------------------------------------------------


def seats(quantity: int, *, credit_removals: bool = False, proration: Proration = "day") -> Seats:
    return Seats(D(quantity), PerUnit(D(30)), proration=proration, credit_removals=credit_removals)


def april_bills(*versions: Terms) -> list[tuple[int, str]]:
    """What April bills: from which day of April on, and how much."""
    may = on(31)
    fees = rate_fees(versions, APRIL, "UTC", contract_start=APRIL.start, contract_end=may)
    return [(fee.service.start.day, f"{fee.amount.normalize():f}") for fee in fees]


def test_seats_are_billed_in_advance_at_the_price_of_their_number() -> None:
    (fee,) = rate_fees([version(1, APRIL.start, seats(3))], APRIL, "UTC")
    assert (fee.amount, fee.quantity) == (D(90), D(3))
    assert [step.text for step in fee.steps] == ["3 seats at 30"]


def test_more_seats_are_charged_at_once_for_the_rest_of_the_period() -> None:
    # 16 to 30 April are 15 of 30 days: 4 x 30 x 15/30
    versions = [version(1, APRIL.start, seats(8)), version(2, on(16), seats(12))]
    assert april_bills(*versions) == [(1, "240"), (16, "60")]
    _, rise = rate_fees(versions, APRIL, "UTC")
    assert (rise.quantity, rise.steps[0].text) == (D(4), "4 seats more, 120 a period, 15 of 30 days")
    assert sum(earned.amount for earned in rise.earned) == D(60)
    assert rise.earned[0].day == date(2026, 4, 16)


def test_fewer_seats_count_from_the_next_period_and_may_come_back_for_nothing() -> None:
    versions = [
        version(1, APRIL.start, seats(8)),
        version(2, on(11), seats(5)),
        version(3, on(16), seats(8)),
        version(4, on(21), seats(9)),  # 10 of 30 days
    ]
    assert april_bills(*versions) == [(1, "240"), (21, "10")]
    (may, *_) = rate_fees(versions[:2], Period(on(31), on(62)), "UTC")
    assert may.amount == D(150)


def test_fewer_seats_are_credited_where_the_price_says_so() -> None:
    versions = [
        version(1, APRIL.start, seats(8, credit_removals=True)),
        version(2, on(16), seats(5, credit_removals=True)),
    ]
    assert april_bills(*versions) == [(1, "240"), (16, "-45")]  # 3 x 30 x 15/30


def test_more_seats_move_through_the_tiers_of_their_price() -> None:
    tiered = Graduated((Tier(D(5), D(30)), Tier(None, D(20))))
    versions = [version(1, APRIL.start, Seats(D(4), tiered)), version(2, on(16), Seats(D(7), tiered))]
    # 4 x 30; then (5 x 30 + 2 x 20) - 4 x 30 = 70, of which a half
    assert april_bills(*versions) == [(1, "120"), (16, "35")]


def test_seats_agreed_within_a_period_are_charged_from_then_on() -> None:
    versions = [version(1, APRIL.start), version(2, on(21), seats(3))]
    assert april_bills(*versions) == [(21, "30")]  # 3 x 30 x 10/30


def test_seats_of_a_year_are_billed_with_its_first_month_and_a_rise_with_its_own() -> None:
    yearly = [Seats(D(n), PerUnit(D(365)), "year") for n in (2, 3)]
    versions = [version(1, JANUARY, yearly[0]), version(2, day("07-01"), yearly[1])]
    fees = all_fees(versions, JANUARY, datetime(2027, 1, 1, tzinfo=UTC))
    assert billed(fees) == [("01-01", "730"), ("07-01", "184")]  # 1 July to 31 December are 184 days


def test_seats_in_arrears_are_billed_when_their_period_is_over() -> None:
    price = Seats(D(2), PerUnit(D(90)), "quarter", "arrears")
    assert billed(all_fees([version(1, JANUARY, price)], JANUARY, day("07-01"))) == [("03-01", "180"), ("06-01", "180")]


# --- one-offs -----------------------------------------------------------------------------------------------------


def test_a_one_off_is_billed_and_earned_on_the_day_that_it_is_due() -> None:
    fees = all_fees([version(1, JANUARY, OneOff(D(500), day("02-10")))], JANUARY, day("04-01"))
    assert billed(fees) == [("02-01", "500")]
    (only,) = fees
    assert [(earned.day, earned.amount) for earned in only[1].earned] == [(date(2026, 2, 10), D(500))]


def test_a_one_off_that_is_agreed_after_its_day_is_due_at_once() -> None:
    versions = [version(1, JANUARY), version(2, day("03-05"), OneOff(D(500), day("02-10")))]
    assert billed(all_fees(versions, JANUARY, day("05-01"))) == [("03-01", "500")]


def test_a_one_off_that_is_put_off_is_billed_once() -> None:
    early, late = OneOff(D(500), day("02-10")), OneOff(D(500), day("04-10"))
    before = [version(1, JANUARY, early), version(2, day("02-05"), late)]
    after = [version(1, JANUARY, early), version(2, day("02-15"), late)]
    assert billed(all_fees(before, JANUARY, day("06-01"))) == [("04-01", "500")]
    assert billed(all_fees(after, JANUARY, day("06-01"))) == [("02-01", "500")]


# --- the law of all fees ------------------------------------------------------------------------------------------

CADENCES: list[Cadence] = ["week", "two_weeks", "month", "quarter", "half_year", "year"]
TIMINGS = st.sampled_from(["advance", "arrears"])
PRORATIONS = st.sampled_from(["none", "day", "second"])
AMOUNTS = st.decimals(D("0.01"), D(1000), places=2)
FEES = st.builds(FixedFee, AMOUNTS, st.none() | st.sampled_from(CADENCES), TIMINGS, PRORATIONS)
SEATS = st.builds(
    Seats,
    st.integers(0, 9).map(Decimal),
    st.builds(PerUnit, AMOUNTS),
    st.none() | st.sampled_from(CADENCES),
    TIMINGS,
    PRORATIONS,
    st.booleans(),
)
STARTS = st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  zone beside


@settings(max_examples=60, deadline=None)
@given(
    start=STARTS,
    length=st.integers(20, 420),
    zone=st.sampled_from(["UTC", "Asia/Kathmandu", "America/Havana"]),
    prices=st.lists(FEES | SEATS, min_size=1, max_size=3),
    changes=st.lists(st.tuples(st.integers(1, 400), FEES | SEATS), max_size=2),
    anchor=st.none() | st.builds(Anchor, st.integers(1, 31)),
    cadence=st.sampled_from(["month", "quarter"]),
)
def test_over_all_billing_periods_a_fee_bills_what_its_days_earn(  # noqa: PLR0917  a contract has these
    start: datetime,
    length: int,
    zone: str,
    prices: list[FixedFee | Seats],
    changes: list[tuple[int, FixedFee | Seats]],
    anchor: Anchor | None,
    cadence: Cadence,
) -> None:
    versions = [version(1, start, *prices)] + [
        version(number, start + timedelta(days=after), price, *prices[1:])
        for number, (after, price) in enumerate(changes, start=2)
    ]
    end = start + timedelta(days=length)
    fees = [fee for _, fee in all_fees(versions, start, end, zone, cadence=cadence, anchor=anchor)]
    for product_id in {fee.product_id for fee in fees}:
        ours = [fee for fee in fees if fee.product_id == product_id]
        earned = sum((day.amount for fee in ours for day in fee.earned), D(0))
        assert earned == sum((fee.amount for fee in ours), D(0))
    assert all(fee.amount == fee.amount.quantize(D("1e-12")) for fee in fees)
