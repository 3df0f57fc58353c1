"""Building the workers: which activities and workflows run on which task queue, and with what."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta

import sqlalchemy as sa
import stripe
import structlog
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.charging import StripeActivities
from activities.closing import ClosingActivities
from activities.contracts import ContractActivities
from activities.delivery import DeliveryActivities, OutboxActivities
from activities.housekeeping import HousekeepingActivities, Retention
from activities.invoices import InvoiceActivities
from activities.mail import MailServer, mail_server
from activities.payments import PaymentActivities
from activities.recharges import RechargeActivities
from activities.settings import Settings
from activities.stripe_api import stripe_client
from activities.usage import UsageActivities
from ledger.database import create_engine
from workers.heartbeats import Heartbeats
from workflows.close_run import CloseRunWorkflow
from workflows.collection import CollectionWorkflow
from workflows.contract import ContractWorkflow
from workflows.delivery import WebhookWorkflow
from workflows.housekeeping import HousekeepingWorkflow
from workflows.invoice import InvoiceWorkflow
from workflows.names import CONTRACTS_QUEUE, DELIVERY_QUEUE, LEDGER_QUEUE, PAYMENTS_QUEUE
from workflows.recharge import RechargeWorkflow
from workflows.starting import connect, ensure_housekeeping_schedule, ensure_sweep_schedule
from workflows.sweep import SweepWorkflow

QUEUES = (CONTRACTS_QUEUE, LEDGER_QUEUE, PAYMENTS_QUEUE, DELIVERY_QUEUE)
WORKFLOWS = (
    ContractWorkflow,
    InvoiceWorkflow,
    CollectionWorkflow,
    RechargeWorkflow,
    CloseRunWorkflow,
    SweepWorkflow,
    HousekeepingWorkflow,
    WebhookWorkflow,
)
LEDGER_THREADS = 4
"""Threads of one process share its interpreter: more of them wait for each other. More processes share the queue."""
PAYMENTS_THREADS = 8
DELIVERIES_AT_A_TIME = 500
"""Endpoints that one process sends to: each waits for its own receiver, and takes no thread."""
STRIPE_CALLS_PER_SECOND = 20.0
"""Stripe allows 25 in test mode and 100 in live mode; the server holds the limit over all workers."""
GRACEFUL_SHUTDOWN = timedelta(seconds=30)
CONTRACTS_AT_HAND = 1000
"""Workflows that one process keeps in memory, and need not replay."""
STEPS_AT_A_TIME = 4 * LEDGER_THREADS
"""Steps of workflows that one process takes at once. A step that accrues waits for a thread, and what waits within the
process loses its work when it times out: the others wait at the server, in order."""
STICKY = timedelta(seconds=10)
"""How long a contract's next step waits for the worker that has it cached, which may be busy, or was killed: another
one would have to replay its history first."""
DEPLOYMENT = "meterbook"
KEEP_ALL = Retention()

SANDBOX = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules(
        "activities", "ledger", "pricing", "workflows.names"
    )
)

log = structlog.get_logger(__name__)


async def run_workers(settings: Settings, *, queues: Sequence[str], stop: asyncio.Event) -> None:
    """Work on the queues until `stop` is set, then finish what runs, for up to 30 seconds.

    Raises `InvalidError` for settings of Stripe or e-mail that contradict each other, `RuntimeError` when Temporal is
    not there.
    """
    client = await connect(settings)
    engine = create_engine(settings.database_url, pool_size=2 * LEDGER_THREADS)  # of two queues
    try:
        async with AsyncExitStack() as running:
            for worker in build_workers(
                client,
                engine,
                stripe_of(settings),
                queues=queues,
                retention=retention_of(settings),
                private_webhooks=settings.meterbook_webhook_allow_private,
                mail=mail_server(settings),
            ):
                await running.enter_async_context(worker)
            if CONTRACTS_QUEUE in queues:
                await ensure_sweep_schedule(client)
                await ensure_housekeeping_schedule(client)
            log.info("working", queues=list(queues), temporal=settings.temporal_address)
            await stop.wait()
            log.info("stopping")
    finally:
        engine.dispose()


def stripe_of(settings: Settings) -> stripe.StripeClient | None:
    """Return a client for Stripe; None without a key, when only bank transfers can be collected."""
    if settings.stripe_api_key is None:
        return None
    return stripe_client(api_key=settings.stripe_api_key.get_secret_value(), api_base=settings.stripe_api_base)


def retention_of(settings: Settings) -> Retention:
    """Return how long the table keeps the events of usage."""
    return Retention(settings.meterbook_keep_months, settings.meterbook_archive_dir)


def build_workers(
    client: Client,
    engine: sa.Engine,
    stripe_connection: stripe.StripeClient | None,
    *,
    queues: Sequence[str] = QUEUES,
    retention: Retention = KEEP_ALL,
    private_webhooks: bool = False,
    mail: MailServer | None = None,
) -> list[Worker]:
    """Return a worker for each queue; without a client for Stripe nobody works on the queue `payments`."""
    builders: Mapping[str, Callable[[], Worker | None]] = {
        CONTRACTS_QUEUE: lambda: Worker(
            client,
            task_queue=CONTRACTS_QUEUE,
            workflows=WORKFLOWS,
            workflow_runner=SANDBOX,
            activities=[ContractActivities(engine).accrue_usage],  # as a local one, of the contracts it has
            activity_executor=ThreadPoolExecutor(LEDGER_THREADS, thread_name_prefix=CONTRACTS_QUEUE),
            max_concurrent_local_activities=LEDGER_THREADS,
            no_remote_activities=True,
            max_concurrent_workflow_tasks=STEPS_AT_A_TIME,
            max_cached_workflows=CONTRACTS_AT_HAND,
            sticky_queue_schedule_to_start_timeout=STICKY,
            graceful_shutdown_timeout=GRACEFUL_SHUTDOWN,
            deployment_config=_deployment(),
        ),
        LEDGER_QUEUE: lambda: Worker(
            client,
            task_queue=LEDGER_QUEUE,
            activities=ledger_activities(engine, retention),
            activity_executor=ThreadPoolExecutor(LEDGER_THREADS, thread_name_prefix=LEDGER_QUEUE),
            max_concurrent_activities=LEDGER_THREADS,
            interceptors=[Heartbeats()],
            graceful_shutdown_timeout=GRACEFUL_SHUTDOWN,
        ),
        PAYMENTS_QUEUE: lambda: _payments_worker(client, engine, stripe_connection),
        DELIVERY_QUEUE: lambda: _delivery_worker(client, engine, private_webhooks, mail),
    }
    return [worker for queue in queues if (worker := builders[queue]()) is not None]


def ledger_activities(engine: sa.Engine, retention: Retention = KEEP_ALL) -> list[Callable[..., object]]:
    """Return the activities of one database transaction each."""
    usage, contracts, invoices = UsageActivities(engine), ContractActivities(engine), InvoiceActivities(engine)
    payments, closing = PaymentActivities(engine), ClosingActivities(engine)
    housekeeping = HousekeepingActivities(engine, retention)
    recharges = RechargeActivities(engine)
    return [
        usage.take_in_usage,
        usage.find_stale_contracts,
        contracts.accrue_usage,
        contracts.amend_contract,
        contracts.end_contract,
        invoices.draft_invoice,
        invoices.find_late_invoice,
        invoices.approve_invoice,
        invoices.finalise_invoice,
        payments.look_at_invoice,
        payments.remember_customer,
        payments.open_attempt,
        payments.remember_intent,
        payments.mark_unknown,
        payments.settle_attempt,
        payments.give_up,
        recharges.begin_recharge,
        recharges.settle_recharge,
        closing.begin_close,
        closing.look_at_close,
        closing.finish_close,
        housekeeping.prepare_months,
        housekeeping.archive_month,
        housekeeping.expire_holds,
        OutboxActivities(engine).find_due_endpoints,
    ]


def stripe_activities(engine: sa.Engine, connection: stripe.StripeClient) -> list[Callable[..., object]]:
    """Return the activities of one call to Stripe each."""
    charging = StripeActivities(engine, connection)
    return [
        charging.ensure_customer,
        charging.attach_card,
        charging.create_intent,
        charging.find_intent,
        charging.confirm_intent,
        charging.cancel_intent,
        charging.fetch_intent,
    ]


def _payments_worker(client: Client, engine: sa.Engine, connection: stripe.StripeClient | None) -> Worker | None:
    if connection is None:
        log.warning("no stripe_api_key: cards are not charged until a worker with one runs")
        return None
    return Worker(
        client,
        task_queue=PAYMENTS_QUEUE,
        activities=stripe_activities(engine, connection),
        activity_executor=ThreadPoolExecutor(PAYMENTS_THREADS, thread_name_prefix=PAYMENTS_QUEUE),
        max_concurrent_activities=PAYMENTS_THREADS,
        interceptors=[Heartbeats()],
        max_task_queue_activities_per_second=STRIPE_CALLS_PER_SECOND,
        graceful_shutdown_timeout=GRACEFUL_SHUTDOWN,
    )


def _delivery_worker(client: Client, engine: sa.Engine, allow_private: bool, mail: MailServer | None) -> Worker:
    """Return the worker that speaks to endpoints, to all of them in one thread."""
    return Worker(
        client,
        task_queue=DELIVERY_QUEUE,
        activities=[DeliveryActivities(engine, allow_private=allow_private, mail=mail).deliver],
        max_concurrent_activities=DELIVERIES_AT_A_TIME,
        interceptors=[Heartbeats()],
        graceful_shutdown_timeout=GRACEFUL_SHUTDOWN,
    )


def _deployment() -> WorkerDeploymentConfig | None:
    """Return the worker's version where METERBOOK_BUILD_ID names one; contracts move to the current version."""
    build_id = os.environ.get("METERBOOK_BUILD_ID")
    if not build_id:
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(DEPLOYMENT, build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE,
    )
