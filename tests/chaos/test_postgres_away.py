"""PostgreSQL is away for a while and the HTTP API is killed meanwhile: all usage enters once, as receipts tell."""

import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tests.chaos.senders import streaming
from tests.chaos.world import World, assert_counted_once, eventually, month, posted, sell, start_contracts, whole_world

pytestmark = pytest.mark.chaos

AWAY_SECONDS = 3.0
CATCH_UP_SECONDS = 75.0
"""An activity that failed while the database was away waits up to a minute before it is tried again."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with whole_world("away") as world:
        yield world


def test_usage_sent_while_the_database_is_away_enters_once_though_the_api_is_killed_too(world: World) -> None:
    sell(world, "spooled", start=f"{month(0):%Y-%m-%d}")
    start_contracts(world, ["spooled"])
    with streaming(world, "spooled") as stream:
        eventually(lambda: posted(world, "spooled"), lambda found: found > 0, seconds=30)
        world.stack.kill("postgres")
        time.sleep(AWAY_SECONDS)
        world.stack.kill("http")
        world.stack.start("http")
        restarted = time.monotonic()
        time.sleep(AWAY_SECONDS)
        assert {answer.status for answer in stream.since(restarted)} == {202}, "the restarted API knows the key"
        world.stack.start("postgres")
        eventually(lambda: 200 in {one.status for one in stream.answers[-5:]}, lambda found: found, seconds=30)
    assert stream.statuses <= {200, 202, None}
    receipts = [answer.receipt for answer in stream.answers if answer.receipt is not None]
    assert len(receipts) > 20
    told = Counter[str]()
    for receipt in receipts:
        told.update(outcomes(world, receipt))
    assert told.keys() <= {"accepted", "duplicate"}
    assert told["accepted"] > 0
    assert_counted_once(world, "spooled", sent=stream.sent, within_seconds=CATCH_UP_SECONDS)


def outcomes(world: World, receipt: str) -> list[str]:
    """What became of the events of a spooled request, once it is entered."""
    url = f"{world.stack.environment['METERBOOK_HTTP']}/v1/usage/receipts/{receipt}"
    headers = {"authorization": f"Bearer {world.api_key}"}
    with httpx.Client(trust_env=False, timeout=10, headers=headers) as client:
        answer = eventually(lambda: client.get(url).json(), lambda found: found["outcome"] == "entered", seconds=30)
    return [one["outcome"] for one in answer["results"]]
