"""Holds: reserved, captured with their usage, released, expired; by figures worked out by hand."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.customers import Customer, create_customer
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.features import Feature, create_feature, grant_feature, revoke_feature
from ledger.gates import note_problem
from ledger.holds import Hold, InsufficientError, capture, expire_holds, get_hold, hold, list_holds, release
from tests.ledger.books import PREPAID, TOKENS, start, use
from tests.ledger.gated import AT, ask, bring, left, open_gates, usage
from tests.ledger.usage import number_of, send, tokens

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def reserve(
    connection: sa.Connection,
    hold_id: str = "h1",
    feature_id: str = "writing",
    *,
    at: datetime = AT,
    expires_at: datetime = AT + HOUR,
    **figure: str,
) -> Hold:
    figures = {name: Decimal(value) for name, value in figure.items()}
    return hold(connection, hold_id, "acme", feature_id, expires_at=expires_at, at=at, **figures)


def state(connection: sa.Connection, hold_id: str = "h1") -> str:
    return get_hold(connection, hold_id).state


def test_what_is_held_is_not_left_to_others(shop: sa.Connection) -> None:
    open_gates(shop)
    made = reserve(shop, units="20000")  # 20,000 x 0.0003
    assert (made.units, made.amount, made.state) == (Decimal(20_000), Decimal(6), "held")
    assert left(shop) == "4"
    with pytest.raises(InsufficientError, match="acme cannot be held: balance_spent, left amount 4;"):
        reserve(shop, "h2", amount="4.01")
    reserve(shop, "h2", amount="4")
    assert ask(shop).reason == "balance_spent"
    assert number_of(shop, "hold") == 2


def test_a_hold_larger_than_the_balance_is_refused(shop: sa.Connection) -> None:
    open_gates(shop)
    with pytest.raises(InsufficientError) as refused:
        reserve(shop, amount="10.000000000001")
    assert (refused.value.answer.reason, refused.value.answer.left_amount) == ("balance_spent", Decimal(10))
    assert number_of(shop, "hold") == 0
    assert left(shop) == "10"


def test_the_same_hold_again_is_harmless_also_when_nothing_is_left(shop: sa.Connection) -> None:
    open_gates(shop)
    made = reserve(shop, amount="10")
    assert reserve(shop, amount="10") == made
    assert left(shop) == "0"
    for changes in ({"amount": "9"}, {"units": "10"}, {"amount": "10", "expires_at": AT + MINUTE}):
        with pytest.raises(ConflictError, match="hold h1 exists with other content"):
            reserve(shop, **changes)


def test_captured_usage_stays_held_until_it_is_accrued_and_the_rest_is_given_back(shop: sa.Connection) -> None:
    open_gates(shop)
    reserve(shop, amount="6")
    done = capture(shop, "h1", usage("a", 10_000), at=AT + MINUTE)  # 3.00
    assert (done.outcome, done.contracts, done.hold.state) == ("accepted", ("plan",), "captured")
    assert (done.hold.used_units, done.hold.used_amount) == (Decimal(10_000), Decimal(3))
    assert left(shop) == "7"
    assert number_of(shop, "usage_event") == 1
    bring(shop)
    assert state(shop) == "accrued"
    assert left(shop) == "6.5"  # the event is a request too: 0.50
    assert number_of(shop, "gate", "held_amount <> 0") == 0


def test_the_same_capture_again_is_harmless_before_and_after_it_is_accrued(shop: sa.Connection) -> None:
    open_gates(shop)
    reserve(shop, amount="6")
    capture(shop, "h1", usage("a", 10_000), at=AT)
    for _ in range(2):
        again = capture(shop, "h1", usage("a", 10_000), at=AT + 2 * HOUR)
        assert (again.outcome, again.contracts) == ("duplicate", ())
        bring(shop)
    assert (number_of(shop, "usage_event"), number_of(shop, "usage_batch")) == (1, 1)
    with pytest.raises(ConflictError, match="was sent before with other content"):
        capture(shop, "h1", usage("a", 10_001), at=AT)
    with pytest.raises(StateError, match="captured with event 'gateway' 'a' already; make another hold"):
        capture(shop, "h1", usage("b", 10_000), at=AT)
    with pytest.raises(StateError, match="captured already; correct its event"):
        release(shop, "h1", at=AT)


def test_an_event_that_came_before_counts_once_and_gives_the_hold_back(shop: sa.Connection) -> None:
    open_gates(shop)
    reserve(shop, "early", amount="3")
    reserve(shop, "late", amount="3")
    send(shop, tokens("a", 10_000, timestamp="2026-01-20T10:00:00Z"))
    assert capture(shop, "early", usage("a", 10_000), at=AT).outcome == "duplicate"
    assert (state(shop, "early"), left(shop)) == ("captured", "4")
    bring(shop)
    assert (state(shop, "early"), left(shop)) == ("accrued", "3.5")  # 10 - 3.00 - 0.50 - 3 held
    assert capture(shop, "late", usage("a", 10_000), at=AT).hold.state == "accrued"
    assert left(shop) == "6.5"
    assert number_of(shop, "usage_event") == 1


def test_more_than_is_held_is_refused_or_taken_as_usage(shop: sa.Connection) -> None:
    open_gates(shop)
    reserve(shop, amount="1")
    with pytest.raises(StateError, match="holds an amount of 1 and the event uses 3; capture it with excess `take`"):
        capture(shop, "h1", usage("a", 10_000), at=AT)
    assert (state(shop), number_of(shop, "usage_event")) == ("held", 0)
    capture(shop, "h1", usage("a", 10_000), at=AT, excess="take")
    assert left(shop) == "7"
    bring(shop)
    assert left(shop) == "6.5"


def test_a_released_hold_holds_nothing_and_cannot_be_captured(shop: sa.Connection) -> None:
    open_gates(shop)
    reserve(shop, amount="6")
    assert release(shop, "h1", at=AT).state == "released"
    assert release(shop, "h1", at=AT + MINUTE).settled_at == AT
    assert left(shop) == "10"
    with pytest.raises(StateError, match="hold h1 is released and holds nothing any more; send its usage by POST"):
        capture(shop, "h1", usage("a", 1), at=AT)
    assert number_of(shop, "usage_event") == 0


def test_an_expired_hold_counts_no_more_though_nobody_marks_it(shop: sa.Connection) -> None:
    open_gates(shop)
    reserve(shop, amount="6", expires_at=AT + MINUTE)
    assert left(shop, at=AT + MINUTE - timedelta(microseconds=1)) == "4"
    assert left(shop, at=AT + MINUTE) == "10"
    assert state(shop) == "expired"
    with pytest.raises(StateError, match="hold h1 has expired"):
        capture(shop, "h1", usage("a", 1), at=AT)  # its money may be another's by now
    reserve(shop, "h2", amount="10", at=AT + MINUTE)


def test_a_hold_that_expired_unmarked_makes_room_for_the_next(shop: sa.Connection) -> None:
    open_gates(shop)
    reserve(shop, amount="6", expires_at=AT + MINUTE)
    reserve(shop, "h2", amount="10", at=AT + MINUTE)
    assert left(shop, at=AT + MINUTE) == "0"


def test_expired_holds_are_marked_also_where_the_feature_was_revoked(shop: sa.Connection) -> None:
    open_gates(shop)
    reserve(shop, amount="6", expires_at=AT + MINUTE)
    reserve(shop, "h2", "calls", units="1", expires_at=AT + 2 * MINUTE)
    for feature_id in ("writing", "calls", "export"):
        revoke_feature(shop, "plan", feature_id, at=AT)
    assert expire_holds(shop, AT) == 0
    assert expire_holds(shop, AT + MINUTE) == 1
    assert expire_holds(shop, AT + HOUR) == 1
    assert [one.state for one in list_holds(shop, customer_id="acme")] == ["expired", "expired"]
    assert list_holds(shop, state="held") == ()


def test_expired_holds_are_marked_some_contracts_at_a_time(shop: sa.Connection) -> None:
    open_gates(shop)
    reserve(shop, amount="6", expires_at=AT + MINUTE)
    create_customer(shop, Customer("globex", "Globex"))
    start(shop, "other", customer="globex", products=[TOKENS], commits=[PREPAID.replace("prepaid", "own")])
    grant_feature(shop, "other", "writing", by="ada", at=AT)
    hold(shop, "h2", "globex", "writing", amount=Decimal(1), expires_at=AT + MINUTE, at=AT)
    assert [expire_holds(shop, AT + MINUTE, most_contracts=1) for _ in range(3)] == [1, 1, 0]


def test_usage_of_a_hold_whose_feature_was_revoked_is_captured(shop: sa.Connection) -> None:
    open_gates(shop)
    reserve(shop, amount="6")
    revoke_feature(shop, "plan", "writing", at=AT)
    capture(shop, "h1", usage("a", 10_000), at=AT)
    grant_feature(shop, "plan", "writing", by="ada", at=AT)
    assert left(shop) == "7"


def test_units_are_held_where_a_feature_is_metered(shop: sa.Connection) -> None:
    open_gates(shop)
    reserve(shop, feature_id="calls", units="4")
    assert left(shop, "calls") == "1"
    assert left(shop) == "8"  # 4 calls at 0.50 are held of the same lot
    with pytest.raises(InsufficientError, match="units_spent, left units 1"):
        reserve(shop, "h2", "calls", units="2")
    with pytest.raises(InvalidError, match="metered and amount 1 tells no units; give units"):
        reserve(shop, "h2", "calls", amount="1")
    capture(shop, "h1", usage("a", 1000), at=AT)
    assert left(shop, "calls") == "4"
    bring(shop)
    assert left(shop, "calls") == "4"


def test_features_that_draw_from_one_lot_share_what_is_held(shop: sa.Connection) -> None:
    open_gates(shop)
    create_feature(shop, Feature("all", "All", "balance", ("tokens", "requests")))
    grant_feature(shop, "plan", "all", by="ada", at=AT)
    reserve(shop, amount="6")
    assert left(shop, "all") == "4"
    reserve(shop, "h2", "all", amount="3")
    assert left(shop) == "1"
    release(shop, "h1", at=AT)
    assert (left(shop), left(shop, "all")) == ("7", "7")
    # 1,000 tokens and the request: 0.30 + 0.50
    assert capture(shop, "h2", usage("a", 1000), at=AT).hold.used_amount == Decimal("0.8")
    assert (left(shop), left(shop, "all")) == ("9.2", "9.2")


def test_usage_whose_price_only_rating_can_tell_is_taken_for_all_that_is_held(shop: sa.Connection) -> None:
    tiers = "tiers: [{up_to: 1000, unit_price: '0.01'}, {unit_price: '0.005'}]"
    start(shop, products=[f"- {{id: tokens, name: T, metric: tokens, price: {{model: graduated, {tiers}}}}}"],
          commits=[PREPAID])  # fmt: skip
    create_feature(shop, Feature("writing", "Writing", "balance", ("tokens",)))
    grant_feature(shop, "plan", "writing", by="ada", at=AT)
    with pytest.raises(InvalidError, match="no single price per unit for units 5; give an amount"):
        reserve(shop, units="5")
    reserve(shop, amount="6")
    capture(shop, "h1", usage("a", 500), at=AT)
    assert left(shop) == "4"
    bring(shop)
    assert left(shop) == "5"  # 10 - 500 x 0.01


def test_an_event_that_is_no_usage_of_the_hold_is_refused_and_not_taken_in(shop: sa.Connection) -> None:
    open_gates(shop)
    create_customer(shop, Customer("cobalt", "Cobalt"))
    reserve(shop, amount="6")
    for event, sentence in (
        (usage("a", 1, customer="cobalt"), "customer 'cobalt' of the event is no name of customer acme"),
        (usage("a", 1, at="2025-12-01T10:00:00Z"), "is no usage of contract plan"),
        (usage("a", "many"), r"input_tokens .*many"),
    ):
        with pytest.raises(InvalidError, match=sentence), shop.begin_nested():
            capture(shop, "h1", event, at=AT)
    other = type(event)("gateway", "a", "acme", "upload", event.timestamp, {})
    with pytest.raises(InvalidError, match="event type 'upload' is counted by none of the products tokens"):
        capture(shop, "h1", other, at=AT)
    assert (state(shop), number_of(shop, "usage_event")) == ("held", 0)


def test_an_event_of_another_batch_that_counts_elsewhere_does_not_settle_a_hold(shop: sa.Connection) -> None:
    open_gates(shop)
    send(shop, tokens("a", 5, timestamp="2025-12-01T10:00:00Z"))
    reserve(shop, amount="6")
    with pytest.raises(InvalidError, match="is no usage of contract plan, for which hold h1 is"):
        capture(shop, "h1", usage("a", 5, at="2025-12-01T10:00:00Z"), at=AT)


def test_holds_that_cannot_be_are_refused(shop: sa.Connection) -> None:
    open_gates(shop)
    with pytest.raises(InvalidError, match="give exactly one of them"):
        reserve(shop)
    with pytest.raises(InvalidError, match="give exactly one of them"):
        reserve(shop, units="1", amount="1")
    with pytest.raises(InvalidError, match="amount 0 must be above 0"):
        reserve(shop, amount="0")
    with pytest.raises(InvalidError, match="must come after now"):
        reserve(shop, amount="1", expires_at=AT)
    with pytest.raises(InvalidError, match="feature export is not limited, there is nothing to hold"):
        reserve(shop, feature_id="export", units="1")
    note_problem(shop, "plan", "no price")
    with pytest.raises(InsufficientError, match="problem, left amount 10; see why rating of its contract stopped"):
        reserve(shop, amount="1")
    with pytest.raises(InsufficientError, match="no_feature, left nothing; grant it to a contract"):
        reserve(shop, feature_id="nothing", units="1")
    with pytest.raises(NotFoundError, match="hold h1 does not exist"):
        release(shop, "h1", at=AT)
    with pytest.raises(InvalidError, match="hold_id '' must be"):
        reserve(shop, "", amount="1")


def test_a_lot_that_ends_while_its_money_is_held_leaves_nothing(shop: sa.Connection) -> None:
    gift = '- {id: gift, name: Gift, amount: "4.00", start: 2026-01-10, end: 2026-01-25, products: [tokens]}'
    start(shop, products=[TOKENS], commits=[gift])
    create_feature(shop, Feature("writing", "Writing", "balance", ("tokens",)))
    grant_feature(shop, "plan", "writing", by="ada", at=AT)
    reserve(shop, amount="3", expires_at=AT + 10 * 24 * HOUR)
    assert left(shop) == "1"
    assert left(shop, at=datetime(2026, 1, 24, 23, tzinfo=UTC)) == "0"  # never below
    use(shop, "b", 1)
    bring(shop, at=datetime(2026, 1, 25, tzinfo=UTC))
    assert ask(shop, at=datetime(2026, 1, 25, tzinfo=UTC)).reason == "balance_spent"
