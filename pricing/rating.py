"""Rating: what one period of one contract costs. The one function behind accrual, invoice, preview and verification."""

from collections.abc import Sequence
from datetime import datetime

from pricing.calendar import Period
from pricing.rated import Fee, RatedPeriod
from pricing.terms import Lot, Reading, Terms


def rate_period(
    terms: Sequence[Terms], readings: Sequence[Reading], lots: Sequence[Lot], period: Period, *, entity_time_zone: str
) -> RatedPeriod:
    """Rate the usage of one period to date, cumulatively, and draw it from lots in time order.

    `terms` are all versions of one contract, `readings` lie between neighbouring `slice_cuts`, `lots` hold what is left
    at the period's start. Amounts are in the terms' currency: charges exact, slices, draws and earned fees at ledger
    scale, lines rounded once. Raises `TermsError`, `MissingPriceError` and `NegativeQuantityError`.
    """
    raise NotImplementedError


def rate_fees(terms: Sequence[Terms], period: Period, entity_time_zone: str) -> tuple[Fee, ...]:
    """Return the fixed fees of one period, by the terms in force at its start, with what each entity day earns."""
    raise NotImplementedError


def slice_cuts(
    terms: Sequence[Terms], lots: Sequence[Lot], period: Period, entity_time_zone: str
) -> tuple[datetime, ...]:
    """Return, in order, the period's bounds and every moment in between at which a reading must be cut.

    These are the entity's local midnights, starts and ends of lots, and the dates of terms.
    """
    raise NotImplementedError
