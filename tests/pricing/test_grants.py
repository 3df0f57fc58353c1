"""Windows of recurring credits, by figures worked out by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.calendar import Anchor
from pricing.grants import Every, Grant, GrantedWindow, granted_windows
from pricing.money import Currency

EUR = Currency("EUR", 2)
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
FAR = datetime(2030, 1, 1, tzinfo=UTC)
MONTHLY = Grant("monthly", "Monthly", Decimal(10), "month", NEW_YEAR)


def utc(month: int, day: int, hour: int = 0, year: int = 2026) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


def windows(
    grant: Grant, contract_start: datetime | None = None, zone: str = "UTC", until: datetime = FAR
) -> tuple[GrantedWindow, ...]:
    return granted_windows(grant, contract_start or grant.starts, None, zone, until, unit=EUR)


def test_windows_from_a_31st_begin_on_the_last_days_of_short_months_and_on_the_31st_where_there_is_one() -> None:
    grant = replace(MONTHLY, starts=utc(1, 30, 23))  # 31 January in Berlin, where summer time begins on 29 March
    starts = [window.start for window in windows(grant, zone="Europe/Berlin", until=utc(5, 1))]
    assert starts == [utc(1, 30, 23), utc(2, 27, 23), utc(3, 30, 22), utc(4, 29, 22)]


def test_a_week_in_which_clocks_change_lasts_seven_local_days() -> None:
    grant = replace(MONTHLY, every="week", starts=utc(3, 24, 23))  # 25 March in Berlin
    [first, second] = windows(grant, zone="Europe/Berlin", until=utc(4, 1))
    assert (first.end, second.start, second.end) == (utc(3, 31, 22), utc(3, 31, 22), utc(4, 7, 22))


def test_a_year_from_a_leap_day_turns_on_28_february_until_the_next_leap_year() -> None:
    grant = replace(MONTHLY, every="year", starts=utc(2, 29, year=2024))
    found = [window.start.date().isoformat() for window in windows(grant)]
    assert found == ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29", "2029-02-28"]


@pytest.mark.parametrize(
    ("amount", "starts", "granted"),
    [
        ("10", utc(1, 16), "5.16"),  # 16 of 31 days: 5.1612...
        ("0.05", utc(2, 15), "0.03"),  # 14 of 28 days: 0.025, half up
        ("31", utc(1, 1), "31"),  # whole
        ("31", utc(1, 31), "1.00"),
    ],
)
def test_a_first_window_that_is_a_part_of_one_is_granted_its_share_by_days(
    amount: str, starts: datetime, granted: str
) -> None:
    grant = replace(MONTHLY, amount=Decimal(amount), starts=starts, first="prorated")
    [first, second, *_] = windows(grant, NEW_YEAR)
    assert (first.number, first.start, first.amount) == (1, starts, Decimal(granted))
    assert (second.number, second.start, second.amount) == (2, first.end, Decimal(amount))
    assert windows(replace(grant, first="full"), NEW_YEAR)[0].amount == Decimal(amount)


def test_a_day_of_23_hours_counts_as_a_whole_day_of_the_share() -> None:
    grant = Grant("a", "A", Decimal(31), "month", utc(3, 15, 23), first="prorated")  # 16 March in Berlin
    [first] = windows(grant, utc(2, 28, 23), "Europe/Berlin", until=utc(3, 20))
    assert first.amount == 16


def test_a_share_of_nothing_is_not_granted_and_the_numbers_go_on() -> None:
    grant = replace(MONTHLY, amount=Decimal("0.01"), starts=utc(1, 31), first="prorated")  # a 31st of a cent
    assert [window.number for window in windows(grant, NEW_YEAR, until=utc(3, 1))] == [2, 3]


def test_windows_turn_on_the_anchor_of_the_contract_where_that_means_something() -> None:
    grant = Grant("a", "A", Decimal(31), "month", utc(1, 15), first="prorated")
    found = granted_windows(grant, utc(1, 15), None, "UTC", utc(2, 1), unit=EUR, anchor=Anchor(1))
    assert [(window.start, window.amount) for window in found] == [
        (utc(1, 15), Decimal(17)),
        (utc(2, 1), Decimal(31)),
    ]  # 17 of 31 days
    weekly = replace(grant, every="week")  # 15 January 2026 is a Thursday; a day of the month is no day of the week
    found = granted_windows(weekly, utc(1, 15), None, "UTC", utc(1, 22), unit=EUR, anchor=Anchor(1))
    assert [(window.start, window.amount) for window in found] == [(utc(1, 15), Decimal(31)), (utc(1, 22), Decimal(31))]


def test_a_trial_is_granted_once_and_ends_after_so_many_local_days() -> None:
    trial = Grant("trial", "Trial", Decimal(5), "once", utc(3, 19, 23), lasts=timedelta(days=14))  # 20 March in Berlin
    assert windows(trial, NEW_YEAR, "Europe/Berlin") == (GrantedWindow(1, utc(3, 19, 23), utc(4, 2, 22), Decimal(5)),)
    assert windows(replace(trial, lasts="never"), NEW_YEAR)[0].end is None
    assert windows(trial, NEW_YEAR, until=utc(3, 19, 22)) == ()


def test_credits_serve_for_as_many_windows_as_they_last() -> None:
    [first, second] = windows(replace(MONTHLY, every="quarter", lasts=2), until=utc(4, 1))
    assert (first.end, second.start, second.end) == (utc(7, 1), utc(4, 1), utc(10, 1))
    assert windows(replace(MONTHLY, lasts="never"), until=utc(1, 1))[0].end is None


def test_no_window_begins_at_the_end_of_the_credit_or_of_the_contract_and_the_last_keeps_its_own_end() -> None:
    [january, february] = windows(replace(MONTHLY, ends=utc(3, 1)))
    assert (january.start, february.end) == (utc(1, 1), utc(3, 1))
    found = granted_windows(MONTHLY, NEW_YEAR, utc(2, 10), "UTC", FAR, unit=EUR)
    assert found == (january, february)


@settings(max_examples=60, deadline=None)
@given(
    every=st.sampled_from(["week", "month", "quarter", "year"]),
    day=st.integers(0, 400),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/Havana"]),
    until=st.integers(0, 1400),
)
def test_windows_tile_the_time_and_an_earlier_look_sees_the_first_of_them(
    every: Every, day: int, zone: str, until: int
) -> None:
    grant = replace(MONTHLY, every=every, starts=NEW_YEAR + timedelta(days=day))
    found = windows(grant, NEW_YEAR, zone)
    assert found[0].start == grant.starts
    assert all(one.end == following.start for one, following in pairwise(found))
    assert [window.number for window in found] == [*range(1, len(found) + 1)]
    moment = NEW_YEAR + timedelta(days=until)
    assert windows(grant, NEW_YEAR, zone, moment) == tuple(one for one in found if one.start <= moment)
