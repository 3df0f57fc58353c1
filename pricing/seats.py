"""Seats: a recurring price for a quantity that each version of the terms states, and what its changes bill."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pricing.calendar import Period
from pricing.earnings import Bill, fee_of
from pricing.measures import NOTHING, Measure
from pricing.models import Standing, price_steps
from pricing.money import EXACT, ZERO, total
from pricing.prices import Cadence, Seats
from pricing.proration import prorated, share
from pricing.rated import Fee, Step
from pricing.schedule import Schedule, part_text
from pricing.segments import terms_in_force
from pricing.terms import ProductPrice, Terms
from pricing.wording import counted, price_text


@dataclass(frozen=True, slots=True)
class _Agreement:
    """The seats product as one version states it."""

    version: Terms
    product: ProductPrice
    price: Seats


@dataclass(frozen=True, slots=True)
class _Change:
    """From when on how many seats are charged, after how many before; None where the product is not agreed at all."""

    at: datetime
    before: Decimal | None
    after: Decimal | None


def seat_fees(terms: Sequence[Terms], product_id: str, cadence: Cadence | None, schedule: Schedule) -> Iterator[Fee]:
    """Yield the fees of a product of seats: one for what its period begins with, one for each change that counts.

    The price is the one in force when the period begins, or when the product first is within it; another price counts
    from the next period. A rise is charged from its moment to the period's end, as what the whole quantity costs more;
    a fall only if the price says so, otherwise seats taken back within the period cost nothing again.
    """
    for fee_period, whole in schedule.fee_periods(cadence):
        history = _history(terms, product_id, cadence, fee_period)
        agreed = next((agreement for _, agreement in history if agreement is not None), None)
        if agreed is None:
            continue
        for change in _changes(history, credits_removals=agreed.price.credit_removals):
            service = Period(change.at, fee_period.end)
            if schedule.touches(service):
                yield fee_of(agreed.product, agreed.version, _bill(agreed, change, service, whole, schedule), schedule)


def seats_in_force(terms: Sequence[Terms], product_id: str, moment: datetime) -> Decimal:
    """Return how many seats of a product the terms in force at a moment state; zero where they state none."""
    agreed = _agreement(terms, product_id, moment)
    return ZERO if agreed is None else agreed.price.quantity


def _agreement(terms: Sequence[Terms], product_id: str, moment: datetime) -> _Agreement | None:
    version = terms_in_force(terms, moment)
    if version is not None:
        for product in version.prices:
            if product.product_id == product_id and isinstance(product.price, Seats):
                return _Agreement(version, product, product.price)
    return None


def _history(
    terms: Sequence[Terms], product_id: str, cadence: Cadence | None, fee_period: Period
) -> list[tuple[datetime, _Agreement | None]]:
    """Return what is agreed at the start of a period and at each new version within it."""
    dates = {version.effective_from for version in terms if version.effective_from in fee_period}
    found = [(moment, _agreement(terms, product_id, moment)) for moment in sorted(dates | {fee_period.start})]
    return [
        (moment, agreed if agreed is not None and agreed.price.cadence == cadence else None) for moment, agreed in found
    ]


def _changes(history: Sequence[tuple[datetime, _Agreement | None]], *, credits_removals: bool) -> Iterator[_Change]:
    held: Decimal | None = None
    for moment, agreed in history:
        wanted = None if agreed is None else agreed.price.quantity
        difference = EXACT.subtract(wanted or ZERO, held or ZERO)
        opens = held is None and wanted is not None
        if opens or difference > ZERO or (difference < ZERO and credits_removals):
            yield _Change(moment, held, wanted)
            held = wanted


def _bill(agreed: _Agreement, change: _Change, service: Period, whole: Period, schedule: Schedule) -> Bill:
    price, unit = agreed.price, agreed.product.unit
    steps = _steps(price, change.after, unit)
    full = EXACT.subtract(_amount(steps), _amount(_steps(price, change.before, unit)))
    part = share(service, whole, price.proration, schedule.time_zone)
    quantity = EXACT.subtract(change.after or ZERO, change.before or ZERO)
    if part == 1 and change.before is None:
        return Bill(service, full, price.timing, quantity, steps)
    told = f"{counted(quantity.copy_abs(), unit)}{_how_changed(change, quantity)}, {price_text(full)} a period"
    if part != 1:
        told = f"{told}, {part_text(service, whole, price.proration, schedule.time_zone)}"
    return Bill(service, prorated(full, part), price.timing, quantity, told=told)


def _how_changed(change: _Change, quantity: Decimal) -> str:
    if change.before is None:
        return ""
    return " fewer" if quantity < ZERO else " more"


def _steps(price: Seats, quantity: Decimal | None, unit: str) -> tuple[Step, ...]:
    if quantity is None:
        return ()
    measure = Measure(quantity)
    return price_steps(price.price, measure, Standing(NOTHING, measure), unit)


def _amount(steps: Sequence[Step]) -> Decimal:
    return total([step.amount for step in steps])
