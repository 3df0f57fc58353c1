"""The live spend: what a contract's current period has cost so far, read from the posted figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

import sqlalchemy as sa

from ledger import schema
from ledger.contracts import Contract, get_contract, lots_of, terms_of
from ledger.periods import list_periods
from pricing.calendar import Period
from pricing.money import EXACT, ZERO, total
from pricing.terms import ProductPrice


@dataclass(frozen=True, slots=True)
class ProductSpend:
    """A product's usage or earned fee in the period; `drawn` is the part of `amount` that lots paid."""

    product_id: str
    name: str
    kind: Literal["usage", "fee"]
    quantity: Decimal
    unit: str
    amount: Decimal
    drawn: Decimal


@dataclass(frozen=True, slots=True)
class LotSpend:
    """A lot with its whole amount and what all usage to date has left of it."""

    lot_id: str
    name: str
    amount: Decimal
    remaining: Decimal
    start_at: datetime
    end_at: datetime | None


@dataclass(frozen=True, slots=True)
class Spend:
    """What the current period [period_start, period_end) has cost so far, exact and in the contract's currency.

    `total` is all usage and earned fees, `drawn_from_lots` the usage that lots paid, `unbilled` the usage that they did
    not: what the period's invoice asks in arrears. The figures are those of `accrued_at` (None: never accrued yet).
    """

    contract_id: str
    customer_id: str
    currency: str
    period_start: datetime
    period_end: datetime
    products: tuple[ProductSpend, ...]
    total: Decimal
    drawn_from_lots: Decimal
    unbilled: Decimal
    lots: tuple[LotSpend, ...]
    accrued_at: datetime | None
    problem: str | None


def spend(connection: sa.Connection, contract_id: str) -> Spend:
    """Return the live spend of a contract's last period that has begun; raise `NotFoundError`."""
    contract = get_contract(connection, contract_id)
    period = _current_period(connection, contract)
    products = _products(connection, contract_id, period.start)
    drawn = total([product.drawn for product in products])
    usage = total([product.amount for product in products if product.kind == "usage"])
    return Spend(
        contract_id=contract_id,
        customer_id=contract.customer_id,
        currency=contract.currency,
        period_start=period.start,
        period_end=period.end,
        products=products,
        total=total([product.amount for product in products]),
        drawn_from_lots=drawn,
        unbilled=EXACT.subtract(usage, drawn),
        lots=_lots(connection, contract_id),
        accrued_at=contract.accrued_at,
        problem=contract.problem,
    )


def _current_period(connection: sa.Connection, contract: Contract) -> Period:
    recorded = list_periods(connection, contract.contract_id)
    if recorded:
        return recorded[-1].period
    return contract.periods(contract.start_at)[0]


def _products(connection: sa.Connection, contract_id: str, period_start: datetime) -> tuple[ProductSpend, ...]:
    accrued = schema.accrued
    rows = connection.execute(
        sa.select(
            accrued.c.product_id,
            sa.func.max(accrued.c.kind).label("kind"),
            sa.func.sum(accrued.c.quantity).label("quantity"),
            sa.func.sum(accrued.c.amount).label("amount"),
            sa.func.coalesce(sa.func.sum(accrued.c.amount).filter(accrued.c.lot_id != ""), ZERO).label("drawn"),
        )
        .where(accrued.c.contract_id == contract_id, accrued.c.period_start == period_start)
        .group_by(accrued.c.product_id)
    ).all()
    agreed = _agreed(connection, contract_id)
    order = [*agreed]
    return tuple(
        ProductSpend(
            row.product_id,
            agreed[row.product_id].name if row.product_id in agreed else "Minimum spend",
            "usage" if row.kind == "usage" else "fee",
            row.quantity,
            agreed[row.product_id].unit if row.product_id in agreed else "",
            row.amount,
            row.drawn,
        )
        for row in sorted(rows, key=lambda row: order.index(row.product_id) if row.product_id in agreed else len(order))
    )


def _agreed(connection: sa.Connection, contract_id: str) -> Mapping[str, ProductPrice]:
    """Return every product that the contract ever had, as its last version with it names it, in order of appearance."""
    return {price.product_id: price for terms in terms_of(connection, contract_id) for price in terms.prices}


def _lots(connection: sa.Connection, contract_id: str) -> tuple[LotSpend, ...]:
    accrued = schema.accrued
    drawn: dict[str, Decimal] = dict(
        connection.execute(
            sa.select(accrued.c.lot_id, sa.func.sum(accrued.c.amount))
            .where(accrued.c.contract_id == contract_id, accrued.c.lot_id != "")
            .group_by(accrued.c.lot_id)
        ).all()
    )
    return tuple(
        LotSpend(
            lot.lot_id,
            lot.name,
            lot.amount,
            EXACT.subtract(lot.amount, drawn.get(lot.lot_id, ZERO)),
            lot.start,
            lot.end,
        )
        for lot in lots_of(connection, contract_id)
    )
