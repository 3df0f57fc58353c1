"""Many clients hold and capture against one small balance while accruals run: never overdrawn, nothing lost."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event

import pytest
import sqlalchemy as sa

from ledger.contracts import lock_customer_of
from ledger.database import create_engine
from ledger.errors import StateError
from ledger.features import Feature, create_feature, grant_feature
from ledger.gates import check_gate, project_gates
from ledger.holds import InsufficientError, capture, expire_holds, hold, release
from tests.ledger.books import PREPAID, TOKENS, start
from tests.ledger.gated import AT, bring, usage
from tests.ledger.usage import number_of, open_shop

THREADS = 50
HOUR = timedelta(hours=1)
MOMENT = timedelta(microseconds=1)


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine for many threads; acme has 10.00 for two features that draw from one lot."""
    engine = create_engine(database_url, pool_size=16)
    with engine.begin() as connection:
        open_shop(connection)
        start(connection, products=[TOKENS], commits=[PREPAID])
        for feature_id in ("writing", "reading"):
            create_feature(connection, Feature(feature_id, feature_id, "balance", ("tokens",)))
            grant_feature(connection, "plan", feature_id, by="ada", at=AT)
    yield engine
    engine.dispose()


def hold_and_settle(engine: sa.Engine, number: int) -> list[str]:
    """One client: twice it holds 2,000 tokens, 0.60, and captures or releases them; returns what came of it."""
    outcomes = []
    for attempt in range(2):
        name, feature_id = f"{number}-{attempt}", ("writing", "reading")[number % 2]
        try:
            with engine.begin() as connection:
                hold(connection, name, "acme", feature_id, units=Decimal(2000), expires_at=AT + HOUR, at=AT)
        except InsufficientError:
            outcomes.append("denied")
            continue
        with engine.begin() as connection:
            if attempt == 0 and number % 5 == 0:
                release(connection, name, at=AT)
                outcomes.append("released")
            else:
                capture(connection, name, usage(name, 2000), at=AT)
                outcomes.append("captured")
    return outcomes


def until(over: Event, engine: sa.Engine, work: Callable[[sa.Connection], object]) -> None:
    while not over.wait(0.02):
        with engine.begin() as connection:
            work(connection)


def test_fifty_clients_never_hold_or_use_more_than_there_is(engine: sa.Engine) -> None:
    over = Event()
    beside: list[Callable[[sa.Connection], object]] = [
        bring,
        lambda connection: expire_holds(connection, AT),
        lambda connection: project_gates(connection, lock_customer_of(connection, "plan"), as_of=AT),
        lambda connection: check_gate(connection, "acme", "reading", at=AT),
    ]
    with ThreadPoolExecutor(THREADS + len(beside)) as pool:
        running = [pool.submit(until, over, engine, work) for work in beside]
        try:
            clients = [pool.submit(hold_and_settle, engine, number) for number in range(THREADS)]
            done = Counter(outcome for client in clients for outcome in client.result(timeout=120))
        finally:
            over.set()
        for one in running:
            one.result(timeout=60)
    with engine.begin() as connection:
        bring(connection)
        # 16 times 0.60 fit into 10.00, whoever comes first; what the 10 others gave back may have come too late
        captured = done["captured"]
        assert 6 <= captured <= 16
        assert done.total() == 2 * THREADS
        assert number_of(connection, "usage_event") == captured
        drawn = connection.execute(
            sa.text("select lot_id, sum(amount) from accrued group by lot_id having sum(amount) <> 0")
        )
        assert drawn.all() == [("plan.prepaid", captured * Decimal("0.6"))]
        states = connection.execute(sa.text("select state, count(*) from hold group by state"))
        assert dict(states.all()) == {"accrued": captured, "released": done["released"]}
        for feature_id in ("writing", "reading"):
            assert check_gate(connection, "acme", feature_id, at=AT).left_amount == 10 - captured * Decimal("0.6")
        assert number_of(connection, "gate", "held_amount <> 0 or held_units <> 0") == 0


def test_the_same_hold_from_many_clients_is_made_once(engine: sa.Engine) -> None:
    def client(_: int) -> str:
        with engine.begin() as connection:
            made = hold(connection, "h1", "acme", "writing", amount=Decimal(10), expires_at=AT + HOUR, at=AT)
            capture(connection, "h1", usage("a", 10_000), at=AT)
            return made.hold_id

    with ThreadPoolExecutor(12) as pool:
        assert [*pool.map(client, range(12))] == ["h1"] * 12
    with engine.begin() as connection:
        assert number_of(connection, "hold", "state = 'captured'") == 1
        assert number_of(connection, "usage_event") == 1
        assert check_gate(connection, "acme", "writing", at=AT).left_amount == Decimal(7)


def test_money_of_a_hold_that_expires_is_captured_or_held_again_never_both(engine: sa.Engine) -> None:
    left = Decimal(10)
    for number in range(8):
        at = datetime(2026, 1, 21, number, tzinfo=UTC)
        tokens = int(left / Decimal("0.0003") * Decimal("0.6"))  # more than half of what is left, so that one fits
        with engine.begin() as connection:
            hold(connection, f"old-{number}", "acme", "writing", units=Decimal(tokens), expires_at=at, at=at - HOUR)

        def captures(name: str = f"old-{number}", now: datetime = at - MOMENT, count: int = tokens) -> bool:
            with engine.begin() as connection:
                capture(connection, name, usage(name, count), at=now)
            return True

        def holds(name: str = f"new-{number}", now: datetime = at, count: int = tokens) -> bool:
            with engine.begin() as connection:
                hold(connection, name, "acme", "writing", units=Decimal(count), expires_at=now + HOUR / 2, at=now)
            return True

        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(tolerant, captures), pool.submit(tolerant, holds)]
        assert sum(one.result() for one in both) == 1
        if both[0].result():
            left -= tokens * Decimal("0.0003")
        else:
            with engine.begin() as connection:
                release(connection, f"new-{number}", at=at)


def tolerant(attempt: Callable[[], bool]) -> bool:
    """Say whether an attempt went well; a refusal by the state of things is no failure."""
    try:
        return attempt()
    except StateError:
        return False
