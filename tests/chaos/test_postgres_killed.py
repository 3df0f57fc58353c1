"""PostgreSQL dies under a stream of usage: it waits on disk meanwhile, and nothing is lost or counted twice."""

import time
from collections.abc import Iterator

import pytest

from tests.chaos.senders import Stream, streaming
from tests.chaos.world import World, assert_counted_once, eventually, month, posted, sell, start_contracts, whole_world

pytestmark = pytest.mark.chaos

KILLS = 2
AWAY_SECONDS = 2.0
CATCH_UP_SECONDS = 75.0
"""An activity that failed while the database was away waits up to a minute before it is tried again."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with whole_world("postgres") as world:
        yield world


def test_usage_is_counted_once_though_the_database_is_killed_twice(world: World) -> None:
    sell(world, "durable", start=f"{month(0):%Y-%m-%d}")
    start_contracts(world, ["durable"])
    processes = running(world)
    with streaming(world, "durable", signals=True) as stream:
        eventually(lambda: posted(world, "durable"), lambda found: found > 0, seconds=30)
        for _ in range(KILLS):
            world.stack.kill("postgres")
            killed = time.monotonic()
            time.sleep(AWAY_SECONDS)
            away = [answer for answer in stream.since(killed) if answer.status is not None]
            assert {(answer.status, answer.retry_after) for answer in away} == {(202, None)}
            world.stack.start("postgres")
            eventually(lambda: taken_since(stream, time.monotonic()), lambda found: found, seconds=30)
    assert stream.statuses <= {200, 202}
    assert_counted_once(world, "durable", sent=stream.sent, within_seconds=CATCH_UP_SECONDS)
    assert running(world) == processes, "worker and HTTP API recovered by themselves"


def taken_since(stream: Stream, moment: float) -> bool:
    time.sleep(0.5)
    return 200 in {answer.status for answer in stream.since(moment)}


def running(world: World) -> dict[str, int | None]:
    return {part.name: part.pid for part in world.stack.status() if part.name in ("worker", "http")}
