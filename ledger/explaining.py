"""Explaining: which events make up an amount, from an invoice line or a transfer down, with totals at each level.

What is stored is compared with the period rated anew from its single events, as they counted when it was billed and by
the terms it was billed with. Each comparison is told with both figures; where they differ, something is wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa

from ledger import schema
from ledger.database import canonical_json
from ledger.errors import NotFoundError
from ledger.explained_periods import PeriodState, explained_charge, rated_from_events, state_as_billed, state_of_books
from ledger.explained_values import ChargeExplanation, Equality
from ledger.invoices import Invoice, get_invoice
from pricing.explanation import explained_line
from pricing.money import EXACT, ZERO, currency, to_ledger_scale, total
from pricing.rated import Line

USAGE_KINDS = ("usage", "adjustment")


@dataclass(frozen=True, slots=True)
class LineExplanation:
    """A line of an invoice. `told` is the way to its amount in words, step by step.

    `charge` is what it bills, rated from the events that counted as of `as_of_batch_id` (None: now); None for lines
    that bill no usage. An adjustment also has `before`, the charge as it was billed first: it bills the difference.
    """

    invoice_id: str
    position: int
    kind: str
    product_id: str
    description: str
    quantity: Decimal
    exact: Decimal
    amount: Decimal
    currency: str
    told: tuple[str, ...]
    as_of_batch_id: int | None
    charge: ChargeExplanation | None
    before: ChargeExplanation | None
    checks: tuple[Equality, ...]


@dataclass(frozen=True, slots=True)
class InvoiceExplanation:
    """An invoice with its lines, which add up to its total."""

    invoice_id: str
    number: str | None
    contract_id: str
    currency: str
    total: Decimal
    lines: tuple[LineExplanation, ...]
    checks: tuple[Equality, ...]


@dataclass(frozen=True, slots=True)
class TransferExplanation:
    """A transfer; of accrued usage also its place, all that was posted there, and the charges that stand behind it.

    `revisions` are the transfers of the place in their order, with their sign: they add up to what stands in the books.
    """

    transfer_id: UUID
    key: str
    kind: str
    source: str
    debit: str
    credit: str
    amount: Decimal
    currency: str
    effective_on: date
    posted_at: datetime
    contract_id: str | None
    product_id: str | None
    lot_id: str | None
    day: date | None
    revisions: tuple[tuple[UUID, Decimal], ...]
    charges: tuple[ChargeExplanation, ...]
    checks: tuple[Equality, ...]


@dataclass(frozen=True, slots=True)
class TransferPlace:
    """Where accrual posts: a row of `accrued`. `standing` is what stands for the product and day, with all lots."""

    contract_id: str
    period_start: datetime
    product_id: str
    lot_id: str
    day: date
    kind: str
    amount: Decimal
    revision: int
    standing: Decimal


Explanation = InvoiceExplanation | LineExplanation | TransferExplanation


def explain(connection: sa.Connection, subject: str) -> Explanation:
    """Explain an invoice (its id), a line (`INVOICE_ID/POSITION`) or a transfer (its id); raise `NotFoundError`."""
    transfer_id = transfer_named(subject)
    if transfer_id is not None:
        return explain_transfer(connection, transfer_id)
    invoice_id, position = split_line(subject)
    if position is None:
        return explain_invoice(connection, subject)
    return explain_line(connection, invoice_id, position)


def explain_invoice(connection: sa.Connection, invoice_id: str) -> InvoiceExplanation:
    """Explain every line of an invoice."""
    invoice = get_invoice(connection, invoice_id)
    lines = tuple(_explained_lines(connection, invoice, range(1, len(invoice.lines) + 1)))
    added = total([line.amount for line in invoice.lines])
    return InvoiceExplanation(
        invoice_id=invoice_id,
        number=invoice.number,
        contract_id=invoice.contract_id,
        currency=invoice.currency,
        total=invoice.total,
        lines=lines,
        checks=(Equality("the lines add up to the total", added, invoice.total),),
    )


def explain_line(connection: sa.Connection, invoice_id: str, position: int) -> LineExplanation:
    """Explain one line of an invoice; raise `NotFoundError`."""
    invoice = get_invoice(connection, invoice_id)
    line_of(invoice, position)
    [found] = _explained_lines(connection, invoice, [position])
    return found


def split_line(subject: str) -> tuple[str, int | None]:
    """Return the invoice and the position that `INVOICE_ID/POSITION` names; None where it names no position."""
    invoice_id, _, position = subject.rpartition("/")
    return (invoice_id, int(position)) if invoice_id and position.isascii() and position.isdigit() else (subject, None)


def transfer_named(subject: str) -> UUID | None:
    """Return the id of a transfer; None for a text that is none."""
    try:
        return UUID(subject)
    except ValueError:
        return None


def line_of(invoice: Invoice, position: int) -> Line:
    """Return a line by its position, the first being 1; raise `NotFoundError`."""
    if not 1 <= position <= len(invoice.lines):
        raise NotFoundError(
            f"invoice {invoice.invoice_id} has no line {position}; it has lines 1 to {len(invoice.lines)}"
        )
    return invoice.lines[position - 1]


# --- lines --------------------------------------------------------------------------------------------------------


def _explained_lines(
    connection: sa.Connection, invoice: Invoice, positions: Sequence[int]
) -> Iterator[LineExplanation]:
    """Yield the explanations of lines; each period that they bill is rated once."""
    states: dict[tuple[str, int | None], PeriodState] = {}
    for position in positions:
        line = line_of(invoice, position)
        original = line.adjusts_invoice_id or invoice.invoice_id
        charge = before = None
        as_of = None
        if line.kind in USAGE_KINDS and not _is_of_lot(connection, line):
            as_of = as_of_invoice(connection, invoice)
            charge = _charge(connection, states, original, as_of, line)
            if line.kind == "adjustment":
                billed_at = as_of_invoice(connection, get_invoice(connection, original))
                before = _charge(connection, states, original, billed_at, line)
        yield LineExplanation(
            invoice_id=invoice.invoice_id,
            position=position,
            kind=line.kind,
            product_id=line.product_id,
            description=line.description,
            quantity=line.quantity,
            exact=line.exact,
            amount=line.amount,
            currency=invoice.currency,
            told=explained_line(line, currency(invoice.currency)),
            as_of_batch_id=as_of,
            charge=charge,
            before=before,
            checks=tuple(_line_checks(connection, invoice, line, charge, before)),
        )


def _charge(
    connection: sa.Connection,
    states: dict[tuple[str, int | None], PeriodState],
    invoice_id: str,
    as_of: int | None,
    line: Line,
) -> ChargeExplanation | None:
    key = (invoice_id, as_of)
    if key not in states:
        states[key] = rated_from_events(connection, state_as_billed(connection, invoice_id, as_of))
    return explained_charge(states[key], line.product_id, line.service.start, line.groups)


def as_of_invoice(connection: sa.Connection, invoice: Invoice) -> int | None:
    """Return the last batch whose usage an invoice may hold: its period's cut-off; None: whatever counts now."""
    if invoice.kind != "period":
        return None
    period = schema.contract_period.c
    cutoff: int | None = connection.execute(
        sa.select(period.cutoff_batch_id).where(
            period.contract_id == invoice.contract_id, period.start_at == invoice.period.start
        )
    ).scalar_one()
    return cutoff


def _is_of_lot(connection: sa.Connection, line: Line) -> bool:
    """Say whether an adjustment is of what a lot paid: then its product is the lot."""
    lot = schema.lot.c.lot_id
    return connection.execute(sa.select(lot).where(lot == line.product_id)).one_or_none() is not None


def _line_checks(
    connection: sa.Connection,
    invoice: Invoice,
    line: Line,
    charge: ChargeExplanation | None,
    before: ChargeExplanation | None,
) -> Iterator[Equality]:
    if line.kind not in USAGE_KINDS:
        if line.steps:
            added = to_ledger_scale(total([step.amount for step in line.steps]))
            yield Equality("the steps come to the line's exact amount", added, line.exact)
        return
    if line.kind == "usage":
        quantity = ZERO if charge is None else charge.quantity
        amount = ZERO if charge is None else to_ledger_scale(charge.amount)
        yield Equality("the events come to the line's quantity", quantity, line.quantity)
        yield Equality("the events come to the line's exact amount", amount, line.exact)
    elif charge is not None or before is not None:
        billed = _adjusted_before(connection, invoice, line)
        for name, own, more in (
            ("quantity", "quantity", line.quantity),
            ("exact amount", "net", line.exact),
        ):
            changed = EXACT.subtract(
                ZERO if charge is None else getattr(charge, own), ZERO if before is None else getattr(before, own)
            )
            told = EXACT.add(more, billed[name])
            yield Equality(
                f"what changed since comes to the line's {name}, with adjustments before it",
                to_ledger_scale(changed),
                to_ledger_scale(told),
            )
    for one in (charge, before):
        if one is not None:
            yield from one.checks


def _adjusted_before(connection: sa.Connection, invoice: Invoice, line: Line) -> dict[str, Decimal]:
    """Return what earlier invoices and credit note requests adjusted of the same charge."""
    facts = {
        "original": line.adjusts_invoice_id,
        "product_id": line.product_id,
        "start": line.service.start,
        "groups": canonical_json(dict(line.groups)),
        "before": invoice.created_at,
        "own": invoice.invoice_id,
    }
    row = connection.execute(_ADJUSTED, facts).one()
    return {"quantity": row.quantity, "exact amount": row.exact}


# --- transfers ----------------------------------------------------------------------------------------------------


def explain_transfer(connection: sa.Connection, transfer_id: UUID) -> TransferExplanation:
    """Explain a transfer; raise `NotFoundError`."""
    row = _transfer(connection, transfer_id)
    found = TransferExplanation(
        **row._mapping,  # noqa: SLF001 - public in all but name
        product_id=None,
        lot_id=None,
        day=None,
        revisions=(),
        charges=(),
        checks=(),
    )
    place = explain_transfer_place(connection, transfer_id)
    return found if place is None else _of_place(connection, found, place)


def explain_transfer_place(connection: sa.Connection, transfer_id: UUID) -> TransferPlace | None:
    """Return where in the books a transfer stands; None for one that accrual did not post. Raises `NotFoundError`."""
    transfer = _transfer(connection, transfer_id)
    facts = {"contract_id": transfer.contract_id, "key": transfer.key}
    row = connection.execute(_PLACE, facts).one_or_none()
    return None if row is None else TransferPlace(*row)


def _transfer(connection: sa.Connection, transfer_id: UUID) -> sa.Row[tuple[object, ...]]:
    row = connection.execute(_TRANSFER, {"transfer_id": transfer_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"transfer {transfer_id} does not exist; `meterbook ledger` lists those of an account")
    return row


def _of_place(connection: sa.Connection, found: TransferExplanation, place: TransferPlace) -> TransferExplanation:
    revisions = tuple(
        (row.transfer_id, row.amount if row.is_added else EXACT.minus(row.amount))
        for row in connection.execute(_REVISIONS, {"prefix": found.key.rpartition("/")[0], "last": place.revision})
    )
    added = total([amount for _, amount in revisions])
    checks = [Equality("the transfers of this place come to what stands in the books", added, place.amount)]
    charges: tuple[ChargeExplanation, ...] = ()
    if place.kind == "usage":
        state = rated_from_events(connection, state_of_books(connection, place.contract_id, place.period_start))
        charges = tuple(_on_day(state, place.product_id, place.day))
        rated = total([part.amount for charge in charges for part in charge.slices])
        name = "the events of the day come to what stands in the books, with all lots"
        checks.append(Equality(name, rated, place.standing))
    return replace(
        found,
        product_id=place.product_id,
        lot_id=place.lot_id or None,
        day=place.day,
        revisions=revisions,
        charges=charges,
        checks=tuple(checks),
    )


def _on_day(state: PeriodState, product_id: str, day: date) -> Iterator[ChargeExplanation]:
    for charge in state.rated.charges:
        if charge.product_id != product_id:
            continue
        found = explained_charge(state, product_id, charge.segment.start, charge.groups)
        if found is not None and any(part.day == day for part in found.slices):
            yield replace(found, slices=tuple(part for part in found.slices if part.day == day))


_ADJUSTED = sa.text("""
select coalesce(sum(quantity), 0) as quantity, coalesce(sum(exact), 0) as exact from (
    select l.quantity, l.exact from invoice_line l join invoice i on i.invoice_id = l.invoice_id
    where l.adjusts_invoice_id = :original and l.product_id = :product_id and l.service_start = :start
        and l.groups = cast(:groups as jsonb) and i.invoice_id <> :own and i.created_at <= :before
    union all
    select -quantity, -exact from credit_note_request
    where invoice_id = :original and product_id = :product_id and service_start = :start
        and groups = cast(:groups as jsonb)
        and requested_at <= :before
) adjusted
""")

_TRANSFER = sa.text("""
select t.transfer_id, t.idempotency_key as key, t.kind, t.source, d.code as debit, c.code as credit, t.amount,
    t.currency, t.effective_on, t.posted_at, coalesce(d.contract_id, c.contract_id) as contract_id
from transfer t join account d on d.account_id = t.debit_id join account c on c.account_id = t.credit_id
where t.transfer_id = :transfer_id
""")

# As `ledger.shares` writes the key; ids may hold what separates its parts, so it is compared, not taken apart.
_PLACE = sa.text("""
select a.contract_id, a.period_start, a.product_id, a.lot_id, a.day, a.kind, a.amount, a.revision,
    (select sum(b.amount) from accrued b
     where (b.contract_id, b.period_start, b.product_id, b.day) = (a.contract_id, a.period_start, a.product_id, a.day))
from accrued a
where a.contract_id = :contract_id and starts_with(:key, concat('accrual/', a.contract_id, '/',
    to_char(a.period_start at time zone 'UTC', 'YYYY-MM-DD'), '/', a.product_id, '/', a.lot_id, '/', a.day::text, '/'))
""")

_REVISIONS = sa.text("""
select t.transfer_id, t.amount, c.code in ('usage_revenue', 'fixed_revenue') as is_added
from generate_series(1, :last) n
join transfer t on t.idempotency_key = concat(cast(:prefix as text), '/', n::text)
join account c on c.account_id = t.credit_id
order by n
""")
