import os
import signal
import subprocess
import sys

import sqlalchemy as sa
from temporalio.client import Client

from infra.stack.home import CLONE
from tests.workflows.world import Sold, dev_server, eventually, first_day, sell
from workflows import starting
from workflows.contract import ContractStatus
from workflows.names import SWEEP


async def test_a_worker_process_works_until_it_is_told_to_stop_and_leaves_in_order(
    engine: sa.Engine, database_url: str
) -> None:
    sell(engine, Sold(start=first_day(0)))
    async with dev_server() as client:
        with started(client, database_url) as process:
            await starting.start_contract(client, "acme-1")

            async def status() -> ContractStatus:
                return await starting.contract_status(client, "acme-1")

            await eventually(status, lambda found: found.accruals > 0)
            assert (await client.get_schedule_handle(SWEEP).describe()).id == SWEEP
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert '"event": "stopping"' in log


def test_an_unknown_queue_is_refused_before_anything_starts() -> None:
    command = [sys.executable, "-m", "workers", "--queues", "ledger,letters"]
    refused = subprocess.run(command, cwd=CLONE, capture_output=True, text=True, check=False, timeout=30)
    assert refused.returncode == 2
    assert "'letters' is none of contracts, ledger, payments" in refused.stderr


def started(client: Client, database_url: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "STRIPE_API_KEY": "sk_test_nothing",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "workers"], cwd=CLONE, env=environment, stderr=subprocess.PIPE, text=True
    )
