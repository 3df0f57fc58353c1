"""Laws of intake: what is sent is accounted for, once, whatever its order, its batches and its senders."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count, pairwise
from random import Random
from threading import Barrier

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.customers import Customer, create_customer
from ledger.database import create_engine, undone
from ledger.intake.store import BatchResult
from tests.ledger.usage import counts, number_of, open_shop, outcomes, same_figures, send, tokens

LAW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SENDERS = 4
BAD = tokens("bad", "many")
"""Text where the metric reads a number: rejected."""

Sent = list[tuple[int, int]]
"""Key and tokens of each event; one key with other tokens is a conflict."""

SENT = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 3)), min_size=1, max_size=30)
CUTS = st.lists(st.integers(0, 30), max_size=5)
NUMBERS = count()


@pytest.fixture(scope="module")
def common_engine(common_url: str) -> Iterator[sa.Engine]:
    """An engine for many threads on the module's database, where northwind sells to acme."""
    engine = create_engine(common_url, pool_size=SENDERS + 1)
    with engine.begin() as connection:
        open_shop(connection)
    yield engine
    engine.dispose()


def batches(events: Sequence[dict[str, object]], cuts: Sequence[int]) -> list[Sequence[dict[str, object]]]:
    edges = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    return [events[start:end] for start, end in pairwise(edges) if start < end]


def total(results: Sequence[BatchResult]) -> tuple[int, ...]:
    return tuple(sum(column) for column in zip(*map(counts, results), strict=True))


def totals(connection: sa.Connection) -> list[tuple[object, ...]]:
    """What is counted, without which event of a key came first."""
    rows = connection.execute(
        sa.text("select metric_id, groups::text, bucket_start, quantity, events from usage_rollup order by 1, 2, 3")
    )
    return [tuple(row) for row in rows]


@given(sent=SENT, cuts=CUTS, bad=st.integers(0, 2))
@LAW
def test_each_event_sent_has_one_outcome_and_each_key_is_accepted_once(
    shop: sa.Connection, sent: Sent, cuts: list[int], bad: int
) -> None:
    with undone(shop):
        events = [tokens(f"k{key}", number) for key, number in sent] + [BAD] * bad
        accepted, duplicate, conflict, rejected = total([send(shop, *batch) for batch in batches(events, cuts)])
        first = dict(reversed(sent))  # the first content of each key
        assert accepted == len(first)
        assert duplicate == sum(first[key] == number for key, number in sent) - len(first)
        assert conflict == sum(first[key] != number for key, number in sent)
        assert rejected == bad
        quantity = shop.execute(
            sa.text("select coalesce(sum(quantity), 0) from usage_rollup where metric_id = 'tokens'")
        ).scalar_one()
        assert quantity == sum(first.values())
        same_figures(shop)


@given(sent=SENT, cuts=CUTS)
@LAW
def test_sending_everything_twice_counts_as_once(shop: sa.Connection, sent: Sent, cuts: list[int]) -> None:
    with undone(shop):
        events = [tokens(f"k{key}", number) for key, number in sent]
        once = [each for batch in batches(events, cuts) for each in outcomes(send(shop, *batch))]
        counted = totals(shop)
        again = [each for batch in batches(events, cuts[::-1]) for each in outcomes(send(shop, *batch))]
        assert again == ["conflict" if each == "conflict" else "duplicate" for each in once]
        assert totals(shop) == counted


@given(numbers=st.lists(st.integers(1, 9), min_size=1, max_size=20), cuts=CUTS, order=st.randoms(use_true_random=False))
@LAW
def test_the_order_and_the_batches_do_not_matter(
    shop: sa.Connection, numbers: list[int], cuts: list[int], order: Random
) -> None:
    events = [
        tokens(f"k{n}", number, timestamp=f"2026-10-{n % 4 + 1:02}T{n % 3:02}:30:00Z")
        for n, number in enumerate(numbers)
    ]
    with undone(shop):
        send(shop, *events)
        counted = totals(shop)
    with undone(shop):
        mixed = order.sample(events, len(events))
        results = [send(shop, *batch) for batch in batches(mixed + mixed[: len(mixed) // 2], cuts)]
        assert total(results) == (len(events), len(mixed) // 2, 0, 0)
        assert totals(shop) == counted


@given(keys=st.integers(1, 40), size=st.integers(1, 20), seed=st.integers(0, 1_000))
@settings(LAW, max_examples=8)
def test_senders_of_overlapping_batches_at_once_have_each_key_accepted_once(
    common_engine: sa.Engine, keys: int, size: int, seed: int
) -> None:
    name = f"buyer-{next(NUMBERS)}"
    with common_engine.begin() as connection:
        create_customer(connection, Customer(name, name))
    events = [tokens(f"k{n}", n + 1, customer=name, source=name) for n in range(keys)]
    barrier = Barrier(SENDERS)

    def send_all(sender: int) -> Counter[str]:
        mixed = Random(f"{seed}-{sender}").sample(events, keys)  # noqa: S311 - a shuffle that can be repeated
        told: Counter[str] = Counter()
        barrier.wait(timeout=20)
        for start in range(0, keys, size):
            with common_engine.begin() as connection:
                told.update(outcomes(send(connection, *mixed[start : start + size])))
        return told

    with ThreadPoolExecutor(SENDERS) as pool:
        told = sum(pool.map(send_all, range(SENDERS)), start=Counter[str]())
    assert told == Counter(accepted=keys, duplicate=(SENDERS - 1) * keys)
    with common_engine.begin() as connection:
        assert number_of(connection, "usage_event", f"source = '{name}'") == keys
        quantity = connection.execute(
            sa.text("select sum(quantity) from usage_rollup where customer_id = :name and metric_id = 'tokens'"),
            {"name": name},
        ).scalar_one()
        assert quantity == keys * (keys + 1) // 2  # 1 + 2 + ... + keys
        same_figures(connection)
