"""A contract lives through twelve months, whose days pass by its workflow's own timers while usage keeps coming."""

import asyncio
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
import sqlalchemy as sa
from temporalio.client import Client

from ledger.invoices import Invoice, get_invoice
from ledger.payments import record_bank_payment
from ledger.reports import trial_balance
from ledger.spend import spend
from ledger.verification import verify
from tests.workflows.clocks import Clocks
from tests.workflows.world import Sold, eventually, invoices, month, sell, totals, usage, working
from workflows import starting

MONTHS = 12
SENDERS = 2
SIGNALS_A_SENDER = 5
"""Each sender sends so many in a month."""
EVENTS_A_SIGNAL = 5
HOUR = timedelta(hours=1)
GRACE = timedelta(days=3)


@pytest.mark.story
async def test_a_contract_lives_through_a_year_by_its_own_timers_and_is_paid_to_the_last_token(
    clocks: Clocks, engine: sa.Engine
) -> None:
    """The year is the next twelve whole months, so that no timer of it is due before time passes.

    A month has 2 x 5 signals of 5 events of 100 tokens = 5,000 tokens at 0.01 = 50.00. The fee of 30.00 is billed in
    advance: the first on the opening invoice, each other with the month before it. So 30.00 + 11 x 80.00 + 50.00 =
    960.00 = 12 x 30.00 + 12 x 50.00.
    """
    starts = [month(-1 - n) for n in range(MONTHS + 1)]
    sell(engine, Sold(start=day(starts[0]), end=day(starts[-1]), method="bank_transfer", grace="3d", fee="30.00"))
    async with working(clocks.client, engine):
        await starting.start_contract(clocks.client, "acme-1", signals_per_run=25)
        await pass_opening(clocks, engine, starts[0])
        for n in range(MONTHS):
            await pass_month(clocks, engine, n, starts[n], starts[n + 1])
        ended = await clocks.contract("acme-1").result()
    # 120 signals of 5 events; each signal repeats one event
    assert (ended.accepted, ended.duplicate, ended.conflict, ended.rejected) == (600, 120, 0, 0)
    assert ended.state == "ended"
    assert ended.signals >= 120
    assert ended.runs >= 4  # every 25 signals
    assert ended.accruals >= (starts[-1] - starts[0]).days  # one a day at least
    assert_books(engine, starts)


async def pass_opening(clocks: Clocks, engine: sa.Engine, start: datetime) -> None:
    """The opening invoice waits for the contract's start, and bills the first fee."""
    opening = "acme-1.opening"
    await eventually(lambda: clocks.in_grace(opening), bool)
    assert invoices(engine) == ()
    await clocks.turn_invoice(opening, start + HOUR)
    await pay(clocks, engine, opening, Decimal("30.00"))


async def pass_month(clocks: Clocks, engine: sa.Engine, n: int, start: datetime, end: datetime) -> None:
    """Usage comes while the days pass; the month's end starts its invoice, which is drafted after the grace."""
    await clocks.turn_contract("acme-1", start + timedelta(days=9, hours=12))
    assert accrued(engine, "tokens") == 0
    if (end - start).days == 30:  # 1.00 a day: ten days have begun, and only timers woke the contract
        assert accrued(engine, "seat") == Decimal("10.00")
    await asyncio.gather(
        clocks.turn_contract("acme-1", start + timedelta(days=19, hours=12)),
        *(send(clocks.client, f"{n}/{sender}", start) for sender in range(SENDERS)),
    )

    async def balance() -> Decimal:
        return accrued(engine, "tokens")

    assert await eventually(balance, lambda found: found == Decimal("50.00")) == Decimal("50.00")
    await clocks.turn_contract("acme-1", end - HOUR)
    status = await starting.contract_status(clocks.client, "acme-1")
    assert (status.next_boundary, status.invoices_started) == (end, ())
    await asyncio.gather(clocks.turn_contract("acme-1", end + HOUR), pass_grace(clocks, engine, n, start, end))


async def pass_grace(clocks: Clocks, engine: sa.Engine, n: int, start: datetime, end: datetime) -> None:
    """The month's invoice is there when the month is over, waits out the grace, and is drafted then."""
    invoice_id = f"acme-1.{day(start)}"
    await eventually(lambda: clocks.in_grace(invoice_id), bool)
    await clocks.turn_invoice(invoice_id, end + GRACE - HOUR)
    assert len(invoices(engine)) == 1 + n  # the opening and the months before
    await clocks.turn_invoice(invoice_id, end + GRACE + HOUR)
    await pay(clocks, engine, invoice_id, Decimal("80.00") if n < MONTHS - 1 else Decimal("50.00"))


async def pay(clocks: Clocks, engine: sa.Engine, invoice_id: str, amount: Decimal) -> None:
    """The invoice becomes final, and the customer pays it on the same day."""
    final = await clocks.invoice(invoice_id).result()
    assert (final.state, final.total) == ("finalised", amount)
    with engine.begin() as connection:
        issued_on = get_invoice(connection, invoice_id).issue_date
        assert issued_on is not None
        record_bank_payment(
            connection,
            payment_id=f"bank/{invoice_id}",
            invoice_id=invoice_id,
            amount=amount,
            currency="EUR",
            received_on=issued_on,
            by="ann",
        )
    assert await starting.payment_recorded(clocks.client, invoice_id)
    assert (await clocks.collection(invoice_id).result()).state == "paid"


async def send(client: Client, sender: str, start: datetime) -> None:
    """One sender's signals of a month, of usage on its second to sixth day; each repeats its first event."""
    for n in range(SIGNALS_A_SENDER):
        events = [
            usage(f"{sender}/{n}/{event}", start + timedelta(days=1 + n, hours=event), 100)
            for event in range(EVENTS_A_SIGNAL)
        ]
        await starting.signal_usage(client, "acme-1", [*events, events[0]])
        await asyncio.sleep(0.05)


def assert_books(engine: sa.Engine, starts: list[datetime]) -> None:
    """Every month has its invoice, numbered without a gap in the order of the months and issued after its grace."""
    found = sorted(invoices(engine), key=lambda invoice: invoice.number or "")
    months = starts[:-1]
    assert totals(found) == [
        ("acme-1.opening", Decimal("30.00"), "paid"),
        *((f"acme-1.{day(start)}", Decimal("80.00"), "paid") for start in months[:-1]),
        (f"acme-1.{day(months[-1])}", Decimal("50.00"), "paid"),
    ]
    assert [invoice.number for invoice in found] == [f"SELL-{n:06d}" for n in range(1, MONTHS + 2)]
    assert [invoice.issue_date for invoice in found] == [
        starts[0].date(),
        *((end + GRACE).date() for end in starts[1:]),
    ]
    assert [periods_of(invoice) for invoice in found[1:]] == list(pairwise(starts))
    with engine.begin() as connection:
        balances = {row.code: row.balance for row in trial_balance(connection, "seller").rows}
    # revenue is 12 x 50.00 of usage and 12 x 30.00 of fees, all of it billed, earned and paid
    assert {code: abs(balance) for code, balance in balances.items() if balance} == {
        "usage_revenue": Decimal("600.00"),
        "fixed_revenue": Decimal("360.00"),
        "bank": Decimal("960.00"),
    }
    with engine.connect() as connection:
        assert [check for check in verify(connection, stripe_charges=None) if not check.ok] == []


def accrued(engine: sa.Engine, product_id: str) -> Decimal:
    """What a product of the present period has come to in the books."""
    with engine.begin() as connection:
        products = spend(connection, "acme-1").products
    return sum((product.amount for product in products if product.product_id == product_id), start=Decimal(0))


def periods_of(invoice: Invoice) -> tuple[datetime, datetime]:
    return invoice.period.start, invoice.period.end


def day(moment: datetime) -> str:
    """A first moment of a day (UTC), as a contract file and an invoice's id write it."""
    return f"{moment:%Y-%m-%d}"
