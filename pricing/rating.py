"""Rating: what one period of one contract costs. The one function behind accrual, invoice, preview and verification."""

from collections.abc import Sequence
from datetime import datetime

from pricing.calendar import Period, days
from pricing.charges import charges_of_product
from pricing.checks import check_versions
from pricing.draws import draw_from_lots, require_sound_lots
from pricing.fees import rate_fees
from pricing.lines import usage_lines
from pricing.rated import RatedPeriod
from pricing.segments import intervals_between, require_prices, segments_by_product, usage_by_interval
from pricing.terms import Lot, Reading, Terms

__all__ = ["rate_fees", "rate_period", "slice_cuts"]


def rate_period(
    terms: Sequence[Terms], readings: Sequence[Reading], lots: Sequence[Lot], period: Period, *, entity_time_zone: str
) -> RatedPeriod:
    """Rate the usage of one period to date, cumulatively, and draw it from lots in time order.

    `terms` are all versions of one contract, `readings` lie between neighbouring `slice_cuts`, `lots` hold what is left
    at the period's start. Amounts are in the terms' currency: charges exact, slices, draws and earned fees at ledger
    scale, lines rounded once. Raises `TermsError`, `MissingPriceError` and `NegativeQuantityError`; `ValueError` for
    arguments that do not belong together.
    """
    check_versions(terms)
    require_sound_lots(lots)
    intervals = intervals_between(slice_cuts(terms, lots, period, entity_time_zone))
    usage = usage_by_interval(readings, intervals)
    require_prices(terms, usage)
    products = segments_by_product(terms, usage, intervals)
    charges = tuple(charge for segments in products for charge in charges_of_product(segments))
    draws, left = draw_from_lots(charges, lots)
    currency = terms[0].currency
    return RatedPeriod(
        period=period,
        currency=currency,
        charges=charges,
        draws=draws,
        fees=rate_fees(terms, period, entity_time_zone),
        lines=usage_lines(charges, draws, lots, currency),
        lots_after=tuple((lot.lot_id, left[lot.lot_id]) for lot in lots),
    )


def slice_cuts(
    terms: Sequence[Terms], lots: Sequence[Lot], period: Period, entity_time_zone: str
) -> tuple[datetime, ...]:
    """Return, in order, the period's bounds and every moment in between at which a reading must be cut.

    These are the entity's local midnights, starts and ends of lots, and the dates of terms.
    """
    moments = {part.start for _, part in days(period, entity_time_zone)}
    moments.update(version.effective_from for version in terms)
    for lot in lots:
        moments.add(lot.start)
        if lot.end is not None:
            moments.add(lot.end)
    return tuple(sorted({moment for moment in moments if moment in period} | {period.start, period.end}))
