"""Requests about credits: what a person grants, voids or moves above a contract's limit waits for a second person.

A request stays, whatever is decided. What it asks for is checked when it is asked, and does what it says, with the same
checks, when another person approves it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import TypeAdapter

from ledger import schema
from ledger.checks import check_aware, check_text
from ledger.contracts import Contract, get_contract, lock_customer_of, lots_of
from ledger.database import undone
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.lots import RecordedLot, contract_of_lot, grant_credit, move_expiry, recorded_lots, void_lot
from ledger.shares import left_of

RequestKind = Literal["grant", "void", "expiry"]
Decision = Literal["approved", "rejected"]
MOST_REQUESTS = 1_000


@dataclass(frozen=True, slots=True)
class WantedCredit:
    """A promotional credit that a person wants to grant, as `ledger.lots.grant_credit` takes it."""

    credit_id: str
    name: str
    amount: Decimal
    start: datetime
    end: datetime | None = None
    products: tuple[str, ...] = ()
    groups: tuple[tuple[str, str], ...] = ()
    priority: int = 100


@dataclass(frozen=True, slots=True)
class WantedExpiry:
    """Another end of a lot."""

    end: datetime


Content = WantedCredit | WantedExpiry | None


@dataclass(frozen=True, slots=True)
class CreditRequest:
    """Something about a lot that one person asked for and another decides on; `decision` is None while it is open.

    `content` is what is to be granted, or the end that a lot is to have, and None of a void; `amount` is what is to be
    granted, or what the lot had left when it was asked, in the contract's currency.
    """

    request_id: str
    contract_id: str
    lot_id: str
    kind: RequestKind
    content: Content
    amount: Decimal
    reason: str
    requested_by: str
    requested_at: datetime
    decision: Decision | None
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None


_CONTENT: Mapping[str, TypeAdapter[Any]] = {
    "grant": TypeAdapter(WantedCredit),
    "void": TypeAdapter(None),
    "expiry": TypeAdapter(WantedExpiry),
}

# --- asking -------------------------------------------------------------------------------------------------------


def grant_or_ask(
    connection: sa.Connection, contract_id: str, wanted: WantedCredit, *, reason: str, by: str, at: datetime
) -> Literal["granted", "exists"] | CreditRequest:
    """Grant a credit as `grant_credit` does, or return the request for one of more than the contract's limit.

    Raises what `grant_credit` raises, also where it is only asked for, and `ConflictError` for another open request for
    the same credit.
    """
    contract = lock_customer_of(connection, contract_id)
    lot_id = f"{contract_id}.{wanted.credit_id}"
    known = {lot.lot_id for lot in recorded_lots(connection, contract_id)}
    if lot_id in known or not wanted.amount.is_finite() or not _is_above(contract, wanted.amount):
        return _grant(connection, contract_id, wanted, reason=reason, by=by, at=at)
    with undone(connection):
        _grant(connection, contract_id, wanted, reason=reason, by=by, at=at)
    return _ask(connection, contract_id, lot_id, "grant", wanted, amount=wanted.amount, reason=reason, by=by, at=at)


def void_or_ask(
    connection: sa.Connection, lot_id: str, *, reason: str, by: str, at: datetime
) -> datetime | CreditRequest:
    """Void a lot as `void_lot` does, or return the request for one with more left than the contract's limit.

    Raises what `void_lot` raises, also where it is only asked for.
    """
    contract, lot, left = _locked_lot(connection, lot_id)
    if lot.is_voided or not _is_above(contract, left):
        return void_lot(connection, lot_id, reason=reason, by=by, at=at)
    with undone(connection):
        void_lot(connection, lot_id, reason=reason, by=by, at=at)
    return _ask(connection, contract.contract_id, lot_id, "void", None, amount=left, reason=reason, by=by, at=at)


def move_or_ask(
    connection: sa.Connection, lot_id: str, *, end: datetime, reason: str, by: str, at: datetime
) -> CreditRequest | None:
    """Give a lot another end as `move_expiry` does, or return the request for one with more left than the limit.

    Raises what `move_expiry` raises, also where it is only asked for, and `ConflictError` for an open request for
    another end of the lot.
    """
    contract, lot, left = _locked_lot(connection, lot_id)
    if lot.end_at == end or not _is_above(contract, left):
        move_expiry(connection, lot_id, end=end, reason=reason, by=by, at=at)
        return None
    with undone(connection):
        move_expiry(connection, lot_id, end=end, reason=reason, by=by, at=at)
    own = contract.contract_id
    return _ask(connection, own, lot_id, "expiry", WantedExpiry(end), amount=left, reason=reason, by=by, at=at)


# --- deciding -----------------------------------------------------------------------------------------------------


def approve_request(connection: sa.Connection, request_id: str, *, reason: str, by: str, at: datetime) -> CreditRequest:
    """Do what a request asks for, in the name of who asked, and return it; an approved one again is harmless.

    Raises `NotFoundError`, `StateError` for a rejected request and for the person who asked, and whatever doing it
    raises: then it stays open.
    """
    request = _to_decide(connection, request_id, "approved", reason=reason, by=by, at=at)
    if request.decision is not None:
        return request
    asked: dict[str, Any] = {"reason": request.reason, "by": request.requested_by, "at": at}
    match request.content:
        case WantedCredit() as wanted:
            _grant(connection, request.contract_id, wanted, **asked)
        case WantedExpiry(end=end):
            move_expiry(connection, request.lot_id, end=end, **asked)
        case None:
            void_lot(connection, request.lot_id, **asked)
    return _decide(connection, request, "approved", reason=reason, by=by, at=at)


def reject_request(connection: sa.Connection, request_id: str, *, reason: str, by: str, at: datetime) -> CreditRequest:
    """Decide that what a request asks for is not done, and return it; a rejected one again is harmless.

    Raises `NotFoundError`, and `StateError` for an approved request and for the person who asked.
    """
    request = _to_decide(connection, request_id, "rejected", reason=reason, by=by, at=at)
    if request.decision is not None:
        return request
    return _decide(connection, request, "rejected", reason=reason, by=by, at=at)


# --- reading ------------------------------------------------------------------------------------------------------


def get_request(connection: sa.Connection, request_id: str) -> CreditRequest:
    """Return a request; raise `NotFoundError`."""
    found = _requests(connection, _REQUEST.c.request_id == request_id)
    if not found:
        raise NotFoundError(f"request {request_id} does not exist; `meterbook credit requests` lists those there are")
    return found[0]


def list_requests(
    connection: sa.Connection, *, contract_id: str | None = None, only_open: bool = False, limit: int = MOST_REQUESTS
) -> tuple[CreditRequest, ...]:
    """Return requests, the latest first, of one contract or of all; raise `NotFoundError` for an unknown contract."""
    if not 1 <= limit <= MOST_REQUESTS:
        raise InvalidError(f"limit {limit} must be from 1 to {MOST_REQUESTS}")
    which: list[sa.ColumnElement[bool]] = []
    if contract_id is not None:
        which.append(_REQUEST.c.contract_id == get_contract(connection, contract_id).contract_id)
    if only_open:
        which.append(_REQUEST.c.decision.is_(None))
    return tuple(_requests(connection, *which, limit=limit))


# --- the parts ----------------------------------------------------------------------------------------------------

_REQUEST = schema.credit_request


def _is_above(contract: Contract, amount: Decimal) -> bool:
    limit = contract.policy.credit_approval_above
    return limit is not None and amount > limit


def _grant(
    connection: sa.Connection, contract_id: str, wanted: WantedCredit, *, reason: str, by: str, at: datetime
) -> Literal["granted", "exists"]:
    return grant_credit(
        connection,
        contract_id,
        wanted.credit_id,
        name=wanted.name,
        amount=wanted.amount,
        start=wanted.start,
        end=wanted.end,
        products=wanted.products,
        groups=wanted.groups,
        priority=wanted.priority,
        reason=reason,
        by=by,
        at=at,
    )


def _locked_lot(connection: sa.Connection, lot_id: str) -> tuple[Contract, RecordedLot, Decimal]:
    """Lock a lot's contract, and return it with the lot and what that has left; raise `NotFoundError`."""
    contract = lock_customer_of(connection, contract_of_lot(connection, lot_id))
    [recorded] = [lot for lot in recorded_lots(connection, contract.contract_id) if lot.lot_id == lot_id]
    lots = [lot for lot in lots_of(connection, contract.contract_id) if lot.lot_id == lot_id]
    return contract, recorded, left_of(connection, contract.contract_id, lots)[lot_id]


def _ask(
    connection: sa.Connection,
    contract_id: str,
    lot_id: str,
    kind: RequestKind,
    content: Content,
    *,
    amount: Decimal,
    reason: str,
    by: str,
    at: datetime,
) -> CreditRequest:
    """Record a request, unless the same one is open; the contract is locked, and what is asked is checked."""
    own = _requests(connection, _REQUEST.c.lot_id == lot_id, _REQUEST.c.kind == kind)
    for known in own:
        if known.decision is None and (known.content, known.reason) == (content, reason):
            return known
        if known.decision is None:
            raise ConflictError(
                f"request {known.request_id} waits for a decision, and asks for something else; decide on it first, "
                f"by `meterbook credit approve|reject {known.request_id}`"
            )
    request_id = f"{lot_id}:{kind}-{len(own) + 1}"
    connection.execute(
        _REQUEST.insert().values(
            request_id=request_id,
            contract_id=contract_id,
            lot_id=lot_id,
            kind=kind,
            content=_CONTENT[kind].dump_python(content, mode="json"),
            amount=amount,
            reason=reason,
            requested_by=by,
            requested_at=at,
        )
    )
    return get_request(connection, request_id)


def _to_decide(
    connection: sa.Connection, request_id: str, decision: Decision, *, reason: str, by: str, at: datetime
) -> CreditRequest:
    """Lock a request's contract and return it, to be decided by a person, or decided so already."""
    check_text("reason", reason)
    check_text("by", by)
    check_aware("at", at)
    lock_customer_of(connection, get_request(connection, request_id).contract_id)
    request = get_request(connection, request_id)
    if request.decision not in (None, decision):
        raise StateError(
            f"request {request_id} was {request.decision} by {request.decided_by}; where that was wrong, ask again"
        )
    if request.decision is None and by.strip().casefold() == request.requested_by.strip().casefold():
        raise StateError(f"request {request_id} was asked for by {by}; another person must decide on it")
    return request


def _decide(
    connection: sa.Connection, request: CreditRequest, decision: Decision, *, reason: str, by: str, at: datetime
) -> CreditRequest:
    connection.execute(
        _REQUEST.update()
        .where(_REQUEST.c.request_id == request.request_id, _REQUEST.c.decision.is_(None))
        .values(decision=decision, decided_by=by, decided_at=at, decision_reason=reason)
    )
    return get_request(connection, request.request_id)


def _requests(
    connection: sa.Connection, *which: sa.ColumnElement[bool], limit: int | None = None
) -> Sequence[CreditRequest]:
    columns = [_REQUEST.c[name] for name in CreditRequest.__slots__]
    query = sa.select(*columns).where(*which).order_by(_REQUEST.c.requested_at.desc(), _REQUEST.c.request_id.desc())
    return [
        CreditRequest(**{**row._mapping, "content": _CONTENT[row.kind].validate_python(row.content)})  # noqa: SLF001 - public in all but name
        for row in connection.execute(query.limit(limit))
    ]
