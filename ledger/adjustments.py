"""Adjustments: how the next invoice bills what late usage changed in the periods before, line by line.

The difference of a period goes to the next invoice. Where the contract says so, or where the invoice would fall below
zero, what is taken back is asked for as a credit note instead: then it is owed to the customer from that moment on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from decimal import Decimal

import sqlalchemy as sa

from ledger import schema
from ledger.contracts import Contract, lots_of
from ledger.late_usage import billed_terms, rate_late
from ledger.months import open_day
from ledger.periods import ContractPeriod, list_periods
from ledger.shares import ACCRUED
from ledger.transfers import Account, AccountCode, Transfer, post
from pricing.calendar import Period, local_date
from pricing.money import EXACT, ZERO, Currency, currency, round_to_currency, to_ledger_scale, total
from pricing.rated import Charge, Line

ChargeKey = tuple[str, datetime, tuple[tuple[str, str], ...]]
"""A product, when the segment of its charge begins, and its group values."""


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What a frozen period's invoice lacks (or has too much of), as lines that name it and its lines."""

    invoice_id: str
    period: Period
    lines: tuple[Line, ...]

    @property
    def total(self) -> Decimal:
        """What the lines add to an invoice."""
        return total([line.amount for line in self.lines])


def pending_adjustments(connection: sa.Connection, contract: Contract) -> tuple[Adjustment, ...]:
    """Return what late usage changed in frozen periods and no invoice holds yet, in order of the periods."""
    changed = set(connection.execute(_UNBILLED, {"contract_id": contract.contract_id}).scalars())
    recorded = [one for one in list_periods(connection, contract.contract_id) if one.period.start in changed]
    return tuple(_adjustment(connection, contract, one) for one in recorded)


def contracts_to_adjust(connection: sa.Connection) -> tuple[str, ...]:
    """Return the contracts with late usage that no invoice holds yet, by id."""
    return tuple(connection.execute(_TO_ADJUST).scalars())


@dataclass(frozen=True, slots=True)
class CreditNoteRequest:
    """What is to be taken off an invoice by a credit note; `amount` is positive, in the invoice's currency."""

    request_id: str
    invoice_id: str
    position: int | None
    contract_id: str
    product_id: str
    description: str
    quantity: Decimal
    amount: Decimal
    currency: str
    requested_at: datetime


def list_credit_note_requests(
    connection: sa.Connection, *, contract_id: str | None = None
) -> tuple[CreditNoteRequest, ...]:
    """Return the credit notes that late usage asks for, of one contract where that is given, in order of time."""
    request = schema.credit_note_request
    query = sa.select(*(request.c[field.name] for field in fields(CreditNoteRequest)))
    if contract_id is not None:
        query = query.where(request.c.contract_id == contract_id)
    rows = connection.execute(query.order_by(request.c.requested_at, request.c.request_id))
    return tuple(CreditNoteRequest(**row._mapping) for row in rows)  # noqa: SLF001 - public in all but name


def wants_credit_note(contract: Contract, adjustment: Adjustment) -> bool:
    """Say whether the contract has what an adjustment takes back asked for as a credit note."""
    return adjustment.total < 0 and contract.policy.invoicing.late_usage == "credit_note"


def bill_adjustments(connection: sa.Connection, contract: Contract, *, room: Decimal, at: datetime) -> tuple[Line, ...]:
    """Return the lines for the next invoice, whose other lines come to `room`, and record all pending as billed.

    Where a credit note is asked for instead, its request is recorded and posted: the amount is owed to the customer.
    """
    found: list[Line] = []
    for adjustment in pending_adjustments(connection, contract):
        amount = adjustment.total
        if wants_credit_note(contract, adjustment) or (amount < 0 and EXACT.add(room, amount) < 0):
            _request_credit_note(connection, contract, adjustment, at=at)
        else:
            found += adjustment.lines
            room = EXACT.add(room, amount)
        connection.execute(
            ACCRUED.update()
            .where(ACCRUED.c.contract_id == contract.contract_id, ACCRUED.c.kind == "usage")
            .where(ACCRUED.c.period_start == adjustment.period.start)
            .values(billed_amount=ACCRUED.c.amount)
        )
    return tuple(found)


# --- the lines of one period --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Billed:
    """What invoices and requests hold of one charge or credit; `position` is the original line's."""

    quantity: Decimal = ZERO
    exact: Decimal = ZERO
    amount: Decimal = ZERO
    position: int | None = None
    name: str = ""
    unit: str = ""
    service: Period | None = None


@dataclass(frozen=True, slots=True)
class _Change:
    """How the posted amount of a product differs from what is billed: all of it, and by lot what is drawn.

    What is drawn from postpaid lots is billed as what is not drawn.
    """

    amount: Decimal
    drawn: Mapping[str, Decimal]

    @property
    def undrawn(self) -> Decimal:
        return EXACT.subtract(self.amount, total([*self.drawn.values()]))


@dataclass(frozen=True, slots=True)
class _Original:
    """The invoice that is adjusted, by id and by the name that it is told by, and the names of what stands on it."""

    invoice_id: str
    told: str
    period: Period
    unit: Currency
    products: Mapping[str, str]
    lots: Mapping[str, str]
    credit_positions: Mapping[str, int]


def _adjustment(connection: sa.Connection, contract: Contract, recorded: ContractPeriod) -> Adjustment:
    original = _original(connection, contract, recorded)
    charges = rate_late(connection, contract, [recorded])[0].rated.charges
    billed = _billed_charges(connection, original.invoice_id)
    lines: list[Line] = []
    for product_id, change in _changes(connection, contract.contract_id, recorded.period.start).items():
        own = [
            _line(key, charge, billed.get(key, _Billed()), original.unit)
            for key, charge in _by_key(product_id, charges, billed).items()
        ]
        kept = _settled([line for line in own if line.exact or line.amount or line.quantity], change.amount)
        amount = total([line.amount for line in kept])
        lines += [*kept, *_credits(original, product_id, change, amount)]
    named = tuple(_naming(line, original) for line in lines)
    return Adjustment(original.invoice_id, recorded.period, named)


def _original(connection: sa.Connection, contract: Contract, recorded: ContractPeriod) -> _Original:
    start = local_date(recorded.period.start, contract.time_zone)
    invoice_id = f"{contract.contract_id}.{start:%Y-%m-%d}"
    number: str | None = connection.execute(
        sa.select(schema.invoice.c.number).where(schema.invoice.c.invoice_id == invoice_id)
    ).scalar_one()
    return _Original(
        invoice_id=invoice_id,
        told=number or invoice_id,
        period=recorded.period,
        unit=currency(contract.currency),
        products={
            product.product_id: product.name
            for version in billed_terms(connection, contract, recorded)
            for product in version.prices
        },
        lots={lot.lot_id: lot.name for lot in lots_of(connection, contract.contract_id)},
        credit_positions=_credit_positions(connection, invoice_id),
    )


def _by_key(
    product_id: str, charges: Sequence[Charge], billed: Mapping[ChargeKey, _Billed]
) -> dict[ChargeKey, Charge | None]:
    found: dict[ChargeKey, Charge | None] = {
        (charge.product_id, charge.segment.start, charge.groups): charge
        for charge in charges
        if charge.product_id == product_id
    }
    for key in billed:
        if key[0] == product_id:
            found.setdefault(key, None)
    return found


def _line(key: ChargeKey, charge: Charge | None, billed: _Billed, unit: Currency) -> Line:
    """Return what a charge, adjustments included, comes to beyond what is billed of it."""
    exact, quantity = ZERO, ZERO
    if charge is not None:
        exact = EXACT.add(charge.amount, total([adjustment.amount for adjustment in charge.adjustments]))
        quantity = charge.quantity
    service = charge.segment if charge is not None else billed.service
    if service is None:
        raise AssertionError(f"charge {key} is neither rated nor billed")
    return Line(
        kind="adjustment",
        product_id=key[0],
        description=charge.name if charge is not None else billed.name,
        service=service,
        quantity=EXACT.subtract(quantity, billed.quantity),
        unit=charge.unit if charge is not None else billed.unit,
        exact=to_ledger_scale(EXACT.subtract(exact, billed.exact)),
        amount=EXACT.subtract(round_to_currency(exact, unit), billed.amount),
        groups=key[2],
        source="" if charge is None else charge.source,
        adjusts_position=billed.position,
    )


def _settled(lines: Sequence[Line], exact: Decimal) -> list[Line]:
    """Let the exact amounts add up to what is posted: what ledger scale rounds away goes to the largest line."""
    found = sorted(lines, key=lambda line: (EXACT.abs(line.exact), line.service.start, line.groups))
    rest = EXACT.subtract(exact, total([line.exact for line in found]))
    if rest and found:
        found[-1] = replace(found[-1], exact=EXACT.add(found[-1].exact, rest))
    return sorted(found, key=lambda line: (line.service.start, line.groups))


def _credits(original: _Original, product_id: str, change: _Change, amount: Decimal) -> Iterator[Line]:
    """Yield what lots pay of a product's adjustment; with it the product comes to its rounded undrawn difference."""
    drawn = {lot_id: value for lot_id, value in change.drawn.items() if value}
    rest = EXACT.subtract(amount, round_to_currency(change.undrawn, original.unit))
    for n, (lot_id, exact) in enumerate(drawn.items(), start=1):
        share = rest if n == len(drawn) else round_to_currency(exact, original.unit)
        rest = EXACT.subtract(rest, share)
        yield Line(
            kind="adjustment",
            product_id=lot_id,
            description=f"{original.lots[lot_id]}, applied to {original.products.get(product_id, product_id)}",
            service=original.period,
            quantity=Decimal(1),
            unit="credit",
            exact=EXACT.minus(exact),
            amount=EXACT.minus(share),
            adjusts_position=original.credit_positions.get(lot_id),
        )


def _naming(line: Line, original: _Original) -> Line:
    where = f"invoice {original.told}"
    if line.adjusts_position is not None:
        where = f"line {line.adjusts_position} of {where}"
    return replace(
        line, description=f"{line.description}, correction of {where}", adjusts_invoice_id=original.invoice_id
    )


# --- what is billed -----------------------------------------------------------------------------------------------


def _changes(connection: sa.Connection, contract_id: str, period_start: datetime) -> dict[str, _Change]:
    rows = connection.execute(_DIFFERENCES, {"contract_id": contract_id, "period_start": period_start}).all()
    found: dict[str, _Change] = {}
    for product_id in dict.fromkeys(row.product_id for row in rows):
        own = [row for row in rows if row.product_id == product_id]
        drawn = {row.lot_id: row.difference for row in own if row.lot_id and not row.is_postpaid}
        found[product_id] = _Change(total([row.difference for row in own]), drawn)
    return found


def _billed_charges(connection: sa.Connection, invoice_id: str) -> dict[ChargeKey, _Billed]:
    """Return what the original invoice, later adjustments of it, and credit note requests hold, by charge."""
    found: dict[ChargeKey, _Billed] = {}
    for row in connection.execute(_BILLED, {"invoice_id": invoice_id}):
        groups = tuple(sorted(row.groups.items()))
        own = found.setdefault((row.product_id, row.service_start, groups), _Billed())
        own.exact = EXACT.add(own.exact, row.exact)
        own.amount = EXACT.add(own.amount, row.amount)
        if row.counts:
            own.quantity = EXACT.add(own.quantity, row.quantity)
        if row.position is not None and own.position is None:
            own.position, own.name, own.unit = row.position, row.description, row.unit
            own.service = Period(row.service_start, row.service_end)
    return found


def _credit_positions(connection: sa.Connection, invoice_id: str) -> dict[str, int]:
    """Return the first credit line of each lot on the original invoice."""
    line = schema.invoice_line.c
    query = (
        sa.select(line.product_id, sa.func.min(line.position))
        .where(line.invoice_id == invoice_id, line.kind == "credit")
        .group_by(line.product_id)
    )
    return dict(connection.execute(query).all())


# --- credit notes -------------------------------------------------------------------------------------------------


def _request_credit_note(
    connection: sa.Connection, contract: Contract, adjustment: Adjustment, *, at: datetime
) -> None:
    request = schema.credit_note_request
    asked = connection.execute(
        sa.select(sa.func.count()).select_from(request).where(request.c.invoice_id == adjustment.invoice_id)
    ).scalar_one()
    rows = [
        {
            "request_id": f"{adjustment.invoice_id}/{n}",
            "invoice_id": adjustment.invoice_id,
            "position": line.adjusts_position,
            "contract_id": contract.contract_id,
            "product_id": line.product_id,
            "description": line.description,
            "service_start": line.service.start,
            "service_end": line.service.end,
            "unit": line.unit,
            "groups": dict(line.groups),
            "quantity": EXACT.minus(line.quantity),
            "exact": EXACT.minus(line.exact),
            "amount": EXACT.minus(line.amount),
            "currency": contract.currency,
            "requested_at": at,
        }
        for n, line in enumerate(adjustment.lines, start=asked + 1)
    ]
    connection.execute(request.insert(), rows)
    zone = contract.entity_zone
    day = open_day(connection, contract.entity_id, local_date(at, zone))
    post(
        connection,
        [*_credit_transfers(contract, adjustment, f"credit-note-request/{rows[0]['request_id']}", day)],
        source=f"contract/{contract.contract_id}",
    )


def _credit_transfers(contract: Contract, adjustment: Adjustment, key: str, day: date) -> Iterator[Transfer]:
    """Yield what turns the negative unbilled amount into one that is owed to the customer, and what rounding adds."""

    def account(code: AccountCode) -> Account:
        return Account(code, contract.entity_id, contract.currency, contract.contract_id)

    exact = EXACT.minus(total([line.exact for line in adjustment.lines]))
    amount = EXACT.minus(adjustment.total)
    yield Transfer(key, account("unbilled_receivable"), account("customer_credit"), amount, day, "credit_requested")
    rest = EXACT.subtract(exact, amount)
    if rest > 0:
        yield Transfer(f"{key}/rounding", account("unbilled_receivable"), account("rounding"), rest, day, "rounding")
    elif rest < 0:
        rest = EXACT.minus(rest)
        yield Transfer(f"{key}/rounding", account("rounding"), account("unbilled_receivable"), rest, day, "rounding")


# The usage of frozen periods that no invoice holds as it stands.
_LATE = """
from accrued a join contract_period p on p.contract_id = a.contract_id and p.start_at = a.period_start
where a.kind = 'usage' and p.state <> 'open' and a.amount <> coalesce(a.billed_amount, 0)
"""

_UNBILLED = sa.text("select distinct a.period_start" + _LATE + "and a.contract_id = :contract_id")

_TO_ADJUST = sa.text("select distinct a.contract_id" + _LATE + "order by a.contract_id")

_DIFFERENCES = sa.text("""
select product_id, lot_id, sum(amount - coalesce(billed_amount, 0)) as difference,
    lot_id in (select lot_id from lot where contract_id = :contract_id and kind = 'postpaid') as is_postpaid
from accrued
where contract_id = :contract_id and period_start = :period_start and kind = 'usage'
group by product_id, lot_id
having bool_or(amount <> coalesce(billed_amount, 0))
order by product_id, lot_id
""")

# What is drawn from lots stands on lines of the lot; it is compared by what is posted.
_BILLED = sa.text("""
select position, product_id, service_start, service_end, groups, description, unit, exact, amount, quantity,
    kind = 'usage' as counts
from invoice_line where invoice_id = :invoice_id and kind in ('usage', 'discount', 'minimum', 'maximum')
union all
select null, l.product_id, l.service_start, l.service_end, l.groups, l.description, l.unit, l.exact, l.amount,
    l.quantity, true
from invoice_line l join invoice i on i.invoice_id = l.invoice_id
where l.adjusts_invoice_id = :invoice_id and l.product_id not in (select lot_id from lot)
union all
select null, product_id, service_start, service_end, groups, description, unit, -exact, -amount, -quantity, true
from credit_note_request where invoice_id = :invoice_id and product_id not in (select lot_id from lot)
order by position
""")
