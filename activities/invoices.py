"""Activities on invoices: draft, approve, finalise."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

import sqlalchemy as sa
from temporalio import activity

from ledger.errors import ClosedPeriodError, MeterbookError
from ledger.invoices import approve, draft_late, draft_opening, draft_period, finalise, late_invoice_due
from pricing.errors import PricingError


@dataclass(frozen=True, slots=True)
class DraftInvoice:
    """Freeze a period's usage and draft its invoice at `at` (UTC); the opening invoice bills what is due in advance.

    A late invoice bills what changed after the contract's last one; only it is named by its `invoice_id`.
    """

    contract_id: str
    kind: Literal["opening", "period", "late"]
    period_start: datetime
    at: datetime
    invoice_id: str = ""


@dataclass(frozen=True, slots=True)
class DraftedInvoice:
    """The draft; no `invoice_id` when there is nothing to bill, a `problem` when it cannot be drafted yet."""

    invoice_id: str | None
    state: str | None
    total: Decimal | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class FindLateInvoice:
    """Find out whether late usage asks for an invoice after a contract's last one."""

    contract_id: str


@dataclass(frozen=True, slots=True)
class LateInvoice:
    """The invoice to draft; None: none is asked for."""

    invoice_id: str | None


@dataclass(frozen=True, slots=True)
class ApproveInvoice:
    """Let a flagged invoice go out."""

    invoice_id: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ApprovedInvoice:
    """The approved invoice."""

    invoice_id: str
    by: str


@dataclass(frozen=True, slots=True)
class FinaliseInvoice:
    """Number and post an invoice at `at` (UTC)."""

    invoice_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class FinalisedInvoice:
    """The final invoice; `state` is `paid` when there was nothing to pay."""

    invoice_id: str
    number: str | None
    state: str
    total: Decimal


class InvoiceActivities:
    """Activities on invoices, one database transaction each."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @activity.defn
    def draft_invoice(self, request: DraftInvoice) -> DraftedInvoice:
        """Draft an invoice; what stands in its way, in the terms or in an earlier period, is answered, not raised."""
        try:
            with self._engine.begin() as connection:
                if request.kind == "opening":
                    invoice = draft_opening(connection, request.contract_id, at=request.at)
                elif request.kind == "late":
                    invoice = draft_late(connection, request.contract_id, request.invoice_id, at=request.at)
                else:
                    invoice = draft_period(connection, request.contract_id, request.period_start, at=request.at)
        except ClosedPeriodError:
            raise
        except (PricingError, MeterbookError) as error:
            return DraftedInvoice(None, None, None, problem=str(error))
        if invoice is None:
            return DraftedInvoice(None, None, None)
        return DraftedInvoice(invoice.invoice_id, invoice.state, invoice.total)

    @activity.defn
    def find_late_invoice(self, request: FindLateInvoice) -> LateInvoice:
        """Name the invoice of late usage of an ended contract."""
        with self._engine.begin() as connection:
            return LateInvoice(late_invoice_due(connection, request.contract_id))

    @activity.defn
    def approve_invoice(self, request: ApproveInvoice) -> ApprovedInvoice:
        """Record who approved a flagged invoice."""
        with self._engine.begin() as connection:
            approve(connection, request.invoice_id, by=request.by, at=request.at)
        return ApprovedInvoice(request.invoice_id, request.by)

    @activity.defn
    def finalise_invoice(self, request: FinaliseInvoice) -> FinalisedInvoice:
        """Give an invoice its number and post it; the same again changes nothing."""
        with self._engine.begin() as connection:
            invoice = finalise(connection, request.invoice_id, at=request.at)
        return FinalisedInvoice(invoice.invoice_id, invoice.number, invoice.state, invoice.total)
