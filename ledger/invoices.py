"""Invoices: drafted from rated figures, reviewed, and finalised with their number and postings in one transaction.

An invoice bills usage and true-ups in arrears, fees and commits in advance. Lines are rounded to the currency's minor
unit; what rounding changes is posted to `rounding`, so that `unbilled_receivable` of an invoiced period is exactly 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Literal, assert_never

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.accrual import freeze_period
from ledger.adjustments import bill_adjustments, pending_adjustments
from ledger.alerts import raise_for_invoice
from ledger.checks import check_text
from ledger.contracts import Contract, get_contract, lock_contract, lock_customer_of
from ledger.errors import NotFoundError, StateError
from ledger.invoice_lines import commits_due, fees_due, true_ups_due
from ledger.lots import post_true_ups
from ledger.months import open_day
from ledger.periods import list_periods, record_invoiced
from ledger.transfers import Account, Transfer, post
from pricing.calendar import Period, local_date
from pricing.money import EXACT, WIDE, ZERO, currency, round_to_currency, to_ledger_scale, total
from pricing.rated import Line, Step

InvoiceKind = Literal["opening", "period", "late", "recharge"]
InvoiceState = Literal["draft", "in_review", "approved", "finalised", "paid", "uncollectible"]
FlagName = Literal["total_above", "growth", "negative_total"]

_STEPS = TypeAdapter(tuple[Step, ...])


@dataclass(frozen=True, slots=True)
class Flag:
    """A reason why a person looks at an invoice before it is finalised; `text` gives the figures."""

    name: FlagName
    text: str


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice as it is stored. `total` is the sum of the lines, in `currency`; dates are days of the entity's zone.

    `period` is the first period of the contract for an opening invoice, the period whose usage it bills otherwise; a
    late one, after all periods of a contract are invoiced, spans the periods that it adjusts, and one of a recharge the
    period in which that begins.
    Number and dates are None until it is finalised.
    """

    invoice_id: str
    contract_id: str
    customer_id: str
    entity_id: str
    kind: InvoiceKind
    period: Period
    currency: str
    state: InvoiceState
    number: str | None
    flags: tuple[Flag, ...]
    total: Decimal
    issue_date: date | None
    due_date: date | None
    approved_by: str | None
    approved_at: datetime | None
    finalised_at: datetime | None
    created_at: datetime
    lines: tuple[Line, ...]


def draft_opening(connection: sa.Connection, contract_id: str, *, at: datetime) -> Invoice | None:
    """Draft the invoice of what a new contract owes at once: the first period's fees in advance and its commits.

    Returns the stored one when called again, None when nothing is to bill. Raises `NotFoundError`.
    """
    contract = lock_customer_of(connection, contract_id)  # the invoice refers to the customer, which is locked first
    invoice_id = f"{contract_id}.opening"
    if _is_stored(connection, invoice_id):
        return get_invoice(connection, invoice_id)
    first = contract.periods(contract.start_at)[0]
    lines = [
        *fees_due(connection, contract, until=first.start),
        *commits_due(connection, contract, first, until=first.start),
    ]
    if not lines:
        return None
    return _store(
        connection, contract, invoice_id=invoice_id, kind="opening", period=first, lines=lines, flags=(), at=at
    )


def draft_period(connection: sa.Connection, contract_id: str, period_start: datetime, *, at: datetime) -> Invoice:
    """Freeze a period and draft its invoice: usage, fees due up to the next, commits, what came late, true-ups.

    The contract's policy decides whether a person reviews it. Returns the stored one when called again. Raises what
    `freeze_period` raises.
    """
    contract = lock_customer_of(connection, contract_id)
    invoice_id = f"{contract_id}.{local_date(period_start, contract.time_zone):%Y-%m-%d}"
    if _is_stored(connection, invoice_id):
        return get_invoice(connection, invoice_id)
    rated = freeze_period(connection, contract_id, period_start, at=at)
    period = rated.period
    lines = [
        *rated.lines,
        *fees_due(connection, contract, until=period.end),
        *commits_due(connection, contract, period, until=period.end),
    ]
    lines += bill_adjustments(connection, contract, room=total([line.amount for line in lines]), at=at)
    post_true_ups(connection, contract, as_of=contract.accrued_at or at)
    room = total([line.amount for line in lines])
    lines += true_ups_due(connection, contract, until=period.end, room=room)
    flags = _flags(connection, contract, period, total([line.amount for line in lines]))
    return _store(
        connection, contract, invoice_id=invoice_id, kind="period", period=period, lines=lines, flags=flags, at=at
    )


def late_invoice_due(connection: sa.Connection, contract_id: str) -> str | None:
    """Return the id of the invoice that late usage asks for after a contract's last one; None: nothing asks for one."""
    contract = get_contract(connection, contract_id)
    recorded = list_periods(connection, contract_id)
    if contract.end_at is None or any(one.state != "invoiced" for one in recorded):
        return None
    latest = list_invoices(connection, contract_id=contract_id)
    waiting = [invoice.invoice_id for invoice in latest if invoice.kind == "late" and invoice.number is None]
    if waiting:
        return waiting[0]
    if not pending_adjustments(connection, contract):
        return None
    return f"{contract_id}.late-{sum(invoice.kind == 'late' for invoice in latest) + 1}"


def draft_late(connection: sa.Connection, contract_id: str, invoice_id: str, *, at: datetime) -> Invoice | None:
    """Draft the invoice of what late usage changed after a contract's last one, as `late_invoice_due` named it.

    Returns the stored one when called again, None when nothing is to bill: what is taken back is asked for as a credit
    note.
    """
    contract = lock_customer_of(connection, contract_id)
    if _is_stored(connection, invoice_id):
        return get_invoice(connection, invoice_id)
    if late_invoice_due(connection, contract_id) != invoice_id:
        return None
    adjusted = [adjustment.period for adjustment in pending_adjustments(connection, contract)]
    lines = [*bill_adjustments(connection, contract, room=ZERO, at=at)]
    room = total([line.amount for line in lines])
    lines += true_ups_due(connection, contract, until=contract.end_at or adjusted[-1].end, room=room)
    if not lines:
        return None
    span = Period(adjusted[0].start, adjusted[-1].end)
    return _store(connection, contract, invoice_id=invoice_id, kind="late", period=span, lines=lines, flags=(), at=at)


def draft_recharge(
    connection: sa.Connection, contract: Contract, invoice_id: str, *, line: Line, at: datetime
) -> Invoice:
    """Draft the invoice of a recharge, which is one paid lot; the customer and the contract are locked."""
    period = contract.periods(at)[-1]
    return _store(
        connection, contract, invoice_id=invoice_id, kind="recharge", period=period, lines=[line], flags=(), at=at
    )


def approve(connection: sa.Connection, invoice_id: str, *, by: str, at: datetime) -> Invoice:
    """Approve an invoice that is in review; a repetition by the same person at the same moment is harmless.

    Raises `StateError` when it is not in review, or approved already.
    """
    check_text("by", by)
    row = _lock_invoice(connection, invoice_id)
    if (row.approved_by, row.approved_at) == (by, at):
        return get_invoice(connection, invoice_id)
    if row.approved_by is not None:
        raise StateError(f"invoice {invoice_id} was approved already, by {row.approved_by} at {row.approved_at}")
    if row.state != "in_review":
        raise StateError(f"invoice {invoice_id} is {row.state}, not in review; only an invoice in review is approved")
    connection.execute(
        schema.invoice.update()
        .where(schema.invoice.c.invoice_id == invoice_id)
        .values(state="approved", approved_by=by, approved_at=at)
    )
    return get_invoice(connection, invoice_id)


def finalise(connection: sa.Connection, invoice_id: str, *, at: datetime) -> Invoice:
    """Issue an invoice: its number, its dates and its postings; one of total 0 is paid at once.

    The issue date is the entity's local date of `at`, but never before the last number's nor in a closed month.
    Returns a finalised invoice as it is. Raises `StateError` while it is in review or when its total is negative.
    """
    contract = lock_contract(connection, get_invoice(connection, invoice_id).contract_id)
    _lock_invoice(connection, invoice_id)
    invoice = get_invoice(connection, invoice_id)
    if invoice.number is not None:
        return invoice
    if invoice.state == "in_review":
        reasons = "; ".join(flag.text for flag in invoice.flags)
        raise StateError(f"invoice {invoice_id} is in review ({reasons}); approve it first")
    if invoice.total < 0:
        raise StateError(
            f"invoice {invoice_id} has the negative total {invoice.total} {invoice.currency} and is not issued; "
            "correct the contract's terms"
        )
    number, issue_date = _take_number(connection, invoice.entity_id, at)
    post(connection, _postings(connection, invoice, issue_date), source=f"invoice/{invoice_id}")
    connection.execute(
        schema.invoice.update()
        .where(schema.invoice.c.invoice_id == invoice_id)
        .values(
            state="finalised" if invoice.total else "paid",
            number=number,
            finalised_at=at,
            issue_date=issue_date,
            due_date=issue_date + timedelta(days=contract.policy.invoicing.due_days),
        )
    )
    if invoice.kind == "period":
        record_invoiced(connection, invoice.contract_id, invoice.period.start)
    return get_invoice(connection, invoice_id)


def get_invoice(connection: sa.Connection, invoice_id: str) -> Invoice:
    """Return an invoice with its lines; raise `NotFoundError`."""
    found = _load(connection, schema.invoice.c.invoice_id == invoice_id)
    if not found:
        raise NotFoundError(f"invoice {invoice_id} does not exist; list the invoices of its contract")
    return found[0]


def list_invoices(
    connection: sa.Connection,
    *,
    contract_id: str | None = None,
    customer_id: str | None = None,
    entity_id: str | None = None,
    state: InvoiceState | None = None,
) -> tuple[Invoice, ...]:
    """Return the invoices that match every given filter, in the order of their periods."""
    wanted = {"contract_id": contract_id, "customer_id": customer_id, "entity_id": entity_id, "state": state}
    conditions = [schema.invoice.c[column] == value for column, value in wanted.items() if value is not None]
    return _load(connection, sa.and_(sa.true(), *conditions))


def open_amount(connection: sa.Connection, invoice_id: str) -> Decimal:
    """Return what is still owed on an invoice, in its currency: total less payments; 0 before it is issued."""
    row = connection.execute(
        sa.text(
            """
            select i.currency, i.number, i.total - coalesce(
                (select sum(a.amount) from payment_application a where a.invoice_id = i.invoice_id), 0) as owed
            from invoice i where i.invoice_id = :invoice_id
            """
        ),
        {"invoice_id": invoice_id},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"invoice {invoice_id} does not exist; list the invoices of its contract")
    return round_to_currency(row.owed if row.number is not None else ZERO, currency(row.currency))


def _flags(connection: sa.Connection, contract: Contract, period: Period, amount: Decimal) -> tuple[Flag, ...]:
    """Say what about a period's invoice a person should look at, by the contract's policy."""
    policy, unit = contract.policy.invoicing, contract.currency
    before = connection.execute(
        sa.select(schema.invoice.c.total)
        .where(schema.invoice.c.contract_id == contract.contract_id)
        .where(schema.invoice.c.kind == "period")
        .where(schema.invoice.c.period_start < period.start)
        .order_by(schema.invoice.c.period_start.desc())
        .limit(1)
    ).scalar_one_or_none()
    found = []
    if policy.review_above is not None and amount > policy.review_above:
        found.append(Flag("total_above", f"total {amount} {unit} is above {policy.review_above} {unit}"))
    if policy.review_growth is not None and before and amount > EXACT.multiply(before, policy.review_growth):
        previous = round_to_currency(before, currency(unit))
        text = f"total {amount} {unit} is above {policy.review_growth} times the period before, {previous} {unit}"
        found.append(Flag("growth", text))
    if amount < 0:
        found.append(Flag("negative_total", f"total {amount} {unit} is negative"))
    return tuple(found)


def _store(
    connection: sa.Connection,
    contract: Contract,
    *,
    invoice_id: str,
    kind: InvoiceKind,
    period: Period,
    lines: Sequence[Line],
    flags: tuple[Flag, ...],
    at: datetime,
) -> Invoice:
    connection.execute(
        insert(schema.invoice).values(
            invoice_id=invoice_id,
            contract_id=contract.contract_id,
            customer_id=contract.customer_id,
            entity_id=contract.entity_id,
            kind=kind,
            period_start=period.start,
            period_end=period.end,
            currency=contract.currency,
            state="in_review" if flags else "draft",
            flags=[{"name": flag.name, "text": flag.text} for flag in flags],
            total=total([line.amount for line in lines]),
            created_at=at,
        )
    )
    rows = [
        {
            "invoice_id": invoice_id,
            "position": position,
            "kind": line.kind,
            "product_id": line.product_id,
            "description": line.description,
            "service_start": line.service.start,
            "service_end": line.service.end,
            "quantity": line.quantity,
            "unit": line.unit,
            "exact": to_ledger_scale(line.exact),
            "amount": line.amount,
            "steps": _STEPS.dump_python(line.steps, mode="json"),
            "groups": dict(line.groups),
            "source": line.source,
            "adjusts_invoice_id": line.adjusts_invoice_id,
            "adjusts_position": line.adjusts_position,
        }
        for position, line in enumerate(lines, start=1)
    ]
    if rows:
        connection.execute(insert(schema.invoice_line), rows)
    stored = get_invoice(connection, invoice_id)
    raise_for_invoice(connection, contract, invoice_id, amount=stored.total, period_start=period.start, at=at)
    return stored


def _take_number(connection: sa.Connection, entity_id: str, at: datetime) -> tuple[str, date]:
    """Take the entity's next number with its issue date; a rollback gives it back, so that no number is missing.

    The lock lets other postings of the entity go on, but only one finalisation at a time.
    """
    row = connection.execute(
        sa.text(
            "select time_zone, invoice_prefix, next_invoice_number as n from entity where entity_id = :entity_id "
            "for no key update"
        ),
        {"entity_id": entity_id},
    ).one()
    last = connection.execute(
        sa.select(schema.invoice.c.issue_date).where(schema.invoice.c.number == _number(row.invoice_prefix, row.n - 1))
    ).scalar_one_or_none()
    connection.execute(
        schema.entity.update().where(schema.entity.c.entity_id == entity_id).values(next_invoice_number=row.n + 1)
    )
    today = local_date(at, row.time_zone)
    return _number(row.invoice_prefix, row.n), open_day(connection, entity_id, max(today, last or today))


def _number(prefix: str, n: int) -> str:
    return f"{prefix}-{n:06d}"


def _postings(connection: sa.Connection, invoice: Invoice, day: date) -> list[Transfer]:
    """Return the transfers of a whole invoice: usage as one net amount, each fee and commit on its own."""
    account = partial(Account, entity_id=invoice.entity_id, currency=invoice.currency, contract_id=invoice.contract_id)
    billed: list[tuple[str, Account, Decimal, Decimal]] = []  # part, from which account, rounded, exact
    net, late = ZERO, ZERO
    for position, line in enumerate(invoice.lines, start=1):
        match line.kind:
            case "usage" | "credit" | "discount" | "minimum" | "maximum":
                net = EXACT.add(net, line.amount)
            case "adjustment":
                net = EXACT.add(net, line.amount)
                late = EXACT.add(late, line.exact)
            case "fee" | "commit":
                whole = "commit" if line.unit == "instalment" else "lot"
                dimension = "product" if line.kind == "fee" else whole
                deferred = account("deferred_revenue", dimensions=((dimension, line.product_id),))
                billed.append((str(position), deferred, line.amount, line.exact))
            case "fee_in_arrears" | "true_up":
                billed.append((str(position), account("unbilled_receivable"), line.amount, line.exact))
            case _:
                assert_never(line.kind)
    if invoice.kind != "opening":
        exact = _unbilled(connection, invoice) if invoice.kind == "period" else ZERO
        billed.append(("usage", account("unbilled_receivable"), net, EXACT.add(exact, late)))
    receivable, rounding = account("accounts_receivable"), account("rounding")
    moves = []
    for part, against, amount, exact in billed:
        key = f"invoice/{invoice.invoice_id}/{part}"
        moves.append(_move(key, receivable, against, amount=amount, day=day, kind="invoice"))
        rest = EXACT.subtract(exact, amount)
        moves.append(_move(f"{key}/rounding", rounding, against, amount=rest, day=day, kind="rounding"))
    return [move for move in moves if move is not None]


def _unbilled(connection: sa.Connection, invoice: Invoice) -> Decimal:
    """Return the exact amount of usage that accrual posted as unbilled for the invoice's period until it was frozen."""
    accrued, lot = schema.accrued.c, schema.lot.c
    postpaid = sa.select(lot.lot_id).where(lot.contract_id == invoice.contract_id, lot.kind == "postpaid")
    query = (
        sa.select(sa.func.coalesce(sa.func.sum(accrued.frozen_amount), 0))
        .where(accrued.contract_id == invoice.contract_id)
        .where(accrued.period_start == invoice.period.start)
        .where(sa.or_(accrued.lot_id == "", accrued.lot_id.in_(postpaid)))
        .where(accrued.kind == "usage")
    )
    return Decimal(connection.execute(query).scalar_one())


def _move(key: str, debit: Account, credit: Account, *, amount: Decimal, day: date, kind: str) -> Transfer | None:
    """Return a transfer of the amount; of a negative one in the other direction; of 0 none."""
    if amount < 0:
        return Transfer(key, credit, debit, EXACT.minus(amount), day, kind)
    return Transfer(key, debit, credit, amount, day, kind) if amount else None


def _lock_invoice(connection: sa.Connection, invoice_id: str) -> sa.Row[tuple[object, ...]]:
    query = sa.select(schema.invoice).where(schema.invoice.c.invoice_id == invoice_id).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(f"invoice {invoice_id} does not exist; list the invoices of its contract")
    return row


def _is_stored(connection: sa.Connection, invoice_id: str) -> bool:
    query = sa.select(sa.exists().where(schema.invoice.c.invoice_id == invoice_id))
    return bool(connection.execute(query).scalar_one())


def _load(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> tuple[Invoice, ...]:
    invoice, line = schema.invoice, schema.invoice_line
    order = (invoice.c.period_start, invoice.c.contract_id, invoice.c.kind)
    rows = connection.execute(sa.select(invoice).where(condition).order_by(*order)).all()
    if not rows:
        return ()
    lines: dict[str, list[Line]] = {row.invoice_id: [] for row in rows}
    units = {row.invoice_id: row.currency for row in rows}
    query = sa.select(line).where(line.c.invoice_id.in_([*lines])).order_by(line.c.invoice_id, line.c.position)
    for row in connection.execute(query):
        lines[row.invoice_id].append(_line_from(row, units[row.invoice_id]))
    return tuple(_invoice_from(row, tuple(lines[row.invoice_id])) for row in rows)


def _line_from(row: sa.Row[tuple[object, ...]], code: str) -> Line:
    return Line(
        kind=row.kind,
        product_id=row.product_id,
        description=row.description,
        service=Period(row.service_start, row.service_end),
        quantity=_plain(row.quantity),
        unit=row.unit,
        exact=_plain(row.exact),
        amount=round_to_currency(row.amount, currency(code)),
        steps=_STEPS.validate_python(row.steps),
        groups=tuple(sorted(row.groups.items())),
        source=row.source,
        adjusts_invoice_id=row.adjusts_invoice_id,
        adjusts_position=row.adjusts_position,
    )


def _invoice_from(row: sa.Row[tuple[object, ...]], lines: tuple[Line, ...]) -> Invoice:
    stored = {**row._mapping}  # noqa: SLF001 - public in all but name
    period = Period(stored.pop("period_start"), stored.pop("period_end"))
    amount = round_to_currency(stored.pop("total"), currency(row.currency))
    flags = tuple(Flag(flag["name"], flag["text"]) for flag in stored.pop("flags"))
    return Invoice(**stored, period=period, total=amount, flags=flags, lines=lines)


def _plain(value: Decimal) -> Decimal:
    """Return the value without the zeros that the column's scale adds."""
    return Decimal(format(value.normalize(WIDE), "f"))
