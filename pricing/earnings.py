"""Earnings: how a fee, once its service and amount are known, is billed and earned in one billing period."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Literal

from pricing.calendar import Period, days
from pricing.errors import TermsError
from pricing.money import EXACT, WIDE, ZERO, to_ledger_scale
from pricing.rated import EarnedDay, Fee, Step
from pricing.schedule import Schedule
from pricing.steps import step
from pricing.terms import ProductPrice, Terms

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Bill:
    """What is charged for a service in all, exactly, in the unit of the product's price."""

    service: Period
    amount: Decimal
    timing: Literal["advance", "arrears"]
    quantity: Decimal = Decimal(1)
    steps: tuple[Step, ...] = ()
    """The steps of an amount that is charged whole."""
    told: str | None = None
    """How an amount in parts came about, in words; its only step says so."""


def fee_of(product: ProductPrice, version: Terms, bill: Bill, schedule: Schedule) -> Fee:
    """Return the fee as far as it concerns the rated billing period."""
    amount = in_money(product, version, bill.amount)
    is_here = bill.service.start in schedule.period if bill.timing == "advance" else schedule.has_end_of(bill.service)
    steps = bill.steps if product.pricing_unit is None else ()
    if bill.told is not None:
        steps = (step(bill.told, bill.quantity, None, flat_fee=amount),)
    return Fee(
        product_id=product.product_id,
        name=product.name,
        terms_version=version.version,
        amount=amount if is_here else ZERO,
        earned=tuple(_earned(amount, bill.service, schedule)),
        service=bill.service,
        timing=bill.timing,
        quantity=bill.quantity,
        steps=steps if is_here else (),
    )


def in_money(product: ProductPrice, version: Terms, amount: Decimal) -> Decimal:
    """Return an amount of a product's price in the contract's currency, at ledger scale."""
    if product.pricing_unit is not None:
        rates = [unit.money_per_unit for unit in version.units if unit.code == product.pricing_unit]
        if not rates:
            raise TermsError(
                f"product {product.product_id!r} is priced in {product.pricing_unit!r}, which the terms do not define; "
                "add it to their units"
            )
        amount = WIDE.multiply(amount, rates[0])
    rounded = to_ledger_scale(amount)
    return amount if amount == rounded else rounded


def _earned(amount: Decimal, service: Period, schedule: Schedule) -> Iterator[EarnedDay]:
    """Yield what each day of the rated period earns: what its time of the service adds to the rounded sum so far."""
    whole = Decimal((service.end - service.start) // MICROSECOND)
    span = Period(max(service.start, schedule.period.start), min(service.end, schedule.period.end))

    def reached(part: Period) -> Decimal:
        elapsed = Decimal((part.end - service.start) // MICROSECOND)
        return to_ledger_scale(WIDE.divide(EXACT.multiply(amount, elapsed), whole))

    earned = reached(Period(service.start, span.start))
    for day, part in days(span, schedule.entity_time_zone):
        so_far = reached(part)
        yield EarnedDay(day, EXACT.subtract(so_far, earned))
        earned = so_far
