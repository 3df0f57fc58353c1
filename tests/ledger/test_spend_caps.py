"""Spend caps: gates close before more is spent in a period or a day than a rule lets, and open with the next one.

Tokens cost 0.0003 each and requests, one an event, 0.5; the lot of January holds 10.00. Days are those of Berlin.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.accrual import accrue
from ledger.alert_rules import disable_rule
from ledger.database import create_engine, undone
from ledger.errors import InvalidError
from ledger.features import Feature, create_feature, grant_feature
from ledger.gates import GateRequest, check_gates
from ledger.holds import InsufficientError, capture, get_hold, hold, release
from ledger.spend import spend
from ledger.verification.gates import check_gates as verify_gates
from ledger.verification.raw import read_records
from tests.ledger.alerting import crossings, rule
from tests.ledger.books import SUPPORT, TOKENS, start, use
from tests.ledger.gated import AT, EXPORT, WRITING, ask, bring, left, open_gates, usage
from tests.ledger.usage import number_of, open_shop

HOUR = timedelta(hours=1)
NEXT_DAY = datetime(2026, 1, 20, 23, tzinfo=UTC)
FEBRUARY = datetime(2026, 1, 31, 23, tzinfo=UTC)
TIERED = (
    "- {id: requests, name: Requests, metric: requests,"
    ' price: {model: graduated, tiers: [{up_to: "10", unit_price: "0.5"}, {unit_price: "0.4"}]}}'
)


def take(connection: sa.Connection, name: str, feature_id: str = "writing", **what: str) -> None:
    figures = {unit: Decimal(value) for unit, value in what.items()}
    hold(connection, name, "acme", feature_id, expires_at=AT + 2 * HOUR, at=AT, **figures)


@pytest.fixture
def capped(shop: sa.Connection) -> sa.Connection:
    """A cap of 4.00 a day on contract plan, of which 2.00 are spent: 5,000 tokens of one request."""
    open_gates(shop)
    rule(shop, "spend", "4", rule_id="cap", span="day", action="cap")
    use(shop, "a", 5_000, "2026-01-20T10:00:00Z")
    bring(shop)
    return shop


def test_what_a_cap_leaves_limits_money_at_every_gate_and_names_its_rule(capped: sa.Connection) -> None:
    assert (left(capped), ask(capped).allowed) == ("2", True)
    calls = ask(capped, "calls")
    assert (calls.left_amount, calls.left_units) == (Decimal(2), Decimal(4))
    assert ask(capped, amount="2").allowed
    denied = ask(capped, amount="2.01")
    assert (denied.allowed, denied.reason, denied.rule_id) == (False, "cap_reached", "cap")
    assert ask(capped, units="6667").reason == "cap_reached"  # 2.0001
    assert ask(capped, "calls", units="4").allowed
    rule(capped, "spend", "100", rule_id="wide", action="cap")
    use(capped, "b", 26_667, "2026-01-20T11:00:00Z")  # 8.0001 and a request: the lot is used up before the wide cap
    bring(capped)
    assert (ask(capped).reason, ask(capped).rule_id, left(capped)) == ("cap_reached", "cap", "0")


def test_gates_close_when_the_cap_is_reached_also_those_of_features_that_cost_nothing(capped: sa.Connection) -> None:
    use(capped, "b", 5_000, "2026-01-20T11:00:00Z")  # 4.00
    bring(capped)
    reasons = [ask(capped, feature).reason for feature in ("writing", "calls", "export")]
    assert reasons == ["cap_reached", "cap_reached", "cap_reached"]
    assert crossings(capped) == [("cap", "2026-01-19T23", 1, "raised", "4")]
    use(capped, "back", -1, "2026-01-20T11:30:00Z")  # takes 0.0003 back, but is a request of 0.50 itself
    bring(capped)
    assert ask(capped).reason == "cap_reached"


def test_a_correction_and_the_next_day_open_the_gates_again_without_an_accrual(capped: sa.Connection) -> None:
    use(capped, "b", 5_000, "2026-01-20T11:00:00Z")
    bring(capped)
    use(capped, "back", -5_000, "2026-01-20T11:30:00Z")  # 1.50 + 1.50 - 1.50 + 3 x 0.50 = 3.00
    bring(capped)
    assert (ask(capped).allowed, left(capped)) == (True, "1")
    use(capped, "c", 5_000, "2026-01-20T11:40:00Z")
    bring(capped)
    closed = ask(capped, at=NEXT_DAY - timedelta(seconds=1))
    assert (closed.allowed, closed.keep_until) == (False, NEXT_DAY)
    opened = ask(capped, at=NEXT_DAY)
    assert (opened.allowed, opened.left_amount) == (True, Decimal(4))


def test_a_cap_of_the_period_is_there_anew_with_the_next_period(shop: sa.Connection) -> None:
    start(shop, products=[TOKENS, SUPPORT], commits=[])
    create_feature(shop, EXPORT)
    grant_feature(shop, "plan", "export", by="ada", at=AT)
    rule(shop, "spend", "30", rule_id="cap", action="cap")
    use(shop, "a", 10_000, "2026-01-10T10:00:00Z")
    bring(shop)
    # 3.00, and of the fee of 49.00 the 20 days that have begun of 31: 31.612903225806
    assert spend(shop, "plan").total > 30
    [answer] = check_gates(shop, [GateRequest("acme", "export")], at=AT)
    assert (answer.reason, answer.left_amount) == ("cap_reached", Decimal(0))
    assert ask(shop, "export", at=FEBRUARY).left_amount == 30


def test_a_cap_on_one_product_limits_only_the_features_that_count_it(shop: sa.Connection) -> None:
    open_gates(shop)
    rule(shop, "spend", "1", rule_id="cap", product="requests", action="cap")
    bring(shop)
    assert (ask(shop).left_amount, ask(shop, "calls").left_amount) == (Decimal(10), Decimal(1))
    take(shop, "h", "calls", units="2")
    assert (left(shop), ask(shop, "calls").reason) == ("9", "cap_reached")  # one lot pays for both
    assert ask(shop, "export").allowed


# --- holds --------------------------------------------------------------------------------------------------------


def test_what_is_held_on_any_feature_counts_against_the_cap_until_it_is_given_back(capped: sa.Connection) -> None:
    take(capped, "a", amount="1.5")
    assert (left(capped), ask(capped, "calls").left_amount) == ("0.5", Decimal("0.5"))
    take(capped, "b", "calls", units="1")
    assert [ask(capped, feature).reason for feature in ("writing", "calls")] == ["cap_reached", "cap_reached"]
    with pytest.raises(InsufficientError, match="cannot be held: cap_reached by rule cap, left amount 0; hold less"):
        take(capped, "c", amount="0.01")
    release(capped, "a", at=AT)
    assert left(capped) == "1.5"
    assert ask(capped, at=AT + 2 * HOUR).left_amount == 2  # the other hold has expired


def test_what_is_captured_counts_once_whether_it_is_accrued_or_not(capped: sa.Connection) -> None:
    take(capped, "a", units="5000")  # 1.50
    capture(capped, "a", usage("event", 2_000), at=AT)  # 0.60
    assert left(capped) == "1.4"
    bring(capped)
    assert left(capped) == "0.9"  # 0.60, and the request that the event also is


def test_the_nearest_of_several_caps_counts_also_when_a_hold_on_another_feature_changes_which_it_is(
    capped: sa.Connection,
) -> None:
    rule(capped, "spend", "3.2", rule_id="tokens", product="tokens", span="day", action="cap")
    bring(capped)
    assert ask(capped).left_amount == Decimal("1.7")  # 3.20 - 1.50, of the other cap 2.00 are left
    take(capped, "a", "calls", units="1")
    assert ask(capped).left_amount == Decimal("1.5")
    assert ask(capped, amount="1.6").rule_id == "cap"


def test_units_without_a_single_price_cannot_be_valued_under_a_cap(shop: sa.Connection) -> None:
    open_gates(shop, products=(TOKENS, TIERED))
    rule(shop, "spend", "4", rule_id="cap", action="cap")
    bring(shop)
    assert ask(shop, "calls").allowed
    assert ask(shop, "calls", units="1").reason == "unpriced"
    with pytest.raises(InvalidError, match="no single price per unit"):
        take(shop, "h", "calls", units="1")


# --- the rule itself ----------------------------------------------------------------------------------------------


def test_a_cap_holds_from_the_next_answer_on_and_is_lifted_with_its_rule(shop: sa.Connection) -> None:
    open_gates(shop)
    bring(shop)
    rule(shop, "spend", "4", rule_id="cap", action="cap")
    assert number_of(shop, "gate", "valid_until = watermark") == 3
    assert number_of(shop, "usage_dirty", "batch_id = 0") == 1
    bring(shop)
    assert left(shop) == "4"
    disable_rule(shop, "cap", at=AT)
    bring(shop)
    assert left(shop) == "10"
    rule(shop, "spend", "4", rule_id="told")
    rule(shop, "spend", "4", rule_id="of-dune", contract=None, customer="acme", action="cap")
    bring(shop)
    assert ask(shop, amount="5").rule_id == "of-dune"


def test_gates_under_caps_are_verified(capped: sa.Connection) -> None:
    take(capped, "a", amount="1")
    assert [check.name for check in verify_gates(read_records(capped)) if not check.ok] == []


# --- laws and races -----------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from(("hold", "capture", "release", "accrue")), st.integers(1, 5_000)), min_size=4, max_size=12
)


def committed(connection: sa.Connection) -> Decimal:
    """What is spent on tokens that day, with all that is held or captured and not accrued."""
    held: Decimal = connection.execute(
        sa.text("select coalesce(sum(coalesce(used_amount, amount)), 0) from hold where state in ('held', 'captured')")
    ).scalar_one()
    return held + spend(connection, "plan").total


@settings(max_examples=10, deadline=None)
@given(STEPS)
def test_spend_and_holds_together_never_pass_the_cap(common: sa.Engine, steps: Sequence[tuple[str, int]]) -> None:
    with common.connect() as connection, undone(connection):
        for number, (step, units) in enumerate(steps):
            open_holds = [f"h{n}" for n in range(number) if _is_held(connection, f"h{n}")]
            if step == "hold":
                fits = committed(connection) + units * Decimal("0.0003") <= 2
                with nullcontext() if fits else pytest.raises(InsufficientError):
                    take(connection, f"h{number}", units=str(units))
            elif step == "accrue":
                bring(connection)
            elif open_holds and step == "capture":
                most = int(get_hold(connection, open_holds[0]).units)
                capture(connection, open_holds[0], usage(f"e{number}", min(units, most)), at=AT)
            elif open_holds:
                release(connection, open_holds[0], at=AT)
            assert committed(connection) <= 2
        bring(connection)
        assert ask(connection).left_amount == 2 - committed(connection)


def _is_held(connection: sa.Connection, name: str) -> bool:
    return number_of(connection, "hold", f"hold_id = '{name}' and state = 'held'") == 1


@pytest.fixture(scope="module")
def common(common_url: str) -> Iterator[sa.Engine]:
    """Acme has 10.00, of which 2.00 may be used for tokens a day."""
    engine = create_engine(common_url)
    with engine.begin() as connection:
        open_capped(connection)
    yield engine
    engine.dispose()


def open_capped(connection: sa.Connection) -> None:
    open_shop(connection)
    start(connection, products=[TOKENS])
    create_feature(connection, WRITING)
    create_feature(connection, Feature("reading", "Reading", "balance", ("tokens",)))
    for feature_id in ("writing", "reading"):
        grant_feature(connection, "plan", feature_id, by="ada", at=AT)
    rule(connection, "spend", "2", rule_id="cap", span="day", action="cap")
    bring(connection)


def test_twenty_threads_hold_and_use_no_more_than_a_small_cap(database_url: str) -> None:
    engine = create_engine(database_url, pool_size=22)
    with engine.begin() as connection:
        open_capped(connection)
    over = Event()

    def client(number: int) -> str:
        name, feature_id = f"h{number}", ("writing", "reading")[number % 2]
        try:
            with engine.begin() as connection:
                take(connection, name, feature_id, units="1000")  # 0.30: six fit into 2.00
        except InsufficientError:
            return "denied"
        with engine.begin() as connection:
            capture(connection, name, usage(name, 1_000), at=AT)
        return "captured"

    def accruing() -> None:
        while not over.wait(0.02):
            with engine.begin() as connection:
                accrue(connection, "plan", as_of=AT)

    with ThreadPoolExecutor(21) as pool:
        beside = pool.submit(accruing)
        try:
            done = Counter(pool.map(client, range(20), timeout=60))
        finally:
            over.set()
        beside.result(timeout=30)
    with engine.begin() as connection:
        bring(connection)
        assert done == {"captured": 6, "denied": 14}
        assert (spend(connection, "plan").total, left(connection)) == (Decimal("1.8"), "0.2")
    engine.dispose()
