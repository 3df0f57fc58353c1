"""A balance that usage draws down is recharged by itself: usage, accrual, recharge, grant and the draw that follows."""

from datetime import UTC, datetime
from decimal import Decimal

import sqlalchemy as sa
from temporalio.client import Client

from ledger.spend import Spend, spend
from ledger.verification import verify
from tests.simulator import RunningSimulator
from tests.workflows.test_recharge import CONTRACT, Prepaid
from tests.workflows.world import eventually, first_day, sell, sent, usage, working
from workflows import starting


async def test_usage_beyond_the_balance_is_recharged_and_drawn_from_what_was_granted(
    temporal: Client, engine: sa.Engine, simulator: RunningSimulator
) -> None:
    sell(engine, Prepaid(start=first_day(0), payment_method="pm_card_visa", retry_after="[1s]"))

    async def balance() -> Spend:
        with engine.begin() as connection:
            return spend(connection, CONTRACT)

    def held(found: Spend) -> list[tuple[Decimal, Decimal]]:
        return [(lot.amount, lot.remaining) for lot in found.lots]

    async with working(temporal, engine, simulator.client()):
        await starting.start_contract(temporal, CONTRACT)  # nothing on the balance: the first recharge of 20.00
        await eventually(balance, lambda found: held(found) == [(Decimal(20), Decimal(20))])
        sent(engine, usage("work", datetime.now(UTC), 1_700))  # 17.00: 3.00 of 4.00 are left, which recharges again
        await starting.nudge(temporal, [CONTRACT])
        twice = [(Decimal(20), Decimal(3)), (Decimal(20), Decimal(20))]
        await eventually(balance, lambda found: held(found) == twice)
    with engine.begin() as connection:
        assert [check for check in verify(connection, stripe_charges=None) if not check.ok] == []
