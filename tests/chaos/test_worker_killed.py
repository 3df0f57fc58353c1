"""Workers die in the middle of the work, while usage keeps coming by every door."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from tests.chaos.senders import streaming
from tests.chaos.world import (
    World,
    assert_counted_once,
    eventually,
    month,
    posted,
    sell,
    start_contracts,
    whole_world,
)

pytestmark = pytest.mark.chaos

AFTER_A_KILL_SECONDS = 45.0


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with whole_world("worker") as world:
        yield world


@contextmanager
def accrual_held(world: World, contract_id: str) -> Iterator[None]:
    """Hold the contract's row, and with it an accrual in the middle of its transaction."""
    with world.engine.begin() as holder:
        holder.execute(_HOLD, {"id": contract_id})
        with world.engine.connect() as asker:

            def waiting() -> int:
                with asker.begin():
                    return int(asker.execute(_WAITING).scalar_one())

            eventually(waiting, lambda found: found > 0, seconds=20)
        yield


def test_usage_is_counted_once_though_the_worker_is_killed_three_times(world: World) -> None:
    sell(world, "steady", start=f"{month(0):%Y-%m-%d}")
    start_contracts(world, ["steady"])
    with streaming(world, "steady", signals=True) as stream:
        eventually(lambda: posted(world, "steady"), lambda found: found > 0, seconds=30)
        for in_the_middle_of_an_accrual in (True, False, True):
            if in_the_middle_of_an_accrual:
                with accrual_held(world, "steady"):
                    world.stack.kill("worker")
            else:
                world.stack.kill("worker")
            sent = stream.sent
            time.sleep(1.0)
            world.stack.start("worker")
            assert stream.sent > sent, "usage is taken while no worker runs"
    assert stream.statuses == {200}
    assert_counted_once(world, "steady", sent=stream.sent, within_seconds=AFTER_A_KILL_SECONDS)


_HOLD = sa.text(
    "select 1 from contract where contract_id = :id for no key update"
)  # intake shares the key, and goes on

_WAITING = sa.text("select count(*) from pg_locks where not granted")
