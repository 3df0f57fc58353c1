"""Accrual: a contract's usage to date is rated as a whole, compared with what is posted, and the difference is posted.

So the result depends neither on the order nor on the number or time of arrivals. A row of `accrued` per product, lot
and day holds what is posted; it is never removed, so that its revision makes each transfer's key unique.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.billable import billable_readings, earlier_readings
from ledger.checks import check_aware
from ledger.contracts import Contract, get_contract, lock_contract, lock_customer_of, lots_of, terms_of
from ledger.errors import StateError
from ledger.months import first_open_day, hold_closed_months
from ledger.periods import ContractPeriod, get_period, list_periods, record_frozen, record_periods
from ledger.spend import LotSpend, ProductSpend, Spend, spend
from ledger.transfers import WHOLE_DIGITS, Account, AccountCode, Transfer, post
from pricing.calendar import Period, local_date, period_containing
from pricing.errors import PricingError
from pricing.money import EXACT, ZERO
from pricing.rated import RatedPeriod
from pricing.rating import rate_period, slice_cuts, wants_history
from pricing.terms import Lot

__all__ = [
    "Accrual",
    "LotSpend",
    "ProductSpend",
    "Spend",
    "accrue",
    "freeze_period",
    "lots_left",
    "rate_open_periods",
    "spend",
]

LARGEST = Decimal(10) ** WHOLE_DIGITS


@dataclass(frozen=True, slots=True)
class Accrual:
    """What an accrual did and what comes next. `batches` counts the batches of usage that it brought to the balance.

    `next_boundary` is when a period begins or ends next (None: the contract is over); `ended_periods` are the starts of
    open periods that are over; `finished` says that the contract has ended and every period is invoiced.
    """

    contract_id: str
    transfers_posted: int
    next_boundary: datetime | None
    ended_periods: tuple[datetime, ...]
    finished: bool
    batches: int


def accrue(connection: sa.Connection, contract_id: str, *, as_of: datetime) -> Accrual:
    """Bring a contract's books up to its usage to date, and its fees up to the entity's day of `as_of`.

    Doing it twice posts nothing; an earlier `as_of` than the last one counts as the last one. Raises `PricingError`
    when a period cannot be rated: the caller rolls back and records it by `set_problem`; success clears the problem.
    """
    check_aware("as_of", as_of)
    contract = lock_contract(connection, contract_id)
    as_of = max(as_of, contract.accrued_at or as_of)
    record_periods(connection, contract_id, contract.periods(as_of))
    batches = _take_marks(connection, contract_id)  # before the usage is read: a mark that comes later stays
    recorded = list_periods(connection, contract_id)
    open_periods = [period.period for period in recorded if period.state == "open"]
    rated = _rate(connection, contract, open_periods, as_of=as_of)
    frozen = [period.period.start for period in recorded if period.state != "open"]
    posted = _post_difference(connection, contract, rated, as_of=as_of, only=_ACCRUED.c.period_start.not_in(frozen))
    connection.execute(
        schema.contract.update()
        .where(schema.contract.c.contract_id == contract_id)
        .values(accrued_at=as_of, problem=None)
    )
    return _outcome(contract, recorded, as_of=as_of, posted=posted, batches=batches)


def freeze_period(connection: sa.Connection, contract_id: str, period_start: datetime, *, at: datetime) -> RatedPeriod:
    """Close a period that is over to further usage, accrue it for the last time, and return it as rated.

    Raises `StateError` when it is not over at `at`, is frozen already, or comes after one that is not; `PricingError`
    when it cannot be rated.
    """
    check_aware("at", at)
    contract = lock_customer_of(connection, contract_id)
    record_periods(connection, contract_id, contract.periods(at))
    period = _to_freeze(connection, contract_id, period_start, at)
    [rated] = _rate(connection, contract, [period], as_of=at)
    this = _ACCRUED.c.period_start == period_start
    _post_difference(connection, contract, [rated], as_of=at, only=this)
    record_frozen(connection, contract_id, period_start, cutoff_batch_id=_last_batch(connection), at=at)
    return rated


def rate_open_periods(connection: sa.Connection, contract_id: str, *, as_of: datetime) -> tuple[RatedPeriod, ...]:
    """Return the open periods as rated by the usage to date, without posting: what their invoices would say."""
    contract = get_contract(connection, contract_id)
    recorded = list_periods(connection, contract_id)
    open_periods = [period.period for period in recorded if period.state == "open"]
    return _rate(connection, contract, open_periods, as_of=as_of)


def lots_left(connection: sa.Connection, contract_id: str) -> tuple[Lot, ...]:
    """Return the lots with what the frozen and invoiced periods left of them."""
    frozen = sa.select(schema.contract_period.c.start_at).where(
        schema.contract_period.c.contract_id == contract_id, schema.contract_period.c.state != "open"
    )
    drawn = _drawn(connection, contract_id, _ACCRUED.c.period_start.in_(frozen))
    return tuple(
        replace(lot, amount=EXACT.subtract(lot.amount, drawn.get(lot.lot_id, ZERO)))
        for lot in lots_of(connection, contract_id)
    )


def _drawn(connection: sa.Connection, contract_id: str, which: sa.ColumnElement[bool]) -> Mapping[str, Decimal]:
    rows = connection.execute(
        sa.select(_ACCRUED.c.lot_id, sa.func.sum(_ACCRUED.c.amount))
        .where(_ACCRUED.c.contract_id == contract_id, _ACCRUED.c.lot_id != "", which)
        .group_by(_ACCRUED.c.lot_id)
    )
    return dict(rows.all())


def _outcome(
    contract: Contract, recorded: Sequence[ContractPeriod], *, as_of: datetime, posted: int, batches: int
) -> Accrual:
    if as_of < contract.start_at:
        next_boundary = contract.start_at
    else:
        next_boundary = period_containing(
            contract.start_at, contract.time_zone, as_of, cadence=contract.cadence, anchor=contract.anchor
        ).end
    is_over = contract.end_at is not None and contract.end_at <= as_of
    if contract.end_at is not None and not is_over:
        next_boundary = min(next_boundary, contract.end_at)
    return Accrual(
        contract.contract_id,
        posted,
        None if is_over else next_boundary,
        tuple(p.period.start for p in recorded if p.state == "open" and p.period.end <= as_of),
        is_over and all(p.state == "invoiced" for p in recorded),
        batches,
    )


def _take_marks(connection: sa.Connection, contract_id: str) -> int:
    """Delete the marks that are there, note for their batches that they reached the balance, and count those."""
    return connection.execute(_TAKE_MARKS, {"contract_id": contract_id}).rowcount


def _to_freeze(connection: sa.Connection, contract_id: str, period_start: datetime, at: datetime) -> Period:
    found = get_period(connection, contract_id, period_start)
    name = f"the period of contract {contract_id} from {period_start.isoformat()}"
    if found.state != "open":
        raise StateError(f"{name} is {found.state} already; its invoice holds what it contains")
    if found.period.end > at:
        raise StateError(f"{name} is not over before {found.period.end.isoformat()}; wait until then")
    for earlier in list_periods(connection, contract_id):
        if earlier.state == "open" and earlier.period.start < period_start:
            raise StateError(
                f"{name} comes after the one from {earlier.period.start.isoformat()}, which is open; invoice that first"
            )
    return found.period


def _last_batch(connection: sa.Connection) -> int:
    """Return a number that parts this customer's batches exactly, while the customer is locked.

    Intake draws a batch's number after it locks the batch's customers. So a batch of this customer is either committed,
    and not above the greatest number that can be seen, or it draws its number after this transaction, and then a
    greater one: the sequence only goes up. Batches under way with other customers may lie on either side.
    """
    last: int = connection.execute(
        sa.select(sa.func.coalesce(sa.func.max(schema.usage_batch.c.batch_id), 0))
    ).scalar_one()
    return last


# --- rating -------------------------------------------------------------------------------------------------------


def _rate(
    connection: sa.Connection, contract: Contract, open_periods: Sequence[Period], *, as_of: datetime
) -> tuple[RatedPeriod, ...]:
    """Rate open periods in order of time, each with what the one before left of the lots."""
    terms = terms_of(connection, contract.contract_id)
    lots = lots_left(connection, contract.contract_id)
    zone = _entity_zone(connection, contract)
    goes_back = wants_history(terms)
    rated: list[RatedPeriod] = []
    for period in open_periods:
        cuts = slice_cuts(terms, lots, period, zone, time_zone=contract.time_zone)
        readings = billable_readings(connection, contract, terms, cuts, until=as_of)
        if goes_back:
            readings = (*earlier_readings(connection, contract, terms, period), *readings)
        rated.append(
            rate_period(
                terms,
                readings,
                lots,
                period,
                entity_time_zone=zone,
                time_zone=contract.time_zone,
                contract_start=contract.start_at,
                contract_end=contract.end_at,
                cadence=contract.cadence,
                anchor=contract.anchor,
                is_over=period.end <= as_of,
            )
        )
        left = dict(rated[-1].lots_after)
        lots = tuple(replace(lot, amount=left[lot.lot_id]) for lot in lots)
    return tuple(rated)


def _entity_zone(connection: sa.Connection, contract: Contract) -> str:
    entity = schema.entity
    zone: str = connection.execute(
        sa.select(entity.c.time_zone).where(entity.c.entity_id == contract.entity_id)
    ).scalar_one()
    return zone


AccruedKind = Literal["usage", "fee", "fee_in_arrears"]


class _Place(NamedTuple):
    """What an accrued amount is for; an empty `lot_id` means that it is not drawn from a lot."""

    period_start: datetime
    product_id: str
    lot_id: str
    day: date


@dataclass(frozen=True, slots=True)
class _Share:
    """What belongs to a place. The usage's quantity stands where it is not drawn, so that it counts once."""

    kind: AccruedKind
    quantity: Decimal = ZERO
    amount: Decimal = ZERO
    terms_version: int | None = None


def _shares(rated: Sequence[RatedPeriod], zone: str, *, through: date) -> dict[_Place, _Share]:
    """Return what is to stand in the books for these periods, with fees through a day of the entity."""
    shares: dict[_Place, _Share] = {}

    def add(place: _Place, share: _Share) -> None:
        before = shares.get(place, _Share(share.kind))
        shares[place] = _Share(
            share.kind,
            EXACT.add(before.quantity, share.quantity),
            EXACT.add(before.amount, share.amount),
            max(filter(None, (before.terms_version, share.terms_version)), default=None),
        )

    for period in rated:
        versions = {(c.product_id, c.segment.start, c.groups): c.terms_version for c in period.charges}
        start = period.period.start
        for charge in period.charges:
            for part in charge.slices:
                place = _Place(start, charge.product_id, "", local_date(part.start, zone))
                add(place, _Share("usage", part.quantity, part.amount, charge.terms_version))
        for draw in period.draws:
            version = versions[draw.product_id, draw.segment_start, draw.groups]
            place = _Place(start, draw.product_id, draw.lot_id, local_date(draw.start, zone))
            add(place, _Share("usage", ZERO, draw.amount, version))
            add(place._replace(lot_id=""), _Share("usage", ZERO, EXACT.minus(draw.amount), version))
        for fee in period.fees:
            for earned in fee.earned:
                if earned.day <= through:
                    place = _Place(start, fee.product_id, "", earned.day)
                    kind: AccruedKind = "fee" if fee.timing == "advance" else "fee_in_arrears"
                    add(place, _Share(kind, ZERO, earned.amount, fee.terms_version))
    return shares


# --- posting ------------------------------------------------------------------------------------------------------

_ACCRUED = schema.accrued


@dataclass(frozen=True, slots=True)
class _Change:
    place: _Place
    share: _Share
    difference: Decimal
    revision: int


def _post_difference(
    connection: sa.Connection,
    contract: Contract,
    rated: Sequence[RatedPeriod],
    *,
    as_of: datetime,
    only: sa.ColumnElement[bool],
) -> int:
    """Post what differs from the `only` rows that stand, and return the number of transfers."""
    zone = _entity_zone(connection, contract)
    shares = _shares(rated, zone, through=local_date(as_of, zone))
    changes = tuple(_changes(connection, contract.contract_id, shares, only))
    if not changes:
        return 0
    free_lots = {lot.lot_id for lot in lots_of(connection, contract.contract_id) if lot.cost_basis == 0}
    closed = hold_closed_months(connection, contract.entity_id)
    transfers = [_transfer(contract, change, free_lots, closed) for change in changes if change.difference]
    posted = post(connection, transfers, source=f"contract/{contract.contract_id}")
    rows = [
        {
            "contract_id": contract.contract_id,
            **change.place._asdict(),
            "kind": change.share.kind,
            "quantity": change.share.quantity,
            "amount": change.share.amount,
            "revision": change.revision,
        }
        for change in changes
    ]
    upsert = insert(_ACCRUED)
    replaced = {name: upsert.excluded[name] for name in ("kind", "quantity", "amount", "revision")}
    connection.execute(
        upsert.on_conflict_do_update(index_elements=[*_ACCRUED.primary_key.columns], set_=replaced), rows
    )
    return posted.inserted


def _changes(
    connection: sa.Connection, contract_id: str, shares: Mapping[_Place, _Share], only: sa.ColumnElement[bool]
) -> Iterator[_Change]:
    rows = connection.execute(sa.select(_ACCRUED).where(_ACCRUED.c.contract_id == contract_id, only))
    stored = {_Place(row.period_start, row.product_id, row.lot_id, row.day): row for row in rows}
    for place in sorted({*shares, *stored}):
        row = stored.get(place)
        share = shares.get(place) or _Share("usage" if row is None else row.kind)
        quantity, amount, revision = (ZERO, ZERO, 0) if row is None else (row.quantity, row.amount, row.revision)
        if (share.quantity, share.amount) == (quantity, amount):
            continue
        if EXACT.abs(share.quantity) >= LARGEST or EXACT.abs(share.amount) >= LARGEST:
            raise PricingError(
                f"product {place.product_id} of contract {contract_id} has {share.quantity:f} units for "
                f"{share.amount:f} on {place.day}, more than the books can hold; correct the events or the price"
            )
        yield _Change(place, share, EXACT.subtract(share.amount, amount), revision + 1)


def _transfer(contract: Contract, change: _Change, free_lots: set[str], closed: set[date]) -> Transfer:
    """Return the transfer of one difference; a negative one goes in the other direction."""
    place = change.place

    def account(code: AccountCode, *dimensions: tuple[str, str]) -> Account:
        return Account(code, contract.entity_id, contract.currency, contract.contract_id, dimensions)

    product = ("product", place.product_id)
    if change.share.kind == "fee":
        kind, debit, credit = "fee_earned", account("deferred_revenue", product), account("fixed_revenue", product)
    elif change.share.kind == "fee_in_arrears":
        kind, debit, credit = "fee_earned", account("unbilled_receivable"), account("fixed_revenue", product)
    elif not place.lot_id:
        kind, debit, credit = "usage_accrued", account("unbilled_receivable"), account("usage_revenue", product)
    else:
        code: AccountCode = "promotional_credit" if place.lot_id in free_lots else "deferred_revenue"
        kind, debit, credit = "usage_drawn", account(code, ("lot", place.lot_id)), account("usage_revenue", product)
    if change.difference < 0:
        debit, credit = credit, debit
    return Transfer(
        key=(
            f"accrual/{contract.contract_id}/{place.period_start:%Y-%m-%d}/{place.product_id}/{place.lot_id}/"
            f"{place.day}/{change.revision}"
        ),
        debit=debit,
        credit=credit,
        amount=EXACT.abs(change.difference),
        effective_on=first_open_day(place.day, closed),
        kind=kind,
        terms_version=change.share.terms_version,
    )


_TAKE_MARKS = sa.text("""
with taken as (
    delete from usage_dirty where contract_id = :contract_id returning batch_id, received_at
)
insert into usage_accrual (batch_id, contract_id, received_at, accrued_at)
select batch_id, :contract_id, min(received_at), clock_timestamp() from taken where batch_id > 0 group by batch_id
on conflict (batch_id, contract_id) do nothing
""")
