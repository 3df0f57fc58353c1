"""Many small requests at once: gathered into few transactions, answered one by one, bounded in memory."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest
import sqlalchemy as sa

from activities.settings import Settings
from admin.gathering import Answer, FullError, Gathering, Sent, Spooled
from ledger import schema
from ledger.api_keys import create_api_key
from ledger.intake.events import ParsedBatch, parse_objects
from ledger.intake.together import length
from tests.admin.conftest import NOWHERE, serving
from tests.admin.sending import counts, event, lines, post

NOW = datetime(2026, 10, 5, 12, 30, tzinfo=UTC)


@pytest.fixture
def key(engine: sa.Engine) -> str:
    with engine.begin() as connection:
        return create_api_key(connection, "test")[1]


@contextmanager
def usage_locked(database_url: str) -> Iterator[None]:
    """Hold what every batch needs, so that requests wait in the server until the block ends."""
    with psycopg.connect(database_url) as connection:
        connection.execute("lock table usage_key in access exclusive mode")
        yield


def at_once(client: httpx.Client, key: str, bodies: Sequence[bytes]) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(bodies)) as threads:
        return list(threads.map(lambda body: post(client, key, body, query="?detail=all"), bodies))


# --- through the door ---------------------------------------------------------------------------------------------


def test_requests_that_wait_together_share_a_batch_and_each_gets_its_own_answer(
    http: httpx.Client, key: str, database_url: str, engine: sa.Engine
) -> None:
    bodies = [b"\n".join([lines(f"{n}-a"), b"broken", lines(f"{n}-b"), lines("shared")]) for n in range(12)]
    with ThreadPoolExecutor(1) as threads, usage_locked(database_url):
        answering = threads.submit(at_once, http, key, bodies)
        time.sleep(0.5)
    answers = [answer.json() for answer in answering.result()]
    for n, answer in enumerate(answers):
        named = [(one["index"], one["key"]) for one in answer["results"]]
        assert named == [(0, f"{n}-a"), (1, None), (2, f"{n}-b"), (3, "shared")]
        assert [one["outcome"] for one in answer["results"][:3]] == ["accepted", "rejected", "accepted"]
    # 12 requests with two keys of their own, and one key that all of them share: it is accepted once
    assert [sum(answer[outcome] for answer in answers) for outcome in ("accepted", "duplicate")] == [25, 11]
    with engine.begin() as connection:
        batches = connection.execute(sa.select(sa.func.count()).select_from(schema.usage_batch)).scalar_one()
        accepted = connection.execute(sa.select(sa.func.sum(schema.usage_batch.c.accepted))).scalar_one()
    assert accepted == 25
    assert batches <= 4  # two lanes hold one request or two each, and the others go together


def test_a_request_that_the_database_fails_on_takes_nobody_with_it(
    http: httpx.Client, key: str, database_url: str
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("""
            create function refuse() returns trigger language plpgsql as $$
            begin
                if new.key = 'poison' then raise exception 'refused by the test'; end if;
                return new;
            end $$
        """)
        connection.execute("create trigger refuse before insert on usage_event for each row execute function refuse()")
    bodies = [lines("poison") if n == 5 else lines(f"{n}-a", f"{n}-b") for n in range(10)]
    with ThreadPoolExecutor(1) as threads, usage_locked(database_url):
        answering = threads.submit(at_once, http, key, bodies)
        time.sleep(0.5)
    answers = answering.result()
    assert [answer.status_code for answer in answers] == [500 if n == 5 else 200 for n in range(10)]
    assert [counts(answer.json()) for n, answer in enumerate(answers) if n != 5] == [(2, 0, 0, 0)] * 9


def test_more_events_than_may_wait_are_told_to_come_back_and_nothing_of_them_is_recorded(
    database_url: str, key: str
) -> None:
    small = Settings(database_url=database_url, temporal_address=NOWHERE, meterbook_waiting_events=10)
    with serving(small) as http, ThreadPoolExecutor(1) as threads:
        with usage_locked(database_url):
            first = threads.submit(post, http, key, lines(*(f"first-{n}" for n in range(8))))
            time.sleep(0.3)
            refused = post(http, key, lines("1", "2", "3"))
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert "8 events wait" in refused.json()["detail"]
        assert counts(first.result().json()) == (8, 0, 0, 0)
        assert counts(post(http, key, lines("1", "2", "3")).json()) == (3, 0, 0, 0)
        assert counts(post(http, key, lines(*(f"many-{n}" for n in range(20)))).json()) == (20, 0, 0, 0), "alone"


def test_more_bytes_than_may_be_held_are_told_to_come_back(database_url: str, key: str) -> None:
    blank = b" " * (15 * 1024 * 1024) + b"\n"
    small = Settings(database_url=database_url, temporal_address=NOWHERE, meterbook_waiting_bytes=32 * 1024 * 1024)
    with serving(small) as http, ThreadPoolExecutor(2) as threads:
        with usage_locked(database_url):
            held = [threads.submit(post, http, key, blank + lines(str(n))) for n in range(2)]
            time.sleep(1)
            refused = post(http, key, blank + lines("third"))
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert [counts(one.result().json()) for one in held] == [(1, 0, 0, 0)] * 2
        assert counts(post(http, key, blank + lines("third")).json()) == (1, 0, 0, 0), "the room is free again"


def test_an_empty_request_is_answered_like_any_other(http: httpx.Client, key: str) -> None:
    assert counts(post(http, key, b"").json()) == (0, 0, 0, 0)
    assert counts(post(http, key, json.dumps([]).encode(), kind="application/json").json()) == (0, 0, 0, 0)


# --- the rules of gathering ---------------------------------------------------------------------------------------


class Lanes:
    """Settles groups by counting them; a group ends when the test lets it."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.open = asyncio.Event()

    async def settle(self, group: Sequence[Sent]) -> Sequence[Answer | Exception]:
        self.groups.append([length(sent.batch) for sent in group])
        await self.open.wait()
        return [Spooled(str(length(sent.batch)), sent.received_at, length(sent.batch)) for sent in group]


def sent(events: int) -> Sent:
    batch: ParsedBatch = parse_objects([event(str(n)) for n in range(events)], received_at=NOW)
    return Sent(batch, NOW)


async def begun(gathering: Gathering, *sizes: int) -> list[asyncio.Task[Answer]]:
    tasks = [asyncio.create_task(gathering.take(sent(size))) for size in sizes]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_a_lone_request_goes_at_once_and_the_next_wait_for_the_window() -> None:
    lanes = Lanes()
    async with Gathering(lanes.settle, window=timedelta(milliseconds=40), most_events=1000) as gathering:
        await begun(gathering, 1, 2, 3)
        assert lanes.groups == [[1]]
        await asyncio.sleep(0.1)
        assert lanes.groups == [[1], [2, 3]], "the second lane, once the window is over"
        await begun(gathering, 4)
        await asyncio.sleep(0.1)
        assert len(lanes.groups) == 2, "both lanes are taken"
        lanes.open.set()
    assert lanes.groups == [[1], [2, 3], [4]]
    assert gathering.events == 0


async def test_a_thousand_events_wait_for_no_company_and_ten_thousand_are_the_most_of_a_group() -> None:
    lanes = Lanes()
    async with Gathering(lanes.settle, window=timedelta(hours=1), most_events=100_000) as gathering:
        tasks = await begun(gathering, 1, 600, 500, 9_000, 900, 100)
        # 600 wait for company, 500 make them enough; 9,000 more would be over 10,000, and no lane is left for them
        assert lanes.groups == [[1], [600, 500]]
        lanes.open.set()
        answers = await asyncio.gather(*tasks)
    assert lanes.groups[2:] == [[9_000, 900, 100]]
    assert [answer.events for answer in answers if isinstance(answer, Spooled)] == [1, 600, 500, 9_000, 900, 100]


async def test_what_waits_is_bounded_but_a_lone_request_is_never_too_large() -> None:
    lanes = Lanes()
    async with Gathering(lanes.settle, window=timedelta(0), most_events=5) as gathering:
        tasks = await begun(gathering, 9)
        with pytest.raises(FullError, match="9 events wait"):
            await gathering.take(sent(1))
        lanes.open.set()
        await asyncio.gather(*tasks)
        assert isinstance(await gathering.take(sent(1)), Spooled)


async def test_a_sender_that_leaves_does_not_disturb_the_others_of_its_group() -> None:
    lanes = Lanes()
    async with Gathering(lanes.settle, window=timedelta(hours=1), most_events=100) as gathering:
        first, second, third = await begun(gathering, 1, 2, 3)
        second.cancel()
        lanes.open.set()
        assert [one.events for one in (await first, await third) if isinstance(one, Spooled)] == [1, 3]
    assert gathering.events == 0
