"""Recurring credits again: the windows that a contract agrees on, and the lots that were granted for them."""

from collections.abc import Hashable, Iterator
from datetime import datetime

from ledger.contract_checks import grant_lot_id
from ledger.verification.check import Check, Key, compare_facts
from ledger.verification.raw import Contract, Records
from pricing.grants import Grant, GrantedWindow, granted_windows
from pricing.money import ZERO, currency


def check_grants(records: Records) -> Check:
    """Compare the lots of recurring credits with what is agreed, up to the moment that each contract is accrued to.

    A lot stays where the contract's end was moved before its start later. What an amendment or another end brings may
    be missing until it is accrued.
    """
    wanted: dict[Key, Hashable] = {}
    found: dict[Key, Hashable] = {}
    for contract in records.contracts.values():
        for grant in contract.credits:
            prefix = grant_lot_id(contract.contract_id, grant.grant_id, "")
            own = {lot.lot_id: lot for lot in contract.granted if lot.lot_id.startswith(prefix)}
            for lot_id, lot in own.items():
                served = (lot.products, lot.groups, lot.priority, lot.cost_basis)
                found["lot", lot_id] = (lot.name, lot.amount, lot.start, lot.end, *served)
            for window in _agreed(contract, grant, [lot.start for lot in own.values()]):
                lot_id = f"{prefix}{window.number}"
                if lot_id in own or _is_due(contract, window.start):
                    served = (grant.products, grant.groups, grant.priority, ZERO)
                    wanted["lot", lot_id] = (grant.name, window.amount, window.start, window.end, *served)
    return compare_facts("recurring credits are granted as agreed", "credits due", wanted, "lots of them", found)


def _agreed(contract: Contract, grant: Grant, starts: list[datetime]) -> Iterator[GrantedWindow]:
    """Yield the windows that have begun, or that have lots already, whenever the contract ends."""
    moments = starts if contract.accrued_at is None else [*starts, contract.accrued_at]
    if moments:
        yield from granted_windows(
            grant,
            contract.start_at,
            None,
            contract.time_zone,
            max(moments),
            unit=currency(contract.currency),
            cadence=contract.cadence,
            anchor=contract.anchor,
        )


def _is_due(contract: Contract, start: datetime) -> bool:
    """Say whether a window must have been granted: the contract is accrued to it, and nothing else waits for that."""
    return (
        contract.accrued_at is not None
        and start <= contract.accrued_at
        and contract.covers(start)
        and (0 not in contract.marks)
    )
