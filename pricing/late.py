"""Late usage: what a billed period comes to once usage came late or was corrected, with its past draws left in place.

What was drawn when the period was billed stays drawn as far as there is usage for it; what is more draws from lots
that served the time and still hold something. The result depends on the billed state and the usage, never on the order
in which corrections came.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from pricing.calendar import local_date
from pricing.draws import burn_order, require_different_lots, serves
from pricing.money import EXACT, ZERO, total
from pricing.rated import Charge
from pricing.terms import Lot

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


NOTHING = DayShare(ZERO, ZERO)


def late_shares(
    charges: Sequence[Charge], billed: Mapping[LateKey, DayShare], lots: Sequence[Lot], entity_time_zone: str
) -> tuple[dict[LateKey, DayShare], dict[str, Decimal]]:
    """Return what each product and day of a billed period comes to now, and what each lot still holds.

    `charges` are the period rated anew with the terms it was billed with, `billed` is how it was billed, and `lots`
    hold what all billed periods left of them: below zero where this period's draws were given back once and are drawn
    by a later one since. A day that costs less first takes off what no lot paid, then gives back to lots, the last to
    burn first. Lots below zero get back what the latest days drew. A day that costs more draws the difference in burn
    order, from each lot at most what of the day lies in its window. Raises `ValueError` for lots given twice.
    """
    require_different_lots(lots)
    left = {lot.lot_id: lot.amount for lot in lots}
    burning = sorted(lots, key=burn_order)
    days = _days(charges, entity_time_zone)
    keys = sorted({*days, *billed}, key=lambda key: (key[1], key[0]))
    drawn = {key: dict(billed[key].drawn) if key in billed else {} for key in keys}
    more = {key: EXACT.subtract(days.get(key, _Day()).amount, billed.get(key, NOTHING).amount) for key in keys}
    for key in keys:
        back = EXACT.subtract(EXACT.minus(more[key]), billed.get(key, NOTHING).undrawn)
        for lot in reversed(burning):
            back = EXACT.subtract(back, _give_back(drawn[key], left, lot.lot_id, back))
    for lot in burning:
        for key in reversed(keys):
            _give_back(drawn[key], left, lot.lot_id, EXACT.minus(left[lot.lot_id]))
    for key in keys:
        for lot in burning:
            room = EXACT.subtract(days.get(key, _Day()).served_by(lot, key[0]), drawn[key].get(lot.lot_id, ZERO))
            amount = max(min(more[key], left[lot.lot_id], room), ZERO)
            drawn[key][lot.lot_id] = EXACT.add(drawn[key].get(lot.lot_id, ZERO), amount)
            left[lot.lot_id] = EXACT.subtract(left[lot.lot_id], amount)
            more[key] = EXACT.subtract(more[key], amount)
    found = {}
    for key in keys:
        day = days.get(key, _Day())
        kept = tuple((lot_id, amount) for lot_id, amount in sorted(drawn[key].items()) if amount)
        found[key] = DayShare(day.quantity, day.amount, kept)
    return found, left


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
    slices: tuple[tuple[Charge, int], ...] = ()

    def served_by(self, lot: Lot, product_id: str) -> Decimal:
        """Return how much of the day lies in a lot's window and is for a product that it serves."""
        return total(
            [charge.slices[n].amount for charge, n in self.slices if serves(lot, product_id, charge.slices[n])]
        )


def _days(charges: Sequence[Charge], zone: str) -> dict[LateKey, _Day]:
    found: dict[LateKey, _Day] = {}
    for charge in charges:
        for n, part in enumerate(charge.slices):
            key = (charge.product_id, local_date(part.start, zone))
            day = found.get(key, _Day())
            found[key] = _Day(
                EXACT.add(day.quantity, part.quantity), EXACT.add(day.amount, part.amount), (*day.slices, (charge, n))
            )
    return found
