"""Corrections while events come in: totals equal a count anew, and nobody waits for ever."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from ledger.customers import Customer, create_customer
from ledger.database import create_engine
from ledger.intake.corrections import amend, withdraw
from tests.ledger.counted import same_as_counted_anew
from tests.ledger.test_corrections import LATER, parsed
from tests.ledger.test_intake_concurrency import Job, at_once
from tests.ledger.usage import number_of, open_shop, send, tokens

ROUNDS = 12


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine for many threads, on a database where northwind sells to acme and bolt."""
    engine = create_engine(database_url, pool_size=8)
    with engine.begin() as connection:
        open_shop(connection)
        create_customer(connection, Customer("bolt", "Bolt"))
        send(connection, *[tokens(f"k{n}", n, customer=("acme", "bolt")[n % 2]) for n in range(ROUNDS)])
    yield engine
    engine.dispose()


def test_events_are_sent_amended_and_withdrawn_at_once(engine: sa.Engine) -> None:
    def sender(name: str) -> Job:
        def job(engine: sa.Engine) -> None:
            for turn in range(ROUNDS):
                batch = [
                    tokens(f"{name}-{turn}-{n}", n, customer=("acme", "bolt", f"stranger {n}")[n % 3])
                    for n in range(20)
                ]
                with engine.begin() as connection:
                    send(connection, *batch)

        return job

    def amender(engine: sa.Engine) -> None:
        for n in range(ROUNDS):
            moved = tokens(f"k{n}", 100, customer=("bolt", "acme", "stranger 2")[n % 3])
            with engine.begin() as connection:
                amend(connection, parsed(moved), reason="law", by="ada", at=LATER)

    def withdrawer(engine: sa.Engine) -> None:
        for n in reversed(range(0, ROUNDS, 2)):
            with engine.begin() as connection:
                withdraw(connection, [("gateway", f"k{n}")], reason="law", by="bob", at=LATER)

    def creator(engine: sa.Engine) -> None:
        for n in (2, 5, 8):
            with engine.begin() as connection:
                create_customer(connection, Customer(f"late-{n}", "Late", aliases=(f"stranger {n}",)))

    at_once(engine, [sender("x"), sender("y"), amender, withdrawer, creator])
    with engine.begin() as connection:
        same_as_counted_anew(connection)
        # 12 keys, and 2 senders with 12 batches of 20
        assert number_of(connection, "usage_key") == 12 + 2 * 12 * 20
        stray = "customer_id is null and ended_batch_id is null and customer_alias in ('stranger 2', 'stranger 5')"
        assert number_of(connection, "usage_event", stray) == 0
