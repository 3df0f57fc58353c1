"""What can be explained, as it is named: an invoice, a line, a credit note request or a transfer."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from ledger import schema
from ledger.errors import NotFoundError
from ledger.invoices import Invoice, get_invoice
from pricing.calendar import Period
from pricing.money import EXACT
from pricing.rated import Line

REQUEST = "credit-note-request/"
"""What stands before the id of a credit note request, which is written like a line otherwise."""

LONGEST_POSITION = 9


@dataclass(frozen=True, slots=True)
class Billing:
    """A line of an invoice, or what a credit note request takes off one, told as the adjustment that it stands for.

    `invoice_id` is the invoice that it stands on or takes off, `usage_of` the one whose period's usage it bills or
    corrects, and `as_of_batch_id` the last batch whose usage it may hold (None: whatever counts now).
    """

    subject: str
    invoice_id: str
    request_id: str | None
    position: int
    kind: str
    line: Line
    lines_before: tuple[Line, ...]
    usage_of: str
    usage_of_number: str | None
    currency: str
    as_of_batch_id: int | None
    created_at: datetime


def transfer_named(subject: str) -> UUID | None:
    """Return the id of a transfer; None for a text that is none."""
    try:
        return UUID(subject)
    except ValueError:
        return None


def is_whole_invoice(subject: str) -> bool:
    """Say whether a subject that is no transfer names an invoice, not something on it."""
    return not subject.startswith(REQUEST) and _split(subject)[1] is None


def billing_named(connection: sa.Connection, subject: str) -> Billing:
    """Return the line (`INVOICE_ID/POSITION`) or credit note request that a subject names; raise `NotFoundError`."""
    if subject.startswith(REQUEST):
        return _requested(connection, subject.removeprefix(REQUEST))
    invoice_id, position = _split(subject)
    if position is None:
        raise NotFoundError(f"{subject!r} names no line; write INVOICE_ID/POSITION")
    invoice = get_invoice(connection, invoice_id)
    if not 1 <= position <= len(invoice.lines):
        raise NotFoundError(f"invoice {invoice_id} has no line {position}; it has lines 1 to {len(invoice.lines)}")
    return _on_invoice(connection, invoice, position, as_of_invoice(connection, invoice))


def billings_of(connection: sa.Connection, invoice: Invoice) -> Iterator[Billing]:
    """Yield every line of an invoice."""
    as_of = as_of_invoice(connection, invoice)
    for position in range(1, len(invoice.lines) + 1):
        yield _on_invoice(connection, invoice, position, as_of)


def as_of_invoice(connection: sa.Connection, invoice: Invoice) -> int | None:
    """Return the last batch whose usage an invoice may hold: its period's cut-off, or what had come when it was made.

    None: whatever counts now.
    """
    if invoice.kind != "period":
        return _received_by(connection, invoice.created_at)
    period = schema.contract_period.c
    cutoff: int | None = connection.execute(
        sa.select(period.cutoff_batch_id).where(
            period.contract_id == invoice.contract_id, period.start_at == invoice.period.start
        )
    ).scalar_one()
    return cutoff


def _split(subject: str) -> tuple[str, int | None]:
    """Return the invoice and the position that `INVOICE_ID/POSITION` names; None where it names no position."""
    invoice_id, _, position = subject.rpartition("/")
    is_position = position.isascii() and position.isdigit() and len(position) <= LONGEST_POSITION
    return (invoice_id, int(position)) if invoice_id and is_position else (subject, None)


def _on_invoice(connection: sa.Connection, invoice: Invoice, position: int, as_of: int | None) -> Billing:
    line = invoice.lines[position - 1]
    usage_of = invoice if line.adjusts_invoice_id is None else get_invoice(connection, line.adjusts_invoice_id)
    return Billing(
        subject=f"{invoice.invoice_id}/{position}",
        invoice_id=invoice.invoice_id,
        request_id=None,
        position=position,
        kind=line.kind,
        line=line,
        lines_before=invoice.lines[: position - 1],
        usage_of=usage_of.invoice_id,
        usage_of_number=usage_of.number,
        currency=invoice.currency,
        as_of_batch_id=as_of,
        created_at=invoice.created_at,
    )


def _requested(connection: sa.Connection, request_id: str) -> Billing:
    request = schema.credit_note_request
    row = connection.execute(sa.select(request).where(request.c.request_id == request_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"credit note request {request_id} does not exist; `meterbook late` lists those there are")
    line = Line(
        kind="adjustment",
        product_id=row.product_id,
        description=row.description,
        service=Period(row.service_start, row.service_end),
        quantity=EXACT.minus(row.quantity),
        unit=row.unit,
        exact=EXACT.minus(row.exact),
        amount=EXACT.minus(row.amount),
        groups=tuple(sorted(row.groups.items())),
        adjusts_invoice_id=row.invoice_id,
        adjusts_position=row.position,
    )
    return Billing(
        subject=f"{REQUEST}{request_id}",
        invoice_id=row.invoice_id,
        request_id=request_id,
        position=int(request_id.rpartition("/")[2]),
        kind="credit_note_request",
        line=line,
        lines_before=(),
        usage_of=row.invoice_id,
        usage_of_number=get_invoice(connection, row.invoice_id).number,
        currency=row.currency,
        as_of_batch_id=_as_of_request(connection, row.contract_id, row.requested_at),
        created_at=row.requested_at,
    )


def _as_of_request(connection: sa.Connection, contract_id: str, at: datetime) -> int | None:
    """Return the cut-off of the invoice that was drafted with a request, or the last batch that had come by then."""
    drafted = connection.execute(_DRAFTED_WITH, {"contract_id": contract_id, "at": at}).scalar_one_or_none()
    return _received_by(connection, at) if drafted is None else drafted


def _received_by(connection: sa.Connection, moment: datetime) -> int | None:
    last: int | None = connection.execute(_RECEIVED_BY, {"moment": moment}).scalar_one_or_none()
    return last


_DRAFTED_WITH = sa.text("""
select max(p.cutoff_batch_id)
from invoice i join contract_period p on p.contract_id = i.contract_id and p.start_at = i.period_start
where i.contract_id = :contract_id and i.kind = 'period' and i.created_at = :at
""")

_RECEIVED_BY = sa.text("""
select batch_id from usage_batch where received_at <= :moment order by batch_id desc limit 1
""")
