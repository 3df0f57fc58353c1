"""`python -m tests.bench.bare_worker`: work on bare workflows, in a process like the product's, until it is ended."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from temporalio.worker import Worker

from activities.settings import load_settings
from tests.bench.bare import QUEUE, BareWorkflow, do_nothing
from workers.heartbeats import Heartbeats
from workers.worker import LEDGER_THREADS
from workflows.starting import connect


async def main() -> None:
    """Work with as many threads as the product's worker has."""
    worker = Worker(
        await connect(load_settings()),
        task_queue=QUEUE,
        workflows=[BareWorkflow],
        activities=[do_nothing],
        activity_executor=ThreadPoolExecutor(LEDGER_THREADS),
        max_concurrent_activities=LEDGER_THREADS,
        interceptors=[Heartbeats()],
    )
    await worker.run()


if __name__ == "__main__":
    asyncio.run(main())
