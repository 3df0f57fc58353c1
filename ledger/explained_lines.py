"""Explaining a line of an invoice, or a credit note request: the charge that it bills, or what it was computed from.

What usage makes is opened into days and events. A share of other products, a discount, a minimum and a maximum are
opened into the charges that they were computed from, each of which has a line that is explained in turn.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from ledger import schema
from ledger.database import canonical_json
from ledger.explained_periods import (
    PeriodState,
    charge_basis,
    charge_of,
    explained_charge,
    rated_from_events,
    state_as_billed,
)
from ledger.explained_subjects import REQUEST, Billing, as_of_invoice
from ledger.explained_values import ChargeExplanation, Equality, Part
from ledger.explained_words import billing_sentence
from ledger.invoices import get_invoice
from pricing.bases import Basis, BasisPart, basis_of_adjustment
from pricing.explanation import explained_line
from pricing.money import EXACT, ZERO, currency, to_ledger_scale, total
from pricing.rated import Adjustment

CORRECTIONS = ("adjustment", "credit_note_request")
BOUNDS = ("discount", "minimum", "maximum")

ChargeKey = tuple[str, datetime, tuple[tuple[str, str], ...]]
"""A product, when the segment of its charge begins, and its group values."""

States = dict[tuple[str, int | None], PeriodState]
"""Periods rated from their events, by the invoice that bills them and the batch as of which."""


@dataclass(frozen=True, slots=True)
class LineExplanation:
    """A line of an invoice. `says` is what stands behind it, `told` the way to its amount, step by step.

    `charge` is what it bills, rated from the events that counted as of `as_of_batch_id` (None: now); None for lines
    that bill no usage. An adjustment also has `before`, the charge as it was billed first: it bills the difference.
    Where it was computed from other charges, `parts` are those, which add up to `base`. Of a credit note request, kind
    `credit_note_request`, `invoice_id` is the invoice that it takes off, and amounts are below zero.
    """

    subject: str
    invoice_id: str
    position: int
    kind: str
    product_id: str
    description: str
    quantity: Decimal
    exact: Decimal
    amount: Decimal
    currency: str
    says: str
    told: tuple[str, ...]
    as_of_batch_id: int | None
    charge: ChargeExplanation | None
    before: ChargeExplanation | None
    base: Decimal | None
    parts: tuple[Part, ...]
    checks: tuple[Equality, ...]


def explain_billing(
    connection: sa.Connection, billing: Billing, states: States, *, with_parts: bool
) -> LineExplanation:
    """Explain a line or credit note request; each period that it needs is rated once, and kept in `states`."""
    behind = _behind(connection, billing, states)
    line = billing.line
    charge, before = (None if one is None else one.explained for one in (behind.now, behind.before))
    return LineExplanation(
        subject=billing.subject,
        invoice_id=billing.invoice_id,
        position=billing.position,
        kind=billing.kind,
        product_id=line.product_id,
        description=line.description,
        quantity=line.quantity,
        exact=line.exact,
        amount=line.amount,
        currency=billing.currency,
        says=billing_sentence(billing, charge, before, behind.basis, is_of_lot=behind.is_of_lot),
        told=explained_line(line, currency(billing.currency)),
        as_of_batch_id=billing.as_of_batch_id if behind.is_rated else None,
        charge=charge,
        before=before,
        base=None if behind.basis is None else behind.basis.base,
        parts=_parts(connection, billing, behind) if with_parts else (),
        checks=tuple(_checks(connection, billing, behind)),
    )


# --- what stands behind a line ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rated:
    """A charge as a period rated anew has it; `basis` where no usage makes it."""

    explained: ChargeExplanation
    basis: Basis | None


@dataclass(frozen=True, slots=True)
class _Behind:
    """What stands behind a line: a charge, with `before` that of an adjustment; or a `bound`, as discounts are too."""

    is_rated: bool = False
    is_of_lot: bool = False
    now: _Rated | None = None
    before: _Rated | None = None
    bound: Adjustment | None = None
    bound_basis: Basis | None = None

    @property
    def basis(self) -> Basis | None:
        """What the line was computed from, as it is rated anew; None: from usage, or from nothing that is rated."""
        return self.bound_basis if self.now is None else self.now.basis


def _behind(connection: sa.Connection, billing: Billing, states: States) -> _Behind:
    if billing.kind in CORRECTIONS and _is_of_lot(connection, billing):
        return _Behind(is_of_lot=True)
    if billing.kind not in ("usage", *BOUNDS, *CORRECTIONS):
        return _Behind()
    state = _state(connection, states, billing.usage_of, billing.as_of_batch_id)
    if billing.kind in BOUNDS:
        return _bound(state, billing)
    if billing.kind == "usage":
        return _Behind(is_rated=True, now=_rated(state, billing))
    billed_at = as_of_invoice(connection, get_invoice(connection, billing.usage_of))
    as_billed = _state(connection, states, billing.usage_of, billed_at)
    return _Behind(is_rated=True, now=_rated(state, billing), before=_rated(as_billed, billing))


def _state(connection: sa.Connection, states: States, invoice_id: str, as_of: int | None) -> PeriodState:
    key = (invoice_id, as_of)
    if key not in states:
        states[key] = rated_from_events(connection, state_as_billed(connection, invoice_id, as_of))
    return states[key]


def _rated(state: PeriodState, billing: Billing) -> _Rated | None:
    charge = charge_of(state, *_key(billing))
    if charge is None:
        return None
    return _Rated(explained_charge(state, charge), charge_basis(state, charge))


def _bound(state: PeriodState, billing: Billing) -> _Behind:
    """Find the adjustment of a charge that a line bills: of those of its kind and name, the one in the same turn."""
    charge = charge_of(state, *_key(billing))
    line = billing.line
    wanted = (line.kind, line.description)
    own = [one for one in charge.adjustments if (one.kind, one.name) == wanted] if charge else []
    turn = sum(
        (one.kind, one.description, one.product_id, one.service.start, one.groups) == (*wanted, *_key(billing))
        for one in billing.lines_before
    )
    if charge is None or turn >= len(own):
        return _Behind(is_rated=True)
    basis = basis_of_adjustment(state.rated, state.billed.terms, charge, own[turn])
    return _Behind(is_rated=True, bound=own[turn], bound_basis=basis)


def _key(billing: Billing) -> ChargeKey:
    return (billing.line.product_id, billing.line.service.start, billing.line.groups)


def _is_of_lot(connection: sa.Connection, billing: Billing) -> bool:
    """Say whether a correction is of what a lot paid: then its product is the lot."""
    lot = schema.lot.c.lot_id
    found = connection.execute(sa.select(lot).where(lot == billing.line.product_id)).one_or_none()
    return found is not None


# --- parts --------------------------------------------------------------------------------------------------------


def _parts(connection: sa.Connection, billing: Billing, behind: _Behind) -> tuple[Part, ...]:
    """Return the charges that a line was computed from, an adjustment's beside what they were when it was billed."""
    now = _by_key(behind.basis)
    before = _by_key(None if behind.before is None else behind.before.basis)
    if not now and not before:
        return ()
    subjects = _subjects(connection, billing)
    found = []
    for key in dict.fromkeys((*now, *before)):
        part = now.get(key) or before[key]
        charge = part.charge
        found.append(
            Part(
                subject=subjects.get(key),
                product_id=charge.product_id,
                name=charge.name,
                groups=charge.groups,
                segment=charge.segment,
                quantity=charge.quantity if key in now else ZERO,
                unit=charge.unit,
                amount=now[key].amount if key in now else ZERO,
                before=_amount(before.get(key)) if billing.kind in CORRECTIONS else None,
            )
        )
    return tuple(found)


def _by_key(basis: Basis | None) -> dict[ChargeKey, BasisPart]:
    parts = () if basis is None else basis.parts
    return {(one.charge.product_id, one.charge.segment.start, one.charge.groups): one for one in parts}


def _amount(part: BasisPart | None) -> Decimal:
    return ZERO if part is None else part.amount


def _subjects(connection: sa.Connection, billing: Billing) -> Mapping[ChargeKey, str]:
    """Return what explains each charge of the period as far as a line knows of it: the last line or request of it."""
    facts = {"invoice_id": billing.usage_of, "before": billing.created_at, "request": REQUEST}
    return {
        (row.product_id, row.service_start, tuple(sorted(row.groups.items()))): row.subject
        for row in connection.execute(_SUBJECTS, facts)
    }


# --- comparisons --------------------------------------------------------------------------------------------------


def _checks(connection: sa.Connection, billing: Billing, behind: _Behind) -> Iterator[Equality]:
    line = billing.line
    if billing.kind in BOUNDS:
        held = ZERO if behind.bound is None else to_ledger_scale(behind.bound.amount)
        yield Equality("the events come to the line's exact amount", held, line.exact)
        yield from _of_basis(behind.bound_basis)
    elif billing.kind == "usage":
        yield from _of_usage(billing, behind.now)
    elif billing.kind not in CORRECTIONS and line.steps:
        added = to_ledger_scale(total([step.amount for step in line.steps]))
        yield Equality("the steps come to the line's exact amount", added, line.exact)
    elif behind.now is not None or behind.before is not None:
        yield from _changes(connection, billing, behind)
    for rated in (behind.now, behind.before):
        if rated is not None:
            yield from rated.explained.checks
            yield from _of_basis(rated.basis)


def _of_usage(billing: Billing, rated: _Rated | None) -> Iterator[Equality]:
    quantity = ZERO if rated is None else rated.explained.quantity
    amount = ZERO if rated is None else to_ledger_scale(rated.explained.amount)
    yield Equality("the events come to the line's quantity", quantity, billing.line.quantity)
    yield Equality("the events come to the line's exact amount", amount, billing.line.exact)
    if rated is not None and rated.basis is not None:
        yield Equality("the parts add up to the line's base", rated.basis.base, billing.line.quantity)


def _of_basis(basis: Basis | None) -> Iterator[Equality]:
    if basis is not None:
        yield Equality("the parts come by the terms to what is charged", basis.result, basis.held)


def _changes(connection: sa.Connection, billing: Billing, behind: _Behind) -> Iterator[Equality]:
    now, before = (_figures(rated) for rated in (behind.now, behind.before))
    adjusted = _adjusted_before(connection, billing)
    line = billing.line
    own = (line.quantity, line.exact)
    for n, name in enumerate(("quantity", "exact amount")):
        yield Equality(
            f"what changed since comes to the line's {name}, with adjustments before it",
            to_ledger_scale(EXACT.subtract(now[n], before[n])),
            to_ledger_scale(EXACT.add(own[n], adjusted[n])),
        )


def _figures(rated: _Rated | None) -> tuple[Decimal, Decimal]:
    return (ZERO, ZERO) if rated is None else (rated.explained.quantity, rated.explained.net)


def _adjusted_before(connection: sa.Connection, billing: Billing) -> tuple[Decimal, Decimal]:
    """Return quantity and exact amount that earlier invoices and requests adjusted of the same charge."""
    facts = {
        "original": billing.usage_of,
        "product_id": billing.line.product_id,
        "start": billing.line.service.start,
        "groups": canonical_json(dict(billing.line.groups)),
        "before": billing.created_at,
        "own": billing.request_id or billing.invoice_id,
    }
    row = connection.execute(_ADJUSTED, facts).one()
    return row.quantity, row.exact


_ADJUSTED = sa.text("""
select coalesce(sum(quantity), 0) as quantity, coalesce(sum(exact), 0) as exact from (
    select l.quantity, l.exact from invoice_line l join invoice i on i.invoice_id = l.invoice_id
    where l.adjusts_invoice_id = :original and l.product_id = :product_id and l.service_start = :start
        and l.groups = cast(:groups as jsonb) and i.invoice_id <> :own and i.created_at <= :before
    union all
    select -quantity, -exact from credit_note_request
    where invoice_id = :original and product_id = :product_id and service_start = :start
        and groups = cast(:groups as jsonb)
        and request_id <> :own and requested_at <= :before
) adjusted
""")

# In the order of time, and of one document the usage behind its minimum: what comes last is what explains a charge.
_SUBJECTS = sa.text("""
select product_id, service_start, groups, subject from (
    select l.product_id, l.service_start, l.groups, concat(l.invoice_id, '/', l.position) as subject,
        i.created_at as moment, l.kind <> 'minimum' as has_usage, l.position as place
    from invoice_line l join invoice i on i.invoice_id = l.invoice_id
    where (l.invoice_id = :invoice_id and l.kind in ('usage', 'minimum'))
        or (l.adjusts_invoice_id = :invoice_id and l.kind = 'adjustment')
    union all
    select product_id, service_start, groups, concat(cast(:request as text), request_id), requested_at, true, 0
    from credit_note_request where invoice_id = :invoice_id
) billed
where moment <= :before
order by moment, has_usage, place
""")
