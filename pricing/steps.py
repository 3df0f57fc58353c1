"""Steps as the price models make them: exact, each with the sentence that explains it."""

from decimal import Decimal

from pricing.money import EXACT, ZERO
from pricing.rated import Step
from pricing.wording import price_text


def step(
    text: str,
    quantity: Decimal,
    unit_price: Decimal | None,
    *,
    flat_fee: Decimal = ZERO,
    over: Decimal | None = None,
    up_to: Decimal | None = None,
    tier: int | None = None,
) -> Step:
    """Return a step whose amount is the quantity times the unit price (None: nothing) plus the flat fee, exactly.

    The text is told on with the flat fee only where a unit price stands before it.
    """
    usage_amount = ZERO if unit_price is None else EXACT.multiply(quantity, unit_price)
    told = f"{text}, plus {price_text(flat_fee)}" if flat_fee and unit_price is not None else text
    return Step(told, quantity, unit_price, EXACT.add(usage_amount, flat_fee), flat_fee, over, up_to, tier)
