"""Alert rules: what they are on, and which thresholds are refused because they could never raise or never clear."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from ledger.alert_rules import create_rule, disable_rule, get_rule, list_rules
from ledger.customers import Customer, create_customer
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from tests.ledger.alerting import rule
from tests.ledger.books import MID_JANUARY, NEW_YEAR, SUPPORT, TOKENS, start


def create(connection: sa.Connection, **given: Any) -> None:  # noqa: ANN401 - any of a rule's fields
    """Create a spend rule of 100 on the contract plan, but for what is given."""
    wanted = {"kind": "spend", "threshold": Decimal(100), "contract_id": "plan", "by": "ada", **given}
    create_rule(connection, "rule", **wanted)


def test_a_rule_is_over_the_period_and_a_balance_over_the_term_unless_it_says_so(shop: sa.Connection) -> None:
    start(shop)
    spend = rule(shop, "spend", "100", rule_id="a")
    assert (spend.span, spend.product_id, spend.rearm, spend.disabled_at) == ("period", None, Decimal(0), None)
    assert (spend.created_by, spend.created_at.tzinfo) == ("ada", UTC)
    assert rule(shop, "spend", "100", rule_id="b", span="day").span == "day"
    assert rule(shop, "balance_days", "7", rule_id="c").span == "term"


def test_the_same_rule_again_is_harmless_and_another_one_under_its_id_a_conflict(shop: sa.Connection) -> None:
    start(shop)
    first = rule(shop, "spend", "100", product="tokens")
    assert rule(shop, "spend", "100.00", product="tokens") == first
    with pytest.raises(ConflictError, match="alert rule rule exists with another product_id, another threshold;"):
        rule(shop, "spend", "101")


def test_a_disabled_rule_keeps_its_first_time_and_is_not_created_again(shop: sa.Connection) -> None:
    start(shop)
    rule(shop, "spend", "100")
    assert disable_rule(shop, "rule", at=NEW_YEAR).disabled_at == NEW_YEAR
    assert disable_rule(shop, "rule", at=MID_JANUARY).disabled_at == NEW_YEAR
    with pytest.raises(StateError, match="disabled since 2026-01-01T09:00:00"):
        rule(shop, "spend", "100")


def test_what_does_not_exist_is_not_found(shop: sa.Connection) -> None:
    start(shop)
    with pytest.raises(NotFoundError, match="alert rule no-rule does not exist"):
        get_rule(shop, "no-rule")
    with pytest.raises(NotFoundError, match="alert rule no-rule does not exist"):
        disable_rule(shop, "no-rule", at=NEW_YEAR)
    with pytest.raises(NotFoundError, match="contract nothing does not exist"):
        create(shop, contract_id="nothing")
    with pytest.raises(NotFoundError, match="customer nobody does not exist"):
        create(shop, contract_id=None, customer_id="nobody")
    with pytest.raises(NotFoundError, match="contract nothing does not exist"):
        list_rules(shop, contract_id="nothing")


def test_the_rules_on_a_contract_are_its_own_its_customers_and_those_on_all(shop: sa.Connection) -> None:
    start(shop)
    create_customer(shop, Customer("cobalt", "Cobalt"))
    start(shop, "other", customer="cobalt")
    rule(shop, "spend", "1", rule_id="c-own")
    rule(shop, "spend", "1", rule_id="b-of-acme", contract=None, customer="acme")
    rule(shop, "spend", "1", rule_id="a-of-all", contract=None)
    rule(shop, "spend", "1", rule_id="of-other", contract="other")
    disable_rule(shop, "c-own", at=datetime(2026, 1, 2, tzinfo=UTC))
    assert [one.rule_id for one in list_rules(shop, contract_id="plan")] == ["a-of-all", "b-of-acme", "c-own"]
    assert len(list_rules(shop)) == 4


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"threshold": Decimal(0)}, "threshold 0 must be above 0"),
        ({"threshold": Decimal(-5)}, "threshold -5 must be above 0"),
        ({"threshold": Decimal("NaN")}, "threshold NaN must be a number of at most 26 digits before"),
        ({"threshold": Decimal(10) ** 26}, "must be a number of at most 26 digits before"),
        ({"threshold": Decimal("1e-13")}, "12 after the point"),
        ({"rearm": Decimal(-1)}, "rearm -1 must be 0 or more"),
        ({"rearm": Decimal(100)}, "rearm 100 must be below the threshold 100"),
        ({"kind": "balance_percent", "threshold": Decimal("100.1")}, "threshold 100.1 must be at most 100"),
        ({"kind": "balance_percent", "threshold": Decimal(20), "rearm": Decimal(80)}, "together be below 100"),
        ({"kind": "balance_days", "threshold": Decimal(40_000)}, "threshold 40000 must be at most 36500"),
        ({"kind": "balance_amount", "span": "day"}, "span day does not fit balance_amount"),
        ({"span": "term"}, "span term does not fit spend"),
        ({"kind": "balance_amount", "product_id": "tokens"}, "product tokens does not fit balance_amount"),
        ({"kind": "usage"}, "usage needs a product"),
        ({"kind": "usage", "product_id": "support"}, "product support counts no usage"),
        ({"product_id": "toknes"}, "product toknes is not sold by contract plan"),
        ({"product_id": "toknes", "contract_id": None, "customer_id": "acme"}, "by a contract of customer acme"),
        ({"product_id": "toknes", "contract_id": None}, "not sold by any contract or rate card"),
        ({"lot_id": "plan.prepaid"}, "lot plan.prepaid does not fit spend"),
        ({"kind": "commit_used"}, "commit_used is of one lot; name the lot and its contract"),
        ({"kind": "commit_used", "lot_id": "other"}, "lot other is none of contract plan, which has plan.prepaid"),
        ({"kind": "commit_used", "lot_id": "plan.prepaid", "span": "day"}, "span day does not fit commit_used"),
        ({"kind": "commit_used", "lot_id": "plan.prepaid", "threshold": Decimal(101)}, "must be at most 100"),
        ({"customer_id": "acme"}, "names a contract and a customer"),
        ({"by": ""}, "by '' must be"),
    ],
)
def test_a_rule_that_could_never_raise_or_clear_is_refused(
    shop: sa.Connection, given: dict[str, Any], sentence: str
) -> None:
    start(shop, products=[TOKENS, SUPPORT])
    with pytest.raises(InvalidError, match=sentence):
        create(shop, **given)
    assert list_rules(shop) == ()


def test_everything_that_is_wrong_is_told_at_once(shop: sa.Connection) -> None:
    start(shop)
    with pytest.raises(InvalidError, match=r"threshold 0 must be above 0.*; rearm -1 must be.*; usage needs a product"):
        create(shop, kind="usage", threshold=Decimal(0), rearm=Decimal(-1))
    with pytest.raises(InvalidError, match="rule 'Bad Id' must be"):
        create_rule(shop, "Bad Id", kind="spend", threshold=Decimal(1), by="ada")
