"""Fees: what the fixed fees, seats and one-offs of a contract bill in one billing period, and what its days earn.

A fee belongs to a period of its own, the billing period or one of its cadence. Over all billing periods of a contract
what is billed of a fee and what its days earn are the same, exactly, at ledger scale.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from pricing.calendar import Anchor, Period, local_date, local_midnight
from pricing.earnings import Bill, fee_of, in_money
from pricing.errors import TermsError
from pricing.prices import Cadence, FixedFee, OneOff, Seats
from pricing.proration import prorated, share
from pricing.rated import EarnedDay, Fee
from pricing.schedule import Schedule, part_text
from pricing.seats import seat_fees
from pricing.segments import terms_in_force
from pricing.terms import ProductPrice, Terms
from pricing.wording import price_text

END_OF_TIME = datetime.max.replace(tzinfo=UTC)


def rate_fees(
    terms: Sequence[Terms],
    period: Period,
    entity_time_zone: str,
    *,
    time_zone: str | None = None,
    contract_start: datetime | None = None,
    contract_end: datetime | None = None,
    cadence: Cadence = "month",
    anchor: Anchor | None = None,
) -> tuple[Fee, ...]:
    """Return the fees that one billing period bills or earns, with what each entity day in it earns of them.

    `time_zone` (None: the entity's), `cadence`, `anchor` and the term [contract_start, contract_end) are the
    contract's: by them the periods of a fee are laid out, and a first or last one that is cut short is prorated.
    Without `contract_start` the billing period is whole, and the periods of fees begin with it.

    A fixed fee is charged by the terms in force when the billing period begins in which its own period does, so that a
    change counts from the next one. A fee added later begins with the next billing period; one that is removed ends
    with the billing period if it is billed in arrears, and in advance is not refunded. Raises `TermsError` when no
    terms are in force at the period's start.
    """
    if terms_in_force(terms, period.start) is None:
        raise TermsError(
            f"no terms are in force at {period.start.isoformat()}, the start of a period; "
            "give a version that is effective by then"
        )
    zone = entity_time_zone if time_zone is None else time_zone
    schedule = Schedule(period, zone, entity_time_zone, cadence, anchor, contract_start, contract_end)
    return tuple(fee for product_id in _product_ids(terms) for fee in _fees_of_product(terms, product_id, schedule))


def _product_ids(terms: Sequence[Terms]) -> tuple[str, ...]:
    """Return the products of all versions in the order in which these name them."""
    versions = sorted(terms, key=lambda version: version.version)
    return tuple(dict.fromkeys(product.product_id for version in versions for product in version.prices))


def _fees_of_product(terms: Sequence[Terms], product_id: str, schedule: Schedule) -> Iterator[Fee]:
    prices = [product.price for version in terms for product in version.prices if product.product_id == product_id]
    for cadence in dict.fromkeys(price.cadence for price in prices if isinstance(price, FixedFee)):
        yield from _fixed_fees(terms, product_id, cadence, schedule)
    for cadence in dict.fromkeys(price.cadence for price in prices if isinstance(price, Seats)):
        yield from seat_fees(terms, product_id, cadence, schedule)
    if any(isinstance(price, OneOff) for price in prices):
        yield from _one_off(terms, product_id, schedule)


# --- fixed fees ---------------------------------------------------------------------------------------------------


def _fixed_fees(terms: Sequence[Terms], product_id: str, cadence: Cadence | None, schedule: Schedule) -> Iterator[Fee]:
    for fee_period, whole in schedule.fee_periods(cadence):
        found = _agreed_over(terms, product_id, cadence, fee_period, schedule)
        if found is None:
            continue
        service, version, product, price = found
        if not schedule.touches(service):
            continue
        part = share(service, whole, price.proration, schedule.time_zone)
        explained = part_text(service, whole, price.proration, schedule.time_zone)
        bill = Bill(
            service,
            prorated(price.amount, part),
            price.timing,
            told=None if part == 1 else f"{price_text(price.amount)} for {explained}",
        )
        yield fee_of(product, version, bill, schedule)


def _agreed_over(
    terms: Sequence[Terms], product_id: str, cadence: Cadence | None, fee_period: Period, schedule: Schedule
) -> tuple[Period, Terms, ProductPrice, FixedFee] | None:
    """Return from when to when a fee is agreed in a period of its own, and by which terms."""
    begun: tuple[datetime, Terms, ProductPrice, FixedFee] | None = None
    for start in schedule.billing_starts(fee_period):
        version = terms_in_force(terms, start)
        product = None if version is None else _product(version, product_id)
        price = None if product is None else product.price
        is_agreed = isinstance(price, FixedFee) and price.cadence == cadence
        if begun is not None and not is_agreed and begun[3].timing == "arrears":
            return Period(begun[0], start), *begun[1:]
        if begun is None and version and product and isinstance(price, FixedFee) and price.cadence == cadence:
            begun = (max(start, fee_period.start), version, product, price)
    return None if begun is None else (Period(begun[0], fee_period.end), *begun[1:])


def _product(version: Terms, product_id: str) -> ProductPrice | None:
    return next((product for product in version.prices if product.product_id == product_id), None)


# --- one-offs -----------------------------------------------------------------------------------------------------


def _one_off(terms: Sequence[Terms], product_id: str, schedule: Schedule) -> Iterator[Fee]:
    """Yield the fee of a one-off where it falls due in the rated period, earned on that day.

    It is due when the first version says so that is in force then; one that is agreed only after that is due at once.
    """
    for version, in_force in _reigns(terms):
        product = _product(version, product_id)
        if product is None or not isinstance(product.price, OneOff):
            continue
        due = max(product.price.due, in_force.start)
        if due not in in_force:
            continue
        if due in schedule.period:
            amount = in_money(product, version, product.price.amount)
            earned = (EarnedDay(local_date(due, schedule.entity_time_zone), amount),)
            service = _local_day(due, schedule.time_zone)
            yield Fee(product_id, product.name, version.version, amount, earned, service)
        return


def _local_day(moment: datetime, time_zone: str) -> Period:
    day = local_date(moment, time_zone)
    return Period(local_midnight(day, time_zone), local_midnight(day + timedelta(days=1), time_zone))


def _reigns(terms: Sequence[Terms]) -> Iterator[tuple[Terms, Period]]:
    """Yield from when to when each version is in force, in time order; one that never is, is left out."""
    moments = sorted({version.effective_from for version in terms})
    for start, end in pairwise([*moments, END_OF_TIME]):
        version = terms_in_force(terms, start)
        if version is not None:
            yield version, Period(start, end)
