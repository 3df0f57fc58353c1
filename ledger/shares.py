"""Shares: what of each product, lot and day is to stand in the books, and the posting of what differs from them.

A row of `accrued` per place holds what is posted; it is never removed, so that its revision makes each transfer's key
unique.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.contracts import Contract, lots_of
from ledger.months import first_open_day, hold_closed_months
from ledger.transfers import WHOLE_DIGITS, Account, AccountCode, Transfer, post
from pricing.calendar import local_date
from pricing.commits import paid_share
from pricing.errors import PricingError
from pricing.money import EXACT, ZERO
from pricing.rated import RatedPeriod
from pricing.terms import Lot

LARGEST = Decimal(10) ** WHOLE_DIGITS
ACCRUED = schema.accrued
AccruedKind = Literal["usage", "fee", "fee_in_arrears", "breakage"]


class Place(NamedTuple):
    """What an accrued amount is for; an empty `lot_id` means that it is not drawn from a lot.

    An empty `product_id` is that of breakage: what a lot had left when it ended.
    """

    period_start: datetime
    product_id: str
    lot_id: str
    day: date


@dataclass(frozen=True, slots=True)
class Share:
    """What belongs to a place. The usage's quantity stands where it is not drawn, so that it counts once.

    Breakage is money: what was paid for the rest of a prepaid lot, or is to be paid for that of a postpaid one.
    """

    kind: AccruedKind
    quantity: Decimal = ZERO
    amount: Decimal = ZERO
    terms_version: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is posted for a place; nothing has been, as revision 0 says, where the place is not among the books."""

    kind: AccruedKind
    quantity: Decimal
    amount: Decimal
    revision: int


NOTHING_STANDS = Standing("usage", ZERO, ZERO, 0)


def standing(connection: sa.Connection, contract_id: str, which: sa.ColumnElement[bool]) -> Mapping[Place, Standing]:
    """Return what is posted for a contract in the rows of `accrued` that a condition names."""
    rows = connection.execute(_STANDING.where(ACCRUED.c.contract_id == contract_id, which))
    return {Place(*row[:4]): Standing(*row[4:]) for row in rows}


def drawn_from_lots(connection: sa.Connection, contract_id: str) -> dict[str, Decimal]:
    """Return what the usage in the books has drawn from each lot; lots that paid nothing may be missing."""
    rows = connection.execute(_DRAWN, {"contract_id": contract_id})
    return dict(rows.all())


def left_of(connection: sa.Connection, contract_id: str, lots: Sequence[Lot]) -> dict[str, Decimal]:
    """Return what the usage in the books leaves of the whole amounts of these lots of a contract."""
    drawn = drawn_from_lots(connection, contract_id) if lots else {}
    return {lot.lot_id: EXACT.subtract(lot.amount, drawn.get(lot.lot_id, ZERO)) for lot in lots}


def shares_of(rated: Sequence[RatedPeriod], zone: str, *, through: date) -> dict[Place, Share]:
    """Return what is to stand in the books for these periods, with fees through a day of the entity."""
    shares: dict[Place, Share] = {}

    def add(place: Place, share: Share) -> None:
        before = shares.get(place, Share(share.kind))
        shares[place] = Share(
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
                place = Place(start, charge.product_id, "", local_date(part.start, zone))
                add(place, Share("usage", part.quantity, part.amount, charge.terms_version))
        for draw in period.draws:
            version = versions[draw.product_id, draw.segment_start, draw.groups]
            place = Place(start, draw.product_id, draw.lot_id, local_date(draw.start, zone))
            add(place, Share("usage", ZERO, draw.amount, version))
            add(place._replace(lot_id=""), Share("usage", ZERO, EXACT.minus(draw.amount), version))
        for fee in period.fees:
            for earned in fee.earned:
                if earned.day <= through:
                    place = Place(start, fee.product_id, "", earned.day)
                    kind: AccruedKind = "fee" if fee.timing == "advance" else "fee_in_arrears"
                    add(place, Share(kind, ZERO, earned.amount, fee.terms_version))
    return shares


# --- posting ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Change:
    place: Place
    share: Share
    difference: Decimal
    revision: int


def post_difference(
    connection: sa.Connection,
    contract: Contract,
    shares: Mapping[Place, Share],
    stands: Mapping[Place, Standing],
) -> int:
    """Post what differs from what `stands` in places that have a share or stand, and return the number of transfers.

    The contract is locked. Raises `PricingError` for figures that the books cannot hold.
    """
    changes = tuple(_changes(contract.contract_id, shares, stands))
    if not changes:
        return 0
    is_drawn = any(change.place.lot_id for change in changes)
    lots = {lot.lot_id: lot for lot in lots_of(connection, contract.contract_id)} if is_drawn else {}
    closed = hold_closed_months(connection, contract.entity_id)
    transfers = [_transfer(contract, change, lots, closed) for change in changes if change.difference]
    if any(lot.paid not in (None, lot.amount) for lot in lots.values()):
        transfers += _discounts(contract, changes, lots, drawn_from_lots(connection, contract.contract_id), closed)
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
    upsert = insert(ACCRUED)
    replaced = {name: upsert.excluded[name] for name in ("kind", "quantity", "amount", "revision")}
    connection.execute(upsert.on_conflict_do_update(index_elements=[*ACCRUED.primary_key.columns], set_=replaced), rows)
    return posted.inserted


def _changes(contract_id: str, shares: Mapping[Place, Share], stands: Mapping[Place, Standing]) -> Iterator[_Change]:
    for place in sorted({*shares, *stands}):
        stood = stands.get(place, NOTHING_STANDS)
        share = shares.get(place) or Share(stood.kind)
        if (share.quantity, share.amount) == (stood.quantity, stood.amount):
            continue
        if EXACT.abs(share.quantity) >= LARGEST or EXACT.abs(share.amount) >= LARGEST:
            raise PricingError(
                f"product {place.product_id} of contract {contract_id} has {share.quantity:f} units for "
                f"{share.amount:f} on {place.day}, more than the books can hold; correct the events or the price"
            )
        yield _Change(place, share, EXACT.subtract(share.amount, stood.amount), stood.revision + 1)


def _transfer(contract: Contract, change: _Change, lots: Mapping[str, Lot], closed: set[date]) -> Transfer:
    """Return the transfer of one difference; a negative one goes in the other direction."""
    place = change.place

    def account(code: AccountCode, *dimensions: tuple[str, str]) -> Account:
        return _account(contract, code, *dimensions)

    product = ("product", place.product_id)
    if change.share.kind == "fee":
        kind, debit, credit = "fee_earned", account("deferred_revenue", product), account("fixed_revenue", product)
    elif change.share.kind == "fee_in_arrears":
        kind, debit, credit = "fee_earned", account("unbilled_receivable"), account("fixed_revenue", product)
    elif change.share.kind == "breakage":
        lot = lots[place.lot_id]
        kind = "true_up" if lot.is_postpaid else "lot_expired"
        debit, credit = account(*account_of_lot(lot)), account("breakage_revenue", ("lot", place.lot_id))
    elif not place.lot_id:
        kind, debit, credit = "usage_accrued", account("unbilled_receivable"), account("usage_revenue", product)
    else:
        debit, credit = account(*account_of_lot(lots[place.lot_id])), account("usage_revenue", product)
        kind = "usage_drawn"
    return _directed(contract, change, change.difference, (debit, credit), kind=kind, closed=closed)


def _discounts(
    contract: Contract,
    changes: Sequence[_Change],
    lots: Mapping[str, Lot],
    drawn: dict[str, Decimal],
    closed: set[date],
) -> Iterator[Transfer]:
    """Yield what draws from lots at a discount take of promotional credit: all that was not paid for them.

    It is rounded cumulatively by lot, in the order of the changes: `drawn` is what stands before them.
    """
    for change in changes:
        lot = lots.get(change.place.lot_id)
        if lot is None or lot.paid is None or change.share.kind != "usage":
            continue
        before = drawn.get(lot.lot_id, ZERO)
        drawn[lot.lot_id] = EXACT.add(before, change.difference)
        paid = EXACT.subtract(paid_share(lot, drawn[lot.lot_id]), paid_share(lot, before))
        given = EXACT.subtract(change.difference, paid)
        if given:
            accounts = (
                _account(contract, "promotional_credit", ("lot", lot.lot_id)),
                _account(contract, *account_of_lot(lot)),
            )
            yield _directed(contract, change, given, accounts, kind="discount_drawn", closed=closed, part="/discount")


def account_of_lot(lot: Lot) -> tuple[AccountCode, tuple[str, str]] | tuple[AccountCode]:
    """Return the code and the dimension of the account that usage drawn from a lot is taken from.

    What instalments pay for is one account of the commit, whatever segment they were billed for.
    """
    if lot.is_postpaid:
        return ("unbilled_receivable",)
    if lot.instalments_of is not None:
        return "deferred_revenue", ("commit", lot.instalments_of)
    return "promotional_credit" if lot.cost_basis == 0 else "deferred_revenue", ("lot", lot.lot_id)


def _account(contract: Contract, code: AccountCode, *dimensions: tuple[str, str]) -> Account:
    return Account(code, contract.entity_id, contract.currency, contract.contract_id, dimensions)


def _directed(
    contract: Contract,
    change: _Change,
    amount: Decimal,
    accounts: tuple[Account, Account],
    *,
    kind: str,
    closed: set[date],
    part: str = "",
) -> Transfer:
    """Return the transfer of an amount from debit to credit, or of a negative one the other way."""
    place = change.place
    debit, credit = accounts if amount > 0 else reversed(accounts)
    return Transfer(
        key=(
            f"accrual/{contract.contract_id}/{place.period_start:%Y-%m-%d}/{place.product_id}/{place.lot_id}/"
            f"{place.day}/{change.revision}{part}"
        ),
        debit=debit,
        credit=credit,
        amount=EXACT.abs(amount),
        effective_on=first_open_day(place.day, closed),
        kind=kind,
        terms_version=change.share.terms_version,
    )


_STANDING = sa.select(
    *(ACCRUED.c[name] for name in (*Place._fields, "kind", "quantity", "amount", "revision")),
)

_DRAWN = sa.text("""
select lot_id, sum(amount) from accrued
where contract_id = :contract_id and lot_id <> '' and kind = 'usage' group by lot_id
""")
