"""Draws: what charges take from lots, slice by slice in time order, so that a lot serves only usage in its window."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from math import inf

from pricing.composites import TAG, names
from pricing.money import EXACT, ZERO, to_ledger_scale
from pricing.rated import Charge, ChargeSlice, Draw
from pricing.segments import terms_in_force
from pricing.terms import Lot, Terms
from pricing.usage import Groups

BurnKey = tuple[int, bool, bool, int, float, datetime, Decimal, datetime, str]


def burning(lots: Sequence[Lot], terms: Sequence[Terms]) -> list[Lot]:
    """Return lots in the order in which they burn under the terms of their contract."""
    if terms and terms[0].burn_order == "orb":
        return sorted(lots, key=_orb_order)
    return sorted(lots, key=lambda lot: _metronome_order(lot, terms))


def _metronome_order(lot: Lot, terms: Sequence[Terms]) -> BurnKey:
    """Order by low priority, then prepaid, free of cost, narrowest scope, earliest end, earliest start, id.

    Money that is there burns before what is only promised. A scope of group values is narrower than one without; then
    the one of fewest products is (none named: all).
    """
    scope = -len(lot.groups), _breadth(lot, terms)
    return lot.priority, lot.is_postpaid, lot.cost_basis != 0, *scope, _end(lot), ZERO, lot.start, lot.lot_id


def _orb_order(lot: Lot) -> BurnKey:
    """Order by any scope before none, then soonest end, lowest cost basis, earliest start, id; priority says nothing.

    Orb documents item-scoped blocks before unscoped ones, and of these the soonest to expire, then the cheapest. It has
    nothing postpaid: that comes after them all.
    """
    is_open = not (lot.products or lot.groups)
    return 0, lot.is_postpaid, is_open, 0, 0.0, _end(lot), lot.cost_basis, lot.start, lot.lot_id


def _end(lot: Lot) -> datetime:
    return datetime.max.replace(tzinfo=UTC) if lot.end is None else lot.end


def _breadth(lot: Lot, terms: Sequence[Terms]) -> float:
    """Return how many products a lot names; a tag names those that have it in any version of the terms."""
    return len(named_by(lot, terms)) if has_tags(lot) else len(set(lot.products)) or inf


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


def draw_from_lots(
    charges: Sequence[Charge], lots: Sequence[Lot], terms: Sequence[Terms]
) -> tuple[tuple[Draw, ...], dict[str, Decimal]]:
    """Draw each slice from the lots that serve it; return the draws in order, and what each lot still holds.

    Slices come in time order; those of one interval in the order of the charges. `terms` are the versions by which the
    charges are rated: they say the order of burning, and at each time what a lot's tags name.
    """
    left = {lot.lot_id: lot.amount for lot in lots}
    in_order = burning(lots, terms)
    asked = {pair for lot in lots for pair in lot.groups}
    scopes = [tuple(pair for pair in charge.groups if pair in asked) if asked else () for charge in charges]
    fitting = {scope: [lot for lot in in_order if {*lot.groups} <= {*scope}] for scope in {*scopes}}
    slices = [(charge, part, scope) for charge, scope in zip(charges, scopes, strict=True) for part in charge.slices]
    draws: list[Draw] = []
    by_tags = any(has_tags(lot) for lot in lots)
    # Lots that serve a product in an interval, in order, until they are empty: looking through all for every slice is
    # dear where there are many. Of its group values only those count that some lot asks for.
    serving: dict[tuple[str, datetime, datetime, Groups], deque[Lot]] = {}
    for charge, part, scope in sorted(slices, key=lambda one: one[1].start):
        owed = part.amount
        if owed < 0:
            raise AssertionError(f"a slice of product {charge.product_id!r} at {part.start} is negative: {owed}")
        key = charge.product_id, part.start, part.end, scope
        if key not in serving:
            tags = tags_at(terms, charge.product_id, part.start) if by_tags else ()
            own = (lot for lot in fitting[scope] if left[lot.lot_id] > 0)
            serving[key] = deque(lot for lot in own if serves(lot, charge, part, tags))
        while owed and serving[key]:
            lot_id = serving[key][0].lot_id
            amount = min(owed, left[lot_id])
            if amount:
                draws.append(
                    Draw(lot_id, charge.product_id, charge.segment.start, part.start, part.end, amount, charge.groups)
                )
                left[lot_id] = EXACT.subtract(left[lot_id], amount)
                owed = EXACT.subtract(owed, amount)
            if not left[lot_id]:
                serving[key].popleft()
    return tuple(draws), left


def serves(lot: Lot, charge: Charge, part: ChargeSlice, tags: Sequence[str]) -> bool:
    """Say whether a lot may pay a slice of a charge: it is in its scope, and its time in the lot's window.

    `tags` are those of the charge's product at that time.
    """
    in_window = lot.start <= part.start and (lot.end is None or part.end <= lot.end)
    return in_window and has_groups(lot, charge) and (not lot.products or names(lot.products, charge.product_id, tags))


def has_groups(lot: Lot, charge: Charge) -> bool:
    """Say whether a charge has all the group values that a lot pays for."""
    return not lot.groups or {*lot.groups} <= {*charge.groups}


def has_tags(lot: Lot) -> bool:
    """Say whether a lot names products by tags."""
    return any(name.startswith(TAG) for name in lot.products)


def named_by(lot: Lot, versions: Sequence[Terms]) -> set[str]:
    """Return the products that a lot names by id or tag and any of these versions of the terms sells."""
    sold = ((price.product_id, price.tags) for version in versions for price in version.prices)
    return {product_id for product_id, tags in sold if names(lot.products, product_id, tags)}


def tags_at(terms: Sequence[Terms], product_id: str, moment: datetime) -> tuple[str, ...]:
    """Return the tags of a product by the terms in force at a moment; none where they do not sell it."""
    in_force = terms_in_force(terms, moment)
    prices = () if in_force is None else in_force.prices
    return next((price.tags for price in prices if price.product_id == product_id), ())
