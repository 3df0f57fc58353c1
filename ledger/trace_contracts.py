"""Where an event's usage went under each contract that covers it: charge, posted amounts, invoice lines, payments."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

import sqlalchemy as sa

from ledger import schema
from ledger.contracts import Contract, get_contract, terms_of
from ledger.database import canonical_json
from ledger.late_usage import billed_terms
from ledger.periods import ContractPeriod, list_periods
from ledger.trace_metrics import MetricTrace
from ledger.trace_past import Revision
from pricing.agreements import usage_products
from pricing.calendar import Period, local_date
from pricing.segments import terms_in_force
from pricing.terms import ProductPrice
from pricing.usage import groups_for

Balance = Literal["posted", "waiting", "stopped"]


@dataclass(frozen=True, slots=True)
class Posted:
    """A transfer that moved the amount of a product and day; `debit` and `credit` are codes of accounts."""

    transfer_id: UUID
    key: str
    kind: str
    debit: str
    credit: str
    amount: Decimal
    effective_on: date
    posted_at: datetime


@dataclass(frozen=True, slots=True)
class Accrued:
    """What stands in the books for a product and day, with all its events: what a lot paid, or (None) what none did."""

    lot_id: str | None
    quantity: Decimal
    amount: Decimal
    billed_amount: Decimal | None
    transfers: tuple[Posted, ...]


@dataclass(frozen=True, slots=True)
class Paid:
    """Cash that is applied to an invoice, in its currency."""

    payment_id: str
    method: str
    received_on: date
    amount: Decimal


@dataclass(frozen=True, slots=True)
class BilledLine:
    """A line of an invoice that holds the usage, or the adjustment of one; `number` is None while it is a draft."""

    invoice_id: str
    position: int
    number: str | None
    state: str
    kind: str
    description: str
    quantity: Decimal
    exact: Decimal
    amount: Decimal
    adjusts_invoice_id: str | None
    adjusts_position: int | None
    payments: tuple[Paid, ...]


@dataclass(frozen=True, slots=True)
class CreditRequested:
    """A credit note that was asked for, because late or corrected usage lowers an invoice."""

    request_id: str
    invoice_id: str
    position: int | None
    amount: Decimal


@dataclass(frozen=True, slots=True)
class ChargeTrace:
    """The charge that the event counts in: a product and group values; `day` is the entity's, by which it is posted."""

    product_id: str
    name: str
    metric_id: str
    groups: tuple[tuple[str, str], ...]
    day: date
    accrued: tuple[Accrued, ...]
    lines: tuple[BilledLine, ...]
    credits: tuple[CreditRequested, ...]
    is_billed: bool
    """Whether invoices and requests hold all that stands in the books for it."""


@dataclass(frozen=True, slots=True)
class ContractTrace:
    """A contract whose term covers the event. `is_late`: it counts only since its period was frozen.

    `balance` says whether its accrual has taken the event in; `stopped`: it cannot, because of `problem`. Without
    charges, no product in force prices its metrics. `is_priced` is False where its period was billed by terms without a
    price for anything of the event's type.
    """

    contract_id: str
    currency: str
    period: Period
    state: Literal["open", "frozen", "invoiced", "not_recorded"]
    cutoff_batch_id: int | None
    is_late: bool
    balance: Balance
    problem: str | None
    charges: tuple[ChargeTrace, ...]
    is_priced: bool = True


def trace_contracts(
    connection: sa.Connection, event: Revision, metrics: Sequence[MetricTrace]
) -> tuple[ContractTrace, ...]:
    """Return the contracts of the event's customer that cover it, and what became of these metrics in each."""
    facts = {"customer_id": event.customer_id, "moment": event.timestamp}
    return tuple(
        _trace(connection, event, metrics, get_contract(connection, contract_id))
        for contract_id in connection.execute(_COVERING, facts).scalars().all()
    )


def _trace(
    connection: sa.Connection, event: Revision, metrics: Sequence[MetricTrace], contract: Contract
) -> ContractTrace:
    periods = list_periods(connection, contract.contract_id)
    recorded = next((one for one in periods if event.timestamp in one.period), None)
    period = contract.periods(event.timestamp)[-1] if recorded is None else recorded.period
    cutoff = None if recorded is None else recorded.cutoff_batch_id
    return ContractTrace(
        contract_id=contract.contract_id,
        currency=contract.currency,
        period=period,
        state="not_recorded" if recorded is None else recorded.state,
        cutoff_batch_id=cutoff,
        is_late=cutoff is not None and event.counted_from_batch_id > cutoff,
        balance=_balance(connection, event, contract, cutoff),
        problem=contract.problem,
        charges=tuple(_charges(connection, event, metrics, contract, recorded)),
        is_priced=connection.execute(
            _IS_PRICED, {"contract_id": contract.contract_id, "moment": event.timestamp, "type": event.type}
        ).scalar_one(),
    )


def _balance(connection: sa.Connection, event: Revision, contract: Contract, cutoff: int | None) -> Balance:
    """Say whether the batch from which the event counts has reached the balance: accrual took its mark."""
    if cutoff is not None and event.counted_from_batch_id <= cutoff:
        return "posted"
    row = connection.execute(
        _MARKS, {"contract_id": contract.contract_id, "batch_id": event.counted_from_batch_id}
    ).one()
    is_taken = not row.has_own and (row.was_noted or not row.has_other)
    if is_taken and contract.accrued_at is not None:
        return "posted"
    return "stopped" if contract.problem is not None else "waiting"


def _charges(
    connection: sa.Connection,
    event: Revision,
    metrics: Sequence[MetricTrace],
    contract: Contract,
    recorded: ContractPeriod | None,
) -> list[ChargeTrace]:
    if recorded is None or recorded.state == "open":
        terms = terms_of(connection, contract.contract_id)
    else:
        terms = billed_terms(connection, contract, recorded)
    day = local_date(event.timestamp, contract.entity_zone)
    return [
        _charge(connection, event, metric, product, (contract, recorded, day))
        for product in usage_products(terms_in_force(terms, event.timestamp))
        for metric in metrics
        if product.metric_id == metric.metric_id
    ]


def _charge(
    connection: sa.Connection,
    event: Revision,
    metric: MetricTrace,
    product: ProductPrice,
    place: tuple[Contract, ContractPeriod | None, date],
) -> ChargeTrace:
    contract, recorded, day = place
    groups = groups_for(product, metric.groups)
    accrued: tuple[Accrued, ...] = ()
    lines: tuple[BilledLine, ...] = ()
    credited: tuple[CreditRequested, ...] = ()
    if recorded is not None:
        start = recorded.period.start
        facts = {
            "contract_id": contract.contract_id,
            "period_start": start,
            "product_id": product.product_id,
            "groups": canonical_json(dict(groups)),
            "moment": event.timestamp,
        }
        accrued = _accrued(connection, contract, start, product.product_id, day)
        lines = _lines(connection, facts)
        credited = tuple(CreditRequested(*row) for row in connection.execute(_CREDITS, facts))
    return ChargeTrace(
        product_id=product.product_id,
        name=product.name,
        metric_id=metric.metric_id,
        groups=groups,
        day=day,
        accrued=accrued,
        lines=lines,
        credits=credited,
        is_billed=bool(lines or credited) and all(one.amount == one.billed_amount for one in accrued),
    )


def _accrued(
    connection: sa.Connection, contract: Contract, period_start: datetime, product_id: str, day: date
) -> tuple[Accrued, ...]:
    accrued = schema.accrued.c
    rows = connection.execute(
        sa.select(schema.accrued)
        .where(accrued.contract_id == contract.contract_id, accrued.period_start == period_start)
        .where(accrued.product_id == product_id, accrued.day == day)
        .order_by(accrued.lot_id)
    ).all()
    keys = {
        f"accrual/{contract.contract_id}/{period_start:%Y-%m-%d}/{product_id}/{row.lot_id}/{day}/{revision}": row.lot_id
        for row in rows
        for revision in range(1, row.revision + 1)
    }
    by_lot: dict[str, list[Posted]] = {}
    for row in connection.execute(_TRANSFERS, {"keys": list(keys)}):
        by_lot.setdefault(keys[row.key], []).append(Posted(*row))
    return tuple(
        Accrued(row.lot_id or None, row.quantity, row.amount, row.billed_amount, tuple(by_lot.get(row.lot_id, ())))
        for row in rows
    )


def _lines(connection: sa.Connection, place: dict[str, object]) -> tuple[BilledLine, ...]:
    rows = connection.execute(_LINES, place).all()
    paid = connection.execute(_PAID, {"invoices": sorted({row.invoice_id for row in rows})}).all()
    payments: dict[str, list[Paid]] = {}
    for invoice_id, *facts in paid:
        payments.setdefault(invoice_id, []).append(Paid(*facts))
    return tuple(BilledLine(**row._mapping, payments=tuple(payments.get(row.invoice_id, ()))) for row in rows)  # noqa: SLF001 - public in all but name


_COVERING = sa.text("""
select contract_id from contract
where customer_id = :customer_id and start_at <= :moment and (end_at is null or end_at > :moment) order by contract_id
""")

_IS_PRICED = sa.text("""
select coalesce(bool_and(billed_types is null or :type = any(billed_types)), true) from contract_period
where contract_id = :contract_id and start_at <= :moment and end_at > :moment
""")

_MARKS = sa.text("""
select
    exists (select from usage_dirty where contract_id = :contract_id and batch_id = :batch_id) as has_own,
    exists (select from usage_dirty where contract_id = :contract_id and batch_id = 0) as has_other,
    exists (select from usage_accrual where contract_id = :contract_id and batch_id = :batch_id) as was_noted
""")

_TRANSFERS = sa.text("""
select t.transfer_id, t.idempotency_key as key, t.kind, d.code as debit, c.code as credit, t.amount, t.effective_on,
    t.posted_at
from transfer t join account d on d.account_id = t.debit_id join account c on c.account_id = t.credit_id
where t.idempotency_key = any(:keys) order by t.transfer_id
""")

_LINES = sa.text("""
select l.invoice_id, l.position, i.number, i.state, l.kind, l.description, l.quantity, l.exact, l.amount,
    l.adjusts_invoice_id, l.adjusts_position
from invoice_line l join invoice i on i.invoice_id = l.invoice_id
where i.contract_id = :contract_id and l.product_id = :product_id and l.groups = cast(:groups as jsonb)
    and l.service_start <= :moment and l.service_end > :moment
    and (
        l.kind = 'usage' and i.kind = 'period' and i.period_start = :period_start
        or l.adjusts_invoice_id in (
            select invoice_id from invoice
            where contract_id = :contract_id and kind = 'period' and period_start = :period_start
        )
    )
order by i.created_at, l.invoice_id, l.position
""")

_CREDITS = sa.text("""
select r.request_id, r.invoice_id, r.position, r.amount
from credit_note_request r join invoice i on i.invoice_id = r.invoice_id
where r.contract_id = :contract_id and i.kind = 'period' and i.period_start = :period_start
    and r.product_id = :product_id and r.groups = cast(:groups as jsonb)
    and r.service_start <= :moment and r.service_end > :moment
order by r.requested_at, r.request_id
""")

_PAID = sa.text("""
select a.invoice_id, p.payment_id, p.method, p.received_on, a.amount
from payment_application a join payment p on p.payment_id = a.payment_id
where a.invoice_id = any(:invoices) order by a.invoice_id, p.received_on, p.payment_id
""")
