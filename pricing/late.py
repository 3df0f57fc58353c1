"""Late usage: what a billed period comes to once usage came late or was corrected, with its past draws left in place.

What was drawn when the period was billed stays drawn as far as there is usage for it; what is more draws from lots
that served the time and still hold something. The result depends on the billed state and the usage, never on the order
in which corrections came.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from pricing.calendar import local_date
from pricing.draws import burning, has_groups, has_tags, require_different_lots, serves, tags_at
from pricing.money import EXACT, ZERO, total
from pricing.rated import Charge, ChargeSlice
from pricing.terms import Lot, Terms

LateKey = tuple[str, date]
"""A product, and a day of the entity."""


@dataclass(frozen=True, slots=True)
class DayShare:
    """A product's usage on a day: `amount` is all of it, `drawn` the part that each lot paid; at ledger scale."""

    quantity: Decimal
    amount: Decimal
    drawn: tuple[tuple[str, Decimal], ...] = ()

    @property
    def undrawn(self) -> Decimal:
        """What no lot paid."""
        return EXACT.subtract(self.amount, total([amount for _, amount in self.drawn]))

    def unpaid(self, paying: Collection[str]) -> Decimal:
        """Return what none of these lots paid: what is drawn from others is billed all the same."""
        return EXACT.subtract(self.amount, total([amount for lot_id, amount in self.drawn if lot_id in paying]))


NOTHING = DayShare(ZERO, ZERO)


def late_shares(
    charges: Sequence[Charge],
    billed: Mapping[LateKey, DayShare],
    lots: Sequence[Lot],
    entity_time_zone: str,
    terms: Sequence[Terms],
) -> tuple[dict[LateKey, DayShare], dict[str, Decimal]]:
    """Return what each product and day of a billed period comes to now, and what each lot still holds.

    `charges` are the period rated anew with the `terms` it was billed with, `billed` is how it was billed, and `lots`
    hold what all billed periods left of them: below zero where this period's draws were given back once and are drawn
    by a later one since. First, a lot for group values gets back what there is no usage with these values for. A day
    that costs less takes off what no lot paid, then gives back to lots, the last to burn first. Lots below zero get
    back what the latest days drew. A day that costs more draws the difference in burn order, from each lot at most what
    no lot has paid of the day's usage in its scope and window. Raises `ValueError` for lots given twice.
    """
    require_different_lots(lots)
    left = {lot.lot_id: lot.amount for lot in lots}
    in_order = burning(lots, terms)
    days = _days(charges, entity_time_zone)
    keys = sorted({*days, *billed}, key=lambda key: (key[1], key[0]))
    drawn = {key: dict(billed[key].drawn) if key in billed else {} for key in keys}
    more = {key: EXACT.subtract(days.get(key, _Day()).amount, billed.get(key, NOTHING).amount) for key in keys}
    for key in keys:
        for lot_id, beyond in _beyond_groups(days.get(key, _Day()), drawn[key], in_order):
            more[key] = EXACT.add(more[key], _give_back(drawn[key], left, lot_id, beyond))
        back = EXACT.subtract(EXACT.minus(more[key]), billed.get(key, NOTHING).undrawn)
        for lot in reversed(in_order):
            back = EXACT.subtract(back, _give_back(drawn[key], left, lot.lot_id, back))
    for lot in in_order:
        for key in reversed(keys):
            _give_back(drawn[key], left, lot.lot_id, EXACT.minus(left[lot.lot_id]))
    for key in keys:
        if more[key] > 0 and key in days:
            _draw_more(days[key], drawn[key], left, more[key], days[key].served_by(in_order, terms))
    found = {}
    for key in keys:
        day = days.get(key, _Day())
        kept = tuple((lot_id, amount) for lot_id, amount in sorted(drawn[key].items()) if amount)
        found[key] = DayShare(day.quantity, day.amount, kept)
    return found, left


def _beyond_groups(day: "_Day", drawn: Mapping[str, Decimal], in_order: Sequence[Lot]) -> list[tuple[str, Decimal]]:
    """Return what lots for group values have drawn beyond what they may together pay of a day, the narrowest first."""
    unpaid = [part.amount for _, part in day.slices]
    places = {lot.lot_id: day.with_groups_of(lot) for lot in in_order if lot.groups}
    narrowest_first = sorted(places, key=lambda lot_id: len(places[lot_id]))
    return [(lot_id, _pay(unpaid, places[lot_id], drawn.get(lot_id, ZERO))) for lot_id in narrowest_first]


def _draw_more(
    day: "_Day", drawn: dict[str, Decimal], left: dict[str, Decimal], more: Decimal, served: Mapping[Lot, Sequence[int]]
) -> None:
    """Draw so much more for a day, from each lot at most what it serves and no lot has paid yet."""
    unpaid = [part.amount for _, part in day.slices]
    # Which of the day's usage a lot has paid is not kept: those with the least choice come first, and what was drawn
    # outside of a window that was moved since may lie anywhere.
    for lot in sorted(served, key=lambda lot: (len(served[lot]), lot.lot_id)):
        rest = _pay(unpaid, served[lot], drawn.get(lot.lot_id, ZERO))
        _pay(unpaid, range(len(unpaid)), rest)
    for lot, places in served.items():
        wanted = max(min(more, left[lot.lot_id]), ZERO)
        amount = EXACT.subtract(wanted, _pay(unpaid, places, wanted))
        if amount:
            drawn[lot.lot_id] = EXACT.add(drawn.get(lot.lot_id, ZERO), amount)
            left[lot.lot_id] = EXACT.subtract(left[lot.lot_id], amount)
            more = EXACT.subtract(more, amount)


def _pay(unpaid: list[Decimal], places: Iterable[int], amount: Decimal) -> Decimal:
    """Take an amount off what is unpaid at some places, and return what of it is too much for them."""
    for n in places:
        paid = min(unpaid[n], amount)
        unpaid[n] = EXACT.subtract(unpaid[n], paid)
        amount = EXACT.subtract(amount, paid)
    return amount


def _give_back(drawn: dict[str, Decimal], left: dict[str, Decimal], lot_id: str, wanted: Decimal) -> Decimal:
    """Give back what a day drew from a lot, as far as it is wanted, and return how much that is."""
    amount = min(max(wanted, ZERO), drawn.get(lot_id, ZERO))
    if amount:
        drawn[lot_id] = EXACT.subtract(drawn[lot_id], amount)
        left[lot_id] = EXACT.add(left[lot_id], amount)
    return amount


@dataclass(frozen=True, slots=True)
class _Day:
    """The slices of a product on a day."""

    quantity: Decimal = ZERO
    amount: Decimal = ZERO
    slices: tuple[tuple[Charge, ChargeSlice], ...] = ()

    def with_groups_of(self, lot: Lot) -> list[int]:
        """Return the places of the slices with the group values that a lot pays for."""
        return [n for n, (charge, _) in enumerate(self.slices) if has_groups(lot, charge)]

    def served_by(self, lots: Sequence[Lot], terms: Sequence[Terms]) -> dict[Lot, list[int]]:
        """Return the places of the slices that each lot may pay, in the order of the lots."""
        by_tags = any(has_tags(lot) for lot in lots)
        tags = [tags_at(terms, charge.product_id, part.start) if by_tags else () for charge, part in self.slices]
        return {
            lot: [n for n, (charge, part) in enumerate(self.slices) if serves(lot, charge, part, tags[n])]
            for lot in lots
        }


def _days(charges: Sequence[Charge], zone: str) -> dict[LateKey, _Day]:
    found: dict[LateKey, _Day] = {}
    for charge in charges:
        for part in charge.slices:
            key = (charge.product_id, local_date(part.start, zone))
            day = found.get(key, _Day())
            found[key] = _Day(
                EXACT.add(day.quantity, part.quantity),
                EXACT.add(day.amount, part.amount),
                (*day.slices, (charge, part)),
            )
    return found
