"""Housekeeping through real workers: partitions made ahead, old months exported by policy, holds that expired."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import sqlalchemy as sa
from temporalio.client import Client

from activities.housekeeping import Retention
from ledger.features import create_feature, grant_feature
from ledger.holds import hold, list_holds
from ledger.intake.partitions import list_archives, list_months
from tests.ledger.books import PREPAID, TOKENS, start
from tests.ledger.gated import WRITING
from tests.ledger.usage import open_shop, send, tokens
from workers.worker import build_workers
from workflows import starting
from workflows.housekeeping import HousekeepingWorkflow
from workflows.names import CONTRACTS_QUEUE, HOUSEKEEPING


def months_ago(count: int) -> datetime:
    """The middle of a month before the current one."""
    at = datetime.now(UTC).replace(day=15)
    for _ in range(count):
        at = (at.replace(day=1) - timedelta(days=1)).replace(day=15)
    return at


async def keep_house(temporal: Client, engine: sa.Engine, retention: Retention) -> int:
    async with AsyncExitStack() as running:
        for worker in build_workers(temporal, engine, None, retention=retention):
            await running.enter_async_context(worker)
        return await temporal.execute_workflow(
            HousekeepingWorkflow.run, id=HOUSEKEEPING, task_queue=CONTRACTS_QUEUE, run_timeout=timedelta(seconds=60)
        )


def states(engine: sa.Engine) -> list[str]:
    with engine.begin() as connection:
        return [one.state for one in list_months(connection, at=datetime.now(UTC))]


async def test_old_months_leave_by_policy_and_new_ones_are_ready(
    temporal: Client, engine: sa.Engine, tmp_path: Path
) -> None:
    with engine.begin() as connection:
        open_shop(connection)
        for count in (4, 3, 1):
            at = months_ago(count)
            send(connection, tokens(f"k{count}", 1, timestamp=at.isoformat()), received_at=datetime.now(UTC))
    assert await keep_house(temporal, engine, Retention()) == 0
    assert states(engine) == ["kept", "kept", "kept", "kept", "ahead", "ahead"]
    assert await keep_house(temporal, engine, Retention(2, tmp_path)) == 2
    assert states(engine) == ["detached", "detached", "kept", "kept", "ahead", "ahead"]
    with engine.begin() as connection:
        assert [one.path.parent for one in list_archives(connection)] == [tmp_path, tmp_path]


async def test_holds_that_expired_are_marked(temporal: Client, engine: sa.Engine) -> None:
    now = datetime.now(UTC)
    with engine.begin() as connection:
        open_shop(connection)
        start(connection, products=[TOKENS], commits=[PREPAID.replace("end: 2027-01-01", "end: 2030-01-01")])
        create_feature(connection, WRITING)
        grant_feature(connection, "plan", "writing", by="ada", at=now)
        for name, expires_at in (("expired", now - timedelta(minutes=1)), ("held", now + timedelta(hours=1))):
            made = now - timedelta(minutes=2)
            hold(connection, name, "acme", "writing", amount=Decimal(4), expires_at=expires_at, at=made)
    await keep_house(temporal, engine, Retention())
    with engine.begin() as connection:
        assert {one.hold_id: one.state for one in list_holds(connection)} == {"expired": "expired", "held": "held"}
        held = connection.execute(sa.text("select held_amount from gate")).scalar_one()
        assert held == 4  # what has expired is given back in the row, too


async def test_housekeeping_is_scheduled_once(temporal: Client) -> None:
    await starting.ensure_housekeeping_schedule(temporal)
    await starting.ensure_housekeeping_schedule(temporal)
    assert (await temporal.get_schedule_handle(HOUSEKEEPING).describe()).id == HOUSEKEEPING
