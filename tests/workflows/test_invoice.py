from decimal import Decimal

import pytest
import sqlalchemy as sa
from temporalio.client import Client

from ledger.closing import get_close
from ledger.errors import NotFoundError, StateError
from tests.workflows.world import Sold, eventually, first_day, invoices, month, sell, sent, totals, usage, working
from workflows import starting
from workflows.close_run import CloseStatus
from workflows.invoice import InvoiceStatus
from workflows.names import invoice_workflow_id

INVOICE = f"acme-1.{first_day(1)}"


async def status(client: Client) -> InvoiceStatus:
    return await starting.invoice_status(client, INVOICE)


async def test_an_invoice_above_the_limit_waits_for_one_approval(temporal: Client, engine: sa.Engine) -> None:
    sell(engine, Sold(start=first_day(1), end=first_day(0), method="bank_transfer", review_above="5.00"))
    sent(engine, usage("a", month(1), 1000))
    async with working(temporal, engine):
        with pytest.raises(NotFoundError):
            await starting.approve_invoice(temporal, INVOICE, by="ann")
        await starting.start_contract(temporal, "acme-1")
        await eventually(lambda: status(temporal), lambda found: found.state == "in_review")
        assert totals(invoices(engine)) == [(INVOICE, Decimal("10.00"), "in_review")]  # 1,000 tokens at 0.01
        approved = await starting.approve_invoice(temporal, INVOICE, by="ann")
        assert (approved.invoice_id, approved.by) == (INVOICE, "ann")
        with pytest.raises(StateError, match="approved by ann already"):
            await starting.approve_invoice(temporal, INVOICE, by="bob")
        final = await eventually(lambda: status(temporal), lambda found: found.state == "finalised")
        assert final.number == "SELL-000001"
        await temporal.get_workflow_handle(invoice_workflow_id(INVOICE)).result()  # it says so shortly before it ends
        with pytest.raises(StateError, match="approved by ann already: it is finalised"):
            await starting.approve_invoice(temporal, INVOICE, by="ann")


async def test_an_invoice_that_needs_no_review_cannot_be_approved(temporal: Client, engine: sa.Engine) -> None:
    sell(engine, Sold(start=first_day(1), end=first_day(0), method="bank_transfer", grace="60d"))
    sent(engine, usage("a", month(1), 1000))
    async with working(temporal, engine):
        await starting.start_contract(temporal, "acme-1")
        await eventually(lambda: status(temporal), lambda found: found.state == "grace")
        with pytest.raises(StateError, match="not waiting for review: it is in state grace"):
            await starting.approve_invoice(temporal, INVOICE, by="ann")


async def test_fees_are_billed_in_advance_and_the_first_ones_at_once(temporal: Client, engine: sa.Engine) -> None:
    sell(engine, Sold(start=first_day(1), end=first_day(0), method="bank_transfer", grace="3s", fee="25.00"))
    async with working(temporal, engine):
        await starting.start_contract(temporal, "acme-1")

        async def written() -> list[tuple[str, Decimal, str]]:
            return totals(invoices(engine))

        found = await eventually(
            written, lambda found: [state for *_, state in found].count("draft") == 0 and len(found) == 2
        )
        assert sorted(found) == [
            (INVOICE, Decimal("0.00"), "paid"),  # no usage, and no period follows whose fee would be due
            ("acme-1.opening", Decimal("25.00"), "finalised"),
        ]


async def test_closing_a_month_invoices_without_grace_and_waits_for_the_review(
    temporal: Client, engine: sa.Engine
) -> None:
    sell(engine, Sold(start=first_day(1), method="bank_transfer", grace="60d", review_above="5.00"))
    sent(engine, usage("a", month(1), 1000))

    async def closing() -> CloseStatus:
        return await starting.close_status(temporal, "seller", month(1).date())

    async with working(temporal, engine):
        await starting.start_contract(temporal, "acme-1")
        await eventually(lambda: status(temporal), lambda found: found.state == "grace")
        with pytest.raises(NotFoundError, match="no close"):
            await closing()
        for _ in range(2):  # the running close is found again
            await starting.start_close(temporal, "seller", month(1).date(), by="ann")
        waiting = await eventually(closing, lambda found: found.waiting_review == (INVOICE,))
        assert waiting.state == "waiting"
        await starting.approve_invoice(temporal, INVOICE, by="ann")
        closed = await starting.close_result(temporal, "seller", month(1).date())
        assert closed.periods == 1
        with engine.begin() as connection:
            assert get_close(connection, "seller", month(1).date()).state == "closed"
        assert totals(invoices(engine)) == [(INVOICE, Decimal("10.00"), "finalised")]
        with pytest.raises(StateError, match="closed already"):
            await starting.start_close(temporal, "seller", month(1).date(), by="ann")


async def test_a_month_that_is_not_over_is_refused_and_can_be_tried_again(temporal: Client, engine: sa.Engine) -> None:
    sell(engine, Sold(start=first_day(0)))
    async with working(temporal, engine):
        for _ in range(2):
            with pytest.raises(StateError, match="is not over before"):
                await starting.start_close(temporal, "seller", month(0).date(), by="ann")
        refused = await starting.close_status(temporal, "seller", month(0).date())
        assert refused.state == "refused"
        with pytest.raises(StateError, match="is not over before"):
            await starting.close_result(temporal, "seller", month(0).date())


async def test_a_close_names_the_contract_that_has_no_running_workflow(temporal: Client, engine: sa.Engine) -> None:
    sell(engine, Sold(start=first_day(1), method="bank_transfer"))
    sent(engine, usage("a", month(1), 1000))

    async def closing() -> CloseStatus:
        return await starting.close_status(temporal, "seller", month(1).date())

    async with working(temporal, engine):
        await starting.start_close(temporal, "seller", month(1).date(), by="ann")
        await eventually(closing, lambda found: found.unreachable == ("acme-1",))
        await starting.start_contract(temporal, "acme-1")
        assert (await starting.close_result(temporal, "seller", month(1).date())).periods == 1
