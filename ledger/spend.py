"""The live spend: what a contract's current period has cost so far, read from the posted figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from typing import Literal

import sqlalchemy as sa

from ledger.contracts import Contract, get_contract, lots_of, terms_of
from ledger.periods import list_periods
from ledger.shares import left_of
from pricing.calendar import Period
from pricing.money import EXACT, total
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
    """A lot with its whole amount and what all usage to date has left of it.

    What is drawn from a postpaid one is not paid by it: it is billed in arrears.
    """

    lot_id: str
    name: str
    amount: Decimal
    remaining: Decimal
    start_at: datetime
    end_at: datetime | None
    is_postpaid: bool


@dataclass(frozen=True, slots=True)
class Spend:
    """What the current period [period_start, period_end) has cost so far, exact and in the contract's currency.

    `total` is all usage and earned fees, `drawn_from_lots` the usage that lots paid, `unbilled` the usage that they did
    not: what the period's invoice asks in arrears. The figures are those of `accrued_at` (None: never accrued yet), and
    include all usage that was accepted before `watermark`.
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
    watermark: datetime
    problem: str | None


@dataclass(frozen=True, slots=True)
class DaySpend:
    """What a day of the entity has cost, by product; `drawn` is the part of `amount` that lots paid."""

    day: date
    products: tuple[tuple[str, Decimal], ...]
    amount: Decimal
    drawn: Decimal


@dataclass(frozen=True, slots=True)
class SpendByDay:
    """The current period of a contract day by day, in order; days without any are left out. `total` adds them up."""

    contract_id: str
    currency: str
    period_start: datetime
    period_end: datetime
    days: tuple[DaySpend, ...]
    total: Decimal
    watermark: datetime
    problem: str | None


def spend(connection: sa.Connection, contract_id: str) -> Spend:
    """Return the live spend of a contract's last period that has begun; raise `NotFoundError`."""
    watermark = watermark_of(connection, contract_id)
    contract = get_contract(connection, contract_id)
    period = current_period(connection, contract)
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
        watermark=watermark,
        problem=contract.problem,
    )


def spend_by_day(connection: sa.Connection, contract_id: str) -> SpendByDay:
    """Return the live spend of a contract's last period that has begun, by day; raise `NotFoundError`."""
    watermark = watermark_of(connection, contract_id)
    contract = get_contract(connection, contract_id)
    period = current_period(connection, contract)
    rows = connection.execute(_BY_DAY, {"contract_id": contract_id, "period_start": period.start}).all()
    days = tuple(_day(day, [*own]) for day, own in groupby(rows, key=lambda row: row.day))
    return SpendByDay(
        contract_id=contract_id,
        currency=contract.currency,
        period_start=period.start,
        period_end=period.end,
        days=days,
        total=total([day.amount for day in days]),
        watermark=watermark,
        problem=contract.problem,
    )


def watermark_of(connection: sa.Connection, contract_id: str) -> datetime:
    """Return a moment before which all usage that was answered as accepted is in the contract's balance.

    It is asked before the balance is read: what is accrued in between only makes the balance the newer of the two.
    """
    moment: datetime = connection.execute(_WATERMARK, {"contract_id": contract_id}).scalar_one()
    return moment


def _day(day: date, rows: Sequence[sa.Row[tuple[object, ...]]]) -> DaySpend:
    return DaySpend(
        day,
        tuple((row.product_id, row.amount) for row in rows),
        total([row.amount for row in rows]),
        total([row.drawn for row in rows]),
    )


def current_period(connection: sa.Connection, contract: Contract) -> Period:
    """Return the last period of a contract that has begun, the first before that."""
    recorded = list_periods(connection, contract.contract_id)
    if recorded:
        return recorded[-1].period
    return contract.periods(contract.start_at)[0]


def _products(connection: sa.Connection, contract_id: str, period_start: datetime) -> tuple[ProductSpend, ...]:
    facts = {"contract_id": contract_id, "period_start": period_start}
    rows = connection.execute(_BY_PRODUCT, facts).all()
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
    lots = lots_of(connection, contract_id)
    left = left_of(connection, contract_id, lots)
    return tuple(
        LotSpend(lot.lot_id, lot.name, lot.amount, left[lot.lot_id], lot.start, lot.end, lot.is_postpaid)
        for lot in lots
    )


_WATERMARK = sa.text("""
select coalesce((select min(received_at) from usage_dirty where contract_id = :contract_id), clock_timestamp())
""")

# what lots paid: what is drawn from postpaid ones is billed
_DRAWN = """coalesce(sum(amount) filter (where lot_id <> '' and lot_id not in (
    select lot_id from lot where contract_id = :contract_id and kind = 'postpaid'
)), 0) as drawn"""

_BY_PRODUCT = sa.text(f"""
select product_id, max(kind) as kind, sum(quantity) as quantity, sum(amount) as amount, {_DRAWN}
from accrued where contract_id = :contract_id and period_start = :period_start and kind <> 'breakage'
group by product_id
""")  # noqa: S608 - an expression of ours

_BY_DAY = sa.text(f"""
select day, product_id, sum(amount) as amount, {_DRAWN}
from accrued where contract_id = :contract_id and period_start = :period_start and kind <> 'breakage'
group by day, product_id having sum(amount) <> 0 or bool_or(quantity <> 0)
order by day, product_id
""")  # noqa: S608 - an expression of ours
