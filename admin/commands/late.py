"""`meterbook usage late`: what came, or was corrected, after its period was invoiced, and who bills it."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

import sqlalchemy as sa
import typer

from admin.commands.options import AsJson
from admin.connections import books
from admin.plain import decimal_text
from admin.screen import moment, money, say_json, show_table
from ledger.adjustments import (
    CreditNoteRequest,
    contracts_to_adjust,
    list_credit_note_requests,
    pending_adjustments,
    wants_credit_note,
)
from ledger.contracts import get_contract
from ledger.periods import list_periods

OnlyContract = Annotated[str | None, typer.Option("--contract", help="Only this contract.")]


@dataclass(frozen=True, slots=True)
class PendingLine:
    """A difference that no invoice holds yet, and the invoice that it corrects."""

    contract_id: str
    invoice_id: str
    position: int | None
    description: str
    quantity: Decimal
    unit: str
    amount: Decimal
    currency: str
    billed_by: str


@dataclass(frozen=True, slots=True)
class LateUsage:
    """All that waits, and the credit notes that were asked for."""

    pending: tuple[PendingLine, ...]
    credit_note_requests: tuple[CreditNoteRequest, ...]


def late(contract: OnlyContract = None, *, as_json: AsJson = False) -> None:
    """Show late and corrected usage of invoiced periods: what waits for the next invoice, and credit notes asked for.

    The books have it already; the contract's `late_usage` says how the customer gets it.
    """
    with books() as connection:
        names = contracts_to_adjust(connection) if contract is None else (contract,)
        found = LateUsage(
            tuple(line for name in names for line in _pending(connection, name)),
            list_credit_note_requests(connection, contract_id=contract),
        )
    if as_json:
        say_json(found)
        return
    _show_pending(found.pending)
    if found.credit_note_requests:
        _show_requests(found.credit_note_requests)


def _pending(connection: sa.Connection, contract_id: str) -> list[PendingLine]:
    contract = get_contract(connection, contract_id)
    open_periods = [one for one in list_periods(connection, contract_id) if one.state == "open"]
    ended = contract.end_at is not None and not open_periods
    found = []
    for adjustment in pending_adjustments(connection, contract):
        asked = wants_credit_note(contract, adjustment)
        billed_by = "a credit note" if asked else "an invoice of its own" if ended else "the next invoice"
        found += [
            PendingLine(
                contract_id=contract_id,
                invoice_id=adjustment.invoice_id,
                position=line.adjusts_position,
                description=line.description,
                quantity=line.quantity,
                unit=line.unit,
                amount=line.amount,
                currency=contract.currency,
                billed_by=billed_by,
            )
            for line in adjustment.lines
        ]
    return found


def _show_pending(pending: Sequence[PendingLine]) -> None:
    show_table(
        ("contract", "corrects", "what", "quantity", "amount", "currency", "billed by"),
        [
            (
                line.contract_id,
                line.invoice_id,
                line.description,
                f"{decimal_text(line.quantity)} {line.unit}",
                money(line.amount, line.currency),
                line.currency,
                line.billed_by,
            )
            for line in pending
        ],
        title="Late and corrected usage that no invoice holds yet",
        right=("quantity", "amount"),
        empty="no late usage waits: every invoiced period is billed as its usage of now makes it",
    )


def _show_requests(requests: Sequence[CreditNoteRequest]) -> None:
    show_table(
        ("request", "contract", "what", "amount", "currency", "asked for at"),
        [
            (
                request.request_id,
                request.contract_id,
                request.description,
                money(request.amount, request.currency),
                request.currency,
                moment(request.requested_at),
            )
            for request in requests
        ],
        title="Credit notes asked for",
        right=("amount",),
    )
