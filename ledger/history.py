"""Readings, spend and invoices as they were known at a moment of the past."""

from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from ledger import schema
from ledger.checks import check_aware
from ledger.contracts import Contract, get_contract, lots_of, terms_of
from ledger.errors import NotFoundError
from ledger.intake.history import as_known
from ledger.intake.readings import MetricReadings, read_metrics
from ledger.invoices import Invoice, InvoiceState, get_invoice, list_invoices
from ledger.rating import rate_in_order
from ledger.shares import Place, Share, shares_of
from ledger.spend import Spend, spend
from pricing.calendar import Period, local_date


def current_readings(connection: sa.Connection, contract_id: str, *, at: datetime) -> tuple[MetricReadings, ...]:
    """Return what a contract's customer used of each metric in the period that a moment lies in, as known now."""
    contract = get_contract(connection, contract_id)
    period = _period(contract, at)
    until = min(at.replace(minute=0, second=0, microsecond=0), period.end)
    cuts = (period.start, period.end)
    return read_metrics(
        connection, contract.customer_id, cuts, time_zone=contract.time_zone, until=max(until, period.start)
    )


def readings_at(connection: sa.Connection, contract_id: str, moment: datetime) -> tuple[MetricReadings, ...]:
    """Return what `current_readings` returned at a moment: usage and metrics as they were recorded then.

    Raises `NotFoundError` for a contract that was not recorded.
    """
    contract = _recorded(connection, contract_id, moment)
    with as_known(connection, moment, customer_id=contract.customer_id):
        return current_readings(connection, contract_id, at=moment)


def spend_at(connection: sa.Connection, contract_id: str, moment: datetime) -> Spend:
    """Return the spend of the period that a moment lies in, from the usage, terms and lots that were recorded then.

    It includes what was received by then, whether accrued or not; a contract's end is the one of now. Raises
    `NotFoundError` for a contract that was not recorded, `PricingError` when its usage could not be rated.
    """
    contract = _recorded(connection, contract_id, moment)
    with as_known(connection, moment, customer_id=contract.customer_id):
        zone = contract.entity_zone
        periods = contract.periods(moment)
        terms, lots = terms_of(connection, contract_id), lots_of(connection, contract_id)
        wanted = periods if lots else periods[-1:]  # with lots, each leaves the next what it did not draw
        rated = rate_in_order(connection, contract, terms, lots, wanted, zone=zone, as_of=moment)[1]
        _keep_periods(connection, contract_id, periods)
        _keep_shares(connection, contract_id, shares_of(rated, zone, through=local_date(moment, zone)))
        return replace(spend(connection, contract_id), accrued_at=moment, problem=None)


def list_invoices_at(
    connection: sa.Connection,
    moment: datetime,
    *,
    contract_id: str | None = None,
    customer_id: str | None = None,
    entity_id: str | None = None,
    state: str | None = None,
) -> tuple[Invoice, ...]:
    """Return the invoices that were there at a moment, each in its state of then, in the order of their periods."""
    check_aware("moment", moment)
    found = list_invoices(connection, contract_id=contract_id, customer_id=customer_id, entity_id=entity_id)
    then = (_invoice_at(connection, invoice, moment) for invoice in found if invoice.created_at <= moment)
    return tuple(invoice for invoice in then if state is None or invoice.state == state)


def get_invoice_at(connection: sa.Connection, invoice_id: str, moment: datetime) -> Invoice:
    """Return an invoice in its state at a moment; raise `NotFoundError` when it was not there yet."""
    check_aware("moment", moment)
    invoice = get_invoice(connection, invoice_id)
    if invoice.created_at > moment:
        raise NotFoundError(
            f"invoice {invoice_id} did not exist at {moment.isoformat()}; "
            f"it was drafted at {invoice.created_at.isoformat()}"
        )
    return _invoice_at(connection, invoice, moment)


def _recorded(connection: sa.Connection, contract_id: str, moment: datetime) -> Contract:
    check_aware("moment", moment)
    contract = get_contract(connection, contract_id)
    table = schema.contract.c
    created_at: datetime = connection.execute(
        sa.select(table.created_at).where(table.contract_id == contract_id)
    ).scalar_one()
    if created_at > moment:
        raise NotFoundError(
            f"contract {contract_id} was not recorded at {moment.isoformat()}; "
            f"ask for a moment from {created_at.isoformat()} on"
        )
    return contract


def _period(contract: Contract, moment: datetime) -> Period:
    return contract.periods(max(moment, contract.start_at))[-1]


def _keep_periods(connection: sa.Connection, contract_id: str, periods: tuple[Period, ...]) -> None:
    rows = [{"contract_id": contract_id, "start_at": period.start, "end_at": period.end} for period in periods]
    if rows:
        connection.execute(schema.contract_period.insert(), rows)


def _keep_shares(connection: sa.Connection, contract_id: str, shares: dict[Place, Share]) -> None:
    rows = [
        {
            "contract_id": contract_id,
            **place._asdict(),
            "kind": share.kind,
            "quantity": share.quantity,
            "amount": share.amount,
            "revision": 0,
        }
        for place, share in shares.items()
    ]
    if rows:
        connection.execute(schema.accrued.insert(), rows)


def _invoice_at(connection: sa.Connection, invoice: Invoice, moment: datetime) -> Invoice:
    is_approved = invoice.approved_at is not None and invoice.approved_at <= moment
    if not is_approved:
        invoice = replace(invoice, approved_by=None, approved_at=None)
    if invoice.finalised_at is not None and invoice.finalised_at <= moment:
        is_paid = (
            invoice.state == "paid"
            and not connection.execute(_PAID_LATER, {"invoice_id": invoice.invoice_id, "moment": moment}).scalar_one()
        )
        return invoice if is_paid else replace(invoice, state="finalised")
    state: InvoiceState = "approved" if is_approved else "in_review" if invoice.flags else "draft"
    return replace(invoice, state=state, number=None, issue_date=None, due_date=None, finalised_at=None)


_PAID_LATER = sa.text("""
select exists (
    select from payment_application a join payment p on p.payment_id = a.payment_id
    where a.invoice_id = :invoice_id and p.recorded_at > :moment
)
""")
