"""Contracts closed per second by one close run, against workflows of one activity that does nothing."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from statistics import median
from time import perf_counter

import sqlalchemy as sa
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from infra.demo.traffic import events_of, generated
from infra.stack import Stack
from infra.stack.home import CLONE
from ledger.database import create_engine
from tests.bench.bare import QUEUE, BareWorkflow
from tests.bench.delay import settings_of, start_all, wait_until
from tests.bench.figure import Figure, Tell, check_count, compare
from tests.bench.world import BY, SEED, set_up, take_all
from workflows.names import close_workflow_id
from workflows.starting import close_result, connect, start_close

EVENTS_PER_CONTRACT = 100
PATIENCE_SECONDS = 90
STOP_SECONDS = 20


def measure(stack: Stack, tell: Tell, *, quick: bool) -> list[Figure]:
    """Close last month for one entity in every round, with as many bare workflows beside it."""
    rounds, contracts = (2, 10) if quick else (3, 30)
    month = (datetime.now(UTC).date().replace(day=1) - timedelta(days=1)).replace(day=1)
    engine = create_engine(stack.environment["DATABASE_URL"])
    try:
        for number in range(rounds):
            tell(f"close: making contracts, {number + 1} of {rounds}")
            _prepare(engine, stack, f"close-{number}", contracts, month)
        with _bare_worker(stack):
            return asyncio.run(_measure(engine, stack, tell, rounds=rounds, contracts=contracts, month=month))
    finally:
        engine.dispose()


def _prepare(engine: sa.Engine, stack: Stack, entity_id: str, contracts: int, month: date) -> None:
    """Start contracts whose usage of the month is in their balances."""
    start = datetime(month.year, month.month, 1, tzinfo=UTC)
    with engine.begin() as connection:
        names = set_up(connection, entity_id, contracts, start=start)
    end = start + timedelta(days=28)
    made = generated(EVENTS_PER_CONTRACT * contracts, start=start, end=end, seed=SEED)
    usage = [{**event, "source": entity_id} for event in events_of(made, names, seed=SEED)]
    take_all(engine, usage, received_at=datetime.now(UTC))
    asyncio.run(start_all(stack, names))
    wait_until(engine, _BALANCED, {"entity": entity_id}, what=f"the balances of {entity_id}")


async def _measure(
    engine: sa.Engine, stack: Stack, tell: Tell, *, rounds: int, contracts: int, month: date
) -> list[Figure]:
    client = await connect(settings_of(stack))
    tell("close: warming up the bare workflows")
    await _run_bare(client, "warm-up", contracts)
    bare, ours, locked = [], [], []
    for number in range(rounds):
        tell(f"close: round {number + 1} of {rounds}")
        bare.append(await _run_bare(client, str(number), contracts) / contracts)
        invoiced, closed = await _close(client, engine, f"close-{number}", contracts, month)
        ours.append(invoiced / contracts)
        locked.append(closed)
    note = f"from the first close_period signal to the last posting of {contracts} invoices with usage of a month; "
    note += f"the month was locked {median(locked):.1f} s after the signal"
    return [
        compare(
            "close",
            f"contracts: {contracts} closed by one run",
            f"workflows: {contracts} of one bare activity, started together",
            seconds=ours,
            yardstick_seconds=bare,
            shown="rate",
            operations=contracts,
            note=note,
        )
    ]


async def _run_bare(client: Client, name: str, count: int) -> float:
    """Run bare workflows all at once, and return the seconds until the last one has answered."""

    async def one(number: int) -> int:
        return await client.execute_workflow(BareWorkflow.run, number, id=f"bare/{name}/{number}", task_queue=QUEUE)

    begin = perf_counter()
    async with asyncio.timeout(PATIENCE_SECONDS):
        answers = await asyncio.gather(*(one(number) for number in range(count)))
    seconds = perf_counter() - begin
    check_count("bare workflows", expected=[*range(count)], found=answers)
    return seconds


async def _close(client: Client, engine: sa.Engine, entity_id: str, contracts: int, month: date) -> tuple[float, float]:
    """Close a month; return the seconds from the first signal to the last invoice's posting, and to the lock."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await start_close(client, entity_id, month, by=BY)
        await close_result(client, entity_id, month)
    signalled = await _first_signal(client, close_workflow_id(entity_id, month))
    with engine.begin() as connection:
        issued, last, locked = connection.execute(_ISSUED, {"entity": entity_id, "month": month}).one()
    check_count(f"invoices finalised of {entity_id}", expected=contracts, found=issued)
    return (last - signalled).total_seconds(), (locked - signalled).total_seconds()


async def _first_signal(client: Client, workflow_id: str) -> datetime:
    async for event in client.get_workflow_handle(workflow_id).fetch_history_events():
        if event.event_type == EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED:
            return event.event_time.ToDatetime(UTC)
    raise LookupError(f"{workflow_id} signalled no contract")


@contextmanager
def _bare_worker(stack: Stack) -> Iterator[None]:
    """Run a worker process for the bare workflows; started with the stack's settings, it also ends with the stack."""
    with stack.files.log("bare").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.bare_worker"],
            cwd=CLONE,
            env={**os.environ, **stack.environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


_BALANCED = sa.text("""
select bool_and(k.accrued_at is not null and not exists (
    select from usage_dirty d where d.contract_id = k.contract_id
)) from contract k where k.entity_id = :entity
""")
_ISSUED = sa.text("""
select count(distinct i.invoice_id) filter (where i.number is not null), max(t.posted_at),
    (select r.finished_at from close_run r where r.entity_id = :entity and r.month = :month)
from invoice i join transfer t on t.source = 'invoice/' || i.invoice_id
where i.entity_id = :entity and i.kind = 'period'
""")
