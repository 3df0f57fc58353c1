"""`meterbook invoice`: drafts, reviews and final invoices."""

from datetime import datetime
from typing import Annotated, Literal

import typer

from admin import durable
from admin.commands.options import AsJson, AsOf, By, InvoiceId, OfContract, OfCustomer, OfEntity
from admin.connections import books
from admin.invoice_screen import show_invoice
from admin.plain import plain
from admin.screen import moment, money, say, say_json, show_facts, show_table
from ledger import invoices, payments
from ledger.history import get_invoice_at, list_invoices_at

application = typer.Typer()

State = Literal["draft", "in_review", "approved", "finalised", "paid", "uncollectible"]
OfState = Annotated[State | None, typer.Option("--state", help="Only in this state.")]


@application.command("list", epilog="Example: meterbook invoice list --entity nordlicht --state in_review")
def list_(
    *,
    entity: OfEntity = None,
    customer: OfCustomer = None,
    contract: OfContract = None,
    state: OfState = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """List invoices in the order of their periods, or those of an earlier time in their state of then."""
    chosen = {"contract_id": contract, "customer_id": customer, "entity_id": entity}
    with books() as connection:
        if as_of is None:
            found = invoices.list_invoices(connection, **chosen, state=state)
        else:
            found = list_invoices_at(connection, as_of, **chosen, state=state)
    if as_json:
        say_json(found)
        return
    show_table(
        ("invoice", "number", "customer", "state", "total", "currency", "issued", "due", "review"),
        [
            (i.invoice_id, i.number or "-", i.customer_id, i.state, money(i.total, i.currency), i.currency,
             str(i.issue_date or "-"), str(i.due_date or "-"), ", ".join(flag.name for flag in i.flags) or "-")
            for i in found
        ],
        right=("total",),
        empty="no invoice matches",
    )  # fmt: skip


@application.command(epilog="Example: meterbook invoice show acme-payg.2026-10-01")
def show(invoice_id: InvoiceId, *, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Show an invoice with every line, its arithmetic step by step, and its collection; or its state of earlier."""
    if as_of is not None:
        _show_earlier(invoice_id, as_of, as_json=as_json)
        return
    with books() as connection:
        invoice = invoices.get_invoice(connection, invoice_id)
        collection = payments.collection_state(connection, invoice_id)
        paid = payments.list_payments(connection, invoice_id=invoice_id)
    if as_json:
        content = plain(invoice)
        more = {"open_amount": collection.open_amount, "attempts": collection.attempts, "payments": paid}
        say_json({**content, **more} if isinstance(content, dict) else content)
        return
    show_invoice(invoice, collection, paid)


def _show_earlier(invoice_id: str, as_of: datetime, *, as_json: bool) -> None:
    """Show what an invoice was at a time, without what was collected since."""
    with books() as connection:
        invoice = get_invoice_at(connection, invoice_id, as_of)
    if as_json:
        say_json(invoice)
        return
    show_facts(
        [
            ("state", f"{invoice.state} at {moment(as_of)}"),
            ("number", invoice.number or "-"),
            ("total", f"{money(invoice.total, invoice.currency)} {invoice.currency}"),
        ],
        title=f"Invoice {invoice_id}",
    )
    show_table(
        ("kind", "product", "quantity", "amount"),
        [
            (line.kind, line.product_id, money(line.quantity), money(line.amount, invoice.currency))
            for line in invoice.lines
        ],
        right=("quantity", "amount"),
        empty="it has no lines",
    )


@application.command(epilog="Example: meterbook invoice approve acme-payg.2026-10-01 --by finance")
def approve(invoice_id: InvoiceId, *, by: By) -> None:
    """Approve an invoice that waits for review, so that it is finalised and collected."""
    with books() as connection:
        invoice = invoices.get_invoice(connection, invoice_id)
    if invoice.approved_by is not None:
        say(
            f"invoice {invoice_id} was approved already, by {invoice.approved_by} at {moment(invoice.approved_at)}; "
            f"it is {invoice.state}, nothing was changed"
        )
        raise typer.Exit(1)
    approved = durable.approve_invoice(invoice_id, by=by)
    say(f"invoice {invoice_id} is approved by {approved.by}; it is being finalised")


@application.command(epilog="Example: meterbook invoice retry acme-payg.2026-10-01")
def retry(invoice_id: InvoiceId) -> None:
    """Draft an invoice again at once whose contract could not be rated; by itself it tries again within the hour."""
    durable.retry_invoice(invoice_id)
    say(f"invoice {invoice_id} is tried again; `meterbook contract show` tells of a problem that is left")
