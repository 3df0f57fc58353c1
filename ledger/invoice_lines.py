"""Lines of fees and commits: what a contract owes of them by its terms, less what its invoices billed before."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa

from ledger import schema
from ledger.contracts import Contract, lots_of, terms_of
from ledger.entities import get_entity
from pricing.calendar import Period
from pricing.fees import rate_fees
from pricing.money import EXACT, ZERO, currency, round_to_currency, to_ledger_scale
from pricing.rated import Fee, Line


@dataclass(frozen=True, slots=True)
class FeeOwed:
    """What a contract owes for one fee and service period; `fee` is the latest of those that make up the amount."""

    fee: Fee
    amount: Decimal


FeeKey = tuple[str, datetime]
"""A product, and when the service that a fee is for begins."""


def fees_owed(fees: Iterable[tuple[Period, Fee]], *, until: datetime) -> Mapping[FeeKey, FeeOwed]:
    """Add up what is owed by a moment, of fees that each stand beside the billing period that bills them.

    Fees in advance are owed when the billing period begins, those in arrears when it is over.
    """
    owed: dict[FeeKey, FeeOwed] = {}
    for period, fee in fees:
        if fee.amount and (period.start if fee.timing == "advance" else period.end) <= until:
            key = (fee.product_id, fee.service.start)
            before = owed[key].amount if key in owed else ZERO
            owed[key] = FeeOwed(fee, EXACT.add(before, fee.amount))
    return owed


def fees_due(connection: sa.Connection, contract: Contract, *, until: datetime) -> Iterable[Line]:
    """Bill the fees that are owed by a moment, less what the contract's invoices billed of them."""
    terms = terms_of(connection, contract.contract_id)
    zone = get_entity(connection, contract.entity_id).time_zone
    fees = (
        (period, fee)
        for period in contract.periods(until)
        for fee in rate_fees(
            terms,
            period,
            zone,
            time_zone=contract.time_zone,
            contract_start=contract.start_at,
            contract_end=contract.end_at,
            cadence=contract.cadence,
            anchor=contract.anchor,
        )
    )
    unit = currency(contract.currency)
    billed = _billed_fees(connection, contract)
    for key, owed in fees_owed(fees, until=until).items():
        exact, amount = billed.get(key, (ZERO, ZERO))
        rest = EXACT.subtract(to_ledger_scale(owed.amount), exact)
        if rest:
            fee = owed.fee
            yield Line(
                kind="fee" if fee.timing == "advance" else "fee_in_arrears",
                product_id=fee.product_id,
                description=fee.name,
                service=fee.service,
                quantity=fee.quantity,
                unit="period",
                exact=rest,
                amount=EXACT.subtract(round_to_currency(owed.amount, unit), amount),
                steps=fee.steps,
            )


def commits_due(connection: sa.Connection, contract: Contract, period: Period) -> Iterable[Line]:
    """Bill the paid lots that are on no invoice yet; one without an end shows the contract's or the period's."""
    unit = currency(contract.currency)
    billed = _billed_lots(connection, contract)
    for lot in lots_of(connection, contract.contract_id):
        if lot.cost_basis and lot.lot_id not in billed:
            service = Period(lot.start, lot.end or contract.end_at or max(period.end, lot.start + timedelta(days=1)))
            amount = round_to_currency(lot.amount, unit)
            yield Line("commit", lot.lot_id, lot.name, service, Decimal(1), "commit", lot.amount, amount)


def _billed_fees(connection: sa.Connection, contract: Contract) -> dict[FeeKey, tuple[Decimal, Decimal]]:
    """Return what the contract's invoices bill of fees already, exact and rounded."""
    line = schema.invoice_line.c
    query = (
        sa.select(
            line.product_id,
            line.service_start,
            sa.func.sum(line.exact).label("exact"),
            sa.func.sum(line.amount).label("amount"),
        )
        .join(schema.invoice, schema.invoice.c.invoice_id == line.invoice_id)
        .where(schema.invoice.c.contract_id == contract.contract_id)
        .where(line.kind.in_(("fee", "fee_in_arrears")))
        .group_by(line.product_id, line.service_start)
    )
    return {(row.product_id, row.service_start): (row.exact, row.amount) for row in connection.execute(query)}


def _billed_lots(connection: sa.Connection, contract: Contract) -> set[str]:
    line = schema.invoice_line.c
    query = (
        sa.select(line.product_id)
        .join(schema.invoice, schema.invoice.c.invoice_id == line.invoice_id)
        .where(schema.invoice.c.contract_id == contract.contract_id, line.kind == "commit")
    )
    return {*connection.execute(query).scalars()}
