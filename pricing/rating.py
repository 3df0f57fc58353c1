"""Rating: what one period of one contract costs. The one function behind accrual, invoice, preview and verification.

The order of its steps: quantities are settled, rounded and converted, free units taken off; prices, which hold the
contract's overrides already; percentage and then fixed discounts; minimum and maximum; then lots are drawn. Tax comes
after, on the lines.
"""

from collections.abc import Sequence
from datetime import datetime

from pricing.adjustments import adjusted
from pricing.calendar import Anchor, Period, days
from pricing.charges import usage_charges
from pricing.checks import check_versions
from pricing.draws import draw_from_lots, require_sound_lots
from pricing.fees import rate_fees
from pricing.lines import usage_lines
from pricing.prices import Cadence
from pricing.rated import RatedPeriod
from pricing.segments import intervals_between
from pricing.series import Frame, series_of
from pricing.terms import Lot, Reading, Terms
from pricing.usage import usage_of
from pricing.windows import tier_period_of, window_cuts


def rate_period(
    terms: Sequence[Terms],
    readings: Sequence[Reading],
    lots: Sequence[Lot],
    period: Period,
    *,
    entity_time_zone: str,
    time_zone: str | None = None,
    contract_start: datetime | None = None,
    contract_end: datetime | None = None,
    cadence: Cadence = "month",
    anchor: Anchor | None = None,
    is_over: bool = True,
) -> RatedPeriod:
    """Rate the usage of one period to date, cumulatively, and draw it from lots in time order.

    `terms` are all versions of one contract, with the prices of their cards in place; `readings` lie between
    neighbouring `slice_cuts`, those that end by the period's start being earlier usage, of which tiers and allowances
    that go back want to know: cut at billing periods, zero included. `lots` hold what is left at the period's start.
    `time_zone` (None: the entity's), term, cadence and anchor are the contract's. Shortfalls of minimums are charged
    once the period `is_over`. Amounts are in the terms' currency: charges exact, slices, draws and earned fees at
    ledger scale, lines rounded once. Raises `TermsError`, `MissingPriceError` and `NegativeQuantityError`;
    `ValueError` for arguments that do not belong together.
    """
    check_versions(terms)
    require_sound_lots(lots)
    zone = entity_time_zone if time_zone is None else time_zone
    intervals = intervals_between(slice_cuts(terms, lots, period, entity_time_zone, time_zone=zone))
    frame = Frame(terms, period, intervals, zone, is_over)
    gross = usage_charges(frame, series_of(frame, usage_of(readings, intervals, period)))
    charges = adjusted(gross, terms, period, intervals[-1], is_over=is_over)
    draws, left = draw_from_lots(charges, lots, terms)
    currency = terms[0].currency
    return RatedPeriod(
        period=period,
        currency=currency,
        charges=charges,
        draws=draws,
        fees=rate_fees(
            terms,
            period,
            entity_time_zone,
            time_zone=zone,
            contract_start=contract_start,
            contract_end=contract_end,
            cadence=cadence,
            anchor=anchor,
        ),
        lines=usage_lines(charges, draws, lots, currency),
        lots_after=tuple((lot.lot_id, left[lot.lot_id]) for lot in lots),
    )


def slice_cuts(
    terms: Sequence[Terms], lots: Sequence[Lot], period: Period, entity_time_zone: str, *, time_zone: str | None = None
) -> tuple[datetime, ...]:
    """Return, in order, the period's bounds and every moment in between at which a reading must be cut.

    These are the entity's local midnights, starts and ends of lots, the dates of terms and discounts, and the windows
    of tiers and commitments in the contract's zone (None: the entity's).
    """
    zone = entity_time_zone if time_zone is None else time_zone
    moments = {part.start for _, part in days(period, entity_time_zone)}
    moments.update(version.effective_from for version in terms)
    for version in terms:
        for discount in version.discounts:
            moments.update(moment for moment in (discount.start, discount.end) if moment is not None)
    for lot in lots:
        moments.add(lot.start)
        if lot.end is not None:
            moments.add(lot.end)
    for tier_period in {tier_period_of(product) for version in terms for product in version.prices}:
        moments |= window_cuts(period, tier_period, zone)
    return tuple(sorted({moment for moment in moments if moment in period} | {period.start, period.end}))


def wants_history(terms: Sequence[Terms]) -> bool:
    """Say whether rating a period asks for the readings of the periods before."""
    return any(
        product.tier_period == "contract"
        or (product.allowance is not None and product.allowance.rollover_cap is not None)
        for version in terms
        for product in version.prices
    )
