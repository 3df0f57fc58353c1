"""Records the histories that `test_replay.py` replays: `pytest tests/replay/record.py`.

Run it when a workflow takes a new path, and add the new files. A recorded history is never recorded anew: it stands for
the workflows that were running when it was recorded, which every later version must be able to continue.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from temporalio.client import Client, WorkflowHandle

from ledger.alert_rules import create_rule
from ledger.outbox import put_out
from ledger.spend import spend
from ledger.webhooks import create_endpoint, remove_endpoint
from pricing.money import total
from tests.activities.receivers import receiving, status
from tests.simulator import RunningSimulator, running_simulator
from tests.workflows.test_recharge import Prepaid
from tests.workflows.world import Sold, dev_server, eventually, first_day, month, sell, sent, usage, working
from workflows import starting
from workflows.close_run import CloseStatus
from workflows.collection import CollectionStatus
from workflows.contract import ContractStatus
from workflows.delivery import WebhookStatus
from workflows.housekeeping import HousekeepingWorkflow
from workflows.invoice import InvoiceStatus
from workflows.names import (
    CONTRACTS_QUEUE,
    HOUSEKEEPING,
    close_workflow_id,
    collection_workflow_id,
    contract_workflow_id,
    invoice_workflow_id,
    recharge_workflow_id,
    webhook_workflow_id,
)
from workflows.sweep import SweepWorkflow

FOLDER = Path(__file__).parent / "histories"
INVOICE = f"acme-1.{first_day(1)}"
STICKY_QUEUE = re.compile(r"^\d+@[\w.-]+$")
Keep = Callable[[str, str], Awaitable[None]]


async def test_record_a_life_with_amendment_review_close_and_transfer(engine: sa.Engine) -> None:
    sold = Sold(start=first_day(1), method="bank_transfer", grace="90d", review_above="1.00")
    dearer = replace(sold, unit_price="0.02").text()
    sell(engine, sold)
    async with dev_server() as client, working(client, engine):
        keep = keeper(client)
        await starting.start_contract(client, "acme-1", signals_per_run=4)
        for n in range(6):
            await starting.signal_usage(client, "acme-1", [usage(str(n), month(1), 100)])
        await starting.amend(client, "acme-1", definition=dearer, effective_from=month(0), reason="new price", by="ann")

        async def contract() -> ContractStatus:
            return await starting.contract_status(client, "acme-1")

        async def invoice() -> InvoiceStatus:
            return await starting.invoice_status(client, INVOICE)

        async def close() -> CloseStatus:
            return await starting.close_status(client, "seller", month(1).date())

        async def collection() -> CollectionStatus:
            return await starting.collection_status(client, INVOICE)

        await eventually(contract, lambda found: found.runs > 1 and found.accepted == 6)
        await keep("contract-continued", contract_workflow_id("acme-1"))
        await starting.start_close(client, "seller", month(1).date(), by="ann")
        await eventually(close, lambda found: found.waiting_review == (INVOICE,))
        await starting.approve_invoice(client, INVOICE, by="ann")
        await starting.close_result(client, "seller", month(1).date())
        await eventually(collection, lambda found: found.state == "waiting_for_transfer")
        await starting.payment_recorded(client, INVOICE)
        await eventually(invoice, lambda found: found.state == "finalised")
        await client.execute_workflow(SweepWorkflow.run, id="sweep", task_queue=CONTRACTS_QUEUE)
        await keep("sweep", "sweep")
        await keep("close-run", close_workflow_id("seller", month(1)))
        await keep("invoice-reviewed-at-close", invoice_workflow_id(INVOICE))
        await keep("collection-by-transfer", collection_workflow_id(INVOICE))
        await keep("contract-open", contract_workflow_id("acme-1"))


async def test_record_nudges_that_wait_for_the_interval(engine: sa.Engine) -> None:
    sell(engine, Sold(start=first_day(0)))
    async with dev_server() as client, working(client, engine):
        await starting.start_contract(client, "acme-1", signals_per_run=6)

        async def contract() -> ContractStatus:
            return await starting.contract_status(client, "acme-1")

        async def nudge_twice(name: str) -> None:
            for n in range(2):
                sent(engine, usage(f"{name}.{n}", month(0), 100))
                await starting.nudge(client, ["acme-1"])

        await eventually(contract, lambda found: found.accruals > 0)
        await nudge_twice("first")
        await eventually(contract, lambda found: found.accruals > 1)
        await nudge_twice("second")
        await eventually(contract, lambda found: found.accruals > 2)
        # where each wait had its own timer; where one stays set; where the worker that has the contract accrues it
        for name in ("contract-nudged", "contract-alarm", "contract-at-hand"):
            await keeper(client)(name, contract_workflow_id("acme-1"))


async def test_record_a_balance_that_is_recharged_and_alerts_that_are_told(engine: sa.Engine) -> None:
    sell(engine, Prepaid(start=first_day(0), payment_method="pm_card_visa", retry_after="[1s]"))
    with running_simulator() as simulator, receiving(status(200)) as receiver:
        with engine.begin() as connection:
            create_endpoint(connection, "hook", receiver.url, (), allow_private=True, at=month(0))
            create_rule(connection, "five", kind="spend", threshold=Decimal(5), contract_id="acme-1", by="ann")
        async with dev_server() as client, working(client, engine, simulator.client()):
            await starting.ensure_webhook(client, "hook")
            await starting.start_contract(client, "acme-1")

            async def balance() -> Decimal:
                with engine.begin() as connection:
                    return total([lot.remaining for lot in spend(connection, "acme-1").lots])

            await eventually(balance, lambda found: found == 20)
            sent(engine, usage("work", datetime.now(UTC), 1_700))  # 17.00 of 20.00
            await starting.nudge(client, ["acme-1"])
            await asyncio.to_thread(receiver.wait_for, 1)
            await eventually(balance, lambda found: found == 23)
            await keeper(client)("contract-recharged", contract_workflow_id("acme-1"))
            await keeper(client)("recharge-paid", recharge_workflow_id("acme-1", 1))


async def test_record_a_card_that_pays(engine: sa.Engine) -> None:
    with running_simulator() as simulator:
        await record_card(engine, simulator, "pm_card_visa", "paid", "card-pays", whole=True)


async def test_record_a_card_that_declines_then_pays(engine: sa.Engine) -> None:
    with running_simulator() as simulator:
        await record_card(engine, simulator, "pm_sim_declines_then_succeeds_1", "paid", "card-declines-then-pays")


async def test_record_a_lost_card(engine: sa.Engine) -> None:
    with running_simulator() as simulator:
        await record_card(engine, simulator, "pm_card_visa_chargeDeclinedLostCard", "uncollectible", "card-lost")


async def test_record_a_lost_answer(engine: sa.Engine) -> None:
    with running_simulator() as simulator:
        simulator.arm(route="POST .*/confirm$", fault="drop_after")
        await record_card(engine, simulator, "pm_card_visa", "paid", "answer-lost")


async def test_record_a_rate_limit(engine: sa.Engine) -> None:
    with running_simulator() as simulator:
        simulator.arm(route="POST .*/confirm$", fault="429")
        await record_card(engine, simulator, "pm_card_visa", "paid", "rate-limited")


async def test_record_an_attempt_that_never_arrived(engine: sa.Engine) -> None:
    with running_simulator() as simulator:
        simulator.arm(route="POST .*/confirm$", fault="drop_before")
        await record_card(engine, simulator, "pm_card_visa", "paid", "not-executed")


async def test_record_a_customer_without_a_card(engine: sa.Engine) -> None:
    with running_simulator() as simulator:
        await record_card(engine, simulator, None, "blocked", "no-card")


async def test_record_webhooks_that_fail_are_delivered_and_end(engine: sa.Engine) -> None:
    with receiving(status(503)) as receiver:
        with engine.begin() as connection:
            create_endpoint(connection, "hook", receiver.url, (), allow_private=True, at=datetime.now(UTC))
            put_out(connection, key="one", kind="alert.raised", contract_id=None, payload={})
        async with dev_server() as client, working(client, engine):
            await starting.ensure_webhook(client, "hook")
            await asyncio.to_thread(receiver.wait_for, 1)
            receiver.answer = status(200)
            await asyncio.to_thread(receiver.wait_for, 2)
            with engine.begin() as connection:
                remove_endpoint(connection, "hook")
            await starting.ensure_webhook(client, "hook")
            await client.get_workflow_handle(webhook_workflow_id("hook")).result()
            await keeper(client)("webhook-removed", webhook_workflow_id("hook"))


async def test_record_a_sweep_that_starts_and_wakes_webhooks(engine: sa.Engine) -> None:
    with receiving(status(503)) as receiver:
        with engine.begin() as connection:
            for name in ("started", "woken"):
                create_endpoint(connection, name, receiver.url, (), allow_private=True, at=datetime.now(UTC))
        async with dev_server() as client, working(client, engine):
            await starting.ensure_webhook(client, "woken")

            async def woken() -> WebhookStatus:
                return await starting.webhook_status(client, "woken")

            await eventually(woken, lambda found: found.attempts == 0)
            with engine.begin() as connection:
                put_out(connection, key="one", kind="alert.raised", contract_id=None, payload={})
            await client.execute_workflow(SweepWorkflow.run, id="sweep", task_queue=CONTRACTS_QUEUE)
            await asyncio.to_thread(receiver.wait_for, 2)
            await keeper(client)("sweep-webhooks", "sweep")


async def test_record_a_round_of_housekeeping(engine: sa.Engine) -> None:
    async with dev_server() as client, working(client, engine):
        await client.execute_workflow(HousekeepingWorkflow.run, id=HOUSEKEEPING, task_queue=CONTRACTS_QUEUE)
        for name in ("housekeeping", "housekeeping-holds"):  # where only months were kept; where holds expire, too
            await keeper(client)(name, HOUSEKEEPING)


async def record_card(
    engine: sa.Engine,
    simulator: RunningSimulator,
    payment_method: str | None,
    state: str,
    name: str,
    *,
    whole: bool = False,
) -> None:
    sell(engine, Sold(start=first_day(1), end=first_day(0), payment_method=payment_method, fee="5.00"))
    sent(engine, usage("a", month(1), 1000))
    async with dev_server() as client, working(client, engine, simulator.client()):
        keep = keeper(client)
        await starting.start_contract(client, "acme-1")

        async def collection() -> CollectionStatus:
            return await starting.collection_status(client, INVOICE)

        await eventually(collection, lambda found: found.state == state)
        await keep(f"collection-{name}", collection_workflow_id(INVOICE))
        if whole:
            await client.get_workflow_handle(contract_workflow_id("acme-1")).result()
            await keep("contract-ended", contract_workflow_id("acme-1"))
            await keep("invoice-opening", invoice_workflow_id("acme-1.opening"))
            await keep("invoice-at-once", invoice_workflow_id(INVOICE))


def keeper(client: Client) -> Keep:
    """What writes a history into the folder, unless one of that name is there."""

    async def keep(name: str, workflow_id: str) -> None:
        path = FOLDER / f"{name}.json"
        if not path.exists():
            handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(workflow_id)
            history = _without_the_machine((await handle.fetch_history()).to_json_dict())
            FOLDER.mkdir(exist_ok=True)
            path.write_text(json.dumps({"workflow_id": workflow_id, **history}, separators=(",", ":")) + "\n")

    return keep


def _without_the_machine(value: Any) -> Any:  # noqa: ANN401 - JSON of any shape
    """The same history without stack traces and process names, which say where it was recorded."""
    if isinstance(value, dict):
        return {
            key: "worker" if key == "identity" else _without_the_machine(item)
            for key, item in value.items()
            if key != "stackTrace"
        }
    if isinstance(value, list):
        return [_without_the_machine(item) for item in value]
    return STICKY_QUEUE.sub("sticky", value) if isinstance(value, str) else value
