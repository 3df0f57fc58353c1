"""Temporal's own time skipping: the clocks of contracts and invoices, turned as a story tells."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import TimeSkipper, TimeSkippingConfig, WorkflowEnvironment

from tests.workflows.world import BINARIES, FAST
from workflows import starting
from workflows.collection import CollectionStatus, CollectionWorkflow
from workflows.contract import ContractStatus, ContractWorkflow
from workflows.invoice import InvoiceStatus, InvoiceWorkflow
from workflows.names import (
    CONTRACT_STATUS,
    DUNNING_STATE,
    ENTITY_ID,
    PERIOD_END,
    collection_workflow_id,
    contract_workflow_id,
    invoice_workflow_id,
)
from workflows.refusals import TemporalAwayError


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks of the workflows: each has its own, which goes on as slowly as a wall clock until somebody turns it.

    Temporal turns no clock while a child runs, abandoned or not: a contract's only when its invoices are final.
    """

    client: Client
    skipper: TimeSkipper

    def contract(self, contract_id: str) -> WorkflowHandle[ContractWorkflow, ContractStatus]:
        """A contract's workflow, whichever run is the present one."""
        return self.client.get_workflow_handle_for(ContractWorkflow.run, contract_workflow_id(contract_id))

    def invoice(self, invoice_id: str) -> WorkflowHandle[InvoiceWorkflow, InvoiceStatus]:
        """An invoice's workflow."""
        return self.client.get_workflow_handle_for(InvoiceWorkflow.run, invoice_workflow_id(invoice_id))

    def collection(self, invoice_id: str) -> WorkflowHandle[CollectionWorkflow, CollectionStatus]:
        """The workflow that collects an invoice."""
        return self.client.get_workflow_handle_for(CollectionWorkflow.run, collection_workflow_id(invoice_id))

    async def turn_contract(self, contract_id: str, moment: datetime) -> None:
        """Let a contract's time pass, timer by timer, until a moment (UTC) or its end; it waits for open invoices."""
        await self._turn(self.contract(contract_id), moment)

    async def turn_invoice(self, invoice_id: str, moment: datetime) -> None:
        """Let an invoice's time pass until a moment (UTC), or until its workflow is done."""
        await self._turn(self.invoice(invoice_id), moment)

    async def in_grace(self, invoice_id: str) -> bool:
        """Say whether an invoice's workflow is there and waits."""
        try:
            return (await starting.invoice_status(self.client, invoice_id)).state == "grace"
        except TemporalAwayError:  # it was just started, and cannot answer yet
            return False

    async def _turn(self, workflow: WorkflowHandle[Any, Any], moment: datetime) -> None:
        await self.skipper.fast_forward(workflow, moment - await self.skipper.get_current_time(workflow))


@asynccontextmanager
async def skipping_server() -> AsyncIterator[Clocks]:
    """A Temporal server of the test's own that can skip time."""
    keys = ("frontend.WorkflowTimeSkippingEnabled=true", 'history.timerProcessorMaxTimeShift="20ms"')
    skipping = [word for key in keys for word in ("--dynamic-config-value", key)]
    environment = await WorkflowEnvironment.start_local(
        data_converter=pydantic_data_converter,
        dev_server_existing_path=str(BINARIES / "temporal"),
        dev_server_log_level="error",
        search_attributes=[CONTRACT_STATUS, ENTITY_ID, PERIOD_END, DUNNING_STATE],
        dev_server_extra_args=[*FAST, *skipping],
    )
    async with environment:
        config = TimeSkippingConfig(disable_propagation=True, max_session_skip_count=1000)
        yield Clocks(environment.client, TimeSkipper(environment.client, config=config))
