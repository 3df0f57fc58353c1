"""Lines billed in advance: the fees of periods and the commits of a contract, less what its invoices billed before."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

import sqlalchemy as sa

from ledger import schema
from ledger.contracts import Contract, lots_of, terms_of
from ledger.entities import get_entity
from pricing.calendar import Period
from pricing.money import currency, round_to_currency
from pricing.rated import Line
from pricing.rating import rate_fees


def fees_due(connection: sa.Connection, contract: Contract, wanted: Sequence[Period]) -> Iterable[Line]:
    """Bill the fees of these periods that are on no invoice of the contract yet."""
    terms = terms_of(connection, contract.contract_id)
    zone = get_entity(connection, contract.entity_id).time_zone
    billed = _billed(connection, contract, "fee")
    for period in wanted:
        for fee in rate_fees(terms, period, zone):
            if fee.amount and (fee.product_id, period.start) not in billed:
                yield _advance_line(
                    contract, "fee", product_id=fee.product_id, name=fee.name, service=period, exact=fee.amount
                )


def commits_due(connection: sa.Connection, contract: Contract, period: Period) -> Iterable[Line]:
    """Bill the paid lots that are on no invoice yet; one without an end shows the contract's or the period's."""
    billed = {lot_id for lot_id, _ in _billed(connection, contract, "commit")}
    for lot in lots_of(connection, contract.contract_id):
        if lot.cost_basis and lot.lot_id not in billed:
            service = Period(lot.start, lot.end or contract.end_at or max(period.end, lot.start + timedelta(days=1)))
            yield _advance_line(
                contract, "commit", product_id=lot.lot_id, name=lot.name, service=service, exact=lot.amount
            )


def _billed(connection: sa.Connection, contract: Contract, kind: Literal["fee", "commit"]) -> set[tuple[str, datetime]]:
    """Return what the contract's invoices bill already: the product or lot, and from when on."""
    invoice, line = schema.invoice.c, schema.invoice_line.c
    query = (
        sa.select(line.product_id, line.service_start)
        .join(schema.invoice, invoice.invoice_id == line.invoice_id)
        .where(invoice.contract_id == contract.contract_id)
        .where(line.kind == kind)
    )
    return {(row.product_id, row.service_start) for row in connection.execute(query)}


def _advance_line(
    contract: Contract,
    kind: Literal["fee", "commit"],
    *,
    product_id: str,
    name: str,
    service: Period,
    exact: Decimal,
) -> Line:
    amount = round_to_currency(exact, currency(contract.currency))
    unit = "period" if kind == "fee" else "commit"
    return Line(kind, product_id, name, service, Decimal(1), unit, exact, amount)
