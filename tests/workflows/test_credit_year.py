"""A prepaid year: a commit paid by the quarter, a monthly credit, usage that comes late over its end, and expiry."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.credits import credit_balance
from ledger.intake.events import parse_objects
from ledger.intake.store import take_in
from ledger.invoices import get_invoice
from ledger.payments import record_bank_payment
from ledger.reports import trial_balance
from ledger.verification import verify
from tests.workflows.clocks import Clocks
from tests.workflows.world import Sold, eventually, invoices, month, sell, totals, usage, working
from workflows import starting

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GRACE = timedelta(days=3)
TOKENS = {0: 20_000, 1: 10_000, 3: 40_000, 9: 5_000, 11: 30_000}
"""Usage by the number of the month, on its second day, at 0.01 a token."""


@dataclass(frozen=True, slots=True)
class Year(Sold):
    """A year whose commit is worth 1,200.00, and is paid with 4 x 270.00."""

    due: tuple[str, ...] = ()

    def text(self) -> str:
        """The contract file."""
        instalments = ", ".join(f'{{amount: "270.00", on: {day}}}' for day in self.due)
        term = f"start: {self.start}, end: {self.end}"
        return (
            f"{Sold.text(self)}cadence: quarter\n"
            "commits:\n"
            f'  - {{id: annual, name: Annual commit, amount: "1200.00", {term}, invoices: [{instalments}]}}\n'
            "credits:\n"
            '  - {id: monthly, name: Included usage, amount: "10.00", every: month}\n'
        )


@pytest.mark.story
async def test_a_year_of_credits_is_drawn_and_expires_to_the_last_cent(clocks: Clocks, engine: sa.Engine) -> None:
    """The year is the next twelve whole months.

    A month's credit of 10.00 is free and burns first; it expires with its month. Usage of 200, 100, 400, 50 and 300.00
    in five months draws 10.00 of it each, and 190 + 90 + 390 + 40 + 290 = 1,000.00 of the commit; 20.00 that come late
    on the last day, within the grace, make it 1,020.00 and leave 180.00, which expire. After that another 10.00 come
    late: they draw from what had expired, and 170.00 remain so.

    A quarter costs nothing but its instalment. 1,080.00 pay for 1,200.00, so that one drawn is worth 0.90:
    1,030 x 0.9 = 927.00 of what was paid are used, and 170 x 0.9 = 153.00 are breakage.
    """
    starts = [month(-1 - n) for n in range(13)]
    year = Year(
        start=day(starts[0]), end=day(starts[12]), method="bank_transfer", grace="3d",
        due=tuple(day(starts[n]) for n in (0, 3, 6, 9)),
    )  # fmt: skip
    sell(engine, year)
    async with working(clocks.client, engine):
        await starting.start_contract(clocks.client, "acme-1")
        await eventually(lambda: clocks.in_grace("acme-1.opening"), bool)
        await clocks.turn_invoice("acme-1.opening", starts[0] + HOUR)
        await pay(clocks, engine, "acme-1.opening")
        for quarter in range(4):
            await pass_quarter(clocks, engine, quarter, starts)
        assert (await clocks.contract("acme-1").result()).state == "ended"
    settle(engine, starts[12] + 10 * DAY)
    assert lots(engine)["acme-1.annual"] == (Decimal(1020), Decimal(0), Decimal(180))
    come_late(engine, "too late", starts[12] - HOUR, 1_000)
    settle(engine, starts[12] + 10 * DAY)
    assert_books(engine, starts)


def settle(engine: sa.Engine, at: datetime) -> None:
    """Bring the contract up to its usage once its workflow is over, as the sweep does."""
    with engine.begin() as connection:
        accrue(connection, "acme-1", as_of=at)


async def pass_quarter(clocks: Clocks, engine: sa.Engine, quarter: int, starts: list[datetime]) -> None:
    """Usage comes month by month; the quarter's invoice is drafted after the grace and holds the next instalment."""
    first, end = starts[3 * quarter], starts[3 * quarter + 3]
    for number in range(3 * quarter, 3 * quarter + 3):
        if number in TOKENS:
            await clocks.turn_contract("acme-1", starts[number] + 3 * DAY)
            event = usage(f"month {number}", starts[number] + DAY, TOKENS[number])
            await starting.signal_usage(clocks.client, "acme-1", [event])
    await clocks.turn_contract("acme-1", end - HOUR)
    invoice_id = f"acme-1.{day(first)}"
    await asyncio.gather(clocks.turn_contract("acme-1", end + HOUR), pass_grace(clocks, engine, invoice_id, end))


async def pass_grace(clocks: Clocks, engine: sa.Engine, invoice_id: str, end: datetime) -> None:
    await eventually(lambda: clocks.in_grace(invoice_id), bool)
    if end == month(-13):  # over the end of the year, but in time
        come_late(engine, "late", end - HOUR, 2_000)
    await clocks.turn_invoice(invoice_id, end + GRACE + HOUR)
    await pay(clocks, engine, invoice_id)


def come_late(engine: sa.Engine, key: str, at: datetime, tokens: int) -> None:
    """Usage of a moment comes in a day later, without a nudge."""
    received_at = at + DAY
    with engine.begin() as connection:
        batch = parse_objects([usage(key, at, tokens)], received_at=received_at)
        assert take_in(connection, batch, door="file", received_at=received_at).accepted == 1


async def pay(clocks: Clocks, engine: sa.Engine, invoice_id: str) -> None:
    """The invoice becomes final, and the customer pays it on the same day."""
    final = await clocks.invoice(invoice_id).result()
    if not final.total:  # nothing is to be paid
        assert final.state == "paid"
        return
    assert final.state == "finalised"
    with engine.begin() as connection:
        invoice = get_invoice(connection, invoice_id)
        assert invoice.issue_date is not None
        record_bank_payment(
            connection,
            payment_id=f"bank/{invoice_id}",
            invoice_id=invoice_id,
            amount=invoice.total,
            currency="EUR",
            received_on=invoice.issue_date,
            by="ann",
        )
    assert await starting.payment_recorded(clocks.client, invoice_id)
    assert (await clocks.collection(invoice_id).result()).state == "paid"


def assert_books(engine: sa.Engine, starts: list[datetime]) -> None:
    found = sorted(invoices(engine), key=lambda invoice: invoice.created_at)
    paid = [(invoice_id, amount) for invoice_id, amount, state in totals(found) if state == "paid"]
    assert paid == [
        ("acme-1.opening", Decimal("270.00")),
        *((f"acme-1.{day(starts[n])}", Decimal("270.00")) for n in (0, 3, 6)),
        (f"acme-1.{day(starts[9])}", Decimal("0.00")),
    ]
    found_lots = lots(engine)
    assert found_lots.pop("acme-1.annual") == (Decimal(1030), Decimal(0), Decimal(170))
    used, unused = (Decimal(10), Decimal(0), Decimal(0)), (Decimal(0), Decimal(0), Decimal(10))
    assert found_lots == {f"acme-1.monthly.{n}": used if n - 1 in TOKENS else unused for n in range(1, 13)}
    with engine.begin() as connection:
        balances = {row.code: row.balance for row in trial_balance(connection, "seller").rows}
    # usage is 1,080.00; given away are 5 x 10.00 and a tenth of the 1,030.00 that were drawn of the commit
    assert {code: abs(balance) for code, balance in balances.items() if balance} == {
        "bank": Decimal(1080),
        "usage_revenue": Decimal(1080),
        "promotional_credit": Decimal(153),
        "breakage_revenue": Decimal(153),
    }
    with engine.connect() as connection:
        assert [check for check in verify(connection, stripe_charges=None) if not check.ok] == []


def lots(engine: sa.Engine) -> dict[str, tuple[Decimal, Decimal, Decimal]]:
    """What became of each lot of the contract: drawn, left, expired."""
    with engine.begin() as connection:
        balance = credit_balance(connection, "acme-1", at=month(-13) + 10 * DAY)
    return {lot.lot_id: (lot.drawn, lot.left, lot.expired) for lot in balance.lots}


def day(moment: datetime) -> str:
    """A first moment of a day (UTC), as a contract file and an invoice's id write it."""
    return f"{moment:%Y-%m-%d}"
