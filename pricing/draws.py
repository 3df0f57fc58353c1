"""Draws: what charges take from lots, slice by slice in time order, so that a lot serves only usage in its window."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from math import inf

from pricing.money import EXACT, ZERO, to_ledger_scale
from pricing.rated import Charge, ChargeSlice, Draw
from pricing.terms import Lot

BurnKey = tuple[int, bool, float, datetime, datetime, str]


def burn_order(lot: Lot) -> BurnKey:
    """Return the key by which lots burn.

    Low priority first, then free of cost, fewest products (none named serves all), earliest end, earliest start, id.
    """
    breadth = len(set(lot.products)) or inf
    end = datetime.max.replace(tzinfo=UTC) if lot.end is None else lot.end
    return lot.priority, lot.cost_basis != 0, breadth, end, lot.start, lot.lot_id


def require_sound_lots(lots: Sequence[Lot]) -> None:
    """Raise `ValueError` for lots that the ledger could not have given: an id twice, less than nothing, finer dust."""
    require_different_lots(lots)
    for lot in lots:
        if lot.amount < 0 or lot.amount != to_ledger_scale(lot.amount):
            raise ValueError(f"lot {lot.lot_id!r} holds {lot.amount:f}; it must be zero or more, in twelve decimals")


def require_different_lots(lots: Sequence[Lot]) -> None:
    """Raise `ValueError` for lots with one id."""
    if len({lot.lot_id for lot in lots}) < len(lots):
        raise ValueError(f"lots are given twice: {sorted(lot.lot_id for lot in lots)}; give each lot once")


def in_force(lots: Sequence[Lot], moment: datetime) -> tuple[Lot, ...]:
    """Return the lots that may pay usage of a moment."""
    return tuple(lot for lot in lots if lot.start <= moment and (lot.end is None or moment < lot.end))


def holding(lots: Sequence[Lot], left: Mapping[str, Decimal]) -> tuple[Lot, ...]:
    """Return the lots with what each holds now, by its id."""
    return tuple(replace(lot, amount=left[lot.lot_id]) for lot in lots)


def less_drawn(lots: Sequence[Lot], drawn: Mapping[str, Decimal]) -> tuple[Lot, ...]:
    """Return the lots without what was drawn from each, by its id; nothing was from those that are missing there."""
    return tuple(replace(lot, amount=EXACT.subtract(lot.amount, drawn.get(lot.lot_id, ZERO))) for lot in lots)


def draw_from_lots(charges: Sequence[Charge], lots: Sequence[Lot]) -> tuple[tuple[Draw, ...], dict[str, Decimal]]:
    """Draw each slice from the lots that serve it; return the draws in order, and what each lot still holds.

    Slices come in time order; those of one interval in the order of the charges.
    """
    left = {lot.lot_id: lot.amount for lot in lots}
    burning = sorted(lots, key=burn_order)
    slices = [(charge, part) for charge in charges for part in charge.slices]
    draws: list[Draw] = []
    # Lots that serve a product in an interval, in order, until they are empty: looking through all for every slice is
    # dear where there are many.
    serving: dict[tuple[str, datetime, datetime], deque[Lot]] = {}
    for charge, part in sorted(slices, key=lambda pair: pair[1].start):
        owed = part.amount
        if owed < 0:
            raise AssertionError(f"a slice of product {charge.product_id!r} at {part.start} is negative: {owed}")
        key = charge.product_id, part.start, part.end
        if key not in serving:
            serving[key] = deque(
                lot for lot in burning if left[lot.lot_id] > 0 and serves(lot, charge.product_id, part)
            )
        while owed and serving[key]:
            lot_id = serving[key][0].lot_id
            amount = min(owed, left[lot_id])
            if amount:
                draws.append(Draw(lot_id, charge.product_id, charge.segment.start, *key[1:], amount, charge.groups))
                left[lot_id] = EXACT.subtract(left[lot_id], amount)
                owed = EXACT.subtract(owed, amount)
            if not left[lot_id]:
                serving[key].popleft()
    return tuple(draws), left


def serves(lot: Lot, product_id: str, part: ChargeSlice) -> bool:
    """Say whether a lot may pay a slice: its product is one of the lot's, and its time lies in the lot's window."""
    in_window = lot.start <= part.start and (lot.end is None or part.end <= lot.end)
    return in_window and (not lot.products or product_id in lot.products)
