"""Short ways to price usage by one model alone, without a contract."""

from collections.abc import Sequence
from decimal import Decimal

from pricing.measures import NOTHING, Measure
from pricing.models import Standing, price_steps
from pricing.money import total
from pricing.prices import CellPrice
from pricing.rated import Step


def measure(quantity: str | Decimal | int, *, events: int = 0, amount: str | Decimal = "0") -> Measure:
    return Measure(Decimal(quantity), events, Decimal(amount))


def payments(*values: str | Decimal) -> Measure:
    """Events with an amount of money each, in time order."""
    amounts = tuple(Decimal(value) for value in values)
    return Measure(total(amounts), len(amounts), Decimal(0), amounts)


def steps_for(price: CellPrice, usage: Measure, *, unit: str = "token") -> tuple[Step, ...]:
    """The steps of usage that is all there is in its period."""
    return price_steps(price, usage, Standing(NOTHING, usage), unit)


def amount_of(steps: Sequence[Step]) -> Decimal:
    return total([step.amount for step in steps])


def cost(price: CellPrice, usage: Measure) -> Decimal:
    """What usage costs that is all there is in its period."""
    return amount_of(steps_for(price, usage))
