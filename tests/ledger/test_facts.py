"""Facts read in the order of their sequence: filtered, by pages, and none missed that is committed late."""

import threading
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

from ledger.facts import list_facts, settled_until
from ledger.outbox import put_out


def fact(connection: sa.Connection, key: str, kind: str = "alert.raised") -> None:
    put_out(connection, key=key, kind=kind, contract_id=None, payload={"key": key})


def keys(engine: sa.Engine, after: int = 0) -> list[str]:
    with engine.begin() as connection:
        return [found.data["key"] for found in list_facts(connection, after=after).facts]


def test_facts_come_by_pages_and_by_kind(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for n in range(1, 6):
            fact(connection, f"{n}", "odd" if n % 2 else "even")
    with engine.begin() as connection:
        first = list_facts(connection, limit=2)
        assert ([found.data["key"] for found in first.facts], first.has_more) == (["1", "2"], True)
        rest = list_facts(connection, after=first.next_after, limit=3)
        assert ([found.data["key"] for found in rest.facts], rest.has_more) == (["3", "4", "5"], False)
        assert list_facts(connection, after=rest.next_after).facts == ()
        even = list_facts(connection, kinds=["even"])
        assert [found.data["key"] for found in even.facts] == ["2", "4"]
        assert even.next_after == rest.facts[-1].sequence  # also what is of other kinds is behind


def test_a_fact_waits_for_an_earlier_number_that_is_not_committed_yet(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        fact(connection, "before")
    with engine.connect() as late:
        fact(late, "late")
        fact(late, "late too")
        with engine.begin() as quick:
            fact(quick, "quick")
        with engine.begin() as quick:
            fact(quick, "quicker")
        assert keys(engine) == ["before"]
        late.commit()
    assert keys(engine) == ["before", "late", "late too", "quick", "quicker"]


def test_what_is_rolled_back_holds_nothing_up(engine: sa.Engine) -> None:
    with engine.connect() as given_up:
        fact(given_up, "given up")
        with engine.begin() as other:
            fact(other, "other")
        given_up.rollback()
    assert keys(engine) == ["other"]


def test_a_transaction_after_a_savepoint_that_was_undone_still_tells_that_it_is_open(engine: sa.Engine) -> None:
    with engine.connect() as late:
        undone = late.begin_nested()
        fact(late, "undone")
        undone.rollback()
        fact(late, "late")
        with engine.begin() as other:
            fact(other, "other")
        assert keys(engine) == []
        late.commit()
    assert keys(engine) == ["late", "other"]


def test_the_next_transaction_of_a_connection_begins_anew(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        fact(connection, "one")
        connection.commit()
        fact(connection, "two")
        assert keys(engine) == ["one"]


def test_a_reader_that_asks_on_misses_nothing_of_many_writers(engine: sa.Engine) -> None:
    ended = threading.Event()

    def write(writer: int) -> None:
        for n in range(30):
            with engine.connect() as connection:
                fact(connection, f"{writer}/{n}/a")
                fact(connection, f"{writer}/{n}/b")
                if n % 5 == 0:
                    connection.rollback()
                else:
                    connection.commit()

    heard: list[int] = []

    def read() -> None:
        after, is_last = 0, False
        while not is_last:
            is_last = ended.is_set()
            with engine.begin() as connection:
                page = list_facts(connection, after=after, limit=1000)
            heard.extend(found.sequence for found in page.facts)
            after = page.next_after

    with ThreadPoolExecutor(5) as threads:
        reader = threads.submit(read)
        for writer in [threads.submit(write, writer) for writer in range(4)]:
            writer.result()
        ended.set()
        reader.result()
    with engine.begin() as connection:
        stored = [*connection.execute(sa.text("select sequence from outbox order by sequence")).scalars()]
        assert settled_until(connection) == stored[-1]
    assert heard == stored
    assert len(stored) == 4 * 24 * 2  # of thirty transactions of each writer six are given up
