"""Lots by hand: credits are granted, lots voided and moved, and what ended lots have left becomes breakage.

A change is a row of its own, and the last one decides how long a lot serves. All else follows by drawing again: usage
of open periods, what came late for invoiced ones, and breakage, which late usage or a later end takes back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

import sqlalchemy as sa

from ledger import schema
from ledger.checks import check_aware, check_slug, check_text
from ledger.contract_checks import grid_problems
from ledger.contracts import Contract, get_contract, lock_both, lots_of, refuse, terms_of, voided_lots
from ledger.definitions import RECHARGE_ID
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.gates import project_gates
from ledger.intake.attribution import mark_contract
from ledger.periods import frozen_until, list_periods
from ledger.shares import ACCRUED, LARGEST, Place, Share, drawn_from_lots, post_difference, standing
from pricing.calendar import local_date
from pricing.checks import named_products, unsplit_problem
from pricing.commits import paid_share, prepaid, shortfalls
from pricing.expiry import end_of, is_settled, next_boundary
from pricing.money import EXACT, ZERO, to_ledger_scale
from pricing.product_checks import is_fee
from pricing.segments import terms_in_force
from pricing.terms import Lot, Terms

FIRST_YEAR, LAST_YEAR = 2000, 2999
HIGHEST_PRIORITY = 1_000_000

LotKind = Literal["commit", "postpaid", "promotional"]
ChangeKind = Literal["void", "expiry"]


@dataclass(frozen=True, slots=True)
class LotChange:
    """How the end of a lot was changed: `end_at` is the one from then on."""

    kind: ChangeKind
    end_at: datetime
    reason: str
    changed_by: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class RecordedLot:
    """A lot as it is recorded: `granted_end` is the end that it was granted with, `changes` what came since, in order.

    `granted_by` and `reason` are those of a promotional lot; a commit, postpaid or not, has those of its contract.
    """

    lot_id: str
    contract_id: str
    name: str
    kind: LotKind
    amount: Decimal
    start_at: datetime
    granted_end: datetime | None
    products: tuple[str, ...]
    groups: tuple[tuple[str, str], ...]
    priority: int
    cost_basis: Decimal
    granted_by: str | None
    reason: str | None
    changes: tuple[LotChange, ...]

    @property
    def end_at(self) -> datetime | None:
        """When it stops to serve usage; None: it has no end."""
        return self.changes[-1].end_at if self.changes else self.granted_end

    @property
    def is_voided(self) -> bool:
        """Whether its end is that of a void."""
        return bool(self.changes) and self.changes[-1].kind == "void"


def recorded_lots(connection: sa.Connection, contract_id: str) -> tuple[RecordedLot, ...]:
    """Return the lots of a contract by id with all changes; none for a contract that does not exist."""
    return _lots(connection, _LOT.c.contract_id == contract_id)


def contract_of_lot(connection: sa.Connection, lot_id: str) -> str:
    """Return the contract of a lot; raise `NotFoundError`."""
    return _lot(connection, lot_id).contract_id


# --- granting -----------------------------------------------------------------------------------------------------


def grant_credit(
    connection: sa.Connection,
    contract_id: str,
    credit_id: str,
    *,
    name: str,
    amount: Decimal,
    start: datetime,
    end: datetime | None,
    products: Sequence[str] = (),
    groups: Sequence[tuple[str, str]] = (),
    priority: int = 100,
    reason: str,
    by: str,
    at: datetime,
) -> Literal["granted", "exists"]:
    """Grant a promotional credit as the lot CONTRACT.CREDIT, which pays usage in [start, end) and costs nothing.

    `amount` is in the contract's currency; an `end` of None lets it serve until the contract ends. `products` limits it
    to these product ids or tags, empty serves all usage, and `groups` to usage with all these group values. The same
    credit again is harmless; another one under its id is a `ConflictError`. Raises `InvalidError` with everything that
    is wrong, `StateError` for a start that is invoiced.
    """
    check_slug("credit", credit_id)
    if credit_id.startswith(RECHARGE_ID):
        raise InvalidError(f"credit {credit_id!r} must not begin with {RECHARGE_ID}, as the lots of recharges do")
    for field, text in (("name", name), ("reason", reason), ("by", by)):
        check_text(field, text)
    check_aware("at", at)
    for field, moment in (("start", start), *((("end", end),) if end is not None else ())):
        _check_moment(field, moment)
    contract, bucket_minutes = lock_both(connection, contract_id)
    for agreed in contract.policy.credits:
        if credit_id.startswith(f"{agreed.grant_id}."):
            raise InvalidError(f"credit {credit_id!r} must not begin as the lots of credit {agreed.grant_id} do")
    wanted = RecordedLot(
        f"{contract_id}.{credit_id}", contract_id, name, "promotional", amount, start, end,
        tuple(products), tuple(sorted(groups)), priority, ZERO, by, reason, (),
    )  # fmt: skip
    if _is_recorded(connection, wanted):
        return "exists"
    what = f"credit {credit_id} of contract {contract_id} cannot be granted"
    problems = [
        *_amount_problems(amount),
        *_priority_problems(priority),
        *_window_problems(contract, start, end),
        *grid_problems({"start": start, "end": end}, bucket_minutes),
    ]
    refuse(what, problems or _scope_problems(terms_of(connection, contract_id), wanted))
    _refuse_frozen(connection, contract_id, "the credit would start", start)
    connection.execute(
        _LOT.insert().values(
            lot_id=wanted.lot_id,
            contract_id=contract_id,
            name=name,
            amount=amount,
            start_at=start,
            end_at=end,
            products=[*products],
            groups=dict(groups),
            priority=priority,
            cost_basis=ZERO,
            kind="promotional",
            granted_by=by,
            reason=reason,
            created_at=at,
        )
    )
    mark_contract(connection, contract_id)
    project_gates(connection, contract, as_of=at)
    return "granted"


def _is_recorded(connection: sa.Connection, wanted: RecordedLot) -> bool:
    found = _lots(connection, _LOT.c.lot_id == wanted.lot_id)
    if not found:
        return False
    compared = (
        "contract_id",
        "kind",
        "name",
        "amount",
        "start_at",
        "granted_end",
        "products",
        "groups",
        "priority",
        "reason",
    )
    differing = [field for field in compared if getattr(found[0], field) != getattr(wanted, field)]
    if differing:
        raise ConflictError(
            f"lot {wanted.lot_id} exists with other content; these differ: {', '.join(differing)}; choose another id"
        )
    return True


def _amount_problems(amount: Decimal) -> Iterator[str]:
    if not amount.is_finite() or amount <= 0 or amount >= LARGEST:
        yield f"amount {amount} must be a number above zero, with at most 26 digits before the point"
    elif to_ledger_scale(amount) != amount:
        yield f"amount {amount:f} must have at most twelve decimals"


def _priority_problems(priority: int) -> Iterator[str]:
    if not 0 <= priority <= HIGHEST_PRIORITY:
        yield f"priority {priority} must be from 0, which burns first, to {HIGHEST_PRIORITY}"


def _window_problems(contract: Contract, start: datetime, end: datetime | None) -> Iterator[str]:
    if end is not None and end <= start:
        yield f"end {end.isoformat()} must come after the start {start.isoformat()}"
    if start < contract.start_at:
        yield f"start {start.isoformat()} must not be before the contract's start {contract.start_at.isoformat()}"
    if contract.end_at is not None and start >= contract.end_at:
        yield f"start {start.isoformat()} must be before the contract's end {contract.end_at.isoformat()}"
    yield from _late_end_problems(contract, end)


def _late_end_problems(contract: Contract, end: datetime | None) -> Iterator[str]:
    if contract.end_at is not None and end is not None and end > contract.end_at:
        yield f"end {end.isoformat()} must not be after the contract's end {contract.end_at.isoformat()}"


def _scope_problems(versions: Sequence[Terms], wanted: RecordedLot) -> Iterator[str]:
    """Refuse a scope that pays nothing: no usage product of the terms in force while the credit serves."""
    start, end, products, groups = wanted.start_at, wanted.granted_end, wanted.products, wanted.groups
    later = [terms.effective_from for terms in versions if start < terms.effective_from]
    moments = [start, *(moment for moment in later if end is None or moment < end)]
    in_force = [terms for terms in (terms_in_force(versions, moment) for moment in moments) if terms is not None]
    sold = [price for terms in in_force for price in terms.prices]
    usage = sorted({price.product_id for price in sold if not is_fee(price.price)})
    if not usage:
        yield "the contract prices no usage in that time, so there is nothing to pay"
        return
    for name in products:
        found = named_products(name, sold)
        if all(is_fee(price.price) for price in found):
            word = "is a fee, which credits do not pay" if found else "is no product of the contract then"
            yield f"product {name} {word}; name some of {', '.join(usage)}, or none for all of them"
    if len(set(products)) < len(products):
        yield f"products {', '.join(products)} are named twice; name each once"
    if len(dict(groups)) < len(groups):
        yield f"groups {', '.join(key for key, _ in groups)} are named twice; give each key one value"
    unsplit = unsplit_problem(products, groups, sold)
    if unsplit is not None:
        yield f"groups {unsplit}"


# --- changing -----------------------------------------------------------------------------------------------------


def void_lot(connection: sa.Connection, lot_id: str, *, reason: str, by: str, at: datetime) -> datetime:
    """End a lot at the next boundary of a usage bucket from `at` on, and return that end; what is left is voided.

    What was drawn before it stays drawn; what a postpaid commit has left is forgiven. One of these or a credit that has
    not begun ends at its start. Voiding it again is harmless.
    Raises `NotFoundError`, and `StateError` for a lot that has ended, a commit that has not begun, and a moment that is
    invoiced.
    """
    _check_change(reason, by, at)
    contract, bucket_minutes, lot = _locked(connection, lot_id)
    if lot.is_voided and lot.end_at is not None:
        return lot.end_at
    end = max(next_boundary(at, bucket_minutes), lot.start_at)
    over = end_of(lot.end_at, contract.end_at) if lot.kind == "postpaid" else lot.end_at
    if over is not None and over <= end:
        raise StateError(f"lot {lot_id} ends at {over.isoformat()} by itself; there is nothing to void after it")
    if lot.kind == "commit" and end <= lot.start_at:
        raise StateError(f"lot {lot_id} is a commit that begins at {lot.start_at.isoformat()}; void it after that")
    _refuse_frozen(connection, contract.contract_id, f"lot {lot_id} would end", end)
    _change(connection, lot, LotChange("void", end, reason, by, at))
    return end


def move_expiry(connection: sa.Connection, lot_id: str, *, end: datetime, reason: str, by: str, at: datetime) -> None:
    """Give a lot another end, later or earlier, but in the future; the end that it has is harmless.

    A lot that has ended serves again: usage of open periods draws from it, and its breakage is taken back. Invoiced
    periods stay as they were billed. Raises `NotFoundError`, `InvalidError` for an end that cannot be, `StateError`
    for a voided lot and an end that is invoiced.
    """
    _check_change(reason, by, at)
    _check_moment("end", end)
    contract, bucket_minutes, lot = _locked(connection, lot_id)
    if lot.is_voided:
        raise StateError(f"lot {lot_id} is voided; grant another credit instead of moving its end")
    if lot.end_at == end:
        return
    problems = [*grid_problems({"end": end}, bucket_minutes), *_late_end_problems(contract, end)]
    if end <= lot.start_at:
        problems.append(f"end {end.isoformat()} must come after the lot's start {lot.start_at.isoformat()}")
    first = next_boundary(at, bucket_minutes)
    if end < first:
        problems.append(f"end {end.isoformat()} is in the past; choose {first.isoformat()} or later")
    refuse(f"the end of lot {lot_id} cannot be moved", problems)
    _refuse_frozen(connection, contract.contract_id, f"lot {lot_id} would end", end)
    _change(connection, lot, LotChange("expiry", end, reason, by, at))


def _check_moment(field: str, moment: datetime) -> None:
    """Refuse a moment without a zone, and one so far away that it has no day in some zone."""
    check_aware(field, moment)
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise InvalidError(f"{field} {moment.isoformat()} must lie in the years {FIRST_YEAR} to {LAST_YEAR}")


def _check_change(reason: str, by: str, at: datetime) -> None:
    check_text("reason", reason)
    check_text("by", by)
    check_aware("at", at)


def _locked(connection: sa.Connection, lot_id: str) -> tuple[Contract, int, RecordedLot]:
    """Lock a lot's contract and read the lot; raise `NotFoundError`."""
    lot = _lot(connection, lot_id)
    contract, bucket_minutes = lock_both(connection, lot.contract_id)
    return contract, bucket_minutes, _lot(connection, lot_id)  # again, as somebody may have changed it meanwhile


def _lot(connection: sa.Connection, lot_id: str) -> RecordedLot:
    found = _lots(connection, _LOT.c.lot_id == lot_id)
    if not found:
        raise NotFoundError(f"lot {lot_id} does not exist; `meterbook credit balance CONTRACT` lists those there are")
    return found[0]


def _refuse_frozen(connection: sa.Connection, contract_id: str, what: str, moment: datetime) -> None:
    frozen = frozen_until(connection, contract_id)
    if frozen is not None and moment < frozen:
        raise StateError(
            f"contract {contract_id} is invoiced until {frozen.isoformat()}, and {what} at {moment.isoformat()}; "
            "choose that moment or a later one"
        )


def _change(connection: sa.Connection, lot: RecordedLot, change: LotChange) -> None:
    connection.execute(
        schema.lot_change.insert().values(
            lot_id=lot.lot_id,
            kind=change.kind,
            end_at=change.end_at,
            reason=change.reason,
            changed_by=change.changed_by,
            changed_at=change.changed_at,
            frozen_until=frozen_until(connection, lot.contract_id),
        )
    )
    mark_contract(connection, lot.contract_id)
    project_gates(connection, get_contract(connection, lot.contract_id), as_of=change.changed_at)


# --- breakage -----------------------------------------------------------------------------------------------------


def post_expired(connection: sa.Connection, contract: Contract, lots: Sequence[Lot], *, as_of: datetime) -> int:
    """Bring breakage up to what ended paid lots have left, and return the number of transfers.

    A lot is settled once the contract's grace for late usage has passed since its end. A prepaid one that outlives its
    contract stays owed until a person voids it; what a postpaid one has left is owed by the customer once it or its
    contract has ended. The contract is locked, and its usage is in the books.
    """
    paid = [lot for lot in lots if lot.cost_basis]
    if not paid:
        return 0
    recorded = list_periods(connection, contract.contract_id)
    starts = [one.period.start for one in recorded]
    frozen = max((one.period.end for one in recorded if one.state != "open"), default=None)
    shares: dict[Place, Share] = {}
    for lot, end, rest in _rests(connection, contract, paid, as_of=as_of, frozen=frozen):
        begun = max((start for start in starts if start <= end), default=contract.start_at)
        shares[Place(begun, "", lot.lot_id, local_date(end, contract.entity_zone))] = Share("breakage", ZERO, rest)
    stands = standing(connection, contract.contract_id, ACCRUED.c.kind == "breakage")
    return post_difference(connection, contract, shares, stands)


def post_true_ups(connection: sa.Connection, contract: Contract, *, as_of: datetime) -> int:
    """Bring the true-ups of a contract that has postpaid commits up to a period that has just been frozen."""
    lots = lots_of(connection, contract.contract_id)
    return post_expired(connection, contract, lots, as_of=as_of) if any(lot.is_postpaid for lot in lots) else 0


def _rests(
    connection: sa.Connection, contract: Contract, paid: Sequence[Lot], *, as_of: datetime, frozen: datetime | None
) -> Iterator[tuple[Lot, datetime, Decimal]]:
    """Yield the lots that are settled, when they ended, and the money of what they have left.

    A postpaid one is settled by the invoice of its last period as well: that bills its true-up.
    """
    drawn = drawn_from_lots(connection, contract.contract_id)
    grace = contract.policy.invoicing.grace
    for lot in prepaid(paid):
        if lot.end is not None and is_settled(lot.end, grace, as_of):
            used = drawn.get(lot.lot_id, ZERO)
            yield lot, lot.end, EXACT.subtract(paid_share(lot, lot.amount), paid_share(lot, used))
    if all(not lot.is_postpaid for lot in paid):
        return
    missing = shortfalls(paid, drawn, voided_lots(connection, contract.contract_id), term_end=contract.end_at)
    for lot in paid:
        if lot.lot_id in missing:
            end, rest = missing[lot.lot_id]
            if is_settled(end, grace, as_of) or (frozen is not None and end <= frozen):
                yield lot, end, rest


# --- rows ---------------------------------------------------------------------------------------------------------

_LOT = schema.lot


def _lots(connection: sa.Connection, which: sa.ColumnElement[bool]) -> tuple[RecordedLot, ...]:
    rows = connection.execute(sa.select(_LOT).where(which).order_by(_LOT.c.lot_id)).all()
    change = schema.lot_change.c
    changed = connection.execute(
        sa.select(schema.lot_change).where(change.lot_id.in_([row.lot_id for row in rows])).order_by(change.change_id)
    ).all()
    return tuple(
        RecordedLot(
            lot_id=row.lot_id,
            contract_id=row.contract_id,
            name=row.name,
            kind=row.kind,
            amount=row.amount,
            start_at=row.start_at,
            granted_end=row.end_at,
            products=tuple(row.products),
            groups=tuple(sorted(row.groups.items())),
            priority=row.priority,
            cost_basis=row.cost_basis,
            granted_by=row.granted_by,
            reason=row.reason,
            changes=tuple(
                LotChange(one.kind, one.end_at, one.reason, one.changed_by, one.changed_at)
                for one in changed
                if one.lot_id == row.lot_id
            ),
        )
        for row in rows
    )
