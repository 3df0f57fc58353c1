"""Commits: the lots that they grant, what instalments pay for these, and what postpaid ones have left at their end."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import accumulate

from pricing.expiry import end_of
from pricing.money import EXACT, LEDGER_SCALE, WIDE, ZERO, to_ledger_scale, total
from pricing.progressive import increments
from pricing.terms import Commit, Instalment, Lot, Segment

A_DAY = timedelta(days=1)


def segments_of(commit: Commit) -> tuple[Segment, ...]:
    """Return the segments of a commit in order; all of it where its access is not cut."""
    return commit.access or (Segment(commit.amount, commit.start, commit.end),)


def lots_of_commit(commit: Commit, commit_lot: str) -> tuple[Lot, ...]:
    """Return the lots that a commit grants: `commit_lot` (CONTRACT.COMMIT), or one per segment, numbered from 1.

    What instalments pay is shared out over the segments by their amounts, so that the shares add up to all of it.
    """
    segments = segments_of(commit)
    price = total([one.amount for one in commit.invoices])
    granted = accumulate((segment.amount for segment in segments), EXACT.add)
    paid = increments([_share(price, reached, commit.amount) for reached in granted])
    return tuple(
        Lot(
            lot_id=f"{commit_lot}.{number}" if commit.access else commit_lot,
            name=commit.name,
            amount=segment.amount,
            start=segment.start,
            end=segment.end,
            products=commit.products,
            priority=commit.priority,
            cost_basis=_cost_basis(price, commit.amount) if commit.invoices else Decimal(1),
            groups=commit.groups,
            is_postpaid=commit.type == "postpaid",
            instalments_of=commit_lot if commit.invoices else None,
            paid=share if commit.invoices else None,
        )
        for number, (segment, share) in enumerate(zip(segments, paid, strict=True), start=1)
    )


def prepaid(lots: Sequence[Lot]) -> tuple[Lot, ...]:
    """Return the lots that hold money, paid or given: all but postpaid ones, which are a promise of the customer."""
    return tuple(lot for lot in lots if not lot.is_postpaid)


def paid_share(lot: Lot, drawn: Decimal) -> Decimal:
    """Return what was paid for the part of a whole lot that is drawn, at ledger scale; all that was paid for all of it.

    It is rounded cumulatively: give all that is drawn, and book the difference to before.
    """
    if lot.paid is None:
        return ZERO if lot.cost_basis == 0 else drawn
    return _share(lot.paid, drawn, lot.amount)


def shortfalls(
    lots: Sequence[Lot], drawn: Mapping[str, Decimal], voided: frozenset[str], *, term_end: datetime | None
) -> dict[str, tuple[datetime, Decimal]]:
    """Return when each postpaid lot is over, and what is then missing to its amount; none for those without an end.

    That is at its end or its contract's, whichever comes first. One that was voided is forgiven, and one that the
    contract's end leaves no time never came into force: nothing is missing to these.
    """
    found = {}
    for lot in lots:
        end = end_of(lot.end, term_end)
        if lot.is_postpaid and end is not None:
            is_owed = lot.lot_id not in voided and lot.start < end
            rest = EXACT.subtract(lot.amount, drawn.get(lot.lot_id, ZERO)) if is_owed else ZERO
            found[lot.lot_id] = (end, rest)
    return found


def instalment_span(commit: Commit, number: int) -> tuple[datetime, datetime]:
    """Return the time that an instalment (1 being the first) stands for: up to the next one, or the commit's end."""
    on = commit.invoices[number - 1].on
    later = [*(one.on for one in commit.invoices[number:]), *((commit.end,) if commit.end is not None else ())]
    return on, min((moment for moment in later if moment > on), default=on + A_DAY)


def instalment_name(commit: Commit, number: int) -> str:
    """Return what an invoice calls an instalment."""
    return f"{commit.name}, instalment {number} of {len(commit.invoices)}"


def due_instalments(
    commit: Commit, *, until: datetime, term_end: datetime | None
) -> tuple[tuple[int, Instalment], ...]:
    """Return the instalments, numbered from 1, that are due by a moment; all once the contract has ended."""
    is_over = term_end is not None and term_end <= until
    return tuple((n, one) for n, one in enumerate(commit.invoices, start=1) if is_over or one.on <= until)


def _share(whole: Decimal, part: Decimal, of: Decimal) -> Decimal:
    return to_ledger_scale(WIDE.divide(EXACT.multiply(whole, part), of))


def _cost_basis(price: Decimal, granted: Decimal) -> Decimal:
    """Return the money per unit, which is never zero: something is paid."""
    return max(_share(price, Decimal(1), granted), LEDGER_SCALE)
