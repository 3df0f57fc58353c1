from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.calendar import (
    Anchor,
    Period,
    cycle_day,
    days,
    is_on_grid,
    local_date,
    local_days,
    local_midnight,
    needs_quarter_hours,
    period_containing,
    period_starting,
    periods,
    whole_period,
)
from pricing.prices import Cadence

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",  # clocks skip midnight in spring and repeat it in autumn
    "Africa/Cairo",  # clocks skip midnight in spring
    "Asia/Kolkata",  # +05:30
    "Australia/Lord_Howe",  # half an hour of summer time
    "Asia/Kathmandu",  # +05:45
    "Pacific/Kiritimati",  # +14:00
]
CADENCES: list[Cadence] = ["day", "week", "two_weeks", "month", "quarter", "half_year", "year"]
ANCHORS = st.one_of(
    st.none(), st.builds(Anchor, st.integers(1, 31)), st.builds(Anchor, st.integers(1, 31), st.integers(1, 12))
)
WEEKDAYS = st.one_of(st.none(), st.builds(Anchor, st.integers(1, 7)))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("day", "zone", "expected"),
    [
        (date(2026, 3, 29), "Europe/Berlin", "2026-03-28T23:00Z"),  # the day of 23 hours begins in winter time
        (date(2026, 3, 30), "Europe/Berlin", "2026-03-29T22:00Z"),  # and ends in summer time
        (date(2026, 10, 25), "Europe/Berlin", "2026-10-24T22:00Z"),  # the day of 25 hours
        (date(2026, 10, 26), "Europe/Berlin", "2026-10-25T23:00Z"),
        (date(2026, 4, 1), "Asia/Kolkata", "2026-03-31T18:30Z"),
        (date(2026, 3, 8), "America/Havana", "2026-03-08T05:00Z"),  # 00:00 does not exist; the day begins at 01:00
        (date(2026, 11, 1), "America/Havana", "2026-11-01T04:00Z"),  # 00:00 comes twice; the first one counts
        (date(2026, 4, 24), "Africa/Cairo", "2026-04-23T22:00Z"),  # 00:00 does not exist
        (date(2026, 10, 30), "Africa/Cairo", "2026-10-29T22:00Z"),  # the hour before midnight comes twice
    ],
)
def test_a_local_day_begins_at_its_first_instant(day: date, zone: str, expected: str) -> None:
    assert local_midnight(day, zone) == at(expected)
    assert local_date(at(expected), zone) == day
    assert local_date(at(expected) - timedelta(seconds=1), zone) == day - timedelta(days=1)


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 7, 1), 24)])
def test_a_day_of_summer_time_change_has_23_or_25_hours(day: date, hours: int) -> None:
    following = day + timedelta(days=1)
    period = Period(local_midnight(day, "Europe/Berlin"), local_midnight(following, "Europe/Berlin"))
    assert days(period, "Europe/Berlin") == [(day, period)]
    assert period.end - period.start == timedelta(hours=hours)


def test_a_day_that_a_zone_skipped_has_no_part_of_a_period() -> None:
    around = Period(at("2011-12-29T00:00-10:00"), at("2012-01-01T00:00+14:00"))  # Samoa had no 30 December 2011
    assert [day for day, _ in days(around, "Pacific/Apia")] == [date(2011, 12, 29), date(2011, 12, 31)]


@pytest.mark.parametrize(
    ("start", "starts"),
    [
        # the last day of a shorter month stands in, and the 31st comes back
        ("2026-01-31T00:00Z", ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
        ("2026-01-30T00:00Z", ["2026-01-30", "2026-02-28", "2026-03-30", "2026-04-30", "2026-05-30"]),
        ("2028-01-31T00:00Z", ["2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31"]),
        ("2028-02-29T00:00Z", ["2028-02-29", "2028-03-29", "2028-04-29", "2028-05-29", "2028-06-29"]),
        ("2026-11-15T00:00Z", ["2026-11-15", "2026-12-15", "2027-01-15", "2027-02-15", "2027-03-15"]),
    ],
)
def test_periods_begin_on_the_anniversary_or_the_last_day_of_a_shorter_month(start: str, starts: list[str]) -> None:
    found = [period_starting(at(start), "UTC", n).start.date().isoformat() for n in range(5)]
    assert found == starts


def test_a_contract_that_starts_on_29_february_bills_on_the_28th_in_other_years() -> None:
    assert period_starting(at("2028-02-29T00:00Z"), "UTC", 12).start == at("2029-02-28T00:00Z")
    assert period_starting(at("2028-02-29T00:00Z"), "UTC", 48).start == at("2032-02-29T00:00Z")


def test_the_first_period_begins_at_the_start_and_later_ones_at_local_midnight() -> None:
    start = at("2026-03-15T14:00+01:00")
    assert period_starting(start, "Europe/Berlin", 0) == Period(start, at("2026-04-15T00:00+02:00"))


def test_the_last_period_is_cut_at_the_end_of_the_contract() -> None:
    found = periods(at("2026-01-01T00:00Z"), at("2026-02-10T00:00Z"), "UTC", at("2027-01-01T00:00Z"))
    assert found[-1] == Period(at("2026-02-01T00:00Z"), at("2026-02-10T00:00Z"))
    assert len(found) == 2


def test_a_period_counts_as_begun_at_its_first_instant() -> None:
    start = at("2026-01-01T00:00Z")
    assert len(periods(start, None, "UTC", at("2026-02-01T00:00Z"))) == 2
    assert len(periods(start, None, "UTC", at("2026-01-31T23:59:59Z"))) == 1


def test_a_moment_before_the_contract_lies_in_no_period() -> None:
    with pytest.raises(ValueError, match="before the contract's start"):
        period_containing(at("2026-01-01T00:00Z"), "UTC", at("2025-12-31T23:59:59Z"))


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        local_date(datetime(2026, 1, 1), "UTC")  # noqa: DTZ001  the naive moment is the case


@pytest.mark.parametrize(
    ("moment", "minutes", "expected"),
    [
        ("2026-01-01T10:00Z", 60, True),
        ("2026-01-01T10:30Z", 60, False),
        ("2026-01-01T10:30Z", 15, True),
        ("2026-01-01T16:00+05:30", 60, False),  # 10:30 in UTC
        ("2026-01-01T10:00:00.000001Z", 15, False),
    ],
)
def test_the_bucket_grid_is_counted_from_midnight_in_utc(moment: str, minutes: int, *, expected: bool) -> None:
    assert is_on_grid(datetime.fromisoformat(moment), minutes) is expected


@pytest.mark.parametrize(
    ("zone", "expected"),
    [("Asia/Kolkata", True), ("Asia/Kathmandu", True), ("Australia/Lord_Howe", True), ("Europe/Berlin", False)],
)
def test_a_zone_with_an_odd_offset_needs_buckets_of_a_quarter_hour(zone: str, *, expected: bool) -> None:
    assert needs_quarter_hours(["UTC", zone], since=at("2026-01-01T00:00Z")) is expected


@pytest.mark.parametrize(
    ("cadence", "starts"),
    [
        ("day", ["2026-01-31", "2026-02-01", "2026-02-02"]),
        ("week", ["2026-01-31", "2026-02-07", "2026-02-14"]),
        ("two_weeks", ["2026-01-31", "2026-02-14", "2026-02-28"]),
        ("quarter", ["2026-01-31", "2026-04-30", "2026-07-31"]),
        ("half_year", ["2026-01-31", "2026-07-31", "2027-01-31"]),
        ("year", ["2026-01-31", "2027-01-31", "2028-01-31"]),
    ],
)
def test_periods_of_every_cadence_begin_on_anniversaries(cadence: Cadence, starts: list[str]) -> None:
    start = at("2026-01-31T00:00Z")
    assert [period_starting(start, "UTC", n, cadence=cadence).start.date().isoformat() for n in range(3)] == starts


@pytest.mark.parametrize(
    ("start", "cadence", "anchor", "starts"),
    [
        ("2026-01-15", "month", Anchor(1), ["2026-01-15", "2026-02-01", "2026-03-01"]),
        ("2026-01-15", "month", Anchor(20), ["2026-01-15", "2026-01-20", "2026-02-20"]),
        ("2026-02-10", "month", Anchor(31), ["2026-02-10", "2026-02-28", "2026-03-31"]),
        ("2026-01-01", "month", Anchor(1), ["2026-01-01", "2026-02-01", "2026-03-01"]),
        # Without a month, quarters are counted from the month of the start; with one they are the calendar's.
        ("2026-02-15", "quarter", Anchor(1), ["2026-02-15", "2026-05-01", "2026-08-01"]),
        ("2026-02-15", "quarter", Anchor(1, 1), ["2026-02-15", "2026-04-01", "2026-07-01"]),
        ("2026-03-15", "half_year", Anchor(1, 7), ["2026-03-15", "2026-07-01", "2027-01-01"]),
        ("2026-02-15", "year", Anchor(6, 4), ["2026-02-15", "2026-04-06", "2027-04-06"]),
        ("2028-03-01", "year", Anchor(29, 2), ["2028-03-01", "2029-02-28", "2030-02-28"]),
        ("2026-01-15", "week", Anchor(1), ["2026-01-15", "2026-01-19", "2026-01-26"]),  # a Thursday; then Mondays
        ("2026-01-15", "week", Anchor(6), ["2026-01-15", "2026-01-17", "2026-01-24"]),
    ],
)
def test_an_anchor_makes_the_first_period_a_short_one(
    start: str, cadence: Cadence, anchor: Anchor, starts: list[str]
) -> None:
    start_at = at(f"{start}T00:00Z")
    found = [period_starting(start_at, "UTC", n, cadence=cadence, anchor=anchor).start for n in range(3)]
    assert [moment.date().isoformat() for moment in found] == starts


def test_a_short_first_period_is_a_part_of_a_whole_one() -> None:
    start = at("2026-01-15T00:00Z")
    assert whole_period(start, "UTC", 0, anchor=Anchor(1)) == Period(at("2026-01-01T00:00Z"), at("2026-02-01T00:00Z"))
    assert whole_period(start, "UTC", 1, anchor=Anchor(1)) == Period(at("2026-02-01T00:00Z"), at("2026-03-01T00:00Z"))
    assert whole_period(start, "UTC", 0) == period_starting(start, "UTC", 0)


def test_a_first_period_that_begins_on_the_anchors_day_is_whole_whatever_its_hour() -> None:
    start = at("2026-01-01T14:00Z")
    assert whole_period(start, "UTC", 0, anchor=Anchor(1)) == Period(start, at("2026-02-01T00:00Z"))


@pytest.mark.parametrize(("day", "month"), [(0, None), (32, None), (1, 0), (1, 13)])
def test_an_anchor_that_no_calendar_has_is_refused(day: int, month: int | None) -> None:
    with pytest.raises(ValueError, match="the anchor's"):
        Anchor(day, month)


@pytest.mark.parametrize(("cadence", "anchor"), [("day", Anchor(1)), ("week", Anchor(8)), ("two_weeks", Anchor(1, 1))])
def test_an_anchor_that_does_not_fit_the_cadence_is_refused(cadence: Cadence, anchor: Anchor) -> None:
    with pytest.raises(ValueError, match="cannot be anchored"):
        period_starting(at("2026-01-01T00:00Z"), "UTC", 1, cadence=cadence, anchor=anchor)


def test_the_days_on_which_cycles_turn_go_back_as_well() -> None:
    assert [cycle_day(date(2026, 3, 31), "month", None, n) for n in (-1, 0, 1)] == [
        date(2026, 2, 28),
        date(2026, 3, 31),
        date(2026, 4, 30),
    ]
    assert cycle_day(date(2026, 1, 10), "quarter", Anchor(1), -1) == date(2025, 10, 1)


def test_a_day_that_a_zone_skipped_is_no_period_and_no_day() -> None:
    start, end = at("2011-12-29T00:00-10:00"), at("2012-01-01T00:00+14:00")  # Samoa had no 30 December 2011
    found = periods(start, end, "Pacific/Apia", end, cadence="day")
    assert [local_date(period.start, "Pacific/Apia").day for period in found] == [29, 31]
    assert local_days(Period(start, end), "Pacific/Apia") == 2


@pytest.mark.parametrize(("day", "count"), [(date(2026, 3, 29), 1), (date(2026, 10, 25), 1), (date(2026, 1, 1), 90)])
def test_local_days_are_counted_by_date_whatever_their_hours(day: date, count: int) -> None:
    end = local_midnight(day + timedelta(days=count), "Europe/Berlin")
    assert local_days(Period(local_midnight(day, "Europe/Berlin"), end), "Europe/Berlin") == count


STARTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  zone beside


@settings(max_examples=150, deadline=None)
@given(
    start=STARTS,
    zone=st.sampled_from([*ZONES, "Pacific/Apia"]),
    length=st.integers(1, 900),
    cadence=st.sampled_from(CADENCES),
    data=st.data(),
)
def test_periods_of_any_contract_tile_its_term(
    start: datetime, zone: str, length: int, cadence: Cadence, data: st.DataObject
) -> None:
    short = cadence in {"day", "week", "two_weeks"}
    anchor = data.draw(st.none() if cadence == "day" else WEEKDAYS if short else ANCHORS)
    end = start + timedelta(days=length)
    found = periods(start, end, zone, end, cadence=cadence, anchor=anchor)
    assert (found[0].start, found[-1].end) == (start, end)
    assert all(earlier.end == later.start for earlier, later in pairwise(found))
    assert all(period.start < period.end for period in found)
    middle = start + (end - start) / 2
    period = period_containing(start, zone, middle, cadence=cadence, anchor=anchor)
    assert Period(period.start, min(period.end, end)) in found
    whole = whole_period(start, zone, 0, cadence=cadence, anchor=anchor)
    assert whole.start <= found[0].start
    assert found[0].end <= whole.end


@settings(max_examples=50, deadline=None)
@given(start=STARTS, zone=st.sampled_from(ZONES), length=st.integers(1, 900))
def test_periods_tile_the_term_and_days_tile_each_period(start: datetime, zone: str, length: int) -> None:
    end = start + timedelta(days=length)
    found = periods(start, end, zone, end)
    assert (found[0].start, found[-1].end) == (start, end)
    assert all(earlier.end == later.start for earlier, later in pairwise(found))
    for period in found[:3]:
        parts = days(period, zone)
        assert (parts[0][1].start, parts[-1][1].end) == (period.start, period.end)
        assert all(a.end == b.start for (_, a), (_, b) in pairwise(parts))
        assert all(local_date(part.start, zone) == day for day, part in parts)


@settings(max_examples=50, deadline=None)
@given(start=STARTS, zone=st.sampled_from(ZONES), after=st.timedeltas(timedelta(0), timedelta(days=2000)))
def test_every_moment_lies_in_the_period_found_for_it(start: datetime, zone: str, after: timedelta) -> None:
    period = period_containing(start, zone, start + after)
    assert start + after in period
    assert period_containing(start, zone, period.start) == period
    assert period_containing(start, zone, period.end - timedelta(microseconds=1)) == period
    assert period_containing(start, zone, period.end).start == period.end
