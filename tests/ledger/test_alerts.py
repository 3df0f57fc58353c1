"""Alerts of spend and usage: what raises and clears them, by figures worked out by hand, and each only once.

Tokens cost 0.0003 each, requests 0.5. The entity and its contracts are in Berlin: January begins on the 31st at 23:00.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations

import pytest
import sqlalchemy as sa

from ledger import schema
from ledger.alert_rules import disable_rule
from ledger.alerts import list_alerts, raise_alerts
from ledger.contracts import lock_contract
from ledger.customers import Customer, create_customer
from ledger.database import undone
from ledger.errors import NotFoundError
from ledger.invoices import draft_period, finalise
from tests.ledger.alerting import accrued, crossings, put_out_keys, rule
from tests.ledger.books import (
    FOURTH_OF_FEBRUARY,
    MID_JANUARY,
    REQUESTS,
    SUPPORT,
    TOKENS,
    january,
    open_invoice,
    start,
    use,
)

JANUARY = "2025-12-31T23"
TWENTY_FIRST = datetime(2026, 1, 21, 12, tzinfo=UTC)


def test_a_period_raises_when_its_spend_reaches_the_threshold_and_not_before(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "spend", "3")
    use(shop, "a", 9_999, "2026-01-10T10:00:00Z")  # 2.9997
    assert accrued(shop, MID_JANUARY) == 0
    use(shop, "b", 1, "2026-01-11T10:00:00Z")  # 3.0000
    assert accrued(shop, MID_JANUARY) == 1
    assert crossings(shop) == [("rule", JANUARY, 1, "raised", "3")]


def test_an_alert_is_raised_once_however_often_the_contract_is_accrued(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "spend", "3")
    use(shop, "a", 20_000, "2026-01-10T10:00:00Z")
    assert accrued(shop, MID_JANUARY) == 1
    assert accrued(shop, MID_JANUARY) == 0
    use(shop, "b", 20_000, "2026-01-11T10:00:00Z")
    assert accrued(shop, TWENTY_FIRST) == 0
    assert put_out_keys(shop) == ["alert/rule/plan/2025-12-31T23:00:00Z/1"]


def test_what_is_put_out_tells_the_rule_the_figures_and_their_unit(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "spend", "3", rearm="0.5")
    rule(shop, "usage", "15000", rule_id="units", product="tokens", span="day")
    use(shop, "a", 20_000, "2026-01-10T10:00:00Z")
    accrued(shop, MID_JANUARY)
    common = {
        "contract_id": "plan",
        "customer_id": "acme",
        "lot_id": None,
        "number": 1,
        "state": "raised",
        "at": "2026-01-15T12:00:00Z",
    }
    facts = shop.execute(sa.select(schema.outbox).order_by(schema.outbox.c.sequence)).all()
    assert [(fact.kind, fact.contract_id, fact.payload) for fact in facts] == [
        (
            "alert.raised",
            "plan",
            {
                **common,
                "rule_id": "rule",
                "kind": "spend",
                "product_id": None,
                "span": "period",
                "span_start": "2025-12-31T23:00:00Z",
                "observed": "6",  # 20,000 x 0.0003
                "threshold": "3",
                "rearm": "0.5",
                "currency": "EUR",
                "unit": "EUR",
            },
        ),
        (
            "alert.raised",
            "plan",
            {
                **common,
                "rule_id": "units",
                "kind": "usage",
                "product_id": "tokens",
                "span": "day",
                "span_start": "2026-01-09T23:00:00Z",
                "observed": "20000",
                "threshold": "15000",
                "rearm": "0",
                "currency": None,
                "unit": "token",
            },
        ),
    ]


def test_a_correction_clears_and_usage_raises_again_under_the_next_number(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "spend", "3")
    use(shop, "a", 10_000, "2026-01-10T10:00:00Z")
    accrued(shop, MID_JANUARY)
    use(shop, "back", -1, "2026-01-10T11:00:00Z")  # 2.9997
    accrued(shop, MID_JANUARY)
    use(shop, "more", 1_000, "2026-01-10T12:00:00Z")  # 10,999 x 0.0003 = 3.2997
    accrued(shop, MID_JANUARY)
    assert crossings(shop) == [
        ("rule", JANUARY, 1, "raised", "3"),
        ("rule", JANUARY, 2, "cleared", "2.9997"),
        ("rule", JANUARY, 3, "raised", "3.2997"),
    ]
    assert put_out_keys(shop) == [f"alert/rule/plan/2025-12-31T23:00:00Z/{number}" for number in (1, 2, 3)]


def test_an_alert_with_a_margin_clears_only_below_it(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "spend", "3", rearm="0.6")  # back below 2.4, which are 8,000 tokens
    use(shop, "a", 10_000, "2026-01-10T10:00:00Z")
    accrued(shop, MID_JANUARY)
    use(shop, "back", -2_000, "2026-01-10T11:00:00Z")  # 2.4
    assert accrued(shop, MID_JANUARY) == 0
    use(shop, "again", 2_000, "2026-01-10T11:10:00Z")  # 3.0: it is raised already
    assert accrued(shop, MID_JANUARY) == 0
    use(shop, "far-back", -2_001, "2026-01-10T11:20:00Z")  # 7,999 x 0.0003 = 2.3997
    assert accrued(shop, MID_JANUARY) == 1
    assert crossings(shop)[1:] == [("rule", JANUARY, 2, "cleared", "2.3997")]


def test_each_day_of_the_entity_is_added_up_alone(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "spend", "3", span="day")
    use(shop, "a", 6_000, "2026-01-10T22:59:00Z")  # the 10th in Berlin: 1.80
    use(shop, "b", 6_000, "2026-01-10T23:00:00Z")  # the 11th: 1.80
    assert accrued(shop, MID_JANUARY) == 0
    use(shop, "c", 4_000, "2026-01-11T22:00:00Z")  # the 11th: 3.00
    accrued(shop, MID_JANUARY)
    assert crossings(shop) == [("rule", "2026-01-10T23", 1, "raised", "3")]


def test_a_late_event_raises_the_alert_of_its_own_day(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "spend", "3", span="day")
    use(shop, "today", 12_000, "2026-01-20T10:00:00Z")  # 3.60 on the 20th
    accrued(shop, TWENTY_FIRST)
    use(shop, "late", 11_000, "2026-01-05T10:00:00Z")  # 3.30 on the 5th
    accrued(shop, TWENTY_FIRST)
    assert crossings(shop) == [
        ("rule", "2026-01-04T23", 1, "raised", "3.3"),
        ("rule", "2026-01-19T23", 1, "raised", "3.6"),
    ]


def test_a_period_that_is_over_is_observed_until_it_is_invoiced(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "spend", "3")
    use(shop, "a", 9_000, "2026-01-20T10:00:00Z")
    assert accrued(shop, FOURTH_OF_FEBRUARY) == 0
    use(shop, "late", 2_000, "2026-01-25T10:00:00Z")  # 11,000 x 0.0003 = 3.30
    assert accrued(shop, FOURTH_OF_FEBRUARY) == 1
    finalise(shop, january(shop).invoice_id, at=FOURTH_OF_FEBRUARY)
    use(shop, "later", -9_000, "2026-01-26T10:00:00Z")
    assert accrued(shop, datetime(2026, 2, 10, 9, tzinfo=UTC)) == 0
    assert crossings(shop) == [("rule", JANUARY, 1, "raised", "3.3")]
    assert list_alerts(shop, open_only=True) == ()


def test_a_day_in_two_periods_is_added_up_over_both(shop: sa.Connection) -> None:
    # the contract turns at midnight in UTC: 2026-02-01T00:00 is the 1st of February, 01:00 in Berlin
    start(shop, products=[TOKENS], commits=[], time_zone="UTC")
    rule(shop, "spend", "3", span="day")
    use(shop, "a", 6_000, "2026-01-31T23:30:00Z")  # the 1st of February in Berlin, January of the contract: 1.80
    accrued(shop, datetime(2026, 2, 1, 12, tzinfo=UTC))
    finalise(shop, january_in_utc(shop), at=FOURTH_OF_FEBRUARY)
    use(shop, "b", 6_000, "2026-02-01T10:00:00Z")  # 3.60 together
    accrued(shop, FOURTH_OF_FEBRUARY)
    assert crossings(shop) == [("rule", "2026-01-31T23", 1, "raised", "3.6")]
    assert [one.state for one in list_alerts(shop, open_only=True)] == ["raised"]


def january_in_utc(connection: sa.Connection) -> str:
    return draft_period(connection, "plan", datetime(2026, 1, 1, tzinfo=UTC), at=FOURTH_OF_FEBRUARY).invoice_id


def test_spend_has_fees_as_they_are_earned_and_what_lots_paid(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, SUPPORT])  # a lot of 10.00 pays the usage
    rule(shop, "spend", "20")
    rule(shop, "spend", "17", rule_id="support", product="support")
    open_invoice(shop)
    use(shop, "a", 10_000, "2026-01-01T10:00:00Z")  # 3.00, drawn from the lot
    accrued(shop, datetime(2026, 1, 10, 12, tzinfo=UTC))  # ten of 31 days of 49.00 are 15.806...
    assert crossings(shop) == []
    accrued(shop, datetime(2026, 1, 11, 12, tzinfo=UTC))  # eleven are 17.387096774194; with 3.00 they are 20.387...
    assert [(told[0], told[3], Decimal(told[4]).quantize(Decimal("0.01"))) for told in crossings(shop)] == [
        ("rule", "raised", Decimal("20.39")),
        ("support", "raised", Decimal("17.39")),
    ]


def test_usage_of_one_product_is_counted_in_its_own_units(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, REQUESTS], commits=[])
    rule(shop, "usage", "3", product="requests")
    for key in ("a", "b"):
        use(shop, key, 50_000)
    assert accrued(shop, TWENTY_FIRST) == 0  # two requests, 100,000 tokens
    use(shop, "c", 0)
    accrued(shop, TWENTY_FIRST)
    assert crossings(shop) == [("rule", JANUARY, 1, "raised", "3")]


def test_rules_of_the_contract_of_its_customer_and_of_all_raise_each_for_themselves(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    create_customer(shop, Customer("cobalt", "Cobalt"))
    start(shop, "other", customer="cobalt", products=[TOKENS], commits=[])
    rule(shop, "spend", "1", rule_id="own")
    rule(shop, "spend", "1", rule_id="of-acme", contract=None, customer="acme")
    rule(shop, "spend", "1", rule_id="of-all", contract=None)
    rule(shop, "spend", "1", rule_id="of-other", contract="other")
    rule(shop, "spend", "1", rule_id="of-cobalt", contract=None, customer="cobalt")
    rule(shop, "spend", "1", rule_id="off")
    disable_rule(shop, "off", at=MID_JANUARY)
    use(shop, "a", 10_000, "2026-01-10T10:00:00Z")
    accrued(shop, MID_JANUARY)
    accrued(shop, MID_JANUARY, "other")  # nothing is used there
    assert [told[0] for told in crossings(shop, "plan")] == ["of-acme", "of-all", "own"]
    assert crossings(shop, "other") == []


def test_alerts_that_are_open_are_those_not_cleared_of_rules_in_force(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "spend", "3", rule_id="cleared")
    rule(shop, "spend", "2", rule_id="open")
    rule(shop, "spend", "2", rule_id="off")
    use(shop, "a", 10_000, "2026-01-10T10:00:00Z")
    accrued(shop, MID_JANUARY)
    use(shop, "back", -2_000, "2026-01-10T11:00:00Z")  # 2.40
    accrued(shop, MID_JANUARY)
    disable_rule(shop, "off", at=MID_JANUARY)
    assert [one.rule_id for one in list_alerts(shop, contract_id="plan", open_only=True)] == ["open"]
    assert len(list_alerts(shop)) == 4
    assert len(list_alerts(shop, limit=2)) == 2
    with pytest.raises(NotFoundError, match="contract nothing does not exist"):
        list_alerts(shop, contract_id="nothing")


def test_whatever_order_usage_comes_in_the_same_alerts_are_open_in_the_end(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    rule(shop, "spend", "3")
    rule(shop, "spend", "2.5", rule_id="day", span="day")
    rule(shop, "spend", "4.5", rule_id="higher")
    use(shop, "first", 2_000, "2026-01-09T10:00:00Z")
    # With 3.00 on the 10th and 1.20 on the 11th it is 4.80; taking back 0.60 of the latest usage leaves 4.20.
    parts = [("a", 10_000, "10T10"), ("back", -2_000, "12T11"), ("b", 4_000, "11T10")]
    ends = set()
    for order in permutations(parts):
        with undone(shop):
            for key, number, at in order:
                use(shop, key, number, f"2026-01-{at}:00:00Z")
                accrued(shop, MID_JANUARY)
            found = list_alerts(shop, open_only=True)
            ends.add(tuple((one.rule_id, f"{one.span_start:%Y-%m-%dT%H}") for one in found))
    assert ends == {(("day", "2026-01-09T23"), ("rule", JANUARY))}


def test_without_rules_it_is_one_statement_and_ten_thousand_rules_of_others_add_none(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[])
    use(shop, "a", 10_000, "2026-01-10T10:00:00Z")
    accrued(shop, MID_JANUARY)
    contract = lock_contract(shop, "plan")
    with statements(shop) as without:
        raise_alerts(shop, contract, as_of=MID_JANUARY)
    assert len(without) == 1
    for kind, span, name in (("spend", "period", "p"), ("spend", "day", "d"), ("balance_amount", None, "b")):
        rule(shop, kind, "100", rule_id=name, span=span)  # type: ignore[arg-type]
    with statements(shop) as alone:
        raise_alerts(shop, contract, as_of=MID_JANUARY)
    create_customer(shop, Customer("cobalt", "Cobalt"))
    start(shop, "other", customer="cobalt", products=[TOKENS], commits=[])
    shop.execute(MANY_RULES)
    with statements(shop) as among_many:
        raise_alerts(shop, contract, as_of=MID_JANUARY)
    # the rules, the figures by period, those by day, the lots, and the alerts that stand
    assert len(alone) == 5
    assert among_many == alone


MANY_RULES = sa.text("""
insert into alert_rule (rule_id, kind, contract_id, customer_id, span, threshold, rearm, created_by)
select 'many-' || n, 'spend', case when n % 2 = 0 then 'other' end, case when n % 2 = 1 then 'cobalt' end,
    'period', 1, 0, 'ada'
from generate_series(1, 10000) n
""")


@contextmanager
def statements(connection: sa.Connection) -> Iterator[list[str]]:
    """Collect the statements that are executed."""
    found: list[str] = []

    def note(*arguments: object) -> None:
        found.append(str(arguments[2]))

    sa.event.listen(connection, "before_cursor_execute", note)
    yield found
    sa.event.remove(connection, "before_cursor_execute", note)
