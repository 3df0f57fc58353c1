"""Measures: usage as it adds up, with what the prices that look at single events need beside the quantity."""

from collections.abc import Iterable, Sequence
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


def of_running_totals(running: Sequence[Decimal], whole: Decimal, events: int) -> Measure:
    """Return the measure of events of which the first are known by their running total, the others by the whole.

    What is beyond the last running total counts as the value of the next event; the rest of the events have none.
    """
    reached, values = ZERO, []
    for so_far in running[:events]:
        values.append(EXACT.subtract(so_far, reached))
        reached = so_far
    if len(values) < events:
        values.append(EXACT.subtract(whole, reached))
        values += [ZERO] * (events - len(values))
    return Measure(whole, events, ZERO, tuple(values))


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
