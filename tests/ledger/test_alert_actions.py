"""Alerts that hold gates: while one stands no gate of the customer opens, until it clears or a person releases it.

Tokens cost 0.0003 each, requests 0.5; days are those of Berlin.
"""

from datetime import timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger import schema
from ledger.accrual import accrue
from ledger.alert_actions import release_alerts
from ledger.alert_rules import disable_rule
from ledger.alerts import list_alerts
from ledger.customers import Customer, create_customer
from ledger.errors import InvalidError, NotFoundError, StateError
from ledger.features import Feature, create_feature, grant_feature, revoke_feature
from ledger.gates import check_gate
from ledger.holds import InsufficientError, hold
from ledger.notices import notice_of
from ledger.payments import open_attempt, settle_declined
from tests.ledger.alerting import crossings, put_out_keys, rule
from tests.ledger.books import FEBRUARY_STARTS, JANUARY_STARTS, TOKENS, open_invoice, start, use
from tests.ledger.gated import AT, ask, bring, open_gates
from tests.ledger.test_alert_kinds import facts

HOUR = timedelta(hours=1)


def stopped(connection: sa.Connection, feature_id: str = "writing") -> str | None:
    """The rule that stops a gate, None where it is open."""
    answer = ask(connection, feature_id)
    assert answer.allowed == (answer.reason is None)
    assert answer.reason in (None, "stopped")
    return answer.rule_id


def release(connection: sa.Connection, rule_id: str = "leak") -> int:
    return len(release_alerts(connection, rule_id, "plan", reason="key rotated", by="ada", at=AT))


@pytest.fixture
def leaking(shop: sa.Connection) -> sa.Connection:
    """Contract plan with features and a rule that holds their gates at a spend of 3.00 a day, which is reached."""
    open_gates(shop)
    rule(shop, "spend", "3", rule_id="leak", span="day", product="tokens", action="hold_gate")
    use(shop, "a", 10_000, "2026-01-20T10:00:00Z")
    return shop


def test_an_alert_holds_all_gates_of_the_customer_from_the_transaction_that_raises_it(leaking: sa.Connection) -> None:
    assert stopped(leaking) is None
    bring(leaking)
    assert [stopped(leaking, feature) for feature in ("writing", "calls", "export")] == ["leak", "leak", "leak"]
    bring(leaking, at=AT + HOUR)
    assert stopped(leaking) == "leak"
    with pytest.raises(
        InsufficientError, match=r"cannot be held: stopped by rule leak, left amount 6\.5; have a person"
    ):
        hold(leaking, "h", "acme", "writing", amount=Decimal(1), expires_at=AT + HOUR, at=AT)
    assert facts(leaking)[0].data["action"] == "hold_gate"


def test_a_person_releases_it_with_a_reason_that_is_told_and_the_alert_stays_raised(leaking: sa.Connection) -> None:
    bring(leaking)
    assert release(leaking) == 1
    assert release(leaking) == 1
    bring(leaking, at=AT + HOUR)
    assert [stopped(leaking, feature) for feature in ("writing", "calls", "export")] == [None, None, None]
    [raised] = list_alerts(leaking)
    assert (raised.state, raised.released_at, raised.action) == ("raised", AT, "hold_gate")
    assert list_alerts(leaking, open_only=True) == ()
    [stored] = leaking.execute(sa.select(schema.alert_release)).all()
    assert (stored.reason, stored.released_by) == ("key rotated", "ada")
    told = facts(leaking)[1]
    assert (told.kind, told.data["reason"], len(facts(leaking))) == ("alert.released", "key rotated", 2)
    assert notice_of(told).sentence == (
        "ada released the gates that alert leak held, contract plan of customer acme: key rotated"
    )


def test_a_correction_that_clears_the_alert_opens_the_gates_and_the_next_crossing_holds_them_again(
    leaking: sa.Connection,
) -> None:
    bring(leaking)
    use(leaking, "back", -1, "2026-01-20T11:00:00Z")
    bring(leaking)
    assert stopped(leaking) is None
    use(leaking, "more", 1, "2026-01-20T11:01:00Z")
    bring(leaking)
    assert stopped(leaking) == "leak"
    release(leaking)
    use(leaking, "next-day", 10_000, "2026-01-20T23:30:00Z")
    accrue(leaking, "plan", as_of=AT + 12 * HOUR)
    assert stopped(leaking) == "leak"  # another day, another crossing
    assert release(leaking) == 2
    assert stopped(leaking) is None
    assert len(put_out_keys(leaking)) == 4 + 2


def test_gates_open_when_the_rule_is_disabled_unless_another_one_holds_them(leaking: sa.Connection) -> None:
    rule(leaking, "spend", "3", rule_id="month", action="hold_gate")
    rule(leaking, "spend", "3", rule_id="told")
    bring(leaking)
    assert stopped(leaking) == "leak"
    disable_rule(leaking, "leak", at=AT)
    assert stopped(leaking) == "month"
    disable_rule(leaking, "month", at=AT)
    assert stopped(leaking) is None


def test_gates_of_other_contracts_of_the_customer_are_held_and_those_of_other_customers_are_not(
    leaking: sa.Connection,
) -> None:
    create_customer(leaking, Customer("dune", "Dune"))
    create_feature(leaking, Feature("more", "More", "boolean"))
    start(
        leaking, "other", products=['- {id: seat, name: Seat, price: {model: fixed_fee, amount: "5.00"}}'], commits=[]
    )
    start(leaking, "dunes", customer="dune", products=[TOKENS], commits=[])
    for contract_id in ("other", "dunes"):
        grant_feature(leaking, contract_id, "more", by="ada", at=AT)
    bring(leaking)
    assert stopped(leaking, "more") == "leak"
    assert check_gate(leaking, "dune", "more", at=AT).allowed
    accrue(leaking, "other", as_of=AT)
    assert stopped(leaking, "more") == "leak"


def test_a_gate_that_is_opened_while_an_alert_stands_is_held(leaking: sa.Connection) -> None:
    revoke_feature(leaking, "plan", "export", at=AT)
    bring(leaking)
    grant_feature(leaking, "plan", "export", by="ada", at=AT)
    assert stopped(leaking, "export") == "leak"


def test_failed_payments_hold_gates_in_the_transaction_that_settles_the_attempt(shop: sa.Connection) -> None:
    open_gates(shop)
    rule(shop, "payment_failed", "1", rule_id="unpaid", action="hold_gate")
    open_invoice(shop)
    bring(shop)
    assert stopped(shop) is None
    attempt = open_attempt(shop, "plan.opening", at=AT)
    settle_declined(shop, attempt.attempt_id, decline_code="stolen_card", advice_code=None, at=AT)
    assert stopped(shop) == "unpaid"


def test_what_holds_gates_is_listed_as_open_after_its_period_is_invoiced(leaking: sa.Connection) -> None:
    bring(leaking)
    leaking.execute(
        schema.contract_period.update()
        .where(schema.contract_period.c.start_at == JANUARY_STARTS)
        .values(state="invoiced", cutoff_batch_id=1)
    )
    accrue(leaking, "plan", as_of=FEBRUARY_STARTS + HOUR)
    assert [one.rule_id for one in list_alerts(leaking, open_only=True)] == ["leak"]


def test_a_release_of_what_holds_nothing_is_refused(leaking: sa.Connection) -> None:
    rule(leaking, "spend", "3", rule_id="told")
    rule(leaking, "spend", "3", rule_id="cap", action="cap")
    with pytest.raises(StateError, match="no alert of rule leak stands on contract plan"):
        release(leaking)
    bring(leaking)
    with pytest.raises(StateError, match="rule told holds no gates, its action is notify; there is nothing"):
        release(leaking, "told")
    with pytest.raises(StateError, match="rule cap holds no gates, its action is cap; disable it"):
        release(leaking, "cap")
    with pytest.raises(NotFoundError, match="alert rule nothing does not exist"):
        release(leaking, "nothing")
    with pytest.raises(NotFoundError, match="contract nothing does not exist"):
        release_alerts(leaking, "leak", "nothing", reason="none", by="ada", at=AT)
    with pytest.raises(InvalidError, match="reason"):
        release_alerts(leaking, "leak", "plan", reason=" ", by="ada", at=AT)
    assert [told[0] for told in crossings(leaking)] == ["cap", "leak", "told"]
