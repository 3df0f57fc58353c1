"""Credits: what each lot of a contract was granted and became, entry by entry and day by day.

All of it is read from the books: draws are those of the usage that is accrued.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Literal

import sqlalchemy as sa

from ledger.checks import check_aware
from ledger.contracts import Contract, get_contract
from ledger.errors import InvalidError
from ledger.lots import LotChange, LotKind, RecordedLot, recorded_lots
from ledger.shares import drawn_from_lots
from ledger.spend import watermark_of
from pricing.calendar import local_date
from pricing.expiry import Figures, Supply, average_draw, end_of, exhausted_on, figures_of, is_settled
from pricing.money import EXACT, ZERO, total

EntryKind = Literal["granted", "drawn", "expired", "voided"]
LotState = Literal["not begun", "in force", "ended", "expired", "voided"]
ORDER_OF_KINDS: tuple[EntryKind, ...] = ("granted", "drawn", "expired", "voided")
DAYS_OF_FORECAST = 7
MOST_ENTRIES = 1_000

# --- the balance --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LotBalance:
    """What became of a lot: `amount` is `drawn`, `expired`, `voided` and `left` together.

    It pays usage in [start_at, end_at), in the term of the contract. What an `ended` lot has left is expired or voided
    once late usage has had the contract's grace; one that outlives its contract keeps it until it is voided. `changes`
    are how its end was moved, in order.
    """

    lot_id: str
    name: str
    kind: LotKind
    state: LotState
    in_force: bool
    amount: Decimal
    drawn: Decimal
    expired: Decimal
    voided: Decimal
    left: Decimal
    start_at: datetime
    end_at: datetime | None
    products: tuple[str, ...]
    groups: Mapping[str, str]
    priority: int
    granted_by: str | None
    reason: str | None
    changes: tuple[LotChange, ...]


@dataclass(frozen=True, slots=True)
class CreditBalance:
    """The lots of a contract at a moment, in its currency; `available` is what those in force have left.

    The sums are those of lots that were paid or given: a postpaid one is a promise of the customer, not a balance.
    The draws are those of `accrued_at` (None: never accrued), and include all usage that was accepted before
    `watermark`.
    """

    contract_id: str
    currency: str
    at: datetime
    granted: Decimal
    drawn: Decimal
    expired: Decimal
    voided: Decimal
    left: Decimal
    available: Decimal
    lots: tuple[LotBalance, ...]
    accrued_at: datetime | None
    watermark: datetime
    problem: str | None


def credit_balance(connection: sa.Connection, contract_id: str, *, at: datetime) -> CreditBalance:
    """Return what each lot of a contract was granted and became by a moment; raise `NotFoundError`."""
    check_aware("at", at)
    watermark = watermark_of(connection, contract_id)
    contract = get_contract(connection, contract_id)
    drawn = drawn_from_lots(connection, contract_id)
    lots = tuple(_balance(contract, lot, drawn, at) for lot in recorded_lots(connection, contract_id))
    held = [lot for lot in lots if lot.kind != "postpaid"]
    return CreditBalance(
        contract_id=contract_id,
        currency=contract.currency,
        at=at,
        granted=total([lot.amount for lot in held]),
        drawn=total([lot.drawn for lot in held]),
        expired=total([lot.expired for lot in held]),
        voided=total([lot.voided for lot in held]),
        left=total([lot.left for lot in held]),
        available=total([lot.left for lot in held if lot.in_force]),
        lots=lots,
        accrued_at=contract.accrued_at,
        watermark=watermark,
        problem=contract.problem,
    )


def _balance(contract: Contract, lot: RecordedLot, drawn: Mapping[str, Decimal], at: datetime) -> LotBalance:
    end = end_of(lot.end_at, contract.end_at)
    figures = _figures(contract, lot, drawn, at)
    in_force = lot.start_at <= at and (end is None or at < end)
    state: LotState = "in force"
    if is_settled(lot.end_at, contract.policy.invoicing.grace, at):
        state = "voided" if lot.is_voided else "expired"
    elif end is not None and end <= at:
        state = "ended"
    elif not in_force:
        state = "not begun"
    return LotBalance(
        lot_id=lot.lot_id,
        name=lot.name,
        kind=lot.kind,
        state=state,
        in_force=in_force,
        amount=lot.amount,
        drawn=figures.drawn,
        expired=figures.expired,
        voided=figures.voided,
        left=figures.left,
        start_at=lot.start_at,
        end_at=lot.end_at,
        products=lot.products,
        groups=dict(lot.groups),
        priority=lot.priority,
        granted_by=lot.granted_by,
        reason=lot.reason,
        changes=lot.changes,
    )


def _figures(contract: Contract, lot: RecordedLot, drawn: Mapping[str, Decimal], at: datetime) -> Figures:
    is_over = is_settled(lot.end_at, contract.policy.invoicing.grace, at)
    return figures_of(lot.amount, drawn.get(lot.lot_id, ZERO), is_over=is_over, is_voided=lot.is_voided)


# --- the ledger ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreditEntry:
    """A line of a contract's credits: `amount` is added where it is granted, else taken off; `balance` runs.

    A lot is granted on the day that it begins, and expired or voided on the day that it ends; `product_id` is what a
    draw paid. Days are the entity's.
    """

    entry_id: str
    day: date
    kind: EntryKind
    lot_id: str
    name: str
    product_id: str | None
    amount: Decimal
    balance: Decimal


@dataclass(frozen=True, slots=True)
class CreditLedger:
    """Entries in the order of time; `after` is where the next page begins, None on the last one."""

    contract_id: str
    currency: str
    entries: tuple[CreditEntry, ...]
    after: str | None
    watermark: datetime


def credit_ledger(
    connection: sa.Connection, contract_id: str, *, at: datetime, after: str | None = None, limit: int = 100
) -> CreditLedger:
    """Return how a contract's credits came and went by a moment, at most `limit` entries after the one named `after`.

    Raises `NotFoundError` for a contract that does not exist, `InvalidError` for a limit or an entry that cannot be.
    """
    check_aware("at", at)
    if not 1 <= limit <= MOST_ENTRIES:
        raise InvalidError(f"limit {limit} must be from 1 to {MOST_ENTRIES}")
    watermark = watermark_of(connection, contract_id)
    contract = get_contract(connection, contract_id)
    entries = _entries(connection, contract, at)
    if after is not None:
        place = _place_of(after)
        entries = tuple(entry for entry in entries if _place_of(entry.entry_id) > place)
    shown = entries[:limit]
    return CreditLedger(
        contract_id, contract.currency, shown, shown[-1].entry_id if len(entries) > limit else None, watermark
    )


_Place = tuple[str, int, str, str]
"""The order of entries: the day, the kind, the lot and the product."""


def _place_of(entry_id: str) -> _Place:
    day, _, rest = entry_id.partition("/")
    kind, _, rest = rest.partition("/")
    lot_id, _, product_id = rest.partition("/")
    if kind not in ORDER_OF_KINDS or not lot_id:
        raise InvalidError(f"after {entry_id!r} is no entry; give the `after` of the page before")
    return day, ORDER_OF_KINDS.index(kind), lot_id, product_id


def _entries(connection: sa.Connection, contract: Contract, at: datetime) -> tuple[CreditEntry, ...]:
    recorded = recorded_lots(connection, contract.contract_id)
    lots = {lot.lot_id: lot for lot in recorded if lot.kind != "postpaid"}
    moves = sorted(_moves(connection, contract, lots, at), key=lambda move: _place_of(move[0]))
    balance = ZERO
    entries = []
    for entry_id, amount in moves:
        day, kind, lot_id, product_id = _place_of(entry_id)
        balance = EXACT.add(balance, amount)
        entries.append(
            CreditEntry(
                entry_id=entry_id,
                day=date.fromisoformat(day),
                kind=ORDER_OF_KINDS[kind],
                lot_id=lot_id,
                name=lots[lot_id].name,
                product_id=product_id or None,
                amount=EXACT.abs(amount),
                balance=balance,
            )
        )
    return tuple(entries)


def _moves(
    connection: sa.Connection, contract: Contract, lots: Mapping[str, RecordedLot], at: datetime
) -> Iterator[tuple[str, Decimal]]:
    """Yield the id of each entry, and what it adds to the balance."""
    zone = contract.entity_zone
    drawn = drawn_from_lots(connection, contract.contract_id)
    for lot in lots.values():
        if lot.start_at > at and not drawn.get(lot.lot_id):
            continue
        yield f"{local_date(lot.start_at, zone)}/granted/{lot.lot_id}/", lot.amount
        figures = _figures(contract, lot, drawn, at)
        gone: tuple[tuple[EntryKind, Decimal], ...] = (("expired", figures.expired), ("voided", figures.voided))
        for kind, amount in gone:
            if lot.end_at is not None and amount:
                yield f"{local_date(lot.end_at, zone)}/{kind}/{lot.lot_id}/", EXACT.minus(amount)
    for row in connection.execute(_DRAWS, {"contract_id": contract.contract_id, "lots": [*lots]}):
        yield f"{row.day}/drawn/{row.lot_id}/{row.product_id}", EXACT.minus(row.amount)


# --- burning down -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BurnDay:
    """A day of the entity: what was granted, drawn, and expired or voided on it, and the balance at its end."""

    day: date
    granted: Decimal
    drawn: Decimal
    gone: Decimal
    balance: Decimal


@dataclass(frozen=True, slots=True)
class BurnDown:
    """How the credits of a contract go down day by day, up to the day of `at`, in its currency.

    `average` is the mean of what the last full days drew, seven or as many as there were since the first lot began.
    `exhausted_on` is the day on which nothing is left at that pace, with lots that begin later left aside; both are
    None where nothing is drawn. `available` is what lots in force have left.
    """

    contract_id: str
    currency: str
    days: tuple[BurnDay, ...]
    available: Decimal
    average: Decimal | None
    exhausted_on: date | None
    watermark: datetime


def burn_down(connection: sa.Connection, contract_id: str, *, at: datetime) -> BurnDown:
    """Return the balance of a contract's credits by day, and when they are used up; raise `NotFoundError`."""
    balance = credit_balance(connection, contract_id, at=at)
    contract = get_contract(connection, contract_id)
    today = local_date(at, contract.entity_zone)
    days = _days(_entries(connection, contract, at), today)
    average = average_draw([day.drawn for day in days if day.day < today][-DAYS_OF_FORECAST:])
    supplies = [
        Supply(lot.left, None if end is None else local_date(end, contract.entity_zone))
        for lot, end in ((lot, end_of(lot.end_at, contract.end_at)) for lot in balance.lots)
        if lot.in_force and lot.kind != "postpaid"
    ]
    return BurnDown(
        contract_id=contract_id,
        currency=contract.currency,
        days=days,
        available=balance.available,
        average=average,
        exhausted_on=exhausted_on(supplies, average, today),
        watermark=balance.watermark,
    )


def _days(entries: Sequence[CreditEntry], today: date) -> tuple[BurnDay, ...]:
    """Return each day from the first entry on, also those on which nothing happened."""
    by_day = {day: [*own] for day, own in groupby(entries, key=lambda entry: entry.day)}
    found: list[BurnDay] = []
    day, balance = min(by_day, default=today), ZERO
    while by_day and day <= max(today, *by_day):
        own = by_day.get(day, [])
        balance = own[-1].balance if own else balance
        granted, drawn = (_sum(own, kind) for kind in ("granted", "drawn"))
        gone = EXACT.add(_sum(own, "expired"), _sum(own, "voided"))
        found.append(BurnDay(day, granted, drawn, gone, balance))
        day += timedelta(days=1)
    return tuple(found)


def _sum(entries: Sequence[CreditEntry], kind: str) -> Decimal:
    return total([entry.amount for entry in entries if entry.kind == kind])


_DRAWS = sa.text("""
select day, lot_id, product_id, sum(amount) as amount from accrued
where contract_id = :contract_id and lot_id = any(:lots) and kind = 'usage'
group by day, lot_id, product_id having sum(amount) <> 0
""")
