"""What programs ask of the workflows: start them, tell them, ask them. Needs a Temporal client and nothing else.

Refusals come back as the ledger's errors: `NotFoundError` when no such workflow is known, `StateError`, `InvalidError`
and `ConflictError` with the text of the activity that refused. `TemporalAwayError` means that nobody answered in time.
"""

import asyncio
from collections.abc import Sequence
from datetime import date, datetime, timedelta

import msgspec
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)
from temporalio.common import RawValue, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.contracts import AmendContract, AmendedContract, EndContract, EndedContract
from activities.invoices import ApprovedInvoice
from activities.settings import Settings
from ledger.errors import InvalidError, NotFoundError, StateError
from workflows.close_run import CloseRequest, CloseResult, CloseRunWorkflow, CloseStatus
from workflows.collection import CollectionStatus, CollectionWorkflow
from workflows.contract import MAX_SIGNAL_BYTES, SIGNALS_PER_RUN, ContractState, ContractStatus, ContractWorkflow
from workflows.delivery import WebhookState, WebhookStatus, WebhookWorkflow
from workflows.housekeeping import HousekeepingWorkflow
from workflows.invoice import InvoiceStatus, InvoiceWorkflow
from workflows.names import (
    CONTRACTS_QUEUE,
    HOUSEKEEPING,
    SWEEP,
    close_workflow_id,
    collection_workflow_id,
    contract_workflow_id,
    invoice_workflow_id,
    recharge_workflow_id,
    webhook_workflow_id,
)
from workflows.recharge import RechargeRequest, RechargeStatus, RechargeWorkflow
from workflows.refusals import refusals
from workflows.sweep import SweepWorkflow

MAX_SIGNAL_EVENTS = 100
ANSWER_TIMEOUT = timedelta(seconds=30)
NUDGE_TIMEOUT = timedelta(seconds=5)
"""A nudge is soon sent again, or found by the sweep: waiting longer would hold up the others."""
SWEEP_EVERY = timedelta(seconds=30)
HOUSEKEEPING_EVERY = timedelta(days=1)
_EXACT_JSON = msgspec.json.Encoder(decimal_format="number")


async def connect(settings: Settings) -> Client:
    """Connect to Temporal; raises `RuntimeError` when it is not there."""
    return await Client.connect(
        settings.temporal_address,
        namespace=settings.temporal_namespace,
        api_key=settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None,
        tls=settings.temporal_tls,
        data_converter=pydantic_data_converter,
    )


async def start_contract(client: Client, contract_id: str, *, signals_per_run: int = SIGNALS_PER_RUN) -> None:
    """Start the workflow of a recorded contract; harmless while it runs and after it has completed.

    `signals_per_run` is how many signals one run takes before it continues as new.
    """
    try:
        await client.start_workflow(
            ContractWorkflow.run,
            ContractState(contract_id, signals_per_run=signals_per_run),
            id=contract_workflow_id(contract_id),
            task_queue=CONTRACTS_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            rpc_timeout=ANSWER_TIMEOUT,
        )
    except WorkflowAlreadyStartedError:
        return


async def nudge(client: Client, contract_ids: Sequence[str]) -> tuple[str, ...]:
    """Tell contracts that their usage changed; return those that have no running workflow.

    A nudge is a hint: what changed is marked in the database, and the sweep finds what was not told.
    """

    async def tell(contract_id: str) -> str | None:
        try:
            async with refusals(f"contract {contract_id} has no running workflow"):
                handle = client.get_workflow_handle_for(ContractWorkflow.run, contract_workflow_id(contract_id))
                await handle.signal(ContractWorkflow.nudge, rpc_timeout=NUDGE_TIMEOUT)
        except NotFoundError:
            return contract_id
        return None

    answers = await asyncio.gather(*(tell(contract_id) for contract_id in contract_ids))
    return tuple(contract_id for contract_id in answers if contract_id is not None)


async def signal_usage(client: Client, contract_id: str, objects: Sequence[object]) -> None:
    """Send up to 100 events of up to 64 KB by signal: accepted when it returns, counted shortly after.

    Numbers travel as written: give `Decimal`, not float. Raises `InvalidError` when it is too much for a signal,
    `NotFoundError` when the contract has no running workflow.
    """
    body = _EXACT_JSON.encode(objects)
    if len(objects) > MAX_SIGNAL_EVENTS or len(body) > MAX_SIGNAL_BYTES:
        raise InvalidError(
            f"{len(objects)} events of {len(body)} bytes are too much for one signal; send at most "
            f"{MAX_SIGNAL_EVENTS} events and {MAX_SIGNAL_BYTES} bytes, or use POST /v1/usage"
        )
    handle = client.get_workflow_handle_for(ContractWorkflow.run, contract_workflow_id(contract_id))
    async with refusals(f"contract {contract_id} has no running workflow; start the contract first"):
        await handle.signal(
            ContractWorkflow.usage,
            RawValue(Payload(metadata={"encoding": b"json/plain"}, data=body)),
            rpc_timeout=ANSWER_TIMEOUT,
        )


async def amend(
    client: Client,
    contract_id: str,
    *,
    definition: str,
    effective_from: datetime,
    reason: str,
    by: str,
) -> AmendedContract:
    """Change a contract's terms from a moment on, and return when its balance follows them.

    `definition` is the text of the whole contract file with the new terms. The same again is harmless.
    """
    request = AmendContract(contract_id, definition, effective_from, reason, by)
    handle = client.get_workflow_handle_for(ContractWorkflow.run, contract_workflow_id(contract_id))
    async with refusals(f"contract {contract_id} has no running workflow; start the contract first"):
        return await handle.execute_update(ContractWorkflow.amend, request, rpc_timeout=ANSWER_TIMEOUT)


async def end(client: Client, contract_id: str, *, end_at: datetime, reason: str, by: str) -> EndedContract:
    """End a contract at a moment, and return when its balance follows; the same again is harmless."""
    request = EndContract(contract_id, end_at, reason, by)
    handle = client.get_workflow_handle_for(ContractWorkflow.run, contract_workflow_id(contract_id))
    async with refusals(f"contract {contract_id} has no running workflow; start the contract first"):
        return await handle.execute_update(ContractWorkflow.end, request, rpc_timeout=ANSWER_TIMEOUT)


async def contract_status(client: Client, contract_id: str) -> ContractStatus:
    """Ask a contract's workflow how it stands; raises `NotFoundError`."""
    handle = client.get_workflow_handle_for(ContractWorkflow.run, contract_workflow_id(contract_id))
    async with refusals(f"contract {contract_id} has no workflow; start the contract first"):
        return await handle.query(ContractWorkflow.status, rpc_timeout=ANSWER_TIMEOUT)


async def invoice_status(client: Client, invoice_id: str) -> InvoiceStatus:
    """Ask an invoice's workflow how it stands; raises `NotFoundError`."""
    handle = client.get_workflow_handle_for(InvoiceWorkflow.run, invoice_workflow_id(invoice_id))
    async with refusals(f"invoice {invoice_id} has no workflow; its period has not ended"):
        return await handle.query(InvoiceWorkflow.status, rpc_timeout=ANSWER_TIMEOUT)


async def approve_invoice(client: Client, invoice_id: str, *, by: str) -> ApprovedInvoice:
    """Approve an invoice that waits for review; raises `StateError` when it does not, or was approved already."""
    handle = client.get_workflow_handle_for(InvoiceWorkflow.run, invoice_workflow_id(invoice_id))
    try:
        async with refusals(f"invoice {invoice_id} is not waiting for review"):
            return await handle.execute_update(InvoiceWorkflow.approve, by, rpc_timeout=ANSWER_TIMEOUT)
    except NotFoundError:
        status = await invoice_status(client, invoice_id)
        approved = f"was approved by {status.approved_by} already" if status.approved_by else "needed no approval"
        raise StateError(f"invoice {invoice_id} {approved}: it is {status.state}") from None


async def retry_invoice(client: Client, invoice_id: str) -> None:
    """Tell an invoice that is blocked by a problem to try again now."""
    handle = client.get_workflow_handle_for(InvoiceWorkflow.run, invoice_workflow_id(invoice_id))
    async with refusals(f"invoice {invoice_id} has no running workflow"):
        await handle.signal(InvoiceWorkflow.retry, rpc_timeout=ANSWER_TIMEOUT)


async def collection_status(client: Client, invoice_id: str) -> CollectionStatus:
    """Ask how the collection of an invoice stands; raises `NotFoundError`."""
    handle = client.get_workflow_handle_for(CollectionWorkflow.run, collection_workflow_id(invoice_id))
    async with refusals(f"invoice {invoice_id} is not collected: it is not final, or has nothing to pay"):
        return await handle.query(CollectionWorkflow.status, rpc_timeout=ANSWER_TIMEOUT)


async def ensure_recharge(client: Client, contract_id: str, number: int) -> None:
    """Have a contract's recharge worked on; harmless while it is, and once it is settled."""
    await client.start_workflow(
        RechargeWorkflow.run,
        RechargeRequest(contract_id, number),
        id=recharge_workflow_id(contract_id, number),
        task_queue=CONTRACTS_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        rpc_timeout=ANSWER_TIMEOUT,
    )


async def recharge_status(client: Client, contract_id: str, number: int) -> RechargeStatus:
    """Ask how a contract's recharge stands; raises `NotFoundError`."""
    handle = client.get_workflow_handle_for(RechargeWorkflow.run, recharge_workflow_id(contract_id, number))
    async with refusals(f"contract {contract_id} has no recharge {number}"):
        return await handle.query(RechargeWorkflow.status, rpc_timeout=ANSWER_TIMEOUT)


async def payment_recorded(client: Client, invoice_id: str) -> bool:
    """Tell an invoice's collection to look at the books again; return whether a collection was running."""
    handle = client.get_workflow_handle_for(CollectionWorkflow.run, collection_workflow_id(invoice_id))
    try:
        async with refusals(f"invoice {invoice_id} has no running collection"):
            await handle.signal(CollectionWorkflow.payment_recorded, rpc_timeout=ANSWER_TIMEOUT)
    except NotFoundError:
        return False
    return True


async def stripe_event(client: Client, invoice_id: str) -> bool:
    """Tell an invoice's collection that Stripe has news; return whether a collection was running."""
    handle = client.get_workflow_handle_for(CollectionWorkflow.run, collection_workflow_id(invoice_id))
    try:
        async with refusals(f"invoice {invoice_id} has no running collection"):
            await handle.signal(CollectionWorkflow.stripe_event, rpc_timeout=ANSWER_TIMEOUT)
    except NotFoundError:
        return False
    return True


async def start_close(client: Client, entity_id: str, month: date, *, by: str) -> str:
    """Start closing an entity's month and return the run's workflow id; the running close is found again.

    `month` is any day of the month. Raises `StateError` when the month cannot be closed yet, or is closed already.
    A close that was refused can be started again.
    """
    workflow_id = close_workflow_id(entity_id, month)
    try:
        handle = await client.start_workflow(
            CloseRunWorkflow.run,
            CloseRequest(entity_id, month.replace(day=1), by),
            id=workflow_id,
            task_queue=CONTRACTS_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
            rpc_timeout=ANSWER_TIMEOUT,
        )
    except WorkflowAlreadyStartedError as error:
        raise StateError(f"{month:%Y-%m} of {entity_id} is closed already") from error
    try:
        async with refusals(f"{workflow_id} is not running"):
            await handle.execute_update(CloseRunWorkflow.begun, rpc_timeout=ANSWER_TIMEOUT)
    except NotFoundError:  # it ended before it was asked: closed at once, or refused
        async with refusals(f"{workflow_id} does not exist"):
            await handle.result(rpc_timeout=ANSWER_TIMEOUT)
    return workflow_id


async def close_status(client: Client, entity_id: str, month: date) -> CloseStatus:
    """Ask how the close of a month stands: what waits for review, what is blocked; raises `NotFoundError`."""
    handle = client.get_workflow_handle_for(CloseRunWorkflow.run, close_workflow_id(entity_id, month))
    async with refusals(f"no close of {month:%Y-%m} was started for {entity_id}"):
        return await handle.query(CloseRunWorkflow.status, rpc_timeout=ANSWER_TIMEOUT)


async def close_result(client: Client, entity_id: str, month: date) -> CloseResult:
    """Wait until a month is closed, however long that takes; raises `StateError` when the close is refused."""
    handle = client.get_workflow_handle_for(CloseRunWorkflow.run, close_workflow_id(entity_id, month))
    async with refusals(f"no close of {month:%Y-%m} was started for {entity_id}"):
        return await handle.result()


async def ensure_webhook(client: Client, endpoint_id: str) -> None:
    """Have an endpoint's delivery look for what is due: it is started, or woken where it runs."""
    await client.start_workflow(
        WebhookWorkflow.run,
        WebhookState(endpoint_id),
        id=webhook_workflow_id(endpoint_id),
        task_queue=CONTRACTS_QUEUE,
        start_signal="wake",
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        rpc_timeout=ANSWER_TIMEOUT,
    )


async def webhook_status(client: Client, endpoint_id: str) -> WebhookStatus:
    """Ask how the delivery to an endpoint stands; raises `NotFoundError`."""
    handle = client.get_workflow_handle_for(WebhookWorkflow.run, webhook_workflow_id(endpoint_id))
    async with refusals(f"endpoint {endpoint_id} has no delivery running"):
        return await handle.query(WebhookWorkflow.status, rpc_timeout=ANSWER_TIMEOUT)


async def ensure_sweep_schedule(client: Client) -> None:
    """Register the sweep for lost nudges every 30 seconds; harmless when it is registered."""
    sweep = ScheduleActionStartWorkflow(SweepWorkflow.run, id=SWEEP, task_queue=CONTRACTS_QUEUE)
    await _ensure_schedule(client, SWEEP, sweep, every=SWEEP_EVERY)


async def ensure_housekeeping_schedule(client: Client) -> None:
    """Register the housekeeping of usage once a day; harmless when it is registered."""
    round_ = ScheduleActionStartWorkflow(HousekeepingWorkflow.run, id=HOUSEKEEPING, task_queue=CONTRACTS_QUEUE)
    await _ensure_schedule(client, HOUSEKEEPING, round_, every=HOUSEKEEPING_EVERY)


async def _ensure_schedule(client: Client, name: str, action: ScheduleActionStartWorkflow, *, every: timedelta) -> None:
    schedule = Schedule(
        action=action,
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=every * 2),
    )
    try:
        await client.create_schedule(name, schedule)
    except ScheduleAlreadyRunningError:
        return
    except RPCError as error:
        if error.status != RPCStatusCode.ALREADY_EXISTS:
            raise
