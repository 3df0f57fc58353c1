"""Every state of the past can be asked again, and answers as it did then."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from ledger.customers import Customer, create_customer, move_alias
from ledger.database import create_engine, undone
from ledger.errors import NotFoundError, StateError
from ledger.history import current_readings, get_invoice_at, list_invoices_at, readings_at, spend_at
from ledger.intake.backfills import Backfill, commit_backfill, open_backfill, revert_backfill, stage
from ledger.intake.corrections import amend, withdraw
from ledger.intake.events import parse_objects
from ledger.intake.history import as_known, batch_at
from ledger.intake.readings import MetricReadings
from ledger.intake.store import take_in
from ledger.metrics import create_metric
from tests.ledger.books import january, open_invoice, start, use
from tests.ledger.counted import same_as_counted_anew
from tests.ledger.test_corrections import parsed
from tests.ledger.usage import event, number_of, open_shop, send, tokens
from tests.metrics import metric

FIRST = datetime(2026, 1, 20, 12, tzinfo=UTC)
"""When the first act of a story is received; each next one comes an hour later."""

OF_EVERY_AGGREGATION = (
    metric("sum", "t", "sum", "n", ("model",)),
    metric("count", "t", "count", group_keys=("model",)),
    metric("highest", "t", "max", "n"),
    metric("lowest", "t", "min", "n"),
    metric("latest", "t", "latest", "n", ("model",)),
    metric("average", "t", "average", "n"),
    metric("median", "t", "percentile", "n", percentile=Decimal(50)),
    metric("users", "t", "unique", "user", ("model",)),
    metric("present", "t", "unique", "user", operation_property="op", carry_over=True),
    metric("hours", "t", "time_weighted", "n", ("model",), carry_over=True, time_unit="hour"),
    metric("seat-hours", "t", "time_weighted", "user", carry_over=True, time_unit="hour", operation_property="op"),
    metric("twice", "t", "sum", expression="n * 2"),
)


def recorded_long_ago(database_url: str) -> None:
    with psycopg.connect(database_url) as owner:
        owner.execute("set session_replication_role = replica")
        for table in ("metric", "contract", "contract_terms", "lot"):
            owner.execute(sql.SQL("update {} set created_at = '2025-01-01'").format(sql.Identifier(table)))


@pytest.fixture(scope="module")
def past_url(common_url: str) -> str:
    """A database where northwind sells to acme, which has a plan, and everything was recorded long ago."""
    engine = create_engine(common_url, pool_size=1)
    with engine.begin() as connection:
        open_shop(connection)
        for one in OF_EVERY_AGGREGATION:
            create_metric(connection, one)
        create_customer(connection, Customer("bolt", "Bolt", aliases=("bolt", "bolt-eu")))
        start(connection, commits=())
        start(connection, "bolts", customer="bolt", commits=())
    engine.dispose()
    recorded_long_ago(common_url)
    return common_url


@pytest.fixture
def past(past_url: str) -> Iterator[sa.Connection]:
    engine = create_engine(past_url, pool_size=1)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def amount_at(connection: sa.Connection, moment: datetime) -> Decimal:
    """What the tokens of the plan come to in the month of a moment, as known then."""
    found = spend_at(connection, "plan", moment)
    return sum((product.amount for product in found.products if product.product_id == "tokens"), Decimal(0))


def hour(n: int) -> datetime:
    return FIRST + timedelta(hours=n)


def test_spend_is_told_as_it_was_known_before_and_after_a_correction(past: sa.Connection) -> None:
    send(past, tokens("a", 10_000, timestamp="2026-01-20T10:00:00Z"), received_at=hour(0))
    right = parsed(tokens("a", 40_000, timestamp="2026-01-20T10:00:00Z"))
    amend(past, right, reason="wrong", by="ada", at=hour(1))
    withdraw(past, [("gateway", "a")], reason="wrong", by="ada", at=hour(2))
    assert amount_at(past, hour(0) - timedelta(seconds=1)) == 0
    assert amount_at(past, hour(0)) == Decimal("3.0")  # 10,000 at 0.0003
    assert amount_at(past, hour(1)) == Decimal("12.0")  # 40,000 at 0.0003
    assert amount_at(past, hour(2)) == 0


def test_spend_of_the_past_draws_from_lots_as_it_would_have_then(shop: sa.Connection, database_url: str) -> None:
    start(shop)  # with 10.00 prepaid
    shop.commit()
    recorded_long_ago(database_url)
    use(shop, "a", 20_000, "2026-01-10T10:00:00Z")
    use(shop, "b", 30_000, "2026-02-10T10:00:00Z")
    found = spend_at(shop, "plan", datetime(2026, 2, 11, tzinfo=UTC))
    # January used 20,000 at 0.0003 = 6.00 of the 10.00; February used 30,000 = 9.00, of which 4.00 were left
    assert [lot.remaining for lot in found.lots] == [0]
    assert found.drawn_from_lots == Decimal("4.00")
    assert found.unbilled == Decimal("5.00")


def test_moved_and_attributed_usage_belonged_to_whoever_had_it_then(past: sa.Connection) -> None:
    properties = {"n": 5, "user": "u"}
    at_ten = event("a", type="t", customer="bolt-eu", properties=properties, timestamp="2026-01-20T10:00:00Z")
    send(past, at_ten, received_at=hour(0))
    move_alias(past, "bolt-eu", "acme", reason="sold", by="ada", at=hour(1))
    of = {name: [readings(past, name, hour(n)).get("sum") for n in (0, 1)] for name in ("plan", "bolts")}
    assert of == {"plan": [None, Decimal(5)], "bolts": [Decimal(5), None]}


def test_a_batch_is_found_by_the_moment_that_it_was_received(past: sa.Connection) -> None:
    first = send(past, tokens("a", 1, timestamp="2026-01-20T10:00:00Z"), received_at=hour(0)).batch_id
    second = send(past, tokens("b", 1, timestamp="2026-01-20T10:00:00Z"), received_at=hour(2)).batch_id
    assert [batch_at(past, hour(n)) for n in (0, 1, 2)] == [first, first, second]
    assert batch_at(past, hour(-1)) < first


def test_a_batch_from_the_spool_is_known_from_when_it_entered(past: sa.Connection) -> None:
    first = send(past, tokens("a", 1, timestamp="2026-01-20T10:00:00Z"), received_at=hour(1)).batch_id
    batch = parse_objects([tokens("b", 1, timestamp="2026-01-20T10:00:00Z")], received_at=hour(0))
    spooled = take_in(past, batch, door="spool", received_at=hour(0)).batch_id
    past.execute(
        sa.text("insert into usage_receipt values ('r', :batch_id, '{}', :spooled_at, :entered_at)"),
        {"batch_id": spooled, "spooled_at": hour(0), "entered_at": hour(3)},
    )
    assert [batch_at(past, hour(n)) for n in (1, 2, 3)] == [first, first, spooled]


def test_usage_of_strangers_was_nobodys_before_their_customer_was_recorded(past: sa.Connection) -> None:
    send(past, tokens("a", 1, customer="late", timestamp="2026-01-20T10:00:00Z"), received_at=hour(0))
    create_customer(past, Customer("late", "Late"))
    for moment, events in ((hour(0), 0), (datetime(2199, 1, 1, tzinfo=UTC), 1)):
        with as_known(past, moment, customer_id="late"):
            assert number_of(past, "usage_event", "customer_id = 'late'") == events
            assert number_of(past, "usage_rollup", "customer_id = 'late' and metric_id = 'tokens'") == events


def test_what_was_not_recorded_at_a_moment_is_not_found(past: sa.Connection) -> None:
    with pytest.raises(NotFoundError, match="contract plan was not recorded at 2024"):
        readings_at(past, "plan", datetime(2024, 1, 1, tzinfo=UTC))


def test_reading_the_past_leaves_the_present_alone(past: sa.Connection) -> None:
    send(past, tokens("a", 10_000, timestamp="2026-01-20T10:00:00Z"), received_at=hour(0))
    before = current_readings(past, "plan", at=hour(5))
    for n in range(7):  # often enough for the driver to prepare its statements
        readings_at(past, "plan", hour(n - 3))
        assert current_readings(past, "plan", at=hour(5)) == before
    same_as_counted_anew(past)


def test_an_invoice_has_the_state_that_it_had(past: sa.Connection) -> None:
    opening = open_invoice(past)
    assert opening.finalised_at is not None
    draft = january(past)
    later = max(draft.created_at, opening.created_at) + timedelta(days=1)
    states = {one.invoice_id: one.state for one in list_invoices_at(past, later)}
    assert states == {opening.invoice_id: "finalised", draft.invoice_id: draft.state}
    assert list_invoices_at(past, opening.created_at - timedelta(days=1)) == ()
    with pytest.raises(NotFoundError, match="did not exist at 2025"):
        get_invoice_at(past, draft.invoice_id, datetime(2025, 1, 1, tzinfo=UTC))


# --- the law ------------------------------------------------------------------------------------------------------


def readings(connection: sa.Connection, contract_id: str, moment: datetime) -> dict[str, Decimal]:
    """The sums of a contract's readings at a moment, by metric."""
    found = readings_at(connection, contract_id, moment)
    return {one.metric_id: sum((r.quantity for r in one.readings), Decimal(0)) for one in found}


KEYS = st.sampled_from(["k1", "k2", "k3", "k4", "k5"])
CONTENTS = st.builds(
    lambda key, customer, minute, n, user, op, model: event(
        key,
        type="t",
        customer=customer,
        timestamp=(datetime(2026, 1, 20, 8, tzinfo=UTC) + timedelta(minutes=minute)).isoformat(),
        properties={"n": n, "user": user, "op": op, "model": model},
    ),
    KEYS,
    st.sampled_from(["acme", "bolt", "bolt-eu", "stranger"]),
    st.sampled_from([0, 1, 59, 60, 150]),
    st.integers(-3, 9),
    st.sampled_from(["u1", "u2"]),
    st.sampled_from(["add", "remove"]),
    st.sampled_from(["large", "small"]),
)
MOVES = st.tuples(st.sampled_from(["bolt-eu", "stranger"]), st.sampled_from(["acme", "bolt"]))
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.lists(CONTENTS, min_size=1, max_size=4)),
        st.tuples(st.just("amend"), CONTENTS),
        st.tuples(st.just("withdraw"), KEYS),
        st.tuples(st.just("move"), MOVES),
        st.tuples(st.just("replace"), st.lists(CONTENTS, max_size=3)),
        st.tuples(st.just("revert"), st.none()),
    ),
    min_size=2,
    max_size=7,
)  # fmt: skip


@dataclass(slots=True)
class Story:
    """Acts on usage, an hour apart, and what was read after each."""

    connection: sa.Connection
    backfills: list[str] = field(default_factory=list)
    seen: dict[datetime, tuple[tuple[MetricReadings, ...], ...]] = field(default_factory=dict)

    def act(self, n: int, kind: str, what: object) -> None:
        """Do one act; one that is refused leaves everything as it was."""
        try:
            with self.connection.begin_nested():
                self._do(n, kind, what)
        except (NotFoundError, StateError):
            pass
        now = hour(n)
        self.seen[now] = tuple(current_readings(self.connection, name, at=now) for name in ("plan", "bolts"))

    def _do(self, n: int, kind: str, what: object) -> None:
        match kind, what:
            case "send", list():
                send(self.connection, *what, received_at=hour(n))
            case "amend", dict():
                amend(self.connection, parsed(what), reason="law", by="ada", at=hour(n))
            case "withdraw", str():
                withdraw(self.connection, [("gateway", what)], reason="law", by="ada", at=hour(n))
            case "move", (str() as alias, str() as customer_id):
                move_alias(self.connection, alias, customer_id, reason="law", by="ada", at=hour(n))
            case "replace", list():
                self._replace(n, what)
            case _:
                for name in self.backfills[-1:]:
                    revert_backfill(self.connection, name, reason="law", by="ada", at=hour(n))

    def _replace(self, n: int, events: list[object]) -> None:
        window = (datetime(2026, 1, 20, 9, tzinfo=UTC), datetime(2026, 1, 20, 12, tzinfo=UTC))
        name = f"b{n}"
        open_backfill(self.connection, Backfill(name, None, (), (), *window, "replace", "law", "ada", hour(n)))
        stage(self.connection, name, parse_objects(events, received_at=hour(n)))
        commit_backfill(self.connection, name, by="ada", at=hour(n))
        self.backfills.append(name)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTS)
def test_totals_equal_a_count_anew_and_every_past_reads_as_it_did(
    past: sa.Connection, acts: list[tuple[str, object]]
) -> None:
    with undone(past):
        story = Story(past)
        for n, (kind, what) in enumerate(acts):
            story.act(n, kind, what)
            same_as_counted_anew(past)
        for moment, seen in story.seen.items():
            assert tuple(readings_at(past, name, moment) for name in ("plan", "bolts")) == seen
