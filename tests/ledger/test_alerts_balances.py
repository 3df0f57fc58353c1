"""Alerts of balances: what is left in the lots in force, as an amount, in percent and in days at the present pace.

Tokens cost 0.0003 each; the lot of 10.00 begins on the 1st of January, Berlin, and ends a year later.
"""

from datetime import UTC, datetime

import sqlalchemy as sa

from ledger import schema
from ledger.alert_kinds import BALANCES
from tests.ledger.alerting import accrued, crossings, rule
from tests.ledger.books import MID_JANUARY, PREPAID, TOKENS, open_invoice, start, use

TERM = "2025-12-31T23"
SHORT = '- {id: short, name: Short, amount: "90.00", start: 2026-01-01, end: 2026-01-12}'


def day(number: int, hour: int = 12) -> datetime:
    return datetime(2026, 1, number, hour, tzinfo=UTC)


def prepaid(connection: sa.Connection, *commits: str) -> None:
    start(connection, products=[TOKENS], commits=commits or (PREPAID,))
    open_invoice(connection)


def test_a_balance_raises_when_what_is_left_has_come_down_to_the_threshold(shop: sa.Connection) -> None:
    prepaid(shop)
    rule(shop, "balance_amount", "4")
    use(shop, "a", 19_999, "2026-01-10T10:00:00Z")  # 5.9997 drawn: 4.0003 left
    assert accrued(shop, MID_JANUARY) == 0
    use(shop, "b", 1, "2026-01-10T11:00:00Z")  # 6.00 drawn
    assert accrued(shop, MID_JANUARY) == 1
    assert accrued(shop, MID_JANUARY) == 0
    assert crossings(shop) == [("rule", TERM, 1, "raised", "4")]


def test_a_balance_in_percent_is_of_what_the_lots_in_force_granted(shop: sa.Connection) -> None:
    prepaid(shop, PREPAID, SHORT)
    rule(shop, "balance_percent", "20")
    use(shop, "a", 250_000, "2026-01-10T10:00:00Z")  # 75.00 of 100.00, of the short lot: 25 percent are left
    assert accrued(shop, day(11)) == 0
    use(shop, "b", 20_000, "2026-01-10T11:00:00Z")  # 6.00: 19 of 100 are left
    accrued(shop, day(11))
    accrued(shop, day(12))  # the short lot is over: 10.00 of 10.00 are left
    assert crossings(shop) == [("rule", TERM, 1, "raised", "19"), ("rule", TERM, 2, "cleared", "100")]


def test_a_balance_clears_when_a_correction_gives_enough_of_it_back(shop: sa.Connection) -> None:
    prepaid(shop)
    rule(shop, "balance_amount", "4", rearm="1")
    use(shop, "a", 20_000, "2026-01-10T10:00:00Z")  # 4.00 left
    accrued(shop, MID_JANUARY)
    use(shop, "back", -3_333, "2026-01-10T11:00:00Z")  # 16,667 x 0.0003 = 5.0001 drawn: 4.9999 left
    assert accrued(shop, MID_JANUARY) == 0
    use(shop, "more-back", -1, "2026-01-10T11:10:00Z")  # 4.9998 drawn: 5.0002 left, above 4 + 1
    accrued(shop, MID_JANUARY)
    assert crossings(shop)[1:] == [("rule", TERM, 2, "cleared", "5.0002")]


def test_days_left_follow_the_pace_of_the_last_seven_full_days(shop: sa.Connection) -> None:
    prepaid(shop)
    rule(shop, "balance_days", "10")
    use(shop, "before", 2_000, "2026-01-07T10:00:00Z")  # 0.60, eight days before the 15th
    use(shop, "a", 7_000, "2026-01-08T10:00:00Z")  # 2.10, the first of the seven days
    # 7.30 are left, 0.30 a day: 24.33 days
    assert accrued(shop, day(15)) == 0
    use(shop, "today", 5_000, "2026-01-15T09:00:00Z")  # 1.50 of today: not of the pace; 5.80 left: 19.33 days
    assert accrued(shop, day(15)) == 0
    use(shop, "b", 7_000, "2026-01-14T22:59:00Z")  # 2.10 on the 14th: 3.70 left, 4.20 / 7 = 0.60 a day: 6.1666...
    accrued(shop, day(15))
    assert crossings(shop) == [("rule", TERM, 1, "raised", "6.166666666667")]


def test_the_pace_of_a_young_lot_is_that_of_its_own_days(shop: sa.Connection) -> None:
    prepaid(shop)
    rule(shop, "balance_days", "3")
    use(shop, "a", 10_000, "2026-01-01T10:00:00Z")  # 3.00 on the first day, 7.00 left
    assert accrued(shop, day(1)) == 0  # no full day yet
    accrued(shop, day(2))  # 7.00 / 3.00 = 2.333...
    assert crossings(shop) == [("rule", TERM, 1, "raised", "2.333333333333")]
    accrued(shop, day(3))  # 1.50 a day: 4.666...
    assert crossings(shop)[1:] == [("rule", TERM, 2, "cleared", "4.666666666667")]


def test_a_lot_that_is_ended_by_hand_is_left_no_more(shop: sa.Connection) -> None:
    prepaid(shop)
    rule(shop, "balance_amount", "4")
    assert accrued(shop, MID_JANUARY) == 0
    shop.execute(
        schema.lot_change.insert().values(
            lot_id="plan.prepaid", kind="expiry", end_at=day(20), reason="agreed", changed_by="ada", changed_at=day(16)
        )
    )
    assert accrued(shop, day(19)) == 0
    accrued(shop, day(20))
    assert crossings(shop) == [("rule", TERM, 1, "raised", "0")]


def test_a_commit_raises_when_so_much_of_it_is_drawn_in_percent(shop: sa.Connection) -> None:
    prepaid(shop, PREPAID, SHORT)
    rule(shop, "commit_used", "75", lot="plan.short")
    rule(shop, "commit_used", "10", rule_id="other", lot="plan.prepaid")
    use(shop, "a", 224_999, "2026-01-10T10:00:00Z")  # 67.4997 of 90.00
    assert accrued(shop, day(11)) == 0
    use(shop, "b", 1, "2026-01-10T11:00:00Z")  # 67.50
    assert accrued(shop, day(11)) == 1
    assert accrued(shop, day(12)) == 0  # it is over, and stays as it was drawn
    assert crossings(shop) == [("rule", TERM, 1, "raised", "75")]


def test_a_contract_that_never_had_a_lot_has_no_balance_to_fall(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    for kind in BALANCES:
        rule(shop, kind, "5", rule_id=kind, contract=None)
    use(shop, "a", 10_000, "2026-01-10T10:00:00Z")
    assert accrued(shop, MID_JANUARY) == 0
