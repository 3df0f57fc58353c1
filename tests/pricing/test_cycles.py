from datetime import date
from decimal import Decimal

import pytest

from pricing.cycles import (
    Cycles,
    DayRange,
    DayShare,
    billing_cycles,
    cycle_in_advance,
    cycle_in_arrears,
    day_share,
    elapsed_cycles,
    first_cycle_share,
)
from pricing.prices import Cadence

D = Decimal


def day(text: str) -> date:
    return date.fromisoformat(text)


@pytest.mark.parametrize(
    ("start", "end", "target", "billing_day", "cadence", "expected"),
    [
        ("2011-01-15", None, "2011-01-15", 15, "month", "1"),
        ("2011-01-15", None, "2011-02-14", 15, "month", "1"),
        ("2011-01-15", None, "2011-02-15", 15, "month", "2"),
        ("2011-01-15", None, "2011-01-14", 15, "month", "0"),
        ("2011-01-15", "2011-01-15", "2011-03-01", 15, "month", "0"),
        ("2011-01-01", None, "2011-01-01", 15, "month", "0.451612903"),  # 14 of the 31 days from 15 December
        ("2011-01-01", "2011-02-27", "2011-02-27", 15, "month", "1.880184332"),  # 14/31 + 1 + 12/28
        ("2011-01-01", "2012-01-27", "2012-01-27", 15, "year", "1.071143049"),  # .038356164 + 1 + .032786885
        ("2011-02-17", "2011-02-24", "2011-02-20", 3, "month", "0.225806452"),  # 7 of the 31 days from 24 January
        ("2011-02-14", None, "2011-02-14", 31, "month", "0.451612903"),  # 14 of the 31 days from 28 January
        ("2011-01-31", "2011-03-10", "2011-03-10", 31, "month", "1.357142857"),  # 1 + 10 of the 28 from 28 February
        ("2011-01-15", "2011-02-05", "2011-03-01", None, "two_weeks", "1.5"),  # 1 + 7/14
        ("2011-01-15", None, "2011-03-01", None, "half_year", "1"),
    ],
)
def test_cycles_in_advance_are_billed_once_they_have_begun(  # noqa: PLR0917  one row is one service
    start: str, end: str | None, target: str, billing_day: int | None, cadence: Cadence, expected: str
) -> None:
    cycles = Cycles(day(start), cadence, billing_day)
    assert billing_cycles(cycles, None if end is None else day(end), day(target)) == D(expected)


@pytest.mark.parametrize(
    ("target", "expected"),
    [("2011-01-14", "0"), ("2011-01-15", "0.451612903"), ("2011-02-15", "1.451612903"), ("2011-02-20", "1.630184332")],
)
def test_cycles_in_arrears_are_billed_once_they_are_over(target: str, expected: str) -> None:
    # 14/31, then 1, then 5/28 up to the end
    cycles = Cycles(day("2011-01-01"), "month", 15)
    assert billing_cycles(cycles, day("2011-02-20"), day(target), timing="arrears") == D(expected)


def test_the_precision_of_a_partial_cycle_is_an_option() -> None:
    cycles = Cycles(day("2011-01-01"), "month", 15)
    assert billing_cycles(cycles, None, day("2011-01-01"), places=2, rounding="up") == D("0.46")


@pytest.mark.parametrize(
    ("start", "billing_day", "target", "expected"),
    [
        ("2024-01-01", 1, "2024-01-01", 0),
        ("2024-01-01", 1, "2024-02-01", 1),
        ("2024-01-01", 10, "2024-03-15", 3),  # 10 January, 10 February, 10 March
        ("2024-01-31", 31, "2024-03-31", 2),  # 29 February, 31 March
        ("2024-06-01", 1, "2024-01-01", 0),
    ],
)
def test_elapsed_cycles_are_the_turns_after_the_start(start: str, billing_day: int, target: str, expected: int) -> None:
    assert elapsed_cycles(Cycles(day(start), "month", billing_day), day(target)) == expected


def test_only_the_first_cycle_in_advance_is_short() -> None:
    first = cycle_in_advance(day("2021-01-01"), "quarter", 10, is_first=True)
    assert first == DayRange(day("2021-01-01"), day("2021-01-10"))
    later = cycle_in_advance(day("2021-02-28"), "month", 31, is_first=False)
    assert later == DayRange(day("2021-02-28"), day("2021-03-31"))


def test_a_cycle_in_arrears_begins_with_the_service_at_the_earliest() -> None:
    yearly = Cycles(day("2021-01-10"), "year", 1)
    assert cycle_in_arrears(yearly, day("2022-01-01")) == DayRange(day("2021-01-10"), day("2022-01-01"))
    assert cycle_in_arrears(yearly, day("2023-01-01")) == DayRange(day("2022-01-01"), day("2023-01-01"))


def test_a_short_first_cycle_is_a_share_of_its_days() -> None:
    # 8 October to 1 January: 85 of the 92 days from 1 October
    assert first_cycle_share(Cycles(day("2025-10-08"), "quarter", 1)) == DayShare(85, 92)
    assert first_cycle_share(Cycles(day("2025-10-01"), "quarter", 1)) is None
    january = DayRange(day("2025-01-01"), day("2025-02-01"))
    assert day_share(DayRange(day("2025-01-17"), january.end), january) == DayShare(15, 31)
    assert day_share(january, january) is None
