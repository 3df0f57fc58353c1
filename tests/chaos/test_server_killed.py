"""The Temporal server dies: usage is taken all the same, and nothing that it was told before is lost."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.chaos.senders import signalled, streaming
from tests.chaos.world import World, assert_counted_once, eventually, month, posted, sell, start_contracts, whole_world

pytestmark = pytest.mark.chaos

AWAY_SECONDS = 4.0
LONGEST_ANSWER_SECONDS = 3.0
CATCH_UP_SECONDS = 75.0
"""The sweep runs every 30 s, and workers wait longer and longer before they ask a dead server again."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with whole_world("server") as world:
        yield world


def test_usage_is_taken_while_temporal_is_away_and_balances_catch_up(world: World) -> None:
    sell(world, "alone", start=f"{month(0):%Y-%m-%d}")
    start_contracts(world, ["alone"])
    with streaming(world, "alone") as stream:
        # The server may have been killed just before, so that the doors' first hints are lost and the sweep finds it.
        eventually(lambda: posted(world, "alone"), lambda found: found > 0, seconds=CATCH_UP_SECONDS)
        world.stack.kill("temporal")
        killed, sent = time.monotonic(), stream.sent
        time.sleep(AWAY_SECONDS)
        assert stream.sent > sent
    meanwhile = stream.since(killed)
    assert {answer.status for answer in meanwhile} == {200}
    assert max(answer.seconds for answer in meanwhile) < LONGEST_ANSWER_SECONDS
    world.stack.start("temporal")
    assert_counted_once(world, "alone", sent=stream.sent, within_seconds=CATCH_UP_SECONDS)


def test_signals_that_were_acknowledged_survive_the_server_and_the_worker(world: World) -> None:
    sell(world, "trusting", start=f"{month(0):%Y-%m-%d}")
    start_contracts(world, ["trusting"])
    world.stack.kill("worker")  # so that only the server knows of the signals
    asyncio.run(signalled(world, "trusting", count=100))
    world.stack.kill("temporal")
    world.stack.start("temporal")
    world.stack.start("worker")
    assert_counted_once(world, "trusting", sent=100, within_seconds=CATCH_UP_SECONDS)  # 100 events at 0.03 are 3.00
