"""Gates: what may be used and what is left of it, by figures worked out by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.contracts import end_contract, get_contract, set_problem
from ledger.customers import Customer, create_customer
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.features import (
    Feature,
    create_feature,
    grant_feature,
    list_features,
    list_grants,
    revoke_feature,
)
from ledger.gates import KEEP, GateRequest, check_gates, note_problem, project_gates
from ledger.holds import hold
from ledger.lots import grant_credit, move_expiry, void_lot
from ledger.metrics import create_metric
from tests.ledger.books import FEBRUARY_STARTS, JANUARY_STARTS, PREPAID, REQUESTS, TOKENS, start, use
from tests.ledger.gated import AT, CALLS, EXPORT, WRITING, ask, bring, left, open_gates
from tests.ledger.usage import event, number_of, send
from tests.metrics import metric

GIFT = '- {id: gift, name: Gift, amount: "4.00", start: 2026-01-10, end: 2026-01-25, products: [tokens], priority: 1}'
GIFT_ENDS = datetime(2026, 1, 24, 23, tzinfo=UTC)


def test_a_balance_lasts_as_long_as_the_lots_hold_money_for_its_products(shop: sa.Connection) -> None:
    open_gates(shop)
    assert left(shop) == "10"
    use(shop, "a", 20_000)  # 20,000 x 0.0003 = 6.00, and 1 request at 0.5
    bring(shop)
    assert left(shop) == "3.5"
    assert ask(shop, amount="3.5").allowed
    assert ask(shop, amount="3.51").reason == "balance_spent"
    # 3.5 / 0.0003 = 11,666.67 tokens
    assert ask(shop, units="11666").allowed
    assert ask(shop, units="11667").reason == "balance_spent"
    use(shop, "b", 20_000)
    bring(shop)
    assert left(shop) == "0"
    assert (ask(shop).allowed, ask(shop).reason) == (False, "balance_spent")


def test_a_metered_feature_has_its_units_anew_in_each_period(shop: sa.Connection) -> None:
    open_gates(shop)
    send(shop, *(event(f"k{n}", timestamp="2026-01-20T10:00:00Z") for n in range(4)), received_at=AT)
    bring(shop)
    assert left(shop, "calls") == "1"  # of 5
    assert ask(shop, "calls", units="1").allowed
    assert ask(shop, "calls", units="2").reason == "units_spent"
    assert ask(shop, "calls", amount="1").reason == "unpriced"
    assert left(shop, "calls", at=FEBRUARY_STARTS - timedelta(microseconds=1)) == "1"
    # the first question of February writes the gate anew, before any accrual does
    assert left(shop, "calls", at=FEBRUARY_STARTS) == "5"


def test_a_boolean_feature_is_there_or_not(shop: sa.Connection) -> None:
    open_gates(shop)
    answer = ask(shop, "export")
    assert (answer.allowed, answer.left_amount, answer.left_units) == (True, None, None)
    revoke_feature(shop, "plan", "export", at=AT)
    assert ask(shop, "export").reason == "no_feature"
    assert ask(shop, "nothing").reason == "no_feature"
    grant_feature(shop, "plan", "export", by="ada", at=AT)
    assert ask(shop, "export").allowed


def test_money_of_a_lot_is_gone_at_the_moment_that_it_ends(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[GIFT])
    create_feature(shop, WRITING)
    grant_feature(shop, "plan", "writing", by="ada", at=AT)
    almost = GIFT_ENDS - timedelta(seconds=2)
    answer = ask(shop, at=almost)
    assert (answer.left_amount, answer.keep_until) == (Decimal(4), GIFT_ENDS)  # not kept longer than the lot lasts
    assert ask(shop, at=GIFT_ENDS).reason == "balance_spent"
    assert number_of(shop, "gate", "left_amount = 0") == 1


def test_a_lot_that_comes_opens_the_gate_by_itself(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[GIFT])
    create_feature(shop, WRITING)
    begins = datetime(2026, 1, 9, 23, tzinfo=UTC)
    grant_feature(shop, "plan", "writing", by="ada", at=begins - timedelta(days=1))
    assert ask(shop, at=begins - timedelta(seconds=1)).reason == "balance_spent"
    assert left(shop, at=begins) == "4"


def test_money_that_serves_only_some_products_of_a_feature_is_not_counted(shop: sa.Connection) -> None:
    open_gates(shop, lot=GIFT)
    create_feature(shop, Feature("all", "All", "balance", ("tokens", "requests")))
    grant_feature(shop, "plan", "all", by="ada", at=AT)
    assert left(shop) == "4"
    assert ask(shop, "all").reason == "balance_spent"


def test_a_lot_pays_what_its_tags_name_and_counts_not_where_it_asks_for_group_values(shop: sa.Connection) -> None:
    tagged = '- {id: ai, name: AI, amount: "4.00", start: 2026-01-01, products: ["tag:ai"]}'
    grouped = '- {id: eu, name: EU, amount: "2.00", start: 2026-01-01, products: [tokens], groups: {model: large}}'
    product = TOKENS.replace("metric: tokens,", "metric: tokens, tags: [ai], group_by: [model],")
    start(shop, products=[product, REQUESTS], commits=[tagged, grouped])
    for feature in (WRITING, Feature("asking", "Asking", "balance", ("requests",))):
        create_feature(shop, feature)
        grant_feature(shop, "plan", feature.feature_id, by="ada", at=AT)
    assert left(shop) == "4"
    assert left(shop, "asking") == "0"
    hold(shop, "h", "acme", "writing", amount=Decimal(3), expires_at=AT + timedelta(hours=1), at=AT)
    assert left(shop) == "1"


def test_units_of_a_feature_with_two_products_have_no_price(shop: sa.Connection) -> None:
    open_gates(shop)
    create_feature(shop, Feature("all", "All", "balance", ("tokens", "requests")))
    grant_feature(shop, "plan", "all", by="ada", at=AT)
    assert ask(shop, "all", units="1").reason == "unpriced"
    assert ask(shop, "all", amount="10").allowed


def test_a_tiered_price_is_no_price_of_one_more_unit(shop: sa.Connection) -> None:
    tiered = "- {id: tokens, name: Tokens, metric: tokens, price: {model: graduated, tiers: [{unit_price: '0.1'}]}}"
    start(shop, products=[tiered], commits=[PREPAID])
    create_feature(shop, WRITING)
    grant_feature(shop, "plan", "writing", by="ada", at=AT)
    assert ask(shop, units="1").reason == "unpriced"


def test_the_gate_says_that_rating_stopped_and_opens_when_it_goes_on(shop: sa.Connection) -> None:
    open_gates(shop)
    set_problem(shop, "plan", "no price")
    note_problem(shop, "plan", "no price")
    assert [ask(shop, one).reason for one in ("writing", "calls", "export")] == ["problem", "problem", None]
    project_gates(shop, get_contract(shop, "plan"), as_of=AT)
    assert ask(shop).reason == "problem"
    bring(shop)
    assert ask(shop).allowed


def test_a_contract_that_has_not_begun_or_is_over_opens_no_gate(shop: sa.Connection) -> None:
    open_gates(shop)
    before = datetime(2025, 12, 1, tzinfo=UTC)
    project_gates(shop, get_contract(shop, "plan"), as_of=before)
    assert number_of(shop, "gate") == 0
    assert ask(shop, at=before).reason == "no_contract"
    assert left(shop) == "10"
    end_contract(shop, "plan", end_at=FEBRUARY_STARTS, by="ada", reason="moved")
    project_gates(shop, get_contract(shop, "plan"), as_of=AT)
    assert ask(shop, at=FEBRUARY_STARTS).reason == "no_contract"


def test_the_next_contract_of_a_customer_takes_the_gate_over(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS], commits=[PREPAID], end="2026-02-01")
    create_feature(shop, WRITING)
    grant_feature(shop, "plan", "writing", by="ada", at=AT)
    more = PREPAID.replace("10.00", "7.00").replace("2026-01-01", "2026-02-01")
    start(shop, "next", products=[TOKENS], commits=[more], first="2026-02-01")
    grant_feature(shop, "next", "writing", by="ada", at=AT)
    assert left(shop) == "10"
    assert left(shop, at=FEBRUARY_STARTS) == "7"
    bring(shop, at=FEBRUARY_STARTS)  # of the one that is over
    assert left(shop, at=FEBRUARY_STARTS) == "7"


def test_two_contracts_cannot_grant_a_feature_at_the_same_time(shop: sa.Connection) -> None:
    open_gates(shop)
    create_metric(shop, metric("bytes", "upload", "count"))
    product = "- {id: bytes, name: Bytes, metric: bytes, price: {model: per_unit, unit_price: '1'}}"
    start(shop, "other", products=[product], commits=[], first="2027-01-01")
    with pytest.raises(StateError, match="by contract plan at the same time; revoke it there first"):
        grant_feature(shop, "other", "export", by="ada", at=AT)


def test_a_hundred_gates_are_answered_from_one_query(shop: sa.Connection) -> None:
    open_gates(shop)
    create_customer(shop, Customer("cobalt", "Cobalt"))
    requests = [GateRequest("acme", "writing", amount=Decimal(one)) for one in range(1, 98)]
    requests += [GateRequest("acme", "export"), GateRequest("cobalt", "export"), GateRequest("acme", "calls")]
    answers = check_gates(shop, requests, at=AT)
    assert [answer.allowed for answer in answers] == [True] * 10 + [False] * 87 + [True, False, True]
    with pytest.raises(InvalidError, match="ask for at most 100 at once"):
        check_gates(shop, [*requests, requests[0]], at=AT)


def test_an_answer_may_be_kept_for_five_seconds_and_tells_what_it_includes(shop: sa.Connection) -> None:
    open_gates(shop)
    answer = ask(shop)
    assert answer.keep_until == AT + KEEP
    assert answer.watermark is not None
    use(shop, "late", 1, "2026-01-20T11:00:00Z")  # accepted, and not accrued yet
    project_gates(shop, get_contract(shop, "plan"), as_of=AT)
    assert ask(shop).watermark == datetime(2026, 1, 20, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("feature", "sentence"),
    [
        (Feature("Big", "x", "boolean"), "feature_id 'Big' must be"),
        (replace(EXPORT, products=("tokens",)), "products tokens, and it is boolean; leave them out"),
        (replace(WRITING, products=()), "products are empty, and it is balance; name those"),
        (replace(WRITING, products=("tokens", "tokens")), "give each once"),
        (replace(EXPORT, name=" "), "name ' ' must be"),
    ],
)
def test_a_feature_that_cannot_be_is_refused(shop: sa.Connection, feature: Feature, sentence: str) -> None:
    with pytest.raises(InvalidError, match=sentence):
        create_feature(shop, feature)


def test_a_feature_is_created_once(shop: sa.Connection) -> None:
    assert create_feature(shop, WRITING) == "created"
    assert create_feature(shop, WRITING) == "exists"
    with pytest.raises(ConflictError, match="feature writing exists with other content"):
        create_feature(shop, replace(WRITING, products=("requests",)))
    assert list_features(shop) == (WRITING,)


def test_a_grant_that_cannot_be_is_refused(shop: sa.Connection) -> None:
    open_gates(shop)
    create_feature(shop, Feature("video", "Video", "balance", ("frames",)))
    for feature_id, units, sentence in (
        ("video", None, "products frames are no usage products of contract plan; it has requests, tokens"),
        ("calls", None, "is metered: most_units is missing"),
        ("calls", "0", "most_units 0 must be above 0"),
        ("writing", "3", "most_units 3 limits only metered ones; leave it out"),
    ):
        with pytest.raises(InvalidError, match=sentence):
            grant_feature(
                shop, "plan", feature_id, by="ada", at=AT, most_units=None if units is None else Decimal(units)
            )
    with pytest.raises(NotFoundError, match="feature nothing does not exist"):
        grant_feature(shop, "plan", "nothing", by="ada", at=AT)
    with pytest.raises(ConflictError, match="most_units 5 already; revoke it before it is granted with 6"):
        grant_feature(shop, "plan", "calls", by="ada", at=AT, most_units=Decimal(6))
    with pytest.raises(NotFoundError, match="feature video was never granted"):
        revoke_feature(shop, "plan", "video", at=AT)


def test_a_revoked_grant_may_come_again_with_another_limit(shop: sa.Connection) -> None:
    open_gates(shop)
    assert revoke_feature(shop, "plan", CALLS.feature_id, at=AT) == revoke_feature(
        shop, "plan", CALLS.feature_id, at=AT + timedelta(hours=1)
    )
    grant_feature(shop, "plan", "calls", by="bo", at=AT, most_units=Decimal(6))
    assert left(shop, "calls") == "6"
    [grant] = [one for one in list_grants(shop, contract_id="plan") if one.feature_id == "calls"]
    assert (grant.most_units, grant.granted_by, grant.revoked_at) == (Decimal(6), "bo", None)


@pytest.mark.parametrize("figure", ["0", "-1", "NaN", "Infinity", "1e26", "0.0000000000001"])
def test_an_estimate_that_is_no_figure_is_refused(shop: sa.Connection, figure: str) -> None:
    open_gates(shop)
    with pytest.raises(InvalidError, match=r"^units .* must be above 0"):
        ask(shop, units=figure)


def test_a_contract_without_features_costs_one_statement(shop: sa.Connection) -> None:
    start(shop)
    contract = get_contract(shop, "plan")
    statements: list[str] = []
    sa.event.listen(shop, "before_cursor_execute", lambda *given: statements.append(given[2]))
    project_gates(shop, contract, as_of=AT)
    assert len(statements) == 1


def test_a_gate_follows_a_grant_and_a_void_at_once(shop: sa.Connection) -> None:
    open_gates(shop)  # a lot of 10.00
    bring(shop)
    grant_credit(
        shop, "plan", "gift", name="Gift", amount=Decimal(5), start=JANUARY_STARTS, end=None, reason="a gift", by="ada",
        at=AT,
    )  # fmt: skip
    assert left(shop) == "15"
    void_lot(shop, "plan.gift", reason="a mistake", by="ada", at=AT)  # at noon, which is a full hour
    assert left(shop) == "10"
    ends = AT + timedelta(hours=1)
    move_expiry(shop, "plan.prepaid", end=ends, reason="sooner", by="ada", at=AT)
    assert left(shop) == "10"
    assert left(shop, at=ends) == "0"
