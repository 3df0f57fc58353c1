"""Gates: may a customer use a feature now, and what is left of it; answered from one row that accruals and holds write.

Locks are taken in one order: customer, contract, then all gates of the customer by feature. What stands at a gate is
read from the books after its lock, so that whoever comes last writes what all before him did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

import sqlalchemy as sa

from ledger.checks import check_aware
from ledger.contracts import Contract, get_contract
from ledger.database import driver_of
from ledger.errors import InvalidError
from ledger.gate_figures import GateFigures, Granted, check_figure, figures_of
from ledger.holding import holding_rule
from ledger.spend import watermark_of
from pricing.money import EXACT, ZERO, to_ledger_scale

MOST_CHECKS = 100
KEEP = timedelta(seconds=5)
"""How long an answer may be kept, unless something begins or ends before."""

Reason = Literal[
    "no_feature", "no_contract", "stopped", "problem", "units_spent", "balance_spent", "cap_reached", "unpriced"
]


@dataclass(frozen=True, slots=True)
class GateRequest:
    """Whether a customer may use a feature, for so many units or so much money where an estimate is known."""

    customer_id: str
    feature_id: str
    units: Decimal | None = None
    amount: Decimal | None = None


@dataclass(frozen=True, slots=True)
class GateAnswer:
    """Whether the feature may be used, and why not: a `reason` where it may not.

    `no_feature`: nothing grants it; `no_contract`: the contract that does has not begun or is over; `stopped`: an alert
    holds the customer's gates; `problem`: its rating stopped; `units_spent`, `balance_spent`, `cap_reached`: less is
    left of units, of the balance or of a spend cap than asked for; `unpriced`: the units have no single price, so that
    the estimate must come as an amount. `rule_id` is the alert rule that holds or caps, where that is the reason.

    `left_amount` and `left_units` are less what is held and never below zero; None where they do not limit it. All
    usage that was accepted before `watermark` is in them. The answer may be kept until `keep_until`.
    """

    customer_id: str
    feature_id: str
    allowed: bool
    reason: Reason | None
    left_amount: Decimal | None
    left_units: Decimal | None
    watermark: datetime | None
    keep_until: datetime
    rule_id: str | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate as it stands until `valid_until`: what is left in the books, and what of that is held.

    `stopped_by` is the alert rule that holds it, `cap_left` what the cap of rule `cap_rule` leaves, less what is held.
    """

    feature_id: str
    contract_id: str
    left_amount: Decimal | None
    left_units: Decimal | None
    held_amount: Decimal
    held_units: Decimal
    unit_price: Decimal | None
    problem: str | None
    valid_until: datetime | None
    watermark: datetime
    stopped_by: str | None
    cap_left: Decimal | None
    cap_rule: str | None

    @property
    def is_limited(self) -> bool:
        """Whether money or units limit the feature, so that they can be held."""
        return self.left_amount is not None or self.left_units is not None or self.cap_left is not None

    @property
    def free_balance(self) -> Decimal | None:
        """The money in lots that is not held; None where it does not limit the feature."""
        return None if self.left_amount is None else EXACT.subtract(self.left_amount, self.held_amount)

    def holds_at(self, moment: datetime) -> bool:
        """Say whether nothing has begun or ended since it was written."""
        return self.valid_until is None or moment < self.valid_until


# --- asking -------------------------------------------------------------------------------------------------------


def check_gate(
    connection: sa.Connection,
    customer_id: str,
    feature_id: str,
    *,
    units: Decimal | None = None,
    amount: Decimal | None = None,
    at: datetime,
) -> GateAnswer:
    """Say whether a customer may use a feature at `at`: one row is read by its key.

    Without an estimate something must be left. Where a lot, a period or a hold has begun or ended since the row was
    written, it is written anew from the books first. Raises `InvalidError` for an estimate that is not above zero.
    """
    check_aware("at", at)
    request = GateRequest(customer_id, feature_id, units, amount)
    _check_estimate(request)
    row = driver_of(connection).execute(_READ, (customer_id, feature_id), prepare=True).fetchone()
    gate = fresh_gate(connection, customer_id, feature_id, None if row is None else Gate(*row), at=at)
    return answer_of(request, gate, at=at)


def check_gates(connection: sa.Connection, requests: Sequence[GateRequest], *, at: datetime) -> tuple[GateAnswer, ...]:
    """Answer up to 100 requests in their order, as `check_gate` does, from one query."""
    check_aware("at", at)
    if len(requests) > MOST_CHECKS:
        raise InvalidError(f"checks are {len(requests)}; ask for at most {MOST_CHECKS} at once")
    for request in requests:
        _check_estimate(request)
    asked = sorted({(request.customer_id, request.feature_id) for request in requests})
    facts = ([customer_id for customer_id, _ in asked], [feature_id for _, feature_id in asked])
    rows = driver_of(connection).execute(_READ_MANY, facts, prepare=True).fetchall()
    gates = {(row[0], row[1]): Gate(*row[1:]) for row in rows}
    fresh = {one: fresh_gate(connection, *one, gates.get(one), at=at) for one in asked}  # in order, for its locks
    return tuple(answer_of(request, fresh[request.customer_id, request.feature_id], at=at) for request in requests)


def answer_of(request: GateRequest, gate: Gate | Reason, *, at: datetime) -> GateAnswer:
    """Answer a request from a gate that holds at `at`, or from why there is none."""
    if not isinstance(gate, Gate):
        return GateAnswer(request.customer_id, request.feature_id, False, gate, None, None, None, at + KEEP)
    amount = min((one for one in (gate.free_balance, gate.cap_left) if one is not None), default=None)
    units = None if gate.left_units is None else EXACT.subtract(gate.left_units, gate.held_units)
    reason = _reason(request, gate, amount, units)
    return GateAnswer(
        customer_id=request.customer_id,
        feature_id=request.feature_id,
        allowed=reason is None,
        reason=reason,
        left_amount=None if amount is None else max(amount, ZERO),
        left_units=None if units is None else max(units, ZERO),
        watermark=gate.watermark,
        keep_until=at + KEEP if gate.valid_until is None else min(at + KEEP, gate.valid_until),
        rule_id={"stopped": gate.stopped_by, "cap_reached": gate.cap_rule}.get(reason or ""),
    )


def fresh_gate(
    connection: sa.Connection, customer_id: str, feature_id: str, gate: Gate | None, *, at: datetime
) -> Gate | Reason:
    """Return a gate that holds at `at`: this one, or written anew from the books; or why there is none."""
    if gate is not None and gate.holds_at(at):
        return gate
    facts = {"customer_id": customer_id, "feature_id": feature_id, "at": at}
    row = connection.execute(_GRANTING, facts).one_or_none()
    if row is None:
        return "no_feature"
    if not row.is_in_force:
        return "no_contract"
    project_gates(connection, get_contract(connection, row.contract_id), as_of=at)
    written = driver_of(connection).execute(_READ, (customer_id, feature_id)).fetchone()
    return "no_feature" if written is None else Gate(*written)


# --- writing ------------------------------------------------------------------------------------------------------


def project_gates(connection: sa.Connection, contract: Contract, *, as_of: datetime) -> None:
    """Bring the gates of a contract to what its books, its grants and its holds say at `as_of`.

    It belongs into every transaction that changes them, after the change; `contract.problem` is what it is to say.
    Holds that expired, and those whose usage was accrued, are marked so. A contract without features costs one
    statement.
    """
    granted, has_caps = _granted(connection, contract.contract_id)
    if not granted:
        return
    watermark = watermark_of(connection, contract.contract_id)
    is_in_force = contract.start_at <= as_of and (contract.end_at is None or as_of < contract.end_at)
    opened = [one for one, is_open in granted if is_open and is_in_force]
    _lock_with(connection, contract, [one.feature_id for one in opened], watermark)
    settle_holds(connection, contract.contract_id, as_of=as_of)
    closed = {"contract_id": contract.contract_id, "opened": [one.feature_id for one in opened]}
    connection.execute(_CLOSE, closed)
    if opened:
        figures = figures_of(connection, contract, opened, as_of=as_of, has_caps=has_caps)
        connection.execute(_WRITE, [_row(contract, one, watermark) for one in figures])


def note_problem(connection: sa.Connection, contract_id: str, problem: str | None) -> None:
    """Let the gates of a contract say why its rating stopped, or None when it goes on; boolean features do not mind."""
    connection.execute(_PROBLEM, {"contract_id": contract_id, "problem": problem})


def lock_gates(connection: sa.Connection, customer_id: str) -> dict[str, Gate]:
    """Lock all gates of a customer and return them by feature: holds are made, settled and counted one by one."""
    rows = driver_of(connection).execute(_LOCK, (customer_id,), prepare=True).fetchall()
    return {gate.feature_id: gate for gate in (Gate(*row) for row in rows)}


def settle_holds(connection: sa.Connection, contract_id: str, *, as_of: datetime) -> None:
    """Mark the holds of a contract that have expired, and the captured ones whose usage was accrued."""
    connection.execute(_SETTLE, {"contract_id": contract_id, "as_of": as_of})


def granted_of(connection: sa.Connection, contract_id: str) -> tuple[Granted, ...]:
    """Return the features that a contract has."""
    return tuple(one for one, is_open in _granted(connection, contract_id)[0] if is_open)


# --- the parts ----------------------------------------------------------------------------------------------------


def _check_estimate(request: GateRequest) -> None:
    for field, value in (("units", request.units), ("amount", request.amount)):
        if value is not None:
            check_figure(field, value)


def _reason(request: GateRequest, gate: Gate, amount: Decimal | None, units: Decimal | None) -> Reason | None:
    if gate.stopped_by is not None or gate.problem is not None:
        return "problem" if gate.stopped_by is None else "stopped"
    if units is not None:
        if request.units is None and request.amount is not None:
            return "unpriced"  # an amount says nothing of units
        if units <= 0 or units < (request.units or ZERO):
            return "units_spent"
    if amount is not None:
        wanted = request.amount
        if wanted is None and request.units is not None:
            if gate.unit_price is None:
                return "unpriced"
            wanted = amount_of(request.units, gate.unit_price)
        if amount <= 0 or amount < (wanted or ZERO):
            return "cap_reached" if amount == gate.cap_left else "balance_spent"
    return None


def amount_of(units: Decimal, unit_price: Decimal) -> Decimal:
    """Return what units cost, as the ledger holds it."""
    return to_ledger_scale(EXACT.multiply(units, unit_price))


def _lock_with(connection: sa.Connection, contract: Contract, features: Sequence[str], watermark: datetime) -> None:
    """Lock the gates of the customer, those that are missing made first, so that two never write one at a time."""
    missing = sorted({*features} - {*lock_gates(connection, contract.customer_id)})
    if missing:
        common = {"customer_id": contract.customer_id, "contract_id": contract.contract_id, "watermark": watermark}
        connection.execute(_OPEN, [{**common, "feature_id": feature_id} for feature_id in missing])
        lock_gates(connection, contract.customer_id)


def _granted(connection: sa.Connection, contract_id: str) -> tuple[list[tuple[Granted, bool]], bool]:
    """Return every feature that a contract has or had with whether it has it, and whether rules cap what it spends."""
    rows = connection.execute(_GRANTED, {"contract_id": contract_id}).all()
    found = [
        (Granted(row.feature_id, row.kind, tuple(row.products), row.most_units), row.revoked_at is None) for row in rows
    ]
    return found, any(row.has_caps for row in rows)


def _row(contract: Contract, figures: GateFigures, watermark: datetime) -> dict[str, object]:
    return {
        "customer_id": contract.customer_id,
        "contract_id": contract.contract_id,
        "feature_id": figures.feature_id,
        "left_amount": figures.left_amount,
        "left_units": figures.left_units,
        "held_amount": figures.held_amount,
        "held_units": figures.held_units,
        "unit_price": figures.unit_price,
        "problem": figures.problem,
        "valid_until": figures.valid_until,
        "watermark": watermark,
        "cap_left": figures.cap_left,
        "cap_rule": figures.cap_rule,
    }


_COLUMNS = (
    "feature_id, contract_id, left_amount, left_units, held_amount, held_units, unit_price, problem, valid_until,"
    " watermark, stopped_by, cap_left, cap_rule"
)
_READ = f"select {_COLUMNS} from gate where customer_id = %s and feature_id = %s"  # noqa: S608 - names of ours
_READ_MANY = f"""
select customer_id, {_COLUMNS} from gate
join unnest(cast(%s as text[]), cast(%s as text[])) as asked (customer_id, feature_id) using (customer_id, feature_id)
"""  # noqa: S608 - names of ours
_LOCK = f"select {_COLUMNS} from gate where customer_id = %s order by feature_id for update"  # noqa: S608 - see above

_GRANTED = sa.text("""
select f.feature_id, f.kind, f.products, g.most_units, g.revoked_at, (
    select exists (
        select from alert_rule r, contract c
        where r.action <> 'notify' and r.disabled_at is null and r.action = 'cap' and c.contract_id = :contract_id
            and (r.contract_id is null or r.contract_id = c.contract_id)
            and (r.customer_id is null or r.customer_id = c.customer_id)
    )
) as has_caps
from feature_grant g join feature f using (feature_id) where g.contract_id = :contract_id order by f.feature_id
""")

_GRANTING = sa.text("""
select c.contract_id, c.start_at <= :at and (c.end_at is null or :at < c.end_at) as is_in_force
from feature_grant g join contract c using (contract_id)
where c.customer_id = :customer_id and g.feature_id = :feature_id and g.revoked_at is null
order by is_in_force desc, c.start_at, c.contract_id limit 1
""")

_OPEN = sa.text(f"""
insert into gate (customer_id, feature_id, contract_id, valid_until, watermark, stopped_by)
values (:customer_id, :feature_id, :contract_id, :watermark, :watermark, {holding_rule(":customer_id")})
on conflict (customer_id, feature_id) do nothing
""")  # noqa: S608 - an expression of ours

_CLOSE = sa.text("delete from gate where contract_id = :contract_id and feature_id <> all(:opened)")

_WRITE = sa.text("""
update gate set contract_id = :contract_id, left_amount = :left_amount, left_units = :left_units,
    held_amount = :held_amount, held_units = :held_units, unit_price = :unit_price, problem = :problem,
    valid_until = :valid_until, watermark = :watermark, cap_left = :cap_left, cap_rule = :cap_rule
where customer_id = :customer_id and feature_id = :feature_id
""")

_PROBLEM = sa.text("""
update gate g set problem = cast(:problem as text) from feature f
where g.contract_id = :contract_id and f.feature_id = g.feature_id and f.kind <> 'boolean'
""")

_SETTLE = sa.text("""
update hold h set
    state = case h.state when 'held' then 'expired' else 'accrued' end,
    settled_at = case h.state when 'held' then h.expires_at else h.settled_at end
where h.contract_id = :contract_id and (
    (h.state = 'held' and h.expires_at <= :as_of)
    or (h.state = 'captured' and exists (
        select from usage_accrual u where u.batch_id = h.batch_id and u.contract_id = h.contract_id
    ))
)
""")
