"""Actions of alerts: gates of a customer are held while an alert stands, until it clears or a person releases it."""

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from ledger.alert_rules import get_rule
from ledger.checks import check_aware, check_text
from ledger.contracts import lock_contract
from ledger.errors import StateError
from ledger.gates import lock_gates
from ledger.holding import STANDS, holding_rule
from ledger.outbox import put_out


@dataclass(frozen=True, slots=True)
class Release:
    """A person's release of the gates that an alert held; the alert itself stays raised until it clears."""

    rule_id: str
    contract_id: str
    span_start: datetime
    number: int
    reason: str
    released_by: str
    released_at: datetime


def crossing_key(rule_id: str, contract_id: str, span_start: datetime, number: int) -> str:
    """Return the key under which a crossing is put out, which never changes."""
    start = span_start.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return f"alert/{rule_id}/{contract_id}/{start}/{number}"


def hold_gates(connection: sa.Connection, customer_id: str) -> None:
    """Bring what holds a customer's gates to what its alerts say, in the transaction that changes them."""
    if lock_gates(connection, customer_id):
        connection.execute(_HOLD, {"customer_id": customer_id})


def release_alerts(
    connection: sa.Connection, rule_id: str, contract_id: str, *, reason: str, by: str, at: datetime
) -> tuple[Release, ...]:
    """Release the gates that a rule's alerts on a contract hold, and return each release, also one of before.

    A crossing that comes after that holds them again. Raises `NotFoundError`, and `StateError` for a rule that holds no
    gates or where no alert of it stands.
    """
    check_text("reason", reason)
    check_text("by", by, longest=256)
    check_aware("at", at)
    rule = get_rule(connection, rule_id)
    if rule.action != "hold_gate":
        remedy = "disable it to lift the cap" if rule.action == "cap" else "there is nothing to release"
        raise StateError(f"alert rule {rule_id} holds no gates, its action is {rule.action}; {remedy}")
    contract = lock_contract(connection, contract_id)
    facts = {"rule_id": rule_id, "contract_id": contract_id, "reason": reason, "by": by, "at": at}
    connection.execute(_RELEASE, facts)
    found = _standing_releases(connection, rule_id, contract_id)
    if not found:
        raise StateError(f"no alert of rule {rule_id} stands on contract {contract_id}; list those that are open")
    for one in found:
        put_out(
            connection,
            key=f"{crossing_key(rule_id, contract_id, one.span_start, one.number)}/released",
            kind="alert.released",
            contract_id=contract_id,
            payload={
                "rule_id": rule_id,
                "kind": rule.kind,
                "contract_id": contract_id,
                "customer_id": contract.customer_id,
                "span": rule.span,
                "span_start": one.span_start,
                "number": one.number,
                "reason": one.reason,
                "released_by": one.released_by,
                "at": one.released_at,
            },
        )
    hold_gates(connection, contract.customer_id)
    return found


def _standing_releases(connection: sa.Connection, rule_id: str, contract_id: str) -> tuple[Release, ...]:
    rows = connection.execute(_RELEASES, {"rule_id": rule_id, "contract_id": contract_id})
    return tuple(Release(*row) for row in rows)


_STANDING = f"a.rule_id = :rule_id and a.contract_id = :contract_id and {STANDS}"

_RELEASE = sa.text(f"""
insert into alert_release (rule_id, contract_id, span_start, number, reason, released_by, released_at)
select a.rule_id, a.contract_id, a.span_start, a.number, :reason, :by, :at from alert a where {_STANDING}
on conflict do nothing
""")  # noqa: S608 - a constant of this module

_RELEASES = sa.text(f"""
select {", ".join(f"e.{name}" for name in Release.__slots__)}
from alert a join alert_release e using (rule_id, contract_id, span_start, number) where {_STANDING}
order by a.span_start
""")  # noqa: S608 - constants of this module

_HOLD = sa.text(f"""
with held as (select {holding_rule(":customer_id")} as rule_id)
update gate g set stopped_by = held.rule_id from held
where g.customer_id = :customer_id and g.stopped_by is distinct from held.rule_id
""")  # noqa: S608 - an expression of ours
