"""An invoice as a person reads it: lines, the way to each amount, and how it is collected."""

from collections.abc import Sequence

from admin.plain import decimal_text
from admin.screen import moment, money, say, show_facts, show_table
from ledger.invoices import Invoice
from ledger.payments import CollectionState, Payment
from pricing.rated import Line, Step

COLUMNS = ("", "quantity", "unit", "unit price", "amount")


def show_invoice(invoice: Invoice, collection: CollectionState, payments: Sequence[Payment]) -> None:
    """Print an invoice in full."""
    named = invoice.number or f"draft {invoice.invoice_id}"
    show_facts(
        [
            ("customer", invoice.customer_id),
            ("contract", invoice.contract_id),
            ("entity", invoice.entity_id),
            ("period", f"{moment(invoice.period.start)} to {moment(invoice.period.end)}"),
            ("state", invoice.state),
            ("issued, due", f"{invoice.issue_date or '-'}, {invoice.due_date or '-'}"),
            *(("review", flag.text) for flag in invoice.flags),
            *([("approved", f"{moment(invoice.approved_at)} by {invoice.approved_by}")] if invoice.approved_by else []),
        ],
        title=f"Invoice {named} ({invoice.invoice_id})",
    )
    rows = [row for line in invoice.lines for row in _rows(line, invoice.currency)]
    total = ("total", "", "", "", f"{money(invoice.total, invoice.currency)} {invoice.currency}")
    show_table(COLUMNS, [*rows, total], right=COLUMNS[1:2] + COLUMNS[3:])
    _show_collection(invoice, collection, payments)


def _rows(line: Line, currency: str) -> list[tuple[str, ...]]:
    head = (line.description, decimal_text(line.quantity), line.unit, "", money(line.amount, currency))
    steps = [_step(step) for step in line.steps]
    rounding = [("  exact, before rounding", "", "", "", decimal_text(line.exact))] if line.exact != line.amount else []
    return [head, *steps, *rounding]


def _step(step: Step) -> tuple[str, ...]:
    parts = [step.unit_price] if step.unit_price is not None else []
    parts += [step.flat_fee] if step.flat_fee else []
    return (
        f"  {step.text}",
        decimal_text(step.quantity),
        "",
        " + ".join(decimal_text(part) for part in parts),
        f"({decimal_text(step.amount)})",
    )


def _show_collection(invoice: Invoice, collection: CollectionState, payments: Sequence[Payment]) -> None:
    if invoice.number is None:
        return
    show_table(
        ("attempt", "opened", "amount", "outcome"),
        [
            (a.attempt_id, moment(a.opened_at), money(a.amount, a.currency),
             a.state + (f" ({a.decline_code})" if a.decline_code else ""))
            for a in collection.attempts
        ],
        right=("amount",),
        empty=f"collected by {collection.method.replace('_', ' ')}",
    )  # fmt: skip
    for payment in payments:
        say(
            f"paid {money(payment.amount, payment.currency)} {payment.currency} on {payment.received_on} "
            f"by {payment.method.replace('_', ' ')} ({payment.payment_id})"
        )
    say(f"open: {money(collection.open_amount, collection.currency)} {collection.currency}")
