"""Signs of life of activities: one that takes long is left alone, one whose worker was killed is tried again soon."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from infra.stack.home import CLONE
from ledger.contracts import terms_of
from tests.workflows.world import Sold, dev_server, eventually, first_day, month, sell, working
from workflows import starting
from workflows.contract import ContractStatus
from workflows.names import contract_workflow_id
from workflows.policies import SIGN_OF_LIFE

RETRIED_WITHIN_SECONDS = 10.0
"""Six without a sign of life, one before the next try, and what the machine needs."""
ACCRUED_WITHIN_SECONDS = 16.0
"""An accrual is part of its contract's step, which times out after ten; and what the machine needs."""
SOLD = Sold(start=first_day(0))


@pytest.mark.story
async def test_an_activity_that_takes_longer_than_a_silence_may_last_is_not_tried_again(engine: sa.Engine) -> None:
    sell(engine, SOLD)
    async with dev_server() as client, working(client, engine):
        await starting.start_contract(client, "acme-1")
        await accrued(client)
        with contract_held(engine):
            amending = asyncio.create_task(amend(client))
            await somebody_waits(engine)
            await asyncio.sleep(SIGN_OF_LIFE.total_seconds() + 2)
        await amending
        assert await tries(client) == 1


@pytest.mark.chaos
async def test_an_activity_whose_worker_was_killed_is_tried_again_within_ten_seconds(
    engine: sa.Engine, database_url: str
) -> None:
    sell(engine, SOLD)
    async with dev_server() as client:
        with worker_process(client, database_url) as process:
            await starting.start_contract(client, "acme-1")
            await accrued(client)
            with contract_held(engine):
                amending = asyncio.create_task(amend(client))
                await somebody_waits(engine)
                process.send_signal(signal.SIGKILL)
                killed_at = time.monotonic()
        async with working(client, engine):

            async def version() -> int:
                with engine.connect() as connection:
                    return len(terms_of(connection, "acme-1"))

            await eventually(version, lambda found: found == 2)
            assert time.monotonic() - killed_at < RETRIED_WITHIN_SECONDS
            await amending
            assert await tries(client) == 2


@pytest.mark.chaos
async def test_an_accrual_whose_worker_was_killed_is_done_by_another_one(engine: sa.Engine, database_url: str) -> None:
    sell(engine, SOLD)
    async with dev_server() as client:
        with contract_held(engine), worker_process(client, database_url) as process:
            await starting.start_contract(client, "acme-1")
            await somebody_waits(engine)
            process.send_signal(signal.SIGKILL)
            killed_at = time.monotonic()
        async with working(client, engine):
            await accrued(client)
            assert time.monotonic() - killed_at < ACCRUED_WITHIN_SECONDS


async def amend(client: Client) -> None:
    """Give the contract another price."""
    dearer = replace(SOLD, unit_price="0.02").text()
    await starting.amend(client, "acme-1", definition=dearer, effective_from=month(0), reason="new", by="ann")


@contextmanager
def contract_held(engine: sa.Engine) -> Iterator[None]:
    """Hold the contract's row, so that an activity takes as long as this."""
    with engine.begin() as holder:
        holder.execute(sa.text("select 1 from contract where contract_id = 'acme-1' for no key update"))
        yield


async def somebody_waits(engine: sa.Engine) -> None:
    """Wait until an activity is in the middle of its transaction."""

    async def waiting() -> int:
        with engine.connect() as connection:
            return int(connection.execute(_WAITING).scalar_one())

    await eventually(waiting, lambda found: found > 0)


async def accrued(client: Client) -> None:
    """Wait until the contract's first accrual is through."""

    async def status() -> ContractStatus:
        return await starting.contract_status(client, "acme-1")

    await eventually(status, lambda found: found.accruals > 0)


async def tries(client: Client) -> int:
    """How often the contract's only activity at the server, its amendment, was begun."""
    workflow = client.get_workflow_handle(contract_workflow_id("acme-1"))
    async for event in workflow.fetch_history_events():
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            return event.activity_task_started_event_attributes.attempt
    raise AssertionError("no activity was begun")


@contextmanager
def worker_process(client: Client, database_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, which is dead at the end."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "STRIPE_API_KEY": "sk_test_nothing",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "workers"], cwd=CLONE, env=environment, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


_WAITING = sa.text(
    "select count(*) from pg_locks join pg_stat_activity using (pid) where not granted and datname = current_database()"
)
