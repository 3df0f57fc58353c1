"""Many senders at once, customers and metrics that appear meanwhile, and senders that die: nothing lost or double."""

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from ledger.customers import Customer, create_customer
from ledger.database import create_engine
from ledger.intake.attribution import rebuild_customer
from ledger.metrics import create_metric
from tests.ledger.sender import BATCHES
from tests.ledger.usage import NOON, counts, number_of, open_shop, rollup, same_figures, send, tokens
from tests.metrics import metric

Job = Callable[[sa.Engine], None]


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine for many threads, on a database where northwind sells to acme."""
    engine = create_engine(database_url, pool_size=12)
    with engine.begin() as connection:
        open_shop(connection)
    yield engine
    engine.dispose()


def at_once(engine: sa.Engine, jobs: Sequence[Job]) -> None:
    """Run jobs in threads that start together; raise what one of them raised."""
    barrier = Barrier(len(jobs))

    def run(job: Job) -> None:
        barrier.wait(timeout=20)
        job(engine)

    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(run, job) for job in jobs]:
            done.result(timeout=60)


def test_eight_senders_of_the_same_events_have_each_accepted_once(engine: sa.Engine) -> None:
    # 300 events over three months, sent by each of 8 senders in an order and in batches of its own
    events = [tokens(f"k{n}", n, timestamp=(NOON - timedelta(days=n % 90)).isoformat()) for n in range(300)]
    answers: Counter[str] = Counter()

    def sender(seed: int) -> Job:
        def job(engine: sa.Engine) -> None:
            mine = random.Random(seed).sample(events, len(events))  # noqa: S311 -- a shuffle that can be repeated
            mine[:30] = [tokens(str(one["key"]), -seed - 1) for one in mine[:30]]  # other content under known keys
            for start in range(0, len(mine), 60):
                with engine.begin() as connection:
                    result = send(connection, *mine[start : start + 60])
                answers.update(one.outcome for one in result.results)

        return job

    at_once(engine, [sender(seed) for seed in range(8)])
    assert answers["accepted"] == 300
    assert answers.total() == 2400
    with engine.connect() as connection:
        same_figures(connection)
        assert number_of(connection, "usage_event") == 300
        batches = connection.execute(sa.text("select sum(accepted), sum(duplicate), sum(conflict) from usage_batch"))
        assert tuple(batches.one()) == (answers["accepted"], answers["duplicate"], answers["conflict"])


def test_a_batch_and_its_reverse_do_not_deadlock(engine: sa.Engine) -> None:
    for turn in range(5):
        batch = [tokens(f"{turn}-{n}", 1, customer=f"stranger {n % 7}") for n in range(500)]

        def forward(engine: sa.Engine, batch: Sequence[object] = batch) -> None:
            with engine.begin() as connection:
                send(connection, *batch)

        def backward(engine: sa.Engine, batch: Sequence[object] = batch) -> None:
            with engine.begin() as connection:
                send(connection, *reversed(batch))

        at_once(engine, [forward, backward])
    with engine.connect() as connection:
        same_figures(connection)
        assert number_of(connection, "usage_event") == 2500


NAMES = [f"customer-{n}" for n in range(6)]


def send_for_all(number: int) -> Job:
    """Send 15 batches with n tokens for the n-th of the names, and one token for acme."""

    def job(engine: sa.Engine) -> None:
        for batch in range(15):
            events = [tokens(f"{number}-{batch}-{n}", n, customer=name) for n, name in enumerate(NAMES)]
            with engine.begin() as connection:
                send(connection, *events, tokens(f"{number}-{batch}", 1))

    return job


def create_customers(engine: sa.Engine) -> None:
    for name in NAMES:
        with engine.begin() as connection:
            create_customer(connection, Customer(name, name))


def create_metrics(engine: sa.Engine) -> None:
    for n in range(6):
        with engine.begin() as connection:
            create_metric(connection, metric(f"metric-{n}", "llm.request", "sum", "input_tokens"))
        with engine.begin() as connection:
            create_metric(connection, metric(f"computed-{n}", "llm.request", "max", expression="input_tokens * 2"))
        with engine.begin() as connection:
            create_metric(connection, metric(f"unique-{n}", "llm.request", "unique", "input_tokens"))


def change_buckets(engine: sa.Engine) -> None:
    lock = sa.text("select from customer where customer_id = 'acme' for update")
    change = sa.text("update customer set bucket_minutes = :minutes where customer_id = 'acme'")
    for minutes in (15, 60, 15, 60):
        with engine.begin() as connection:
            connection.execute(lock)
            connection.execute(change, {"minutes": minutes})
            rebuild_customer(connection, "acme")


def test_customers_and_metrics_that_appear_during_intake_miss_no_event(engine: sa.Engine) -> None:
    at_once(engine, [*map(send_for_all, range(4)), create_customers, create_metrics, change_buckets])
    with engine.connect() as connection:
        same_figures(connection)
        assert number_of(connection, "usage_event", "customer_id is null") == 0
        for n, name in enumerate(NAMES):
            totals = {metric: total for (metric, _, _), total in rollup(connection, name).items()}
            assert totals["metric-5"] == (str(60 * n), 60)  # 4 senders, 15 batches each, n tokens
            assert totals["computed-5"] == (str(120 * n), 60)
            assert len(totals) == 20


@pytest.mark.parametrize(
    "change",
    [
        lambda connection: create_metric(connection, metric("late", "llm.request", "count")),
        lambda connection: create_customer(connection, Customer("bolt", "Bolt")),
        lambda connection: rebuild_customer(connection, "acme"),
    ],
    ids=["metric", "customer", "buckets"],
)
def test_what_changes_how_usage_counts_waits_for_batches_under_way(
    engine: sa.Engine, change: Callable[[sa.Connection], object]
) -> None:
    with engine.begin() as connection:
        send(connection, tokens("opens the month", 1))  # whoever makes a month's partition is waited for
    with engine.connect() as batch, engine.connect() as changing:
        send(batch, tokens("a", 1), tokens("b", 1, customer="bolt"))
        changing.execute(sa.text("set local lock_timeout = '100ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            change(changing)
        changing.rollback()
        batch.commit()
        change(changing)
        changing.commit()
        same_figures(changing)


def test_freezing_a_customer_waits_for_its_batches_and_for_no_other(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        create_customer(connection, Customer("bolt", "Bolt"))
    freeze = sa.text("select from customer where customer_id = :customer_id for update nowait")
    with engine.connect() as batch, engine.connect() as freezing:
        send(batch, tokens("a", 1))
        freezing.execute(freeze, {"customer_id": "bolt"})
        with pytest.raises(OperationalError, match="could not obtain lock"):
            freezing.execute(freeze, {"customer_id": "acme"})
        freezing.rollback()
        batch.commit()
        freezing.execute(freeze, {"customer_id": "acme"})


def test_a_batch_under_way_does_not_hold_up_another_of_the_same_customer(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        send(connection, tokens("opens the month", 1))  # whoever makes a month's partition is waited for
    with engine.connect() as first, engine.connect() as second:
        send(first, tokens("a", 1))
        second.execute(sa.text("set local lock_timeout = '2s'"))
        event = tokens("b", 1, source="other", timestamp="2026-10-05T08:00:00Z")
        assert counts(send(second, event)) == (1, 0, 0, 0)


@pytest.mark.parametrize(("stop", "stored"), [("before", 200), ("after", 300)])
def test_a_sender_killed_around_its_commit_loses_and_doubles_nothing(
    engine: sa.Engine, database_url: str, stop: str, stored: int
) -> None:
    command = [sys.executable, "-m", "tests.ledger.sender", database_url, stop]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "taken\n"
        sender.kill()
    answers: Counter[str] = Counter()
    for batch in BATCHES:  # the sender does not know how far it came, so it sends everything again
        with engine.begin() as connection:
            answers.update(one.outcome for one in send(connection, *batch).results)
    assert answers == {"duplicate": stored, "accepted": 500 - stored}
    with engine.connect() as connection:
        same_figures(connection)
        # 5 batches of 0 + 1 + ... + 99
        assert rollup(connection)["tokens", '{"model": "large"}', "10-05 11:00"] == ("24750", 500)
