"""Recharges: a prepaid balance that is low is filled up, and what fills it up is granted once it is paid.

A recharge has an invoice of its own, and at most one of a contract is under way. One that cannot be collected pauses
the contract's recharges until a payment of the customer comes in, or the customer pays by another card. Each step is
put out as a fact: `recharge.begun`, `recharge.paid`, `recharge.failed`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.checks import check_aware
from ledger.contracts import Contract, get_contract, lock_both, lock_customer_of, lots_of
from ledger.definitions import RECHARGE_ID, RechargePolicy
from ledger.errors import NotFoundError
from ledger.intake.attribution import mark_contract
from ledger.invoices import draft_recharge, get_invoice
from ledger.outbox import put_out
from ledger.periods import frozen_until
from ledger.shares import left_of
from pricing.calendar import Period, local_date, local_midnight
from pricing.commits import prepaid
from pricing.draws import in_force
from pricing.money import EXACT, ZERO, currency, round_to_currency, total
from pricing.rated import Line
from pricing.recharge import is_low, recharge

RechargeState = Literal["begun", "paid", "failed"]

PRIORITY = 100
A_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Recharge:
    """A recharge of a contract, in the contract's currency: what the balance gains, and what is charged for it.

    While it is `begun` it is pending: nothing is granted yet. What `granted` exceeds `charged` by is a promotional lot
    beside the paid one, `lot_id`.
    """

    contract_id: str
    number: int
    state: RechargeState
    lot_id: str
    invoice_id: str
    granted: Decimal
    charged: Decimal
    begun_at: datetime
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class DueRecharge:
    """The recharge that a contract is to begin: `left` is the balance that is low."""

    number: int
    left: Decimal
    granted: Decimal
    charged: Decimal


def recharge_due(connection: sa.Connection, contract: Contract, *, at: datetime) -> DueRecharge | None:
    """Return the recharge that a contract is to begin at a moment, by what is posted; None: it is to begin none.

    None is due while one is under way or recharges are paused, too soon after the last one, outside the contract's
    term, and where the day's or month's cap leaves no room for a whole one.
    """
    policy = contract.policy.recharge
    has_ended = contract.end_at is not None and contract.end_at <= at
    if policy is None or at < contract.start_at or has_ended:
        return None
    left = balance_left(connection, contract.contract_id, at=at)
    if not is_low(left, policy.below):
        return None
    before = list_recharges(connection, contract.contract_id)
    last = before[-1] if before else None
    if last is not None:
        is_under_way = any(one.state == "begun" for one in before)
        if is_under_way or at < last.begun_at + policy.least_gap or is_paused(connection, contract.contract_id):
            return None
    due = _sized(contract, policy, number=1 if last is None else last.number + 1, left=left)
    return due if _has_room(contract, policy, before, due.charged, at=at) else None


def next_recharge(connection: sa.Connection, contract: Contract, *, at: datetime) -> int | None:
    """Return the number of the recharge to work on after an accrual; None: none.

    That is one that failed and was paid after all, so that what was paid for is granted; else the one that is due.
    """
    if contract.policy.recharge is None:
        return None
    paid_late: int | None = connection.execute(_PAID_LATE, {"contract_id": contract.contract_id}).scalar_one()
    if paid_late is not None:
        return paid_late
    due = recharge_due(connection, contract, at=at)
    return None if due is None else due.number


def begin_recharge(connection: sa.Connection, contract_id: str, number: int, *, at: datetime) -> Recharge | None:
    """Begin a recharge that is due: record it and draft its invoice; the same again returns it as it stands.

    None: it is not due any more. Raises `NotFoundError` for an unknown contract.
    """
    check_aware("at", at)
    contract, _ = lock_both(connection, contract_id)  # the invoice refers to the customer, which is locked first
    known = _find(connection, contract_id, number)
    if known is not None:
        return known
    due, policy = recharge_due(connection, contract, at=at), contract.policy.recharge
    if due is None or policy is None or due.number != number:
        return None
    lot_id = f"{contract_id}.{RECHARGE_ID}{number}"
    invoice = draft_recharge(connection, contract, lot_id, line=_line(contract, policy, due, lot_id, at=at), at=at)
    connection.execute(
        insert(schema.recharge).values(
            contract_id=contract_id,
            number=number,
            state="begun",
            lot_id=lot_id,
            invoice_id=invoice.invoice_id,
            granted=due.granted,
            charged=due.charged,
            begun_at=at,
        )
    )
    return _put_out(connection, contract, number, at=at)


def settle_recharge(connection: sa.Connection, contract_id: str, number: int, *, at: datetime) -> Recharge:
    """Grant a recharge whose invoice is paid, or fail one whose invoice was given up; else leave it as it is.

    The lots begin with the entity's day of `at`, so that they pay what the day used beyond the balance, not in a frozen
    period, and have no end. The same again changes nothing; one that failed is granted when it is paid after all.
    Raises `NotFoundError`.
    """
    check_aware("at", at)
    contract = lock_customer_of(connection, contract_id)
    found = get_recharge(connection, contract_id, number)
    invoice = get_invoice(connection, found.invoice_id)
    is_paid = invoice.state == "paid"
    if found.state == "paid" or not (is_paid or (invoice.state == "uncollectible" and found.state == "begun")):
        return found
    if is_paid:
        today = local_midnight(local_date(at, contract.entity_zone), contract.entity_zone)
        start = max(today, contract.start_at, frozen_until(connection, contract_id) or today)
        _grant(connection, contract, found, start=start)
        _update(connection, found, state="paid", settled_at=at, payments_before=None, payment_method=None)
        mark_contract(connection, contract_id)
    else:
        _update(connection, found, state="failed", settled_at=at, **_standing(connection, contract.customer_id))
    return _put_out(connection, contract, number, at=at)


def is_paused(connection: sa.Connection, contract_id: str) -> bool:
    """Say whether the last recharge failed, and the customer has neither paid anything since nor changed its card."""
    row = connection.execute(_LAST, {"contract_id": contract_id}).one_or_none()
    if row is None or row.state != "failed":
        return False
    return _standing(connection, row.customer_id) == {
        "payments_before": row.payments_before,
        "payment_method": row.payment_method,
    }


def balance_left(connection: sa.Connection, contract_id: str, *, at: datetime) -> Decimal:
    """Return what usage to date has left of the lots, paid or given, that are in force at a moment."""
    left = left_of(connection, contract_id, in_force(prepaid(lots_of(connection, contract_id)), at))
    return total([*left.values()])


def get_recharge(connection: sa.Connection, contract_id: str, number: int) -> Recharge:
    """Return a recharge; raise `NotFoundError`."""
    found = _find(connection, contract_id, number)
    if found is None:
        raise NotFoundError(f"contract {contract_id} has no recharge {number}; list the recharges it has")
    return found


def list_recharges(connection: sa.Connection, contract_id: str) -> tuple[Recharge, ...]:
    """Return the recharges of a contract in the order they began, the pending one among them."""
    return _load(connection, contract_id, sa.true())


# --- sizes --------------------------------------------------------------------------------------------------------


def _sized(contract: Contract, policy: RechargePolicy, *, number: int, left: Decimal) -> DueRecharge:
    unit = currency(contract.currency)
    wanted = policy.amount if policy.to is None else EXACT.subtract(policy.to, left)
    sized = recharge(round_to_currency(wanted or ZERO, unit), policy.discount, unit)
    return DueRecharge(number, left, sized.granted, sized.charged)


def _has_room(
    contract: Contract, policy: RechargePolicy, before: Sequence[Recharge], charge: Decimal, *, at: datetime
) -> bool:
    """Say whether a charge stays within the caps of its day and its month; recharges that failed charged nothing."""
    zone = contract.entity_zone
    today = local_date(at, zone)
    for cap, first_day in ((policy.most_per_day, today), (policy.most_per_month, today.replace(day=1))):
        since = local_midnight(first_day, zone)
        charged = total([one.charged for one in before if one.state != "failed" and one.begun_at >= since])
        if cap is not None and EXACT.add(charged, charge) > cap:
            return False
    return True


def _line(contract: Contract, policy: RechargePolicy, due: DueRecharge, lot_id: str, *, at: datetime) -> Line:
    """Return the line of the paid lot; one at a discount says what is granted for it."""
    granted = "" if due.granted == due.charged else f", {due.granted} {contract.currency} for {due.charged}"
    end = contract.end_at or max(contract.periods(at)[-1].end, at + A_DAY)
    return Line(
        "commit", lot_id, f"{policy.name}{granted}", Period(at, end), Decimal(1), "commit", due.charged, due.charged
    )


# --- rows ---------------------------------------------------------------------------------------------------------


def _grant(connection: sa.Connection, contract: Contract, found: Recharge, *, start: datetime) -> None:
    """Insert the paid lot and, at a discount, a promotional one of what is granted beyond what was paid."""
    policy = contract.policy.recharge
    lot = {
        "contract_id": contract.contract_id,
        "name": policy.name if policy else found.lot_id,
        "start_at": start,
        "products": [],
        "priority": PRIORITY,
    }
    connection.execute(insert(schema.lot).values(**lot, lot_id=found.lot_id, amount=found.charged, cost_basis=1))
    bonus = EXACT.subtract(found.granted, found.charged)
    if bonus:
        connection.execute(
            insert(schema.lot).values(
                **lot,
                lot_id=bonus_of(found.lot_id),
                amount=bonus,
                cost_basis=0,
                kind="promotional",
                granted_by="recharge",
                reason=f"discount of {found.lot_id}",
            )
        )


def _put_out(connection: sa.Connection, contract: Contract, number: int, *, at: datetime) -> Recharge:
    """Put out how a recharge stands from a moment on, and return it."""
    found = get_recharge(connection, contract.contract_id, number)
    put_out(
        connection,
        key=f"recharge/{found.contract_id}/{number}/{found.state}",
        kind=f"recharge.{found.state}",
        contract_id=found.contract_id,
        payload={
            "contract_id": found.contract_id,
            "number": number,
            "state": found.state,
            "invoice_id": found.invoice_id,
            "granted": found.granted,
            "charged": found.charged,
            "currency": contract.currency,
            "at": at,
        },
    )
    return found


def bonus_of(lot_id: str) -> str:
    """Return the id of the promotional lot beside the paid lot of a recharge at a discount."""
    return f"{lot_id}-bonus"


def _standing(connection: sa.Connection, customer_id: str) -> dict[str, object]:
    """Return how many payments a customer has made, and which card it pays by: what a failed recharge waits for."""
    return {**connection.execute(_STANDING, {"customer_id": customer_id}).mappings().one()}


def _update(connection: sa.Connection, found: Recharge, **values: object) -> None:
    one = schema.recharge.c
    connection.execute(
        schema.recharge.update()
        .where(one.contract_id == found.contract_id, one.number == found.number)
        .values(**values)
    )


def _find(connection: sa.Connection, contract_id: str, number: int) -> Recharge | None:
    found = _load(connection, contract_id, schema.recharge.c.number == number)
    return found[0] if found else None


def _load(connection: sa.Connection, contract_id: str, which: sa.ColumnElement[bool]) -> tuple[Recharge, ...]:
    one = schema.recharge.c
    rows = connection.execute(
        sa.select(schema.recharge).where(one.contract_id == contract_id, which).order_by(one.number)
    ).all()
    if not rows:
        return ()
    unit = currency(get_contract(connection, contract_id).currency)
    return tuple(
        Recharge(
            row.contract_id,
            row.number,
            row.state,
            row.lot_id,
            row.invoice_id,
            round_to_currency(row.granted, unit),
            round_to_currency(row.charged, unit),
            row.begun_at,
            row.settled_at,
        )
        for row in rows
    )


_PAID_LATE = sa.text("""
select min(r.number) from recharge r join invoice i on i.invoice_id = r.invoice_id and i.state = 'paid'
where r.contract_id = :contract_id and r.state = 'failed'
""")

_LAST = sa.text("""
select r.state, r.payments_before, r.payment_method, c.customer_id
from recharge r join contract c on c.contract_id = r.contract_id
where r.contract_id = :contract_id order by r.number desc limit 1
""")

_STANDING = sa.text("""
select u.definition ->> 'payment_method' as payment_method, (
    select count(*)::int from payment p join contract c on c.contract_id = p.contract_id
    where c.customer_id = u.customer_id
) as payments_before
from customer u where u.customer_id = :customer_id
""")
