"""What one event uses of a feature: the units and the money that its hold stands for until its usage is accrued."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ledger.contracts import terms_of
from ledger.errors import InvalidError
from ledger.gate_figures import price_of_unit, terms_at
from ledger.intake.events import UsageEvent
from ledger.intake.rules import Rule, UnmeasurableError, measure, read_rules
from pricing.money import EXACT, ZERO, to_ledger_scale, total
from pricing.quantities import converted
from pricing.terms import ProductPrice

ADDS_UP = ("sum", "count")
"""How metrics aggregate of which one event's share is known by itself."""


@dataclass(frozen=True, slots=True)
class EventUsage:
    """What an event uses; `units` or `amount` are None where only rating the whole period can tell."""

    units: Decimal | None
    amount: Decimal | None


def usage_of(connection: sa.Connection, contract_id: str, products: Sequence[str], event: UsageEvent) -> EventUsage:
    """Return what an event uses of these products, at the prices per unit of its time.

    Raises `InvalidError` when none of them counts it.
    """
    rules = {
        rule.metric_id: rule
        for rule in read_rules(connection)
        if rule.version.event_type == event.type and rule.covers(event.timestamp)
    }
    terms, _ = terms_at(terms_of(connection, contract_id), event.timestamp)
    prices = [price for price in terms.prices if price.product_id in products and price.metric_id in rules]
    if not prices:
        raise InvalidError(
            f"event type {event.type!r} is counted by none of the products {', '.join(products)}; "
            "capture the hold with the event of its usage, or release it"
        )
    shares = [*_shares(prices, rules, event)]
    units = [share.units for share in shares if share.units is not None]
    amounts = [share.amount for share in shares if share.amount is not None]
    return EventUsage(
        max(total(units), ZERO) if len(units) == len(shares) else None,
        max(total(amounts), ZERO) if len(amounts) == len(shares) else None,
    )


def _shares(prices: Sequence[ProductPrice], rules: dict[str, Rule], event: UsageEvent) -> Iterator[EventUsage]:
    for price in prices:
        rule = rules[price.metric_id or ""]
        try:
            found = measure(rule, event.properties)
        except UnmeasurableError:
            yield EventUsage(None, None)  # intake refuses the event, and says why
            continue
        if found is None:
            continue
        if rule.version.aggregation not in ADDS_UP or price.rounding is not None:
            yield EventUsage(None, None)
        else:
            yield _share(price, found.value)


def _share(price: ProductPrice, quantity: Decimal) -> EventUsage:
    if price.conversion is not None:
        if price.conversion.rounding != "none":
            return EventUsage(None, None)
        quantity = converted(quantity, price.conversion)
    unit_price = price_of_unit(price)
    amount = None if unit_price is None else to_ledger_scale(EXACT.multiply(quantity, unit_price))
    return EventUsage(to_ledger_scale(quantity), amount)
