"""From an event to the webhook of its alert, by the workflows of contract and endpoint on a real Temporal server."""

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal

import sqlalchemy as sa
from temporalio.client import Client

from ledger.alert_rules import create_rule
from ledger.intake.corrections import withdraw
from ledger.webhook_signatures import verify
from ledger.webhooks import create_endpoint
from tests.activities.receivers import receiving, status
from tests.workflows.world import Sold, eventually, first_day, month, sell, sent, usage, working
from workflows import starting
from workflows.contract import ContractStatus


async def test_a_crossing_is_told_once_and_told_again_when_a_correction_takes_it_back(
    temporal: Client, engine: sa.Engine
) -> None:
    sell(engine, Sold(start=first_day(0)))  # tokens at 0.01 each
    with receiving(status(200)) as receiver:
        with engine.begin() as connection:
            secret = create_endpoint(
                connection, "hook", receiver.url, ("alert.raised", "alert.cleared"), allow_private=True, at=month(0)
            )
            create_rule(connection, "five", kind="spend", threshold=Decimal(5), contract_id="acme-1", by="test")
        assert secret is not None
        async with working(temporal, engine):
            await starting.ensure_webhook(temporal, "hook")
            await starting.start_contract(temporal, "acme-1")

            async def accruals() -> ContractStatus:
                return await starting.contract_status(temporal, "acme-1")

            await eventually(accruals, lambda found: found.accruals == 1)
            sent(engine, usage("first", month(0), 400))  # 4.00
            await starting.nudge(temporal, ["acme-1"])
            await eventually(accruals, lambda found: found.accruals == 2)
            sent(engine, usage("second", month(0), 200))  # 6.00
            await starting.nudge(temporal, ["acme-1"])
            [raised] = await asyncio.to_thread(receiver.wait_for, 1)
            with engine.begin() as connection:
                withdraw(connection, [("gateway", "second")], reason="twice", by="test", at=datetime.now(UTC))
            await starting.nudge(temporal, ["acme-1"])
            cleared = (await asyncio.to_thread(receiver.wait_for, 2))[1]
            sent(engine, usage("third", month(0), 1))  # 4.01
            await starting.nudge(temporal, ["acme-1"])
            await eventually(accruals, lambda found: found.accruals == 5)

    verify(raised.headers, raised.body, secret, at=datetime.now(UTC))
    told = [json.loads(message.body) for message in (raised, cleared)]
    assert [(one["type"], one["sequence"]) for one in told] == [("alert.raised", 1), ("alert.cleared", 2)]
    observed = [(one["data"]["rule_id"], Decimal(one["data"]["observed"]), one["data"]["currency"]) for one in told]
    assert observed == [("five", Decimal(6), "EUR"), ("five", Decimal(4), "EUR")]
    assert len(receiver.ids) == 2
