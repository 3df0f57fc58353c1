"""Measures: usage as it adds up, with what the prices that look at single events need beside the quantity."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from pricing.money import EXACT, ZERO


@dataclass(frozen=True, slots=True)
class Measure:
    """A quantity, the number of events in it, the money they carried, and each event's value in time order.

    `values` is filled only where a price asks for single events.
    """

    quantity: Decimal = ZERO
    events: int = 0
    amount: Decimal = ZERO
    values: tuple[Decimal, ...] = ()


NOTHING = Measure()


def joined(measures: Iterable[Measure]) -> Measure:
    """Add measures up, in time order."""
    quantity, events, amount = ZERO, 0, ZERO
    values: list[Decimal] = []
    for measure in measures:
        quantity = EXACT.add(quantity, measure.quantity)
        events += measure.events
        amount = EXACT.add(amount, measure.amount)
        values.extend(measure.values)
    return Measure(quantity, events, amount, tuple(values))
