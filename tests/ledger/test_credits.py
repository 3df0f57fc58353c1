"""What is told of credits: balance, entries and burn-down, by figures worked out by hand.

A token costs 0.0003. The plan's commit is 10.00 for January; a credit of 2.00 serves from 10 January to 10 February and
burns first. Grace is three days.
"""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.credits import CreditEntry, burn_down, credit_balance, credit_ledger
from ledger.errors import InvalidError, NotFoundError
from ledger.lots import grant_credit, void_lot
from pricing.expiry import Supply, average_draw, exhausted_on, next_boundary
from tests.ledger.books import FOURTH_OF_FEBRUARY, MID_JANUARY, TOKENS, start, use

COMMIT = '- {id: prepaid, name: Prepaid usage, amount: "10.00", start: 2026-01-01, end: 2026-02-01}'
TWENTIETH = datetime(2026, 1, 20, 12, tzinfo=UTC)


@pytest.fixture
def used(shop: sa.Connection) -> sa.Connection:
    """1.50 are used on 5 January, 3.00 on the 12th, 0.60 on the 18th."""
    start(shop, products=[TOKENS], commits=[COMMIT])
    grant_credit(
        shop, "plan", "gift", name="Welcome", amount=Decimal(2), start=datetime(2026, 1, 10, tzinfo=UTC),
        end=datetime(2026, 2, 10, tzinfo=UTC), reason="a welcome", by="ada", at=MID_JANUARY,
    )  # fmt: skip
    for key, number, day in (("a", 5_000, 5), ("b", 10_000, 12), ("c", 2_000, 18)):
        use(shop, key, number, f"2026-01-{day:02}T10:00:00Z")
    accrue(shop, "plan", as_of=TWENTIETH)
    return shop


def told(connection: sa.Connection, at: datetime) -> list[tuple[str, ...]]:
    return [
        (
            one.lot_id,
            one.state,
            *(f"{figure.normalize():f}" for figure in (one.drawn, one.expired, one.voided, one.left)),
        )
        for one in credit_balance(connection, "plan", at=at).lots
    ]


def test_the_balance_tells_what_became_of_each_lot(used: sa.Connection) -> None:
    # the credit pays 2.00 of the 3.00 of the 12th; the commit the rest: 1.50 + 1.00 + 0.60
    assert told(used, TWENTIETH) == [
        ("plan.gift", "in force", "2", "0", "0", "0"),
        ("plan.prepaid", "in force", "3.1", "0", "0", "6.9"),
    ]
    balance = credit_balance(used, "plan", at=TWENTIETH)
    assert (balance.granted, balance.drawn, balance.left) == (Decimal(12), Decimal("5.1"), Decimal("6.9"))
    assert (balance.available, balance.accrued_at) == (Decimal("6.9"), TWENTIETH)


def test_an_ended_lot_is_no_more_available_and_expires_after_the_grace(used: sa.Connection) -> None:
    second = datetime(2026, 2, 2, tzinfo=UTC)
    assert told(used, second)[1] == ("plan.prepaid", "ended", "3.1", "0", "0", "6.9")
    assert credit_balance(used, "plan", at=second).available == 0
    assert told(used, FOURTH_OF_FEBRUARY)[1] == ("plan.prepaid", "expired", "3.1", "6.9", "0", "0")
    assert told(used, datetime(2026, 1, 9, tzinfo=UTC))[0][1] == "not begun"


def test_what_a_voided_lot_had_left_is_voided_and_not_expired(used: sa.Connection) -> None:
    void_lot(used, "plan.prepaid", reason="terminated", by="bob", at=TWENTIETH)
    assert told(used, datetime(2026, 1, 23, 12, tzinfo=UTC))[1] == ("plan.prepaid", "voided", "3.1", "0", "6.9", "0")


def test_entries_run_in_the_order_of_time_with_a_running_balance(used: sa.Connection) -> None:
    found = credit_ledger(used, "plan", at=FOURTH_OF_FEBRUARY)
    assert [
        (entry.day.isoformat(), entry.kind, entry.lot_id, entry.product_id, str(entry.amount.normalize()),
         str(entry.balance.normalize()))
        for entry in found.entries
    ] == [
        ("2026-01-01", "granted", "plan.prepaid", None, "1E+1", "1E+1"),
        ("2026-01-05", "drawn", "plan.prepaid", "tokens", "1.5", "8.5"),
        ("2026-01-10", "granted", "plan.gift", None, "2", "10.5"),
        ("2026-01-12", "drawn", "plan.gift", "tokens", "2", "8.5"),
        ("2026-01-12", "drawn", "plan.prepaid", "tokens", "1", "7.5"),
        ("2026-01-18", "drawn", "plan.prepaid", "tokens", "0.6", "6.9"),
        ("2026-02-01", "expired", "plan.prepaid", None, "6.9", "0"),
    ]  # fmt: skip
    assert found.after is None


def test_pages_of_entries_follow_each_other_without_a_gap(used: sa.Connection) -> None:
    everything = credit_ledger(used, "plan", at=FOURTH_OF_FEBRUARY).entries
    collected: list[CreditEntry] = []
    after = None
    for _ in range(3):
        page = credit_ledger(used, "plan", at=FOURTH_OF_FEBRUARY, after=after, limit=3)
        collected += page.entries
        after = page.after
    assert (tuple(collected), after) == (everything, None)
    for limit, wrong in ((0, None), (1_001, None), (10, "yesterday")):
        with pytest.raises(InvalidError):
            credit_ledger(used, "plan", at=FOURTH_OF_FEBRUARY, after=wrong, limit=limit)


def test_a_contract_without_credits_has_none_and_an_unknown_one_is_not_found(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    assert credit_balance(shop, "plan", at=MID_JANUARY).lots == ()
    assert credit_ledger(shop, "plan", at=MID_JANUARY).entries == ()
    burning = burn_down(shop, "plan", at=MID_JANUARY)
    assert (burning.days, burning.average, burning.exhausted_on) == ((), None, None)
    with pytest.raises(NotFoundError, match="contract plam does not exist"):
        credit_balance(shop, "plam", at=MID_JANUARY)


def test_credits_burn_down_by_day_and_are_forecast_by_the_last_seven_full_days(used: sa.Connection) -> None:
    found = burn_down(used, "plan", at=TWENTIETH)
    assert [day.day for day in found.days] == [date(2026, 1, n) for n in range(1, 21)]
    assert [str(day.balance.normalize()) for day in found.days[8:13]] == ["8.5", "10.5", "10.5", "7.5", "7.5"]
    # the 13th to the 19th drew 0.60: 0.085714285714 a day; 6.90 would last 80 days, but the commit ends on 1 February
    assert found.average == Decimal("0.085714285714")
    assert (found.available, found.exhausted_on) == (Decimal("6.9"), date(2026, 2, 1))


def test_nothing_is_forecast_while_nothing_is_drawn(used: sa.Connection) -> None:
    found = burn_down(used, "plan", at=datetime(2026, 1, 27, tzinfo=UTC))
    assert (found.average, found.exhausted_on) == (None, None)


# --- the forecast by itself ---------------------------------------------------------------------------------------

TODAY = date(2026, 1, 20)


@pytest.mark.parametrize(
    ("supplies", "average", "day"),
    [
        ([Supply(Decimal(25), None)], "10", date(2026, 1, 22)),  # 2.5 days
        ([Supply(Decimal(20), None)], "10", date(2026, 1, 22)),  # exactly two
        ([Supply(Decimal(0), None)], "10", TODAY),
        ([], "10", TODAY),
        ([Supply(Decimal(25), date(2026, 1, 21))], "10", date(2026, 1, 21)),  # 15 of it are lost
        # one day of the first lot, then 2.5 days of the second
        ([Supply(Decimal(25), None), Supply(Decimal(30), date(2026, 1, 21))], "10", date(2026, 1, 23)),
        ([Supply(Decimal(25), None)], "0.0001", None),  # 250,000 days
        ([Supply(Decimal(25), None)], None, None),
    ],
)
def test_what_ends_first_is_used_first_and_the_rest_of_it_is_lost(
    supplies: list[Supply], average: str | None, day: date | None
) -> None:
    assert exhausted_on(supplies, None if average is None else Decimal(average), TODAY) == day


def test_the_average_is_that_of_the_days_there_are() -> None:
    assert average_draw([Decimal(1), Decimal(0), Decimal(1)]) == Decimal("0.666666666667")
    assert average_draw([Decimal(0)]) is None
    assert average_draw([]) is None


@pytest.mark.parametrize(
    ("minutes", "moment", "boundary"),
    [(60, "10:00:00", "10:00"), (60, "10:00:01", "11:00"), (15, "10:16:00", "10:30"), (60, "23:30:00", "00:00")],
)
def test_the_next_boundary_is_the_moment_itself_where_it_is_one(minutes: int, moment: str, boundary: str) -> None:
    found = next_boundary(datetime.fromisoformat(f"2026-01-20T{moment}+00:00"), minutes)
    assert f"{found:%H:%M}" == boundary
