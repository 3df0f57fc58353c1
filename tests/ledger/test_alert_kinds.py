"""More kinds of alerts: by group value, forecast, expiring credit, invoices, silence and failed payments, by hand.

Tokens cost 0.0003 each: 10,000 are 3.00. Days are those of Berlin, an hour ahead of UTC in January.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.alert_backtest import backtest
from ledger.alert_rules import create_rule
from ledger.alerts import list_alerts
from ledger.contracts import end_contract
from ledger.errors import InvalidError
from ledger.facts import FACTS, Fact, fact_of
from ledger.invoices import draft_opening, finalise
from ledger.notices import notice_of
from ledger.payments import open_attempt, record_bank_payment, settle_declined
from tests.ledger.alerting import accrued, crossings, put_out_keys, rule
from tests.ledger.books import (
    FOURTH_OF_FEBRUARY,
    MID_JANUARY,
    NEW_YEAR,
    PREPAID,
    REQUESTS,
    SUPPORT,
    TOKENS,
    january,
    open_invoice,
    start,
    use,
)
from tests.ledger.usage import event, send

BY_MODEL = (
    "- {id: tokens, name: Tokens, metric: tokens, unit: token, group_by: [model],"
    ' price: {model: per_unit, unit_price: "0.0003"}}'
)
AT_LEAST = (
    "- {id: tokens, name: Tokens, metric: tokens, unit: token, group_by: [model], minimum: '1.00',"
    ' price: {model: per_unit, unit_price: "0.0003"}}'
)
JANUARY = "2025-12-31T23"
SHORT = '- {id: short, name: Short, amount: "9.00", start: 2026-01-01, end: 2026-01-12}'
HOUR = timedelta(hours=1)


def use_model(connection: sa.Connection, key: str, number: int, at: str, model: str = "small") -> None:
    """Take in one event of acme with another model."""
    properties = {"model": model, "input_tokens": number}
    send(connection, event(key, properties=properties, timestamp=at), received_at=datetime.fromisoformat(at))


def facts(connection: sa.Connection) -> list[Fact]:
    """What was put out, in sequence, also in this transaction."""
    return [fact_of(row) for row in connection.execute(FACTS.order_by(sa.text("sequence"))).mappings()]


def replayed(connection: sa.Connection) -> list[tuple[str, int, str, str]]:
    return [
        (str(one.day), one.number, one.state, f"{one.observed.normalize():f}")
        for one in backtest(connection, "rule", "plan")
    ]


# --- group values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", [BY_MODEL, AT_LEAST], ids=["rated alone", "rated as a whole"])
def test_what_one_group_spends_raises_for_that_value_alone_and_clears_with_a_correction(
    shop: sa.Connection, product: str
) -> None:
    start(shop, products=[product, SUPPORT], commits=[PREPAID])
    rule(shop, "spend", "3", group=("model", "small"))
    use(shop, "large", 90_000, "2026-01-10T10:00:00Z")  # 27.00 of the other model
    use_model(shop, "a", 9_999, "2026-01-10T10:00:00Z")  # 2.9997
    assert accrued(shop, MID_JANUARY) == 0
    use_model(shop, "b", 1, "2026-01-12T10:00:00Z")  # 3.00
    assert accrued(shop, MID_JANUARY) == 1
    assert accrued(shop, MID_JANUARY) == 0
    use_model(shop, "back", -1, "2026-01-12T10:01:00Z")
    assert accrued(shop, MID_JANUARY) == 1
    assert crossings(shop) == [("rule", JANUARY, 1, "raised", "3"), ("rule", JANUARY, 2, "cleared", "2.9997")]
    raised, _ = facts(shop)
    assert (raised.data["group_key"], raised.data["group_value"], raised.data["unit"]) == ("model", "small", "EUR")
    sentence = "Spend of model small reached the threshold of 3 EUR: it is 3 EUR in the billing period"
    assert notice_of(raised).sentence.startswith(sentence)


def test_units_of_a_group_are_counted_by_day_where_the_price_does_not_know_the_group(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "usage", "10000", product="tokens", span="day", group=("model", "small"))
    use_model(shop, "a", 6_000, "2026-01-10T10:00:00Z")
    use_model(shop, "b", 4_000, "2026-01-10T23:30:00Z")  # of the 11th in Berlin
    use(shop, "large", 90_000, "2026-01-11T10:00:00Z")
    assert accrued(shop, MID_JANUARY) == 0
    use_model(shop, "c", 6_000, "2026-01-11T10:00:00Z")  # 4,000 + 6,000
    accrued(shop, MID_JANUARY)
    assert crossings(shop) == [("rule", "2026-01-10T23", 1, "raised", "10000")]
    assert replayed(shop) == [("2026-01-11", 1, "raised", "10000")]


# --- forecast -----------------------------------------------------------------------------------------------------


def test_a_forecast_raises_before_the_spend_does_and_clears_when_the_pace_falls(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "forecast", "20")
    for day in range(8, 15):  # 0.90 on each of the seven full days before the 15th
        use(shop, f"day-{day}", 3_000, f"2026-01-{day:02}T10:00:00Z")
    # by noon of the 15th (13:00 in Berlin): spent 7 x 0.90 = 6.30; 16 days and 11 hours are left, at 0.90 a day:
    # 6.30 + 0.90 x (16 + 11/24) = 6.30 + 14.8125 = 21.1125
    assert accrued(shop, MID_JANUARY) == 1
    assert crossings(shop) == [("rule", JANUARY, 1, "raised", "21.1125")]
    # at noon of the 20th: the full days 13th to 19th have 2 x 0.90 = 1.80; 6.30 + 1.80 / 7 x (11 + 11/24)
    # = 6.30 + 1.80 x 275 / 168 = 6.30 + 2.946428571429
    accrued(shop, datetime(2026, 1, 20, 12, tzinfo=UTC))
    assert crossings(shop)[1:] == [("rule", JANUARY, 2, "cleared", "9.246428571429")]


def test_a_forecast_of_a_period_that_is_over_is_its_spend_and_a_young_contract_has_no_pace(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[], first="2026-01-01")
    rule(shop, "forecast", "3")
    use(shop, "a", 9_000, "2026-01-01T10:00:00Z")  # 2.70 on the first day: no full day to go by
    assert accrued(shop, datetime(2026, 1, 1, 12, tzinfo=UTC)) == 0
    assert accrued(shop, datetime(2026, 1, 2, 12, tzinfo=UTC)) == 1  # a full day of 2.70, and 29 to come
    accrued(shop, datetime(2026, 2, 1, 12, tzinfo=UTC))  # January is over with 2.70
    assert [told[1:4] for told in crossings(shop)] == [(JANUARY, 1, "raised"), (JANUARY, 2, "cleared")]
    assert crossings(shop)[1][4] == "2.7"


def test_a_forecast_is_replayed_as_it_stood_in_the_last_instant_of_each_day(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "forecast", "30")
    use(shop, "a", 4_000, "2026-01-01T10:00:00Z")  # 1.20
    accrue(shop, "plan", as_of=MID_JANUARY)
    # the last instant of the 2nd: the 1st is the only full day; 1.20 + 1.20 x 29
    assert replayed(shop) == [("2026-01-02", 1, "raised", "36"), ("2026-01-03", 2, "cleared", "18")]


# --- what expires -------------------------------------------------------------------------------------------------


def test_credit_that_is_about_to_expire_raises_when_time_comes_and_clears_when_it_is_drawn(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[PREPAID, SHORT])  # 9.00 until the 12th, in Berlin
    rule(shop, "credit_expiring", "5", days=3)
    open_invoice(shop)
    due = datetime(2026, 1, 8, 23, tzinfo=UTC)
    assert accrue(shop, "plan", as_of=NEW_YEAR).wake_at == due
    assert crossings(shop) == []
    assert accrued(shop, due) == 1
    assert crossings(shop) == [("rule", JANUARY, 1, "raised", "9")]
    use(shop, "a", 20_000, "2026-01-09T10:00:00Z")  # draws 6.00 of the lot that ends first
    accrued(shop, datetime(2026, 1, 9, 12, tzinfo=UTC))
    assert crossings(shop)[1:] == [("rule", JANUARY, 2, "cleared", "3")]
    assert replayed(shop) == []  # 3.00 were left at the end of the 9th


def test_a_contract_that_ends_lets_all_its_credit_expire(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[PREPAID], end="2026-03-01")
    rule(shop, "credit_expiring", "5", days=20)
    open_invoice(shop)
    assert accrue(shop, "plan", as_of=NEW_YEAR).wake_at == datetime(2026, 2, 8, 23, tzinfo=UTC)
    accrue(shop, "plan", as_of=datetime(2026, 2, 10, tzinfo=UTC))
    assert crossings(shop) == [("rule", JANUARY, 1, "raised", "10")]
    assert replayed(shop) == [("2026-02-09", 1, "raised", "10")]


# --- invoices and payments ----------------------------------------------------------------------------------------


def test_each_invoice_that_reaches_the_threshold_raises_once_when_it_is_drafted(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, SUPPORT])
    rule(shop, "invoice_total", "59")
    rule(shop, "invoice_total", "59.01", rule_id="more")
    use(shop, "a", 40_000, "2026-01-10T10:00:00Z")  # 12.00, of which the lot pays 10.00
    open_invoice(shop)  # 49.00 + 10.00
    january(shop)  # 2.00 + 49.00
    january(shop)
    assert crossings(shop) == [("rule", JANUARY, 1, "raised", "59")]
    [fact] = facts(shop)
    assert (fact.data["invoice_id"], fact.data["unit"]) == ("plan.opening", "EUR")
    assert notice_of(fact).sentence.startswith("The total of invoice plan.opening reached the threshold of 59 EUR")
    assert replayed(shop) == [("2026-01-01", 1, "raised", "59")]


def test_two_invoices_of_one_period_raise_under_odd_numbers(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, SUPPORT])
    rule(shop, "invoice_total", "1")
    open_invoice(shop)
    january(shop)
    assert [told[2:4] for told in crossings(shop)] == [(1, "raised"), (3, "raised")]
    assert len({*put_out_keys(shop)}) == 2


def fail(connection: sa.Connection, at: datetime) -> None:
    """Attempt to collect the opening invoice, and hear that the card is declined."""
    attempt = open_attempt(connection, "plan.opening", at=at)
    settle_declined(connection, attempt.attempt_id, decline_code="do_not_honor", advice_code=None, at=at)
    settle_declined(connection, attempt.attempt_id, decline_code="do_not_honor", advice_code=None, at=at)


def test_failed_payments_raise_as_the_attempt_is_settled_and_clear_when_the_invoice_is_paid(
    shop: sa.Connection,
) -> None:
    start(shop)
    rule(shop, "payment_failed", "2")
    open_invoice(shop)
    accrue(shop, "plan", as_of=MID_JANUARY)
    fail(shop, MID_JANUARY)
    assert crossings(shop) == []
    fail(shop, MID_JANUARY + 25 * HOUR)
    assert crossings(shop) == [("rule", JANUARY, 1, "raised", "2")]
    [fact] = facts(shop)
    assert (fact.data["unit"], fact.data["observed"]) == ("attempt", "2")
    assert accrued(shop, MID_JANUARY + 26 * HOUR) == 0
    record_bank_payment(
        shop,
        payment_id="wire",
        invoice_id="plan.opening",
        amount=Decimal(59),
        currency="EUR",
        received_on=date(2026, 1, 17),
        by="ada",
    )
    accrued(shop, MID_JANUARY + 48 * HOUR)
    assert crossings(shop)[1:] == [("rule", JANUARY, 2, "cleared", "0")]


def test_failed_payments_are_counted_by_day_and_before_the_contract_begins(shop: sa.Connection) -> None:
    start(shop, first="2026-02-01")
    rule(shop, "payment_failed", "2", span="day")
    rule(shop, "payment_failed", "2", rule_id="in-all")
    draft = draft_opening(shop, "plan", at=NEW_YEAR)
    assert draft is not None
    finalise(shop, draft.invoice_id, at=NEW_YEAR)
    fail(shop, MID_JANUARY)
    fail(shop, MID_JANUARY + 25 * HOUR)
    assert [told[:4] for told in crossings(shop)] == [("in-all", "2026-01-31T23", 1, "raised")]


# --- silence ------------------------------------------------------------------------------------------------------


def test_a_contract_in_use_that_falls_silent_raises_by_time_alone_and_clears_as_usage_comes(
    shop: sa.Connection,
) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "usage_silent", "6")
    assert accrue(shop, "plan", as_of=NEW_YEAR).wake_at is None  # never used
    use(shop, "a", 1, "2026-01-10T10:00:00Z")
    due = datetime(2026, 1, 10, 16, tzinfo=UTC)
    assert accrue(shop, "plan", as_of=due - 5 * HOUR).wake_at == due
    assert accrued(shop, due - timedelta(seconds=1)) == 0
    assert accrued(shop, due) == 1
    assert accrue(shop, "plan", as_of=due + HOUR).wake_at is None
    use(shop, "b", 1, "2026-01-10T18:30:00Z")
    accrued(shop, datetime(2026, 1, 10, 19, tzinfo=UTC))
    assert crossings(shop) == [("rule", JANUARY, 1, "raised", "6"), ("rule", JANUARY, 2, "cleared", "0.5")]
    fact = facts(shop)[0]
    assert notice_of(fact).sentence.startswith("The time without usage reached the threshold of 6 hours: it is 6 hours")


def test_a_contract_not_used_for_28_days_is_not_silent_and_one_that_ended_has_nothing_to_come(
    shop: sa.Connection,
) -> None:
    start(shop, products=[TOKENS], commits=[])
    use(shop, "a", 1, "2026-01-02T10:00:00Z")
    accrue(shop, "plan", as_of=NEW_YEAR + 48 * HOUR)
    rule(shop, "usage_silent", "500")
    assert accrued(shop, datetime(2026, 1, 30, 10, 0, 1, tzinfo=UTC)) == 0  # 28 days and a second later
    use(shop, "b", 1, "2026-02-01T10:00:00Z")
    accrue(shop, "plan", as_of=FOURTH_OF_FEBRUARY)
    accrued(shop, datetime(2026, 2, 24, tzinfo=UTC))
    assert [told[3] for told in crossings(shop)] == ["raised"]
    end_contract(shop, "plan", end_at=datetime(2026, 2, 28, 23, tzinfo=UTC), by="ada", reason="over")
    accrued(shop, datetime(2026, 3, 1, tzinfo=UTC))
    assert [told[3:] for told in crossings(shop)][1:] == [("cleared", "0")]


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"kind": "anomaly", "group": ("model", "small")}, "group model=small does not fit anomaly"),
        ({"group": ("model", "")}, "must name a key and a value"),
        ({"group": ("model", "small")}, "price of any product is not by that key.* it is by none: watch the usage"),
        ({"kind": "usage", "product_id": "requests", "group": ("model", "small")}, "metric of product requests has no"),
        ({"kind": "credit_expiring"}, "credit_expiring looks ahead; say how many days"),
        ({"kind": "credit_expiring", "days": 0}, "days 0 must be from 1 to 3650"),
        ({"days": 3}, "days 3 does not fit spend"),
        ({"kind": "usage_silent", "threshold": Decimal(673)}, "threshold 673 must be at most 672"),
        ({"kind": "usage_silent", "rearm": Decimal(1)}, "rearm 1 does not fit usage_silent: it clears as soon as"),
        ({"kind": "usage_silent", "product_id": "tokens"}, "product tokens does not fit usage_silent"),
        ({"kind": "invoice_total", "rearm": Decimal(1)}, "rearm 1 does not fit invoice_total"),
        ({"kind": "invoice_total", "span": "day"}, "span day does not fit invoice_total: it is seen by period"),
        ({"kind": "forecast", "span": "day"}, "span day does not fit forecast"),
        ({"kind": "payment_failed", "threshold": Decimal("1.5")}, "threshold 1.5 and rearm 0 must be whole"),
        ({"kind": "forecast", "action": "cap"}, "action cap does not fit forecast: only spend can be capped"),
    ],
)
def test_a_rule_whose_kind_does_not_take_what_is_given_is_refused(
    shop: sa.Connection, given: dict[str, Any], sentence: str
) -> None:
    start(shop, products=[TOKENS, REQUESTS, SUPPORT])
    wanted = {"kind": "spend", "threshold": Decimal(100), "contract_id": "plan", "by": "ada", **given}
    with pytest.raises(InvalidError, match=sentence):
        create_rule(shop, "rule", **wanted)


def test_a_cap_by_group_is_refused_because_gates_do_not_know_groups(shop: sa.Connection) -> None:
    start(shop, products=[BY_MODEL])
    with pytest.raises(InvalidError, match="a gate does not know for which group it is asked"):
        rule(shop, "spend", "3", group=("model", "small"), action="cap")


def test_what_the_past_does_not_tell_is_not_replayed(shop: sa.Connection) -> None:
    start(shop, products=[BY_MODEL])
    rule(shop, "usage_silent", "6", rule_id="silent")
    rule(shop, "payment_failed", "2", rule_id="failed")
    rule(shop, "spend", "3", rule_id="grouped", group=("model", "small"))
    for rule_id, why in (
        ("silent", "when usage came"),
        ("failed", "which invoices"),
        ("grouped", "the books do not know"),
    ):
        with pytest.raises(InvalidError, match=f"alert rule {rule_id} on .* cannot be replayed: {why}"):
            backtest(shop, rule_id, "plan")
    assert list_alerts(shop) == ()
