from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.calendar import Period
from pricing.prices import Proration
from pricing.proration import Agreed, ChangeRule, RoundingMode, change, prorated, quantity_change, rounded, share

D = Decimal
MARCH = Period(datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC))
FROM_15_MARCH = Period(datetime(2024, 3, 15, tzinfo=UTC), MARCH.end)
BY_DAY = ChangeRule("day")
ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Havana", "Australia/Lord_Howe"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_a_part_counts_from_its_first_day_to_the_day_before_its_end() -> None:
    assert share(FROM_15_MARCH, MARCH, "day", "UTC") == Fraction(17, 31)
    assert share(Period(MARCH.start, FROM_15_MARCH.start), MARCH, "day", "UTC") == Fraction(14, 31)


def test_days_are_those_of_the_zone_and_count_alike_whatever_their_hours() -> None:
    march = Period(at("2026-03-01T00:00+01:00"), at("2026-04-01T00:00+02:00"))
    after = Period(at("2026-03-29T00:00+01:00"), march.end)  # the 29th has 23 hours
    assert share(after, march, "day", "Europe/Berlin") == Fraction(3, 31)
    assert share(after, march, "second", "Europe/Berlin") == Fraction(71, 743)  # 31 x 24 - 1 hours


def test_a_day_counts_for_the_part_that_it_begins_in_the_sense_of_its_date() -> None:
    noon = at("2024-03-15T12:00Z")
    assert share(Period(noon, MARCH.end), MARCH, "day", "UTC") == Fraction(17, 31)
    assert share(Period(MARCH.start, noon), MARCH, "day", "UTC") == Fraction(14, 31)


def test_a_part_is_charged_whole_where_nothing_is_prorated() -> None:
    assert share(FROM_15_MARCH, MARCH, "none", "UTC") == 1


def test_a_period_within_one_day_is_shared_by_time() -> None:
    hours = Period(at("2024-03-01T06:00Z"), at("2024-03-01T18:00Z"))
    assert share(Period(at("2024-03-01T09:00Z"), hours.end), hours, "day", "UTC") == Fraction(3, 4)


def test_a_part_that_reaches_beyond_its_period_is_refused() -> None:
    with pytest.raises(ValueError, match="reaches beyond the period"):
        share(Period(MARCH.start, MARCH.end + timedelta(days=1)), MARCH, "day", "UTC")


def test_a_share_of_an_amount_keeps_its_digits_until_it_is_booked() -> None:
    assert prorated(D(10), Fraction(17, 31)) == D(
        "5.48387096774193548387096774193548387096774193548387096774193548387096774193548387096774193548387"
    )


@pytest.mark.parametrize(
    ("mode", "positive", "negative"),
    [
        ("half_up", "2.35", "-2.35"),
        ("half_even", "2.34", "-2.34"),
        ("up", "2.35", "-2.35"),
        ("down", "2.34", "-2.34"),
        ("ceiling", "2.35", "-2.34"),
        ("floor", "2.34", "-2.35"),
    ],
)
def test_rounding_is_named(mode: RoundingMode, positive: str, negative: str) -> None:
    assert rounded(D("2.345"), 2, mode) == D(positive)
    assert rounded(D("-2.345"), 2, mode) == D(negative)


@settings(max_examples=80, deadline=None)
@given(
    start=st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  zone beside
    hours=st.lists(st.integers(1, 900), min_size=1, max_size=6),
    basis=st.sampled_from(["day", "second"]),
    zone=st.sampled_from(ZONES),
)
def test_the_shares_of_any_cut_add_up_to_one(start: datetime, hours: list[int], basis: Proration, zone: str) -> None:
    cuts = [start]
    for length in hours:
        cuts.append(cuts[-1] + timedelta(hours=length))
    whole = Period(cuts[0], cuts[-1])
    assert sum(share(Period(a, b), whole, basis, zone) for a, b in pairwise(cuts)) == 1


def test_an_upgrade_credits_the_rest_of_the_old_price_and_charges_that_of_the_new() -> None:
    # 17 of 31 days: 10 x 17 / 31 = 5.48, 20 x 17 / 31 = 10.97 (10.9677...)
    billed = change([Agreed(D(10))], [Agreed(D(20))], FROM_15_MARCH, MARCH, BY_DAY)
    assert (billed.credit, billed.charge, billed.net) == (D("-5.48"), D("10.97"), D("5.49"))


def test_a_credit_never_exceeds_what_was_paid() -> None:
    billed = change([Agreed(D(40))], [], FROM_15_MARCH, MARCH, BY_DAY, already_paid=D(20))
    assert billed.credit == D(-20)  # not 21.94
    both = change([Agreed(D(40)), Agreed(D(40))], [], FROM_15_MARCH, MARCH, BY_DAY, already_paid=D(30))
    assert both.credits == (D("-21.94"), D("-8.06"))


def test_a_one_off_is_charged_whole_and_neither_usage_nor_arrears_are_touched() -> None:
    added = [Agreed(D(500), D(2), charged="whole"), Agreed(D(7), charged="later")]
    removed = [Agreed(D(500), charged="whole"), Agreed(D(7), charged="later")]
    billed = change(removed, added, FROM_15_MARCH, MARCH, BY_DAY)
    assert (billed.credits, billed.charges) == ((), (D(1000),))


def test_a_new_cycle_is_charged_whole_and_the_old_one_credited() -> None:
    billed = change([Agreed(D(100))], [Agreed(D(1000))], FROM_15_MARCH, MARCH, BY_DAY, starts_cycle=True)
    assert (billed.credit, billed.charge) == (D("-54.84"), D(1000))  # 100 x 17 / 31 = 54.838...


def test_a_price_of_another_cadence_is_prorated_on_its_own_nominal_days() -> None:
    april = Period(at("2024-04-01T00:00Z"), at("2024-05-01T00:00Z"))
    yearly = change([], [Agreed(D(3650), cadence="year")], april, april, BY_DAY)
    assert yearly.charge == D(300)  # 30 of 365 days
    monthly = change([], [Agreed(D(31), cadence="month")], FROM_15_MARCH, MARCH, BY_DAY)
    assert monthly.charge == D(17)  # the period is a month: 17 of its 31 days


def test_discounts_come_off_the_whole_amount_first() -> None:
    half = Period(at("2025-06-16T00:00Z"), at("2025-07-01T00:00Z"))
    june = Period(at("2025-06-01T00:00Z"), half.end)
    billed = change([Agreed(D(100), percent_off=D(25))], [Agreed(D(30), amount_off=D(10))], half, june, BY_DAY)
    assert (billed.credit, billed.charge) == (D("-37.50"), D(10))
    assert Agreed(D(30), amount_off=D(50)).amount(2) == 0


def test_more_seats_are_charged_and_fewer_given_back_for_the_rest_of_the_period() -> None:
    half = Period(at("2025-06-16T00:00Z"), at("2025-07-01T00:00Z"))
    june = Period(at("2025-06-01T00:00Z"), half.end)
    assert quantity_change(D(10), D(5), D(8), half, june, rule=BY_DAY) == D(15)
    assert quantity_change(D(10), D(8), D(5), half, june, rule=BY_DAY) == D(-15)
