"""Recurring credits: what a contract agrees on is granted as lots, window by window, without a person.

A window's lot is decided by the contract alone, so that it does not matter when, in how many steps, or how often it is
granted.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.checks import check_aware
from ledger.contract_checks import grant_lot_id
from ledger.contracts import Contract
from ledger.errors import ConflictError
from pricing.grants import granted_windows
from pricing.money import ZERO, currency

GRANTED_BY = "contract"
REASON = "agreed in the contract"


def grant_due(connection: sa.Connection, contract: Contract, *, as_of: datetime) -> int:
    """Grant the recurring credits whose windows have begun by `as_of`, and return the number of new lots.

    The contract is locked. What is granted already stays as it is, also where a person ended it. Raises
    `ConflictError` where another contract has a lot under an id that is needed.
    """
    check_aware("as_of", as_of)
    if not contract.policy.credits:
        return 0
    wanted = _lots_due(contract, as_of)
    if not wanted:
        return 0
    lot = schema.lot.c
    found = sa.select(lot.lot_id, lot.contract_id).where(lot.lot_id.in_([*wanted]))
    owners: dict[str, str] = dict(connection.execute(found).all())
    foreign = sorted(lot_id for lot_id, owner in owners.items() if owner != contract.contract_id)
    if foreign:
        raise ConflictError(
            f"lot {foreign[0]} is one of contract {owners[foreign[0]]}, so the credits of contract "
            f"{contract.contract_id} cannot be granted; end the contract, and start one with another id"
        )
    due = [row for lot_id, row in wanted.items() if lot_id not in owners]
    if due:
        connection.execute(insert(schema.lot).on_conflict_do_nothing(), due)
    return len(due)


def _lots_due(contract: Contract, as_of: datetime) -> dict[str, dict[str, object]]:
    """Return the rows of all lots that are due by a moment, by their ids."""
    unit = currency(contract.currency)
    return {
        (lot_id := grant_lot_id(contract.contract_id, grant.grant_id, window.number)): {
            "lot_id": lot_id,
            "contract_id": contract.contract_id,
            "name": grant.name,
            "amount": window.amount,
            "start_at": window.start,
            "end_at": window.end,
            "products": [*grant.products],
            "groups": dict(grant.groups),
            "priority": grant.priority,
            "cost_basis": ZERO,
            "kind": "promotional",
            "granted_by": GRANTED_BY,
            "reason": REASON,
            "created_at": as_of,
        }
        for grant in contract.policy.credits
        for window in granted_windows(
            grant,
            contract.start_at,
            contract.end_at,
            contract.time_zone,
            as_of,
            unit=unit,
            cadence=contract.cadence,
            anchor=contract.anchor,
        )
    }
