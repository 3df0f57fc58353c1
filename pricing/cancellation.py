"""Cancellation that takes effect on a day in the past: which invoices it undoes, and what fees are owed after all."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import count

from pricing.cycles import Cycles, DayRange
from pricing.money import EXACT, WIDE, Currency, round_to_currency


@dataclass(frozen=True, slots=True)
class UndoneInvoice:
    """An invoice, by its date, whose fee in advance is owed no more.

    `usage` are the days whose usage it also bills, in arrears, so that it is issued anew for them; None where it bills
    no usage, so that it is void.
    """

    invoice_date: date
    usage: DayRange | None


@dataclass(frozen=True, slots=True)
class OwedFee:
    """What is owed of the fee of one cycle, cut where the service ends."""

    cycle: DayRange
    amount: Decimal


def undone_invoices(cycles: Cycles, effective: date, today: date) -> Iterator[UndoneInvoice]:
    """Yield the invoices issued by `today`, inclusive, that a cancellation effective on an earlier day undoes.

    On each turn an invoice bills the fee of the cycle that begins and the usage of the one that ends (Orb's rule).
    """
    for cycle in _begun(cycles, today):
        if cycle.start >= effective:
            before = _cycle_before(cycles, cycle.start)
            usage = None if before is None or before.start >= effective else before
            yield UndoneInvoice(cycle.start, usage)


def owed_fees(amount: Decimal, cycles: Cycles, effective: date, today: date, unit: Currency) -> Iterator[OwedFee]:
    """Yield the fee owed for each cycle begun by `today`: by its days before the end of the service, perhaps none."""
    for cycle in _begun(cycles, today):
        days = (min(max(effective, cycle.start), cycle.end) - cycle.start).days
        owed = WIDE.divide(EXACT.multiply(amount, Decimal(days)), Decimal(cycle.days))
        yield OwedFee(cycle, round_to_currency(owed, unit))


def _begun(cycles: Cycles, today: date) -> Iterator[DayRange]:
    start, first = cycles.start, cycles.first_after(cycles.start)
    for n in count(first):
        if start > today:
            return
        yield DayRange(start, cycles.turn(n))
        start = cycles.turn(n)


def _cycle_before(cycles: Cycles, day: date) -> DayRange | None:
    if day <= cycles.start:
        return None
    return DayRange(max(cycles.turn(cycles.first_from(day) - 1), cycles.start), day)
