"""Progressive billing: invoices within a period, each for what a growing total has come to beyond the ones before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from pricing.money import EXACT, ZERO


def increments(totals: Sequence[Decimal]) -> tuple[Decimal, ...]:
    """Return what each of successive totals adds to the one before, the first to zero; a fall is below zero."""
    return tuple(EXACT.subtract(reached, before) for before, reached in pairwise((ZERO, *totals)))


@dataclass(frozen=True, slots=True)
class PrefixInvoice:
    """An invoice for all of a period so far, less what earlier invoices of the period have billed."""

    gross: Decimal
    billed_before: Decimal
    is_final: bool

    @property
    def amount(self) -> Decimal:
        """What the invoice asks for; below zero it gives back."""
        return EXACT.subtract(self.gross, self.billed_before)


def threshold_invoices(gross: Sequence[Decimal], threshold: Decimal, *, is_over: bool) -> Iterator[PrefixInvoice]:
    """Yield the invoices of a period whose gross amount is looked at several times; `is_over`: last at its end.

    Whenever what is not billed has reached the threshold, all of it is billed at once, also what lies above (Orb's
    rule); the final invoice bills the rest, whatever it is. The gross amounts are those of the whole period so far, so
    that tiers never begin anew.
    """
    billed = ZERO
    for position, reached in enumerate(gross, start=1):
        invoice = PrefixInvoice(reached, billed, is_final=is_over and position == len(gross))
        if invoice.is_final or invoice.amount >= threshold:
            yield invoice
            billed = reached


def invoices_at_thresholds(gross: Sequence[Decimal], thresholds: Sequence[Decimal]) -> tuple[PrefixInvoice, ...]:
    """Return the invoices of a period that is over, whose gross amount is looked at several times.

    The thresholds are amounts of the whole period: the first look at or above one that was not passed yet bills all so
    far (Lago's progressive billing). The final invoice comes last and bills the rest.
    """
    found: list[PrefixInvoice] = []
    billed, waiting = ZERO, sorted(thresholds)
    for reached in gross:
        passed = [threshold for threshold in waiting if threshold <= reached]
        if passed:
            found.append(PrefixInvoice(reached, billed, is_final=False))
            billed, waiting = reached, waiting[len(passed) :]
    return (*found, PrefixInvoice(gross[-1] if gross else ZERO, billed, is_final=True))
