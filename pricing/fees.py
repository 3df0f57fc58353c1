"""Fixed fees: billed whole at a period's start, earned over the days of the entity."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal

from pricing.calendar import Period, days
from pricing.errors import TermsError
from pricing.money import EXACT, WIDE, ZERO, to_ledger_scale
from pricing.prices import FixedFee
from pricing.rated import EarnedDay, Fee
from pricing.segments import terms_in_force
from pricing.terms import Terms

MICROSECOND = timedelta(microseconds=1)


def rate_fees(terms: Sequence[Terms], period: Period, entity_time_zone: str) -> tuple[Fee, ...]:
    """Return the fixed fees of one period, by the terms in force at its start, with what each entity day earns.

    The amount is never prorated. Raises `TermsError` when no terms are in force at the period's start.
    """
    in_force = terms_in_force(terms, period.start)
    if in_force is None:
        raise TermsError(
            f"no terms are in force at {period.start.isoformat()}, the start of a period; "
            "give a version that is effective by then"
        )
    return tuple(
        Fee(
            product.product_id,
            product.name,
            in_force.version,
            product.price.amount,
            tuple(_earned(product.price.amount, period, entity_time_zone)),
            period,
        )
        for product in in_force.prices
        if isinstance(product.price, FixedFee)
    )


def _earned(amount: Decimal, period: Period, entity_time_zone: str) -> Iterator[EarnedDay]:
    """Each day earns by the time of the period on it, as what it adds to the rounded sum so far."""
    whole = Decimal((period.end - period.start) // MICROSECOND)
    earned = ZERO
    for day, part in days(period, entity_time_zone):
        elapsed = Decimal((part.end - period.start) // MICROSECOND)
        reached = to_ledger_scale(WIDE.divide(EXACT.multiply(amount, elapsed), whole))
        yield EarnedDay(day, EXACT.subtract(reached, earned))
        earned = reached
