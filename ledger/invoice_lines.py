"""Lines billed in advance: the fees of periods and the commits of a contract, less what its invoices billed before."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Literal

import sqlalchemy as sa

from ledger.contracts import Contract, lots_of, terms_of
from ledger.entities import get_entity
from pricing.calendar import Period
from pricing.money import EXACT, ZERO, currency, round_to_currency
from pricing.rated import Fee, Line
from pricing.rating import rate_fees


def fees_due(connection: sa.Connection, contract: Contract, wanted: Sequence[Period]) -> Iterable[Line]:
    """Bill the fees of these periods, less what earlier invoices billed of them, as terms may have changed since."""
    terms = terms_of(connection, contract.contract_id)
    zone = get_entity(connection, contract.entity_id).time_zone
    for period in wanted:
        fees: dict[str, Fee] = {fee.product_id: fee for fee in rate_fees(terms, period, zone)}
        billed = _fees_billed(connection, contract.contract_id, period)
        for product_id in [*fees, *(billed.keys() - fees.keys())]:
            fee, before = fees.get(product_id), billed.get(product_id, ZERO)
            due = EXACT.subtract(fee.amount if fee else ZERO, before)
            name = fee.name if fee else product_id
            if due:
                description = f"{name}, corrected" if before else name
                yield _advance_line(
                    contract, "fee", product_id=product_id, description=description, service=period, exact=due
                )


def _fees_billed(connection: sa.Connection, contract_id: str, period: Period) -> dict[str, Decimal]:
    rows = connection.execute(
        sa.text(
            """
            select l.product_id, sum(l.exact) as exact from invoice_line l join invoice i using (invoice_id)
            where i.contract_id = :contract_id and l.kind = 'fee' and l.service_start = :start
            group by l.product_id order by l.product_id
            """
        ),
        {"contract_id": contract_id, "start": period.start},
    )
    return {row.product_id: row.exact for row in rows}


def commits_due(connection: sa.Connection, contract: Contract, period: Period) -> Iterable[Line]:
    """Bill the lots that are on no invoice of the contract yet; a lot without an end shows the invoice's."""
    billed = {
        *connection.execute(
            sa.text(
                """
                select l.product_id from invoice_line l join invoice i using (invoice_id)
                where i.contract_id = :contract_id and l.kind = 'commit'
                """
            ),
            {"contract_id": contract.contract_id},
        ).scalars()
    }
    for lot in lots_of(connection, contract.contract_id):
        if lot.lot_id not in billed:
            service = Period(lot.start, lot.end or contract.end_at or max(period.end, lot.start + timedelta(days=1)))
            yield _advance_line(
                contract, "commit", product_id=lot.lot_id, description=lot.name, service=service, exact=lot.amount
            )


def _advance_line(
    contract: Contract,
    kind: Literal["fee", "commit"],
    *,
    product_id: str,
    description: str,
    service: Period,
    exact: Decimal,
) -> Line:
    amount = round_to_currency(exact, currency(contract.currency))
    unit = "period" if kind == "fee" else "commit"
    return Line(kind, product_id, description, service, Decimal(1), unit, exact, amount)
