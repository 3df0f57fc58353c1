"""A contract of a year, with senders that never pause while its workflow continues as new again and again."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from temporalio.client import Client, WorkflowHandle

from ledger.invoices import list_invoices
from tests.simulator import RunningSimulator
from tests.workflows.world import Sold, eventually, first_day, month, sell, totals, usage, working
from workflows import starting
from workflows.contract import ContractStatus, ContractWorkflow
from workflows.names import contract_workflow_id

MONTHS = 12
SENDERS = 4
SIGNALS_A_SENDER = 30
EVENTS_A_SIGNAL = 5


@pytest.mark.story
async def test_a_year_of_constant_signals_is_invoiced_to_the_last_token(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    """Signals go round the twelve months: ten for each, of five events of 100 tokens and one of them once more."""
    sell(engine, Sold(start=first_day(MONTHS), end=first_day(0), grace="90d", fee="20.00"))
    async with working(temporal, engine, simulator.client()):
        await starting.start_contract(temporal, "acme-1", signals_per_run=25)
        await asyncio.gather(*(send(temporal, sender) for sender in range(SENDERS)))

        async def status() -> ContractStatus:
            return await starting.contract_status(temporal, "acme-1")

        # 120 signals of 5 events; each signal repeats one event
        counted = await eventually(status, lambda found: found.accepted + found.duplicate == 720)
        assert (counted.accepted, counted.duplicate, counted.conflict, counted.rejected) == (600, 120, 0, 0)
        assert counted.signals >= 120
        assert counted.runs >= 4
        workflow: WorkflowHandle[ContractWorkflow, ContractStatus] = temporal.get_workflow_handle_for(
            ContractWorkflow.run, contract_workflow_id("acme-1")
        )
        await workflow.signal(ContractWorkflow.close_period, month(0))
        ended = await workflow.result()
        assert ended.state == "ended"

        async def charged() -> list[int]:
            return [charge["amount"] for charge in simulator.succeeded_charges()]

        # 20 + 11 x 70 + 50 = 840.00, in 13 charges
        charges = await eventually(charged, lambda found: len(found) == 1 + MONTHS)
        assert sum(charges) == 84_000
        expected = sorted(expected_invoices())

        async def invoiced() -> list[tuple[str, Decimal, str]]:
            with engine.begin() as connection:
                return sorted(totals(list_invoices(connection, contract_id="acme-1")))

        assert await eventually(invoiced, lambda found: found == expected) == expected


def expected_invoices() -> list[tuple[str, Decimal, str]]:
    """A month has 10 x 5 events x 100 tokens = 5,000 tokens at 0.01 = 50.00.

    The fee of 20.00 is billed in advance: the first on the opening invoice, each other with the month before it.
    """
    opening = ("acme-1.opening", Decimal("20.00"), "paid")
    with_fee = [(f"acme-1.{first_day(back)}", Decimal("70.00"), "paid") for back in range(2, MONTHS + 1)]
    return [opening, *with_fee, (f"acme-1.{first_day(1)}", Decimal("50.00"), "paid")]


async def send(client: Client, sender: int) -> None:
    for n in range(SIGNALS_A_SENDER):
        start = month(1 + (sender * SIGNALS_A_SENDER + n) % MONTHS)
        events = [
            usage(f"{sender}/{n}/{event}", start + timedelta(days=n % 27, hours=event), 100)
            for event in range(EVENTS_A_SIGNAL)
        ]
        await starting.signal_usage(client, "acme-1", [*events, events[0]])
        await asyncio.sleep(0.1)
