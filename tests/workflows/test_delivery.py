"""Delivery to endpoints by workflows on a real Temporal server: woken, tried again, slow ones apart from the others."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from temporalio.client import Client

from ledger.outbox import put_out
from ledger.webhook_signatures import verify
from ledger.webhooks import (
    create_endpoint,
    get_endpoint,
    list_deliveries,
    remove_endpoint,
    replay,
    resume_endpoint,
)
from tests.activities.receivers import hang, receiving, slowly, status
from tests.workers.test_signs_of_life import worker_process
from tests.workflows.world import eventually, working
from workflows import starting
from workflows.delivery import WebhookState, WebhookStatus, WebhookWorkflow
from workflows.names import CONTRACTS_QUEUE, webhook_workflow_id
from workflows.sweep import SweepWorkflow


def endpoint(engine: sa.Engine, endpoint_id: str, url: str) -> str:
    with engine.begin() as connection:
        secret = create_endpoint(connection, endpoint_id, url, (), allow_private=True, at=datetime.now(UTC))
    assert secret is not None
    return secret


def fact(engine: sa.Engine, key: str) -> None:
    with engine.begin() as connection:
        put_out(connection, key=key, kind="alert.raised", contract_id=None, payload={"key": key})


async def states(engine: sa.Engine, endpoint_id: str) -> list[str]:
    with engine.begin() as connection:
        return [found.state for found in list_deliveries(connection, endpoint_id)]


async def test_a_fact_arrives_when_the_endpoint_is_woken_and_the_workflow_ends_with_it(
    temporal: Client, engine: sa.Engine
) -> None:
    with receiving(status(200)) as receiver:
        secret = endpoint(engine, "hook", receiver.url)
        async with working(temporal, engine):
            await starting.ensure_webhook(temporal, "hook")
            fact(engine, "one")
            await starting.ensure_webhook(temporal, "hook")
            [message] = await asyncio.to_thread(receiver.wait_for, 1)
            verify(message.headers, message.body, secret, at=datetime.now(UTC))
            await eventually(lambda: states(engine, "hook"), lambda found: found == ["delivered"])
            with engine.begin() as connection:
                assert replay(connection, "hook", from_sequence=1, at=datetime.now(UTC)) == 1
            await starting.ensure_webhook(temporal, "hook")
            again = await asyncio.to_thread(receiver.wait_for, 2)
            assert again[1].headers["webhook-id"] == message.headers["webhook-id"]
            with engine.begin() as connection:
                remove_endpoint(connection, "hook")
            await starting.ensure_webhook(temporal, "hook")
            handle = temporal.get_workflow_handle(webhook_workflow_id("hook"), result_type=WebhookStatus)
            ended = await handle.result()
            assert (ended.attempts, ended.runs) == (2, 1)


async def test_a_failure_is_tried_again_without_being_woken(temporal: Client, engine: sa.Engine) -> None:
    with receiving(status(503)) as receiver:
        endpoint(engine, "hook", receiver.url)
        fact(engine, "one")
        async with working(temporal, engine):
            await starting.ensure_webhook(temporal, "hook")
            await asyncio.to_thread(receiver.wait_for, 1)
            receiver.answer = status(200)
            first, second = await asyncio.to_thread(receiver.wait_for, 2)
            assert second.at - first.at > 4.5  # five seconds after it was recorded
            await eventually(lambda: states(engine, "hook"), lambda found: found == ["delivered"])


async def test_a_slow_endpoint_does_not_delay_another(temporal: Client, engine: sa.Engine) -> None:
    with receiving(hang(12)) as slow, receiving(status(200)) as quick:
        for n in range(12):
            endpoint(engine, f"slow-{n}", slow.url)
        endpoint(engine, "quick", quick.url)
        fact(engine, "one")
        async with working(temporal, engine):
            for n in range(12):
                await starting.ensure_webhook(temporal, f"slow-{n}")
            await asyncio.to_thread(slow.wait_for, 12)
            await starting.ensure_webhook(temporal, "quick")
            await asyncio.to_thread(quick.wait_for, 1)  # waits far less than the slow ones take one after the other
            assert await states(engine, "slow-0") == ["pending"]


async def test_what_a_killed_worker_had_under_way_is_sent_again_under_the_same_id(
    temporal: Client, engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METERBOOK_WEBHOOK_ALLOW_PRIVATE", "true")
    with receiving(hang(9)) as receiver:
        endpoint(engine, "hook", receiver.url)
        fact(engine, "one")
        with worker_process(temporal, database_url) as process:
            await starting.ensure_webhook(temporal, "hook")
            await asyncio.to_thread(receiver.wait_for, 1)
            process.kill()
        receiver.answer = status(200)
        async with working(temporal, engine):
            first, second = await asyncio.to_thread(receiver.wait_for, 2)
            assert first.headers["webhook-id"] == second.headers["webhook-id"]
            assert first.body == second.body
            await eventually(lambda: states(engine, "hook"), lambda found: found == ["delivered"])
        with engine.begin() as connection:
            [found] = list_deliveries(connection, "hook")
            assert found.attempts == 1  # of the first nobody knows what became of it


async def test_a_receiver_may_take_longer_than_a_silence_of_the_worker_may_last(
    temporal: Client, engine: sa.Engine
) -> None:
    with receiving(slowly(8)) as receiver:
        endpoint(engine, "hook", receiver.url)
        fact(engine, "one")
        async with working(temporal, engine):
            await starting.ensure_webhook(temporal, "hook")
            await eventually(lambda: states(engine, "hook"), lambda found: found == ["delivered"])
        assert len(receiver.taken) == 1


async def test_the_sweep_starts_and_wakes_what_has_something_to_hear(temporal: Client, engine: sa.Engine) -> None:
    with receiving(status(200)) as receiver:
        endpoint(engine, "hook", receiver.url)
        async with working(temporal, engine):
            for n in (1, 2):
                fact(engine, f"fact {n}")
                await temporal.execute_workflow(SweepWorkflow.run, id=f"sweep-{n}", task_queue=CONTRACTS_QUEUE)
                await asyncio.to_thread(receiver.wait_for, n)
            assert len(set(receiver.ids)) == 2


async def test_gone_stops_the_sending_until_the_endpoint_is_resumed(temporal: Client, engine: sa.Engine) -> None:
    with receiving(status(410)) as receiver:
        endpoint(engine, "hook", receiver.url)
        fact(engine, "one")
        async with working(temporal, engine):
            await starting.ensure_webhook(temporal, "hook")

            async def state() -> str:
                with engine.begin() as connection:
                    return get_endpoint(connection, "hook").state

            await eventually(state, lambda found: found == "paused")
            receiver.answer = status(200)
            with engine.begin() as connection:
                assert resume_endpoint(connection, "hook", at=datetime.now(UTC)) == 1
            await starting.ensure_webhook(temporal, "hook")
            await asyncio.to_thread(receiver.wait_for, 2)
            await eventually(lambda: states(engine, "hook"), lambda found: found == ["delivered"])


async def test_a_long_life_continues_as_new_and_loses_nothing(temporal: Client, engine: sa.Engine) -> None:
    with receiving(status(200)) as receiver:
        endpoint(engine, "hook", receiver.url)
        async with working(temporal, engine):
            await temporal.start_workflow(
                WebhookWorkflow.run,
                WebhookState("hook", rounds_per_run=2),
                id=webhook_workflow_id("hook"),
                task_queue=CONTRACTS_QUEUE,
            )
            for n in range(1, 6):
                fact(engine, f"fact {n}")
                await starting.ensure_webhook(temporal, "hook")
                await asyncio.to_thread(receiver.wait_for, n)
            found = await eventually(
                lambda: starting.webhook_status(temporal, "hook"),
                lambda found: found.attempts == 5,
                within=timedelta(seconds=10),
            )
            assert found.runs >= 3
            assert found.next_due is None
            assert await states(engine, "hook") == ["delivered"] * 5
