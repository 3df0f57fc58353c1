"""Backtests: what a rule would have raised and cleared, day by day, by figures worked out by hand.

Tokens cost 0.0003 each: 10,000 are 3.00.
"""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from ledger import schema
from ledger.accrual import accrue
from ledger.alert_backtest import backtest
from ledger.alert_rules import disable_rule
from ledger.errors import NotFoundError
from tests.ledger.alerting import rule
from tests.ledger.books import FOURTH_OF_FEBRUARY, PREPAID, TOKENS, january, open_invoice, start, use
from tests.ledger.usage import number_of

SHORT = '- {id: short, name: Short, amount: "9.00", start: 2026-01-01, end: 2026-01-12}'


def replayed(connection: sa.Connection, rule_id: str = "rule") -> list[tuple[str, int, str, str]]:
    return [
        (str(one.day), one.number, one.state, f"{one.observed.normalize():f}")
        for one in backtest(connection, rule_id, "plan")
    ]


def test_a_rule_on_the_period_would_have_raised_on_the_day_that_reached_it(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "spend", "5")
    use(shop, "a", 10_000, "2026-01-10T10:00:00Z")
    use(shop, "b", 10_000, "2026-01-12T10:00:00Z")  # 6.00
    use(shop, "c", 10_000, "2026-01-14T10:00:00Z")  # 9.00: it is raised already
    use(shop, "d", 20_000, "2026-02-03T10:00:00Z")  # 6.00 of February
    january(shop)
    assert replayed(shop) == [("2026-01-12", 1, "raised", "6"), ("2026-02-03", 1, "raised", "6")]


def test_a_rule_on_the_day_would_have_raised_on_each_day_alone(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "usage", "10000", span="day", product="tokens")
    for key, number, at in (
        ("a", 10_000, "10T10"),
        ("b", 9_999, "12T10"),
        ("c", 6_000, "14T10"),
        ("d", 4_000, "14T22"),
    ):
        use(shop, key, number, f"2026-01-{at}:00:00Z")
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert replayed(shop) == [("2026-01-10", 1, "raised", "10000"), ("2026-01-14", 1, "raised", "10000")]


def test_a_balance_would_have_fallen_by_draws_and_by_the_end_of_a_lot(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[PREPAID, SHORT])
    rule(shop, "balance_amount", "10")
    rule(shop, "balance_days", "5", rule_id="days")
    rule(shop, "commit_used", "40", rule_id="used", lot="plan.prepaid")
    open_invoice(shop)
    use(shop, "a", 28_000, "2026-01-10T10:00:00Z")  # 8.40 of the short lot's 9.00: 10.60 are left
    use(shop, "b", 14_000, "2026-01-13T10:00:00Z")  # the short lot is over since the 12th; 4.20 of 10.00
    accrue(shop, "plan", as_of=datetime(2026, 1, 16, 12, tzinfo=UTC))
    assert replayed(shop) == [("2026-01-12", 1, "raised", "10")]  # in force until the last instant of the 11th
    # The 13th: 8.40 in the seven days before, 1.20 a day, 5.80 left: 4.8333... days. From the 14th on it is less.
    assert replayed(shop, "used") == [("2026-01-13", 1, "raised", "42")]
    assert replayed(shop, "days") == [("2026-01-13", 1, "raised", "4.833333333333")]


def test_a_backtest_writes_nothing_and_takes_any_rule(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "spend", "5")
    rule(shop, "balance_amount", "5", rule_id="balance")
    disable_rule(shop, "rule", at=FOURTH_OF_FEBRUARY)
    use(shop, "a", 20_000)
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    assert len(backtest(shop, "rule", "plan")) == 1
    assert backtest(shop, "balance", "plan") == ()  # it never had a lot
    assert number_of(shop, "alert") == 0
    assert shop.execute(sa.select(schema.outbox)).all() == []
    with pytest.raises(NotFoundError, match="alert rule nothing does not exist"):
        backtest(shop, "nothing", "plan")
    with pytest.raises(NotFoundError, match="contract nothing does not exist"):
        backtest(shop, "rule", "nothing")
