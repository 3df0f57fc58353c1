"""The sweep: finds lost nudges, late usage of ended contracts and webhooks that are due; runs every 30 seconds."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.contracts import AccrueUsage, ContractActivities
    from activities.delivery import FindDueEndpoints, OutboxActivities
    from activities.invoices import FindLateInvoice, InvoiceActivities
    from activities.usage import FindStale, UsageActivities
    from workflows.delivery import WebhookState, WebhookWorkflow
    from workflows.hints import hint
    from workflows.invoice import InvoiceRequest, InvoiceWorkflow
    from workflows.names import (
        CONTRACTS_QUEUE,
        ENTITY_ID,
        contract_workflow_id,
        invoice_workflow_id,
        webhook_workflow_id,
    )
    from workflows.policies import LEDGER

STALE_AFTER = timedelta(seconds=10)
WEBHOOKS = "webhooks"
"""The change by which a sweep wakes the endpoints that have something to hear."""


@workflow.defn(name="Sweep")
class SweepWorkflow:
    """One sweep."""

    @workflow.run
    async def run(self) -> int:
        """Nudge every contract whose usage waits for an accrual; return how many heard it."""
        stale = await workflow.execute_activity_method(
            UsageActivities.find_stale_contracts, FindStale(workflow.now() - STALE_AFTER), **LEDGER
        )
        heard = 0
        for contract_id in stale.contract_ids:
            if await hint(contract_workflow_id(contract_id), "nudge"):
                heard += 1
            else:
                await self._settle(contract_id)
        if workflow.patched(WEBHOOKS):
            await self._wake_endpoints()
        return heard

    async def _wake_endpoints(self) -> None:
        """Wake the delivery of every endpoint that has something to hear, or start it where it does not run."""
        due = await workflow.execute_activity_method(
            OutboxActivities.find_due_endpoints, FindDueEndpoints(workflow.now()), **LEDGER
        )
        for endpoint_id in due.endpoint_ids:
            if await hint(webhook_workflow_id(endpoint_id), "wake"):
                continue
            try:
                await workflow.start_child_workflow(
                    WebhookWorkflow.run,
                    WebhookState(endpoint_id),
                    id=webhook_workflow_id(endpoint_id),
                    task_queue=CONTRACTS_QUEUE,
                    parent_close_policy=ParentClosePolicy.ABANDON,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                )
            except WorkflowAlreadyStartedError:
                workflow.logger.info("the delivery to %s runs already", endpoint_id)

    async def _settle(self, contract_id: str) -> None:
        """Bring a contract up to its usage whose workflow is over, and have billed what that changes."""
        accrued = await workflow.execute_activity_method(
            ContractActivities.accrue_usage, AccrueUsage(contract_id, workflow.now()), **LEDGER
        )
        if not accrued.finished:
            return
        late = await workflow.execute_activity_method(
            InvoiceActivities.find_late_invoice, FindLateInvoice(contract_id), **LEDGER
        )
        if late.invoice_id is None:
            return
        try:
            await workflow.start_child_workflow(
                InvoiceWorkflow.run,
                InvoiceRequest(contract_id, late.invoice_id, accrued.entity_id, accrued.start_at, workflow.now()),
                id=invoice_workflow_id(late.invoice_id),
                task_queue=CONTRACTS_QUEUE,
                parent_close_policy=ParentClosePolicy.ABANDON,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                search_attributes=TypedSearchAttributes([SearchAttributePair(ENTITY_ID, accrued.entity_id)]),
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("invoice %s is under way already", late.invoice_id)
