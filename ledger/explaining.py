"""Explaining: which events make up an amount, from an invoice line or a transfer down, with totals at each level.

What is stored is compared with the period rated anew from its single events, as they counted when it was billed and by
the terms it was billed with. Each comparison is told with both figures; where they differ, something is wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa

from ledger.errors import NotFoundError
from ledger.explained_lines import LineExplanation, States, explain_billing
from ledger.explained_periods import PeriodState, charge_basis, explained_charge, rated_from_events, state_of_books
from ledger.explained_subjects import billing_named, billings_of, is_whole_invoice, transfer_named
from ledger.explained_values import ChargeExplanation, Equality
from ledger.explained_words import computed
from ledger.invoices import get_invoice
from pricing.money import EXACT, total


@dataclass(frozen=True, slots=True)
class InvoiceExplanation:
    """An invoice with its lines, which add up to its total; what parts a line has is told with the line alone."""

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

    `says` is what it stands for. `revisions` are the transfers of the place in their order, with their sign: they add
    up to what stands in the books.
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
    says: str
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
    """Explain an invoice (its id), a line (`INVOICE_ID/POSITION`), a credit note request or a transfer (its id).

    A credit note request is named `credit-note-request/REQUEST_ID`. Raises `NotFoundError`, and `StateError` where the
    events of its period are archived.
    """
    transfer_id = transfer_named(subject)
    if transfer_id is not None:
        return explain_transfer(connection, transfer_id)
    if is_whole_invoice(subject):
        return explain_invoice(connection, subject)
    return explain_billing(connection, billing_named(connection, subject), {}, with_parts=True)


def explain_invoice(connection: sa.Connection, invoice_id: str) -> InvoiceExplanation:
    """Explain every line of an invoice, without its parts: they would be all charges again for each line they share."""
    invoice = get_invoice(connection, invoice_id)
    states: States = {}
    lines = tuple(
        explain_billing(connection, billing, states, with_parts=False) for billing in billings_of(connection, invoice)
    )
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


# --- transfers ----------------------------------------------------------------------------------------------------


def explain_transfer(connection: sa.Connection, transfer_id: UUID) -> TransferExplanation:
    """Explain a transfer; raise `NotFoundError`."""
    row = _transfer(connection, transfer_id)
    found = TransferExplanation(
        **row._mapping,  # noqa: SLF001 - public in all but name
        product_id=None,
        lot_id=None,
        day=None,
        says="accrual did not post it; its key names what it means",
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


def _discount_of(place: TransferPlace) -> str:
    return (
        f"what was not paid of product {place.product_id} on {place.day}, drawn from lot {place.lot_id} at a discount"
    )


def _of_place(connection: sa.Connection, found: TransferExplanation, place: TransferPlace) -> TransferExplanation:
    revisions = tuple(
        (row.transfer_id, row.amount if row.is_added else EXACT.minus(row.amount))
        for row in connection.execute(_REVISIONS, {"prefix": found.key.rpartition("/")[0], "last": place.revision})
    )
    added = total([amount for _, amount in revisions])
    checks = [Equality("the transfers of this place come to what stands in the books", added, place.amount)]
    charges: tuple[ChargeExplanation, ...] = ()
    if place.kind == "breakage":
        says = f"what lot {place.lot_id} had left when it ended, on {place.day}"
        says += ", to be paid as a true-up" if found.kind == "true_up" else ""
    elif found.kind == "discount_drawn":
        return replace(found, product_id=place.product_id, lot_id=place.lot_id, day=place.day, says=_discount_of(place))
    else:
        says = f"product {place.product_id} on {place.day}"
        says += f", drawn from lot {place.lot_id}" if place.lot_id else ""
    if place.kind == "usage":
        state = rated_from_events(connection, state_of_books(connection, place.contract_id, place.period_start))
        charges = tuple(_on_day(state, place.product_id, place.day))
        says += "".join(_computed(state, place.product_id))
        rated = total([part.amount for charge in charges for part in charge.slices])
        name = "the events of the day come to what stands in the books, with all lots"
        checks.append(Equality(name, rated, place.standing))
    return replace(
        found,
        product_id=place.product_id,
        lot_id=place.lot_id or None,
        day=place.day,
        says=says,
        revisions=revisions,
        charges=charges,
        checks=tuple(checks),
    )


def _on_day(state: PeriodState, product_id: str, day: date) -> Iterator[ChargeExplanation]:
    for charge in state.rated.charges:
        if charge.product_id != product_id:
            continue
        found = explained_charge(state, charge)
        if any(part.day == day for part in found.slices):
            yield replace(found, slices=tuple(part for part in found.slices if part.day == day))


def _computed(state: PeriodState, product_id: str) -> Iterator[str]:
    """Say what the charges of a product were computed from, up to now, where no usage makes them."""
    for charge in state.rated.charges:
        basis = charge_basis(state, charge) if charge.product_id == product_id else None
        if basis is not None:
            products = ", ".join(dict.fromkeys(part.charge.product_id for part in basis.parts)) or "none"
            yield f"; {computed(basis)}; the events are behind the transfers of the products {products}"


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
select t.transfer_id, t.amount, c.code in ('usage_revenue', 'fixed_revenue', 'breakage_revenue') as is_added
from generate_series(1, :last) n
join transfer t on t.idempotency_key = concat(cast(:prefix as text), '/', n::text)
join account c on c.account_id = t.credit_id
order by n
""")
