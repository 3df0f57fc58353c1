"""The recharge: bills what fills up a prepaid balance, has it collected, and grants it once it is paid."""

from dataclasses import dataclass

from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import ActivityError, ChildWorkflowError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.invoices import FinaliseInvoice, InvoiceActivities
    from activities.recharges import BeginRecharge, BegunRecharge, RechargeActivities, SettleRecharge
    from workflows.collection import CollectionRequest, CollectionWorkflow
    from workflows.hints import hint
    from workflows.names import (
        CONTRACTS_QUEUE,
        DUNNING_STATE,
        ENTITY_ID,
        collection_workflow_id,
        contract_workflow_id,
    )
    from workflows.policies import LEDGER, LEDGER_INSISTENT, growing_wait, refused


@dataclass(frozen=True, slots=True)
class RechargeRequest:
    """One recharge of a contract."""

    contract_id: str
    number: int


@dataclass(frozen=True, slots=True)
class RechargeStatus:
    """How a recharge stands.

    `state` is `beginning`, `collecting`, `settling`, or final: `paid`, `failed`, `not_due` (nothing was begun).
    """

    contract_id: str
    number: int
    state: str
    invoice_id: str | None


@workflow.defn(name="Recharge")
class RechargeWorkflow:
    """One recharge, from a low balance to its grant. Each step finds what is done already, so that it may run again."""

    @workflow.init
    def __init__(self, request: RechargeRequest) -> None:
        self._request = request
        self._state = "beginning"
        self._invoice_id: str | None = None

    @workflow.run
    async def run(self, request: RechargeRequest) -> RechargeStatus:
        """Begin, bill, collect, settle, and tell the contract."""
        begun = await self._begin()
        if begun.invoice_id is None:
            self._state = "not_due"
            return self.status()
        self._invoice_id = begun.invoice_id
        if begun.state != "paid":
            await self._collect(begun.invoice_id, begun.entity_id)
            await self._settle()
        else:
            self._state = "paid"
        await hint(contract_workflow_id(request.contract_id), "nudge")
        return self.status()

    @workflow.query
    def status(self) -> RechargeStatus:
        """Tell how the recharge stands."""
        return RechargeStatus(self._request.contract_id, self._request.number, self._state, self._invoice_id)

    async def _begin(self) -> BegunRecharge:
        try:
            return await workflow.execute_activity_method(
                RechargeActivities.begin_recharge,
                BeginRecharge(self._request.contract_id, self._request.number, workflow.now()),
                **LEDGER,
            )
        except ActivityError as error:  # only a contract that is not recorded is refused
            raise refused(error) from error

    async def _collect(self, invoice_id: str, entity_id: str) -> None:
        """Issue the invoice and wait until its collection has ended, whoever started that."""
        self._state = "collecting"
        final = await workflow.execute_activity_method(
            InvoiceActivities.finalise_invoice, FinaliseInvoice(invoice_id, workflow.now()), **LEDGER_INSISTENT
        )
        if final.state != "finalised":
            return
        try:
            await workflow.execute_child_workflow(
                CollectionWorkflow.run,
                CollectionRequest(invoice_id),
                id=collection_workflow_id(invoice_id),
                task_queue=CONTRACTS_QUEUE,
                parent_close_policy=ParentClosePolicy.ABANDON,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=TypedSearchAttributes(
                    [SearchAttributePair(ENTITY_ID, entity_id), SearchAttributePair(DUNNING_STATE, "collecting")]
                ),
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("invoice %s is collected already", invoice_id)
        except ChildWorkflowError as error:  # a person ended it: the books say what becomes of the invoice
            workflow.logger.warning("the collection of invoice %s was ended: %s", invoice_id, error)

    async def _settle(self) -> None:
        """Grant or fail the recharge; while its invoice is still collected, look again, less and less often."""
        self._state = "settling"
        tries = 0
        while True:
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(self._request)
            settled = await workflow.execute_activity_method(
                RechargeActivities.settle_recharge,
                SettleRecharge(self._request.contract_id, self._request.number, workflow.now()),
                **LEDGER_INSISTENT,
            )
            if settled.state != "begun":
                self._state = settled.state
                return
            await workflow.sleep(growing_wait(tries))
            tries += 1
