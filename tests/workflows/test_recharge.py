"""Recharges from a low balance to their grant, with the Stripe simulator and a real Temporal server."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa
from temporalio.client import Client

from activities.stripe_api import StripeCash
from infra.stack.home import CLONE
from ledger.accrual import accrue
from ledger.contracts import get_contract
from ledger.errors import NotFoundError
from ledger.payments import collection_state
from ledger.recharges import balance_left, is_paused, list_recharges, next_recharge
from ledger.verification import verify
from tests.simulator import TEST_KEY, RunningSimulator
from tests.workflows.world import Sold, eventually, first_day, sell, sent, usage, working
from workflows import starting
from workflows.collection import CollectionStatus
from workflows.recharge import RechargeStatus

CONTRACT = "acme-1"
INVOICE = "acme-1.recharge-1"


@dataclass(frozen=True, slots=True)
class Prepaid(Sold):
    """A contract that is recharged by 20.00 whenever no more than 4.00 are left."""

    recharge: str = '{below: "4.00", amount: "20.00", least_gap: 0s}'

    def text(self) -> str:
        """The contract file."""
        return f"{Sold.text(self)}recharge: {self.recharge}\n"


def prepaid(engine: sa.Engine, card: str = "pm_card_visa", retry_after: str = "[1s]") -> None:
    """Sell a contract with nothing on its balance, and accrue it."""
    sell(engine, Prepaid(start=first_day(0), payment_method=card, retry_after=retry_after))
    assert due(engine) == 1


def due(engine: sa.Engine) -> int | None:
    """Accrue the contract, and ask which recharge is to begin."""
    now = datetime.now(UTC)
    with engine.begin() as connection:
        accrue(connection, CONTRACT, as_of=now)
        return next_recharge(connection, get_contract(connection, CONTRACT), at=now)


async def settled(client: Client, number: int = 1) -> str:
    """Wait until a recharge is settled, and return how."""

    async def ask() -> RechargeStatus:
        return await starting.recharge_status(client, CONTRACT, number)

    return (await eventually(ask, lambda found: found.state in ("paid", "failed", "not_due"))).state


def recharges(engine: sa.Engine) -> list[tuple[int, str]]:
    with engine.begin() as connection:
        return [(one.number, one.state) for one in list_recharges(connection, CONTRACT)]


def granted_at(engine: sa.Engine) -> datetime:
    """When the only recharge was granted."""
    with engine.begin() as connection:
        [only] = list_recharges(connection, CONTRACT)
    assert only.settled_at is not None
    return only.settled_at


def left(engine: sa.Engine) -> Decimal:
    with engine.begin() as connection:
        return balance_left(connection, CONTRACT, at=datetime.now(UTC))


def cents(simulator: RunningSimulator) -> list[int]:
    return [charge["amount"] for charge in simulator.succeeded_charges()]


def differences(engine: sa.Engine, charges: dict[str, StripeCash] | None = None) -> list[str]:
    """What verification finds wrong with everything that was done."""
    due(engine)
    with engine.connect() as connection:
        return [f"{one.name}: {one.detail}" for one in verify(connection, stripe_charges=charges) if not one.ok]


async def test_a_low_balance_is_charged_once_by_card_and_filled_up(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    prepaid(engine)
    async with working(temporal, engine, simulator.client()):
        await asyncio.gather(*(starting.ensure_recharge(temporal, CONTRACT, 1) for _ in range(3)))
        assert await settled(temporal) == "paid"
        await starting.ensure_recharge(temporal, CONTRACT, 1)  # again, after it is over
        assert await settled(temporal) == "paid"
    assert cents(simulator) == [2000]
    assert (recharges(engine), left(engine)) == ([(1, "paid")], Decimal("20.00"))
    assert differences(engine) == []


async def test_usage_that_brings_the_balance_down_again_begins_the_next_one(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    prepaid(engine)
    async with working(temporal, engine, simulator.client()):
        await starting.ensure_recharge(temporal, CONTRACT, 1)
        assert await settled(temporal) == "paid"
        assert due(engine) is None
        sent(engine, usage("a", granted_at(engine), 1700))  # 17.00 of 20.00, in the hour of the grant
        assert due(engine) == 2
        await starting.ensure_recharge(temporal, CONTRACT, 2)
        assert await settled(temporal, 2) == "paid"
    assert cents(simulator) == [2000, 2000]
    assert left(engine) == Decimal("23.00")
    assert differences(engine) == []


async def test_what_is_not_due_is_neither_billed_nor_charged_and_may_be_asked_for_again(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    prepaid(engine)
    async with working(temporal, engine, simulator.client()):
        await starting.ensure_recharge(temporal, CONTRACT, 2)
        assert await settled(temporal, 2) == "not_due"
        await starting.ensure_recharge(temporal, CONTRACT, 1)
        assert await settled(temporal) == "paid"
        with pytest.raises(NotFoundError):
            await starting.recharge_status(temporal, CONTRACT, 3)
    assert recharges(engine) == [(1, "paid")]


async def test_a_card_that_declines_once_is_charged_again_and_the_recharge_is_granted_then(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    prepaid(engine, "pm_sim_declines_then_succeeds_1")
    async with working(temporal, engine, simulator.client()):
        await starting.ensure_recharge(temporal, CONTRACT, 1)
        await declined_once(temporal)
        assert (recharges(engine), left(engine), due(engine)) == ([(1, "begun")], Decimal(0), None)
        assert await settled(temporal) == "paid"
    assert cents(simulator) == [2000]
    assert left(engine) == Decimal("20.00")


async def test_recharges_pause_when_the_card_never_pays_and_go_on_with_another_card(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    prepaid(engine, "pm_card_chargeDeclinedInsufficientFunds")
    async with working(temporal, engine, simulator.client()):
        await starting.ensure_recharge(temporal, CONTRACT, 1)
        assert await settled(temporal) == "failed"
        with engine.begin() as connection:
            assert [one.state for one in collection_state(connection, INVOICE).attempts] == ["declined", "declined"]
            assert is_paused(connection, CONTRACT)
        assert (due(engine), left(engine)) == (None, Decimal(0))
        with engine.begin() as connection:
            connection.execute(_OTHER_CARD)
        assert due(engine) == 2
        await starting.ensure_recharge(temporal, CONTRACT, 2)
        assert await settled(temporal, 2) == "paid"
    assert (recharges(engine), left(engine)) == ([(1, "failed"), (2, "paid")], Decimal("20.00"))
    assert cents(simulator) == [2000]
    assert differences(engine) == []


@pytest.mark.chaos
async def test_a_recharge_is_granted_once_though_the_worker_is_killed_between_payment_and_grant(
    temporal: Client, engine: sa.Engine, database_url: str, simulator: RunningSimulator
) -> None:
    prepaid(engine, "pm_sim_declines_then_succeeds_1", retry_after="[3s]")
    with worker_process(temporal, database_url, simulator) as process:
        await starting.ensure_recharge(temporal, CONTRACT, 1)
        await declined_once(temporal)
        with engine.begin() as holder:
            holder.execute(_HOLD)  # what a grant needs, and a payment does not
            await a_grant_waits(engine)
            assert recharges(engine) == [(1, "begun")]
            process.send_signal(signal.SIGKILL)
            process.wait()
    sent(engine, usage("meanwhile", datetime.now(UTC), 100))
    assert cents(simulator) == [2000]
    async with working(temporal, engine, simulator.client()):
        assert await settled(temporal) == "paid"
    assert cents(simulator) == [2000]
    assert recharges(engine) == [(1, "paid")]
    sent(engine, usage("after", granted_at(engine), 300))
    assert differences(engine) == []
    assert left(engine) in (Decimal("16.00"), Decimal("17.00"))  # an hour may have turned before the grant


async def declined_once(client: Client) -> None:
    async def ask() -> CollectionStatus:
        return await starting.collection_status(client, INVOICE)

    await eventually(ask, lambda found: found.declines == 1)


async def a_grant_waits(engine: sa.Engine) -> None:
    """Wait until the invoice is paid and a grant is in the middle of its transaction."""

    async def waiting() -> int:
        with engine.connect() as connection:
            return int(connection.execute(_WAITING).scalar_one())

    await eventually(waiting, lambda found: found > 0)


@contextmanager
def worker_process(client: Client, database_url: str, simulator: RunningSimulator) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, which is dead at the end."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "STRIPE_API_KEY": TEST_KEY,
        "STRIPE_API_BASE": simulator.url,
    }
    command = [sys.executable, "-m", "workers"]
    with subprocess.Popen(command, cwd=CLONE, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


_OTHER_CARD = sa.text("""
update customer set definition = jsonb_set(definition, '{payment_method}', '"pm_card_visa"') where customer_id = 'acme'
""")

_HOLD = sa.text("select 1 from contract where contract_id = 'acme-1' for no key update")

_WAITING = sa.text("""
select count(*) from pg_locks join pg_stat_activity using (pid), invoice i
where not granted and datname = current_database() and i.invoice_id = 'acme-1.recharge-1' and i.state = 'paid'
""")
