"""The invoice: waits out the grace, freezes and drafts, waits for a review if flagged, finalises, starts to collect."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import ActivityError, ApplicationError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.invoices import (
        ApprovedInvoice,
        ApproveInvoice,
        DraftedInvoice,
        DraftInvoice,
        FinalisedInvoice,
        FinaliseInvoice,
        InvoiceActivities,
    )
    from workflows.collection import CollectionRequest, CollectionWorkflow
    from workflows.hints import hint
    from workflows.names import (
        CONTRACTS_QUEUE,
        DUNNING_STATE,
        ENTITY_ID,
        LATE,
        OPENING,
        collection_workflow_id,
        contract_workflow_id,
    )
    from workflows.policies import LEDGER, growing_wait, refused


@dataclass(frozen=True, slots=True)
class InvoiceRequest:
    """One invoice to write, not before `grace_until` (UTC)."""

    contract_id: str
    invoice_id: str
    entity_id: str
    period_start: datetime
    grace_until: datetime

    @property
    def kind(self) -> Literal["opening", "period", "late"]:
        """Say whether it bills what is due in advance, a period, or late usage after the last period."""
        if self.invoice_id.startswith(f"{self.contract_id}.{LATE}"):
            return "late"
        return "opening" if self.invoice_id == f"{self.contract_id}.{OPENING}" else "period"


@dataclass(frozen=True, slots=True)
class InvoiceStatus:
    """How an invoice's workflow stands.

    `state` is `grace`, `drafting`, `blocked` by a problem, `in_review`, `approved`, `finalised`, `paid` (nothing was to
    pay) or `nothing_to_bill`.
    """

    invoice_id: str
    state: str
    grace_until: datetime
    problem: str | None
    approved_by: str | None
    number: str | None
    total: Decimal | None


@workflow.defn(name="Invoice")
class InvoiceWorkflow:
    """One invoice, from the end of its period until it is final."""

    @workflow.init
    def __init__(self, request: InvoiceRequest) -> None:
        self._request = request
        self._state = "grace"
        self._skip_grace = False
        self._retry = False
        self._problem: str | None = None
        self._approving = False
        self._approved_by: str | None = None
        self._number: str | None = None
        self._total: Decimal | None = None

    @workflow.run
    async def run(self, request: InvoiceRequest) -> InvoiceStatus:
        """Wait, draft, have it reviewed, finalise, collect, and tell the contract."""
        await self._pass_grace()
        drafted = await self._draft()
        if drafted.invoice_id is None:
            self._state = "nothing_to_bill"
            return self.status()
        if drafted.state == "in_review":
            self._state = "in_review"
            await workflow.wait_condition(lambda: self._approved_by is not None)
        await self._finalise(drafted.invoice_id)
        await hint(contract_workflow_id(request.contract_id), "nudge")
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.status()

    @workflow.signal
    def skip_grace(self) -> None:
        """Draft now: finance closes the month."""
        self._skip_grace = True

    @workflow.signal
    def retry(self) -> None:
        """Try again now: the problem may be mended."""
        self._retry = True

    @workflow.update
    async def approve(self, by: str) -> ApprovedInvoice:
        """Let the invoice go out, on the word of `by`."""
        self._approving = True
        try:
            approved = await workflow.execute_activity_method(
                InvoiceActivities.approve_invoice,
                ApproveInvoice(self._request.invoice_id, by, workflow.now()),
                **LEDGER,
            )
        except ActivityError as error:
            raise refused(error) from error
        finally:
            self._approving = False
        self._approved_by = approved.by
        self._state = "approved"
        return approved

    @approve.validator
    def _may_approve(self, by: str) -> None:
        invoice_id = self._request.invoice_id
        if not by.strip():
            raise ApplicationError("by is empty; name who approves", type="InvalidError", non_retryable=True)
        if self._approved_by is not None or self._approving:
            who = f"was approved by {self._approved_by} already" if self._approved_by else "is being approved already"
            raise ApplicationError(f"invoice {invoice_id} {who}", type="StateError", non_retryable=True)
        if self._state != "in_review":
            raise ApplicationError(
                f"invoice {invoice_id} is not waiting for review: it is in state {self._state}",
                type="StateError",
                non_retryable=True,
            )

    @workflow.query
    def status(self) -> InvoiceStatus:
        """Tell how the invoice stands."""
        return InvoiceStatus(
            invoice_id=self._request.invoice_id,
            state=self._state,
            grace_until=self._request.grace_until,
            problem=self._problem,
            approved_by=self._approved_by,
            number=self._number,
            total=self._total,
        )

    async def _pass_grace(self) -> None:
        grace = self._request.grace_until - workflow.now()
        if grace > timedelta(0):
            try:
                await workflow.wait_condition(lambda: self._skip_grace, timeout=grace)
            except TimeoutError:
                workflow.logger.debug("the grace of %s is over", self._request.invoice_id)

    async def _draft(self) -> DraftedInvoice:
        """Draft until nothing stands in the way: an earlier period that is not frozen yet, terms without a price."""
        tries = 0
        while True:
            self._state, self._retry = "drafting", False
            drafted = await workflow.execute_activity_method(
                InvoiceActivities.draft_invoice,
                DraftInvoice(
                    self._request.contract_id,
                    self._request.kind,
                    self._request.period_start,
                    workflow.now(),
                    self._request.invoice_id,
                ),
                **LEDGER,
            )
            self._problem, self._total = drafted.problem, drafted.total
            if drafted.problem is None:
                return drafted
            tries = await self._wait_to_retry(tries)

    async def _finalise(self, invoice_id: str) -> None:
        """Make the invoice final and have it collected."""
        final = await self._finalised(invoice_id)
        self._state, self._number, self._total, self._problem = final.state, final.number, final.total, None
        if final.state == "finalised" and final.total > 0:
            await self._start_collection(invoice_id)

    async def _finalised(self, invoice_id: str) -> FinalisedInvoice:
        """Have the invoice numbered and posted as soon as the books allow it."""
        tries = 0
        while True:
            self._retry = False
            try:
                return await workflow.execute_activity_method(
                    InvoiceActivities.finalise_invoice, FinaliseInvoice(invoice_id, workflow.now()), **LEDGER
                )
            except ActivityError as error:
                self._problem = refused(error).message
                tries = await self._wait_to_retry(tries)

    async def _wait_to_retry(self, tries: int) -> int:
        """Show that a problem blocks the invoice and wait for a hint, longer each time; return the tries so far."""
        self._state = "blocked"
        try:
            await workflow.wait_condition(lambda: self._retry, timeout=growing_wait(tries))
        except TimeoutError:
            return tries + 1
        return tries

    async def _start_collection(self, invoice_id: str) -> None:
        try:
            await workflow.start_child_workflow(
                CollectionWorkflow.run,
                CollectionRequest(invoice_id),
                id=collection_workflow_id(invoice_id),
                task_queue=CONTRACTS_QUEUE,
                parent_close_policy=ParentClosePolicy.ABANDON,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=TypedSearchAttributes(
                    [
                        SearchAttributePair(ENTITY_ID, self._request.entity_id),
                        SearchAttributePair(DUNNING_STATE, "collecting"),
                    ]
                ),
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("invoice %s is collected already", invoice_id)
