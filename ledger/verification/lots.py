"""Lots again: what usage drew from each, what it has left, and what of that is expired, voided or breakage."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from ledger.verification.check import Check, Differences, Key, check_of_each, compare_amounts
from ledger.verification.raw import Contract, Records
from pricing.calendar import local_date
from pricing.commits import paid_share, prepaid, shortfalls
from pricing.money import EXACT, ZERO


class Share(NamedTuple):
    """Where an amount belongs; `lot_id` is empty for what is not drawn from a lot, `product_id` for breakage."""

    period_start: datetime
    product_id: str
    lot_id: str
    day: date
    kind: str


Figures = Mapping[Share, tuple[Decimal, Decimal]]
"""Quantity and exact amount."""


def breakage(contract: Contract, figures: Figures) -> dict[Share, tuple[Decimal, Decimal]]:
    """Return the money of what paid lots have left that are settled: their end and the grace for late usage are over.

    What postpaid ones have left is owed once the invoice of their last period is drafted, if that is earlier.
    """
    drawn = drawn_of_lots(figures)
    rests: dict[str, tuple[datetime, Decimal]] = {}
    for lot in prepaid(contract.lots):
        if lot.cost_basis and lot.end is not None and _is_settled(contract, lot.end):
            used = drawn.get(lot.lot_id, ZERO)
            rests[lot.lot_id] = (lot.end, EXACT.subtract(paid_share(lot, lot.amount), paid_share(lot, used)))
    frozen = max((one.period.end for one in contract.periods if one.state != "open"), default=None)
    rests |= {
        lot_id: (end, rest)
        for lot_id, (end, rest) in _missing(contract, drawn).items()
        if _is_settled(contract, end) or (frozen is not None and end <= frozen)
    }
    found: dict[Share, tuple[Decimal, Decimal]] = {}
    for lot_id, (end, rest) in rests.items():
        begun = [one.period.start for one in contract.periods if one.period.start <= end]
        day = local_date(end, contract.entity_zone)
        found[Share(max(begun, default=contract.start_at), "", lot_id, day, "breakage")] = (ZERO, rest)
    return found


def _missing(contract: Contract, drawn: Mapping[str, Decimal]) -> dict[str, tuple[datetime, Decimal]]:
    """Return when each postpaid lot is over, and what usage leaves of it then."""
    voided = frozenset(one.lot_id for one in contract.lot_changes if one.kind == "void")
    return shortfalls(contract.lots, drawn, voided, term_end=contract.end_at)


def drawn_of_lots(figures: Figures) -> dict[str, Decimal]:
    """Return what usage drew from each lot."""
    return _drawn(_draws(figures))


def check_lots(records: Records, rated: Mapping[str, tuple[Contract, Figures]]) -> tuple[Check, ...]:
    """Compare what was granted with what the books drew from each lot and what rating again leaves of it.

    What is left is still there, or expired or voided; of paid lots that part is breakage, which is compared with the
    transfers.
    """
    granted: dict[Key, Decimal] = {}
    parts: dict[Key, Decimal] = {}
    overdrawn = Differences()
    booked = _drawn((row.lot_id, row.amount) for row in records.accrued if row.kind == "usage" and row.lot_id)
    for name, (contract, figures) in rated.items():
        again = drawn_of_lots(figures)
        for lot in contract.lots:
            key = (contract.currency, name, lot.lot_id)
            rest = EXACT.subtract(lot.amount, again.get(lot.lot_id, ZERO))
            granted[key] = lot.amount
            parts[key] = EXACT.add(booked.get(lot.lot_id, ZERO), rest)
            if rest < 0 or booked.get(lot.lot_id, ZERO) > lot.amount:
                overdrawn.add(f"lot {lot.lot_id} of contract {name} is drawn by more than it holds")
    return (
        check_of_each("no lot is drawn by more than it holds", "lots", len(granted), "within their amount", overdrawn),
        compare_amounts(
            "lots are drawn, left, expired or voided", "granted", granted, "drawn and left, expired or voided", parts
        ),
    )


def _draws(figures: Figures) -> Iterator[tuple[str, Decimal]]:
    return ((share.lot_id, amount) for share, (_, amount) in figures.items() if share.kind == "usage" and share.lot_id)


def _drawn(draws: Iterable[tuple[str, Decimal]]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for lot_id, amount in draws:
        found[lot_id] = EXACT.add(found.get(lot_id, ZERO), amount)
    return found


def _is_settled(contract: Contract, end: datetime) -> bool:
    """Say whether late usage had had its grace after this end when the contract was last accrued."""
    return contract.accrued_at is not None and end <= contract.accrued_at - contract.grace
