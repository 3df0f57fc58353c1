"""Holds: money or units reserved before work is done, captured with its usage, released, or expired by themselves.

What is captured stays held until the accrual that brings its usage to the books, so that it counts at every moment.
Locks are taken as `ledger.gates` says; a capture locks its customer first, because intake does.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import sqlalchemy as sa

from ledger import schema
from ledger.checks import check_aware
from ledger.contracts import get_contract, lots_of, terms_of
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.gate_figures import check_figure, held_against, held_of, paying
from ledger.gates import (
    Gate,
    GateAnswer,
    GateRequest,
    Reason,
    amount_of,
    answer_of,
    fresh_gate,
    granted_of,
    lock_gates,
    project_gates,
    settle_holds,
)
from ledger.hold_usage import EventUsage, usage_of
from ledger.intake.events import ParsedBatch, UsageEvent, key_hash, payload_hash
from ledger.intake.store import take_in
from pricing.draws import has_tags
from pricing.money import EXACT, WIDE, ZERO

HoldState = Literal["held", "captured", "released", "expired", "accrued"]
Excess = Literal["refuse", "take"]
"""What becomes of usage above what is held: the capture is refused, or the rest is taken as usage."""
EXPIRED_AT_ONCE = 100
"""Of so many contracts expired holds are marked in one transaction."""
HOLD_ID = "[A-Za-z0-9][A-Za-z0-9._:-]{0,127}"
"""What an id must look like: it stands in addresses."""


@dataclass(frozen=True, slots=True)
class Hold:
    """What is held for a feature until `expires_at`; `units` is 0 where it was asked for as money.

    `accrued` is a captured one whose usage is in the books. `used_units` and `used_amount` are what the usage is taken
    for until then, `source` and `key` name its event.
    """

    hold_id: str
    customer_id: str
    feature_id: str
    contract_id: str
    units: Decimal
    amount: Decimal
    state: HoldState
    created_at: datetime
    expires_at: datetime
    settled_at: datetime | None
    used_units: Decimal | None
    used_amount: Decimal | None
    source: str | None
    key: str | None


@dataclass(frozen=True, slots=True)
class Capture:
    """A captured hold, and what became of its event; `contracts` have something new to accrue."""

    hold: Hold
    outcome: Literal["accepted", "duplicate"]
    contracts: tuple[str, ...]


_REMEDIES: dict[Reason | None, str] = {
    "no_feature": "grant it to a contract of the customer first",
    "no_contract": "start a contract that is in force, and grant it the feature",
    "stopped": "have a person look at the alert that holds its gates, and release it",
    "problem": "see why rating of its contract stopped, and correct that",
    "cap_reached": "hold less, wait for the next span, or replace the cap",
}


class InsufficientError(StateError):
    """The gate denies a hold; `answer` says why and what is left."""

    def __init__(self, answer: GateAnswer) -> None:
        left = {"amount": answer.left_amount, "units": answer.left_units}
        told = ", ".join(f"{name} {value.normalize(WIDE):f}" for name, value in left.items() if value is not None)
        reason = answer.reason if answer.rule_id is None else f"{answer.reason} by rule {answer.rule_id}"
        super().__init__(
            f"feature {answer.feature_id} of customer {answer.customer_id} cannot be held: {reason}, left "
            f"{told or 'nothing'}; {_REMEDIES.get(answer.reason, 'hold less, or top up')}"
        )
        self.answer = answer


# --- holding ------------------------------------------------------------------------------------------------------


def hold(
    connection: sa.Connection,
    hold_id: str,
    customer_id: str,
    feature_id: str,
    *,
    units: Decimal | None = None,
    amount: Decimal | None = None,
    expires_at: datetime,
    at: datetime,
) -> Hold:
    """Reserve units or an amount (exactly one is given) of what is left, until it is captured, released or expires.

    The same again is harmless and returns the hold as it is. Raises `InsufficientError` where less is left, or no gate
    is open; `InvalidError` for a feature that cannot be held so, `ConflictError` when the id has other content.
    """
    _check(hold_id, units, amount, expires_at, at)
    asked = GateRequest(customer_id, feature_id, units, amount)
    gates = lock_gates(connection, customer_id)
    known = _find(connection, hold_id)
    if known is not None:
        return _same(known, asked, expires_at)
    if expires_at <= at:
        raise InvalidError(f"expires_at {expires_at.isoformat()} must come after now, {at.isoformat()}")
    gate = fresh_gate(connection, customer_id, feature_id, gates.get(feature_id), at=at)
    if gate is not gates.get(feature_id):
        gates = lock_gates(connection, customer_id)
    request = _wanted(asked, gate) if isinstance(gate, Gate) else asked
    answer = answer_of(request, gate, at=at)
    if not isinstance(gate, Gate) or not answer.allowed:
        raise InsufficientError(answer)
    row = {
        "hold_id": hold_id,
        "customer_id": customer_id,
        "feature_id": feature_id,
        "contract_id": gate.contract_id,
        "units": request.units or ZERO,
        "amount": request.amount or ZERO,
        "created_at": at,
        "expires_at": expires_at,
    }
    made = connection.execute(_INSERT, row).one_or_none()
    if made is None:  # another customer's, made at the same time
        return _same(get_hold(connection, hold_id), asked, expires_at)
    held = Hold(*made)
    _count(connection, held, held.units, held.amount, reach=_reach(gates, gate))
    return held


def release(connection: sa.Connection, hold_id: str, *, at: datetime) -> Hold:
    """Give back what is held. A hold that was released or expired stays so; raises `StateError` for a captured one."""
    check_aware("at", at)
    found = get_hold(connection, hold_id)
    gates = lock_gates(connection, found.customer_id)
    found = _locked(connection, hold_id)
    if found.state in ("captured", "accrued"):
        raise StateError(
            f"hold {hold_id} is captured already; correct its event {found.source!r} {found.key!r} instead"
        )
    if found.state != "held":
        return found
    released = Hold(*connection.execute(_RELEASE, {"hold_id": hold_id, "at": at}).one())
    _count(
        connection,
        released,
        -found.units,
        -found.amount,
        reach=_reach(gates, gates.get(found.feature_id)),
    )
    return released


def expire_holds(connection: sa.Connection, at: datetime, *, most_contracts: int = EXPIRED_AT_ONCE) -> int:
    """Mark the holds that have expired by `at`, and return how many; they have counted no more since they did.

    Those of so many contracts at a time, whose customers' gates are locked meanwhile: 0 says that none is left.
    """
    check_aware("at", at)
    rows = connection.execute(_EXPIRED, {"at": at, "most_contracts": most_contracts}).all()
    for row in rows:
        project_gates(connection, get_contract(connection, row.contract_id), as_of=at)
        settle_holds(connection, row.contract_id, as_of=at)  # also where no feature is granted any more
    return sum(row.number for row in rows)


def get_hold(connection: sa.Connection, hold_id: str) -> Hold:
    """Return a hold; raise `NotFoundError`."""
    found = _find(connection, hold_id)
    if found is None:
        raise NotFoundError(f"hold {hold_id} does not exist; make it first")
    return found


def list_holds(
    connection: sa.Connection,
    *,
    customer_id: str | None = None,
    state: HoldState | None = None,
    limit: int = 100,
) -> tuple[Hold, ...]:
    """Return holds, the last made first; of one customer, or in one state, where that is given."""
    query = sa.select(*_COLUMNS).order_by(_HOLD.c.created_at.desc(), _HOLD.c.hold_id).limit(limit)
    if customer_id is not None:
        contracts = sa.select(schema.contract.c.contract_id).where(schema.contract.c.customer_id == customer_id)
        query = query.where(_HOLD.c.contract_id.in_(contracts))
    if state is not None:
        query = query.where(_HOLD.c.state == state)
    return tuple(Hold(*row) for row in connection.execute(query))


# --- capturing ----------------------------------------------------------------------------------------------------


def capture(
    connection: sa.Connection, hold_id: str, event: UsageEvent, *, at: datetime, excess: Excess = "refuse"
) -> Capture:
    """Take in the usage that was held for, in the same transaction; an event that came before is not counted again.

    What it uses stays held until it is accrued, the rest is given back. What only rating can tell is taken for all that
    is held. The same capture again is harmless. Raises `NotFoundError`; `StateError` for a hold that was captured with
    another event, was released or has expired, and for usage above what is held unless `excess` is `take`;
    `InvalidError` for an event that is no usage of the feature, `ConflictError` where its key has other content.
    """
    check_aware("at", at)
    customer_id = get_hold(connection, hold_id).customer_id
    _lock_customer_of(connection, hold_id, customer_id, event)
    gates = lock_gates(connection, customer_id)
    found = _locked(connection, hold_id)
    if found.state in ("captured", "accrued"):
        return _again(connection, found, event)
    _require_open(found, at)
    used = _used(connection, found, event, excess)
    batch_id, outcome, contracts = _take_in(connection, found, event, at)
    facts = {
        "hold_id": hold_id,
        "contract_id": found.contract_id,
        "at": at,
        "batch_id": batch_id,
        "used_units": used.units,
        "used_amount": used.amount,
        "source": event.source,
        "key": event.key,
    }
    captured = Hold(*connection.execute(_CAPTURE, facts).one())
    units, amount = (ZERO, ZERO) if captured.state == "accrued" else (used.units or ZERO, used.amount or ZERO)
    _count(
        connection,
        captured,
        EXACT.subtract(units, found.units),
        EXACT.subtract(amount, found.amount),
        reach=_reach(gates, gates.get(found.feature_id)),
    )
    return Capture(captured, outcome, contracts)


def _lock_customer_of(connection: sa.Connection, hold_id: str, customer_id: str, event: UsageEvent) -> None:
    """Lock a hold's customer as intake does; refuse the event of another one."""
    facts = {"customer_id": customer_id, "alias": event.customer}
    if connection.execute(_LOCK_CUSTOMER, facts).one_or_none() is None:
        raise InvalidError(
            f"customer {event.customer!r} of the event is no name of customer {customer_id}, for whom hold {hold_id} "
            "is; capture it with usage of its own customer"
        )


def _require_open(found: Hold, at: datetime) -> None:
    if found.state == "held" and at < found.expires_at:
        return
    state = "has expired" if found.state in ("held", "expired") else f"is {found.state}"
    raise StateError(f"hold {found.hold_id} {state} and holds nothing any more; send its usage by POST /v1/usage")


def _again(connection: sa.Connection, found: Hold, event: UsageEvent) -> Capture:
    if (found.source, found.key) != (event.source, event.key):
        raise StateError(
            f"hold {found.hold_id} was captured with event {found.source!r} {found.key!r} already; "
            "make another hold for other usage"
        )
    known = connection.execute(_PAYLOAD, {"key_hash": key_hash(event.source, event.key)}).scalar_one_or_none()
    if known is not None and known != payload_hash(event):  # archived months have no keys
        raise _conflict(event)
    return Capture(found, "duplicate", ())


def _used(connection: sa.Connection, found: Hold, event: UsageEvent, excess: Excess) -> EventUsage:
    """Return what is to stay held for an event; refuse more than is held where that is asked."""
    feature = connection.execute(_FEATURE, {"feature_id": found.feature_id}).one()
    used = usage_of(connection, found.contract_id, feature.products, event)
    units = found.units if used.units is None else used.units
    amount = found.amount if used.amount is None else used.amount
    what, more, most = (
        ("units", units, found.units) if feature.kind == "metered" else ("an amount of", amount, found.amount)
    )
    if excess == "refuse" and more > most:
        raise StateError(
            f"hold {found.hold_id} holds {what} {most.normalize(WIDE):f} and the event uses "
            f"{more.normalize(WIDE):f}; capture it with excess `take`, which counts the rest as usage"
        )
    return EventUsage(units, amount)


def _take_in(
    connection: sa.Connection, found: Hold, event: UsageEvent, at: datetime
) -> tuple[int, Literal["accepted", "duplicate"], tuple[str, ...]]:
    """Take the event in; return the batch that has it, what became of it, and the contracts to accrue."""
    result = take_in(connection, ParsedBatch(((0, event),), ()), door="http", received_at=at)
    [one] = result.results
    if one.outcome == "conflict":
        raise _conflict(event)
    if one.outcome == "rejected":
        raise InvalidError(f"event {event.source!r} {event.key!r}: {one.field} {one.value} {one.reason}")
    if one.outcome == "accepted" and found.contract_id in result.contracts:
        return result.batch_id, "accepted", result.contracts
    facts = {"key_hash": key_hash(event.source, event.key), "contract_id": found.contract_id}
    earlier: int | None = connection.execute(_EARLIER, facts).scalar_one_or_none()
    if one.outcome == "duplicate" and earlier is not None:
        return earlier, "duplicate", ()
    raise InvalidError(
        f"event {event.source!r} {event.key!r} at {event.timestamp.isoformat()} is no usage of contract "
        f"{found.contract_id}, for which hold {found.hold_id} is; give the event of its usage, or release the hold"
    )


def _conflict(event: UsageEvent) -> ConflictError:
    return ConflictError(
        f"event {event.source!r} {event.key!r} was sent before with other content, which counts; "
        "send a correction under a new key"
    )


# --- the parts ----------------------------------------------------------------------------------------------------


def _check(hold_id: str, units: Decimal | None, amount: Decimal | None, expires_at: datetime, at: datetime) -> None:
    if not re.fullmatch(HOLD_ID, hold_id):
        raise InvalidError(
            f"hold_id {hold_id[:128]!r} must be 1 to 128 letters, digits, dots, hyphens, underscores or colons, "
            "starting with a letter or digit"
        )
    check_aware("expires_at", expires_at)
    check_aware("at", at)
    if (units is None) == (amount is None):
        raise InvalidError(f"hold {hold_id}: units {units} and amount {amount} are given; give exactly one of them")
    for field, value in (("units", units), ("amount", amount)):
        if value is not None:
            check_figure(field, value)


def _wanted(request: GateRequest, gate: Gate) -> GateRequest:
    """Return the units and the amount that a hold takes at a gate; raise `InvalidError` where they cannot be told."""
    if not gate.is_limited:
        raise InvalidError(f"feature {request.feature_id} is not limited, there is nothing to hold; check its gate")
    if request.units is None:
        if gate.left_units is not None:
            raise InvalidError(
                f"feature {request.feature_id} is metered and amount {request.amount} tells no units; give units"
            )
        return request
    if gate.unit_price is not None:
        amount = amount_of(request.units, gate.unit_price)
        return GateRequest(request.customer_id, request.feature_id, request.units, amount)
    if gate.left_amount is not None or gate.cap_left is not None:
        raise InvalidError(
            f"feature {request.feature_id} has no single price per unit for units {request.units}; give an amount"
        )
    return request


def _same(known: Hold, request: GateRequest, expires_at: datetime) -> Hold:
    """Return a hold that was made before; raise `ConflictError` where it was made otherwise."""
    figure = (
        known.amount == request.amount and not known.units if request.units is None else known.units == request.units
    )
    place = (request.customer_id, request.feature_id, expires_at)
    if figure and (known.customer_id, known.feature_id, known.expires_at) == place:
        return known
    raise ConflictError(
        f"hold {known.hold_id} exists with other content: customer {known.customer_id}, feature {known.feature_id}, "
        f"units {known.units.normalize(WIDE):f}, amount {known.amount.normalize(WIDE):f}, until "
        f"{known.expires_at.isoformat()}; choose another id"
    )


Reach = Literal["own", "others", "caps"]
"""What a hold may stand against: its own gate, other limited ones of the contract, or what caps leave at any."""


def _reach(gates: dict[str, Gate], gate: Gate | None) -> Reach:
    """Return what a hold on a gate may stand against."""
    if any(other.cap_rule is not None for other in [*gates.values(), *([] if gate is None else [gate])]):
        return "caps"
    has_others = gate is None or any(
        other.contract_id == gate.contract_id and other.feature_id != gate.feature_id and other.is_limited
        for other in gates.values()
    )
    return "others" if has_others else "own"


def _count(connection: sa.Connection, changed: Hold, units: Decimal, amount: Decimal, *, reach: Reach) -> None:
    """Change what is held at the locked gates by what a hold takes or gives."""
    if reach == "caps":
        contract = get_contract(connection, changed.contract_id)
        project_gates(connection, contract, as_of=changed.settled_at or changed.created_at)
        return
    facts = {"customer_id": changed.customer_id, "expires_at": changed.expires_at}
    if reach == "own":
        own = {**facts, "feature_id": changed.feature_id, "units": units, "amount": amount}
        connection.execute(_ADD, own)
        return
    held, lots = held_of(connection, changed.contract_id), lots_of(connection, changed.contract_id)
    lots = paying(lots, terms_of(connection, changed.contract_id) if any(map(has_tags, lots)) else ())
    for granted in granted_of(connection, changed.contract_id):
        held_amount, held_units = held_against(granted, held, lots)
        figures = {"feature_id": granted.feature_id, "held_amount": held_amount, "held_units": held_units}
        connection.execute(_SET, {**facts, **figures, "contract_id": changed.contract_id})


_HOLD = schema.hold
_COLUMNS: list[sa.ColumnElement[Any]] = [_HOLD.c[name] for name in Hold.__slots__]
_RETURNED = ", ".join(Hold.__slots__)


def _find(connection: sa.Connection, hold_id: str) -> Hold | None:
    row = connection.execute(sa.select(*_COLUMNS).where(_HOLD.c.hold_id == hold_id)).one_or_none()
    return None if row is None else Hold(*row)


def _locked(connection: sa.Connection, hold_id: str) -> Hold:
    return Hold(*connection.execute(sa.select(*_COLUMNS).where(_HOLD.c.hold_id == hold_id).with_for_update()).one())


_INSERT = sa.text(f"""
insert into hold (hold_id, customer_id, feature_id, contract_id, units, amount, created_at, expires_at)
values (:hold_id, :customer_id, :feature_id, :contract_id, :units, :amount, :created_at, :expires_at)
on conflict (hold_id) do nothing returning {_RETURNED}
""")  # noqa: S608 - names of ours

_RELEASE = sa.text(f"""
update hold set state = 'released', settled_at = :at where hold_id = :hold_id returning {_RETURNED}
""")  # noqa: S608 - names of ours

_CAPTURE = sa.text(f"""
update hold set
    state = case when exists (
        select from usage_accrual u where u.batch_id = :batch_id and u.contract_id = :contract_id
    ) then 'accrued' else 'captured' end,
    settled_at = :at, batch_id = :batch_id, used_units = :used_units, used_amount = :used_amount,
    source = :source, key = :key
where hold_id = :hold_id returning {_RETURNED}
""")  # noqa: S608 - names of ours

_ADD = sa.text("""
update gate set
    held_amount = case when left_amount is null then held_amount else held_amount + :amount end,
    held_units = case when left_units is null then held_units else held_units + :units end,
    valid_until = least(valid_until, :expires_at)
where customer_id = :customer_id and feature_id = :feature_id
""")

_SET = sa.text("""
update gate set held_amount = :held_amount, held_units = :held_units, valid_until = least(valid_until, :expires_at)
where customer_id = :customer_id and feature_id = :feature_id and contract_id = :contract_id
""")

_LOCK_CUSTOMER = sa.text("""
select c.customer_id from customer c join customer_alias a using (customer_id)
where c.customer_id = :customer_id and a.alias = :alias for key share of c
""")

_FEATURE = sa.text("select kind, products from feature where feature_id = :feature_id")

_PAYLOAD = sa.text("select payload_hash from usage_key where key_hash = :key_hash")

_EARLIER = sa.text("""
select k.batch_id from usage_key k where k.key_hash = :key_hash and (
    exists (select from usage_dirty d where d.batch_id = k.batch_id and d.contract_id = :contract_id)
    or exists (select from usage_accrual u where u.batch_id = k.batch_id and u.contract_id = :contract_id)
)
""")

_EXPIRED = sa.text("""
select contract_id, count(*) as number from hold where state = 'held' and expires_at <= :at
group by contract_id, customer_id order by customer_id, contract_id limit :most_contracts
""")
