"""Settling measures: what falls takes back the latest usage, of quantities, of carried money and of single events."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import islice

from pricing.measures import Measure
from pricing.money import EXACT, ZERO
from pricing.quantities import settled


def settled_measures(measures: Sequence[Measure]) -> tuple[Measure, ...]:
    """Return what each measure of a window leaves once every fall has taken back the latest before it.

    Events stay as many as they were, also those whose value is taken back. Nothing is below zero as long as no whole
    is.
    """
    values = iter(settled_additions([value for measure in measures for value in measure.values]))
    quantities = settled_additions([measure.quantity for measure in measures])
    amounts = settled_additions([measure.amount for measure in measures])
    return tuple(
        replace(measure, quantity=quantity, amount=amount, values=tuple(islice(values, len(measure.values))))
        for measure, quantity, amount in zip(measures, quantities, amounts, strict=True)
    )


def settled_additions(additions: Sequence[Decimal]) -> tuple[Decimal, ...]:
    """Return what each addition leaves; the same ones where none falls."""
    if all(addition >= 0 for addition in additions):
        return tuple(additions)
    reached = settled(additions)
    return tuple(EXACT.subtract(now, before) for now, before in zip(reached, (ZERO, *reached), strict=False))
