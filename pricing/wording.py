"""How quantities and prices are written in the explanation of an amount: plain English, no exponent, no lost digit."""

from decimal import Decimal

from pricing.money import EXACT

SHORTEST_WORD = 3


def number(quantity: Decimal) -> str:
    """Write a quantity with thousands separators and without trailing zeros: 1,000,000 or 0.5."""
    return f"{quantity.normalize(EXACT):,f}"


def price_text(price: Decimal) -> str:
    """Write a price with the digits that the terms give it: 0.50 stays 0.50."""
    return f"{price:,f}"


def counted(quantity: Decimal, unit: str) -> str:
    """Write a quantity with its unit, in the plural unless it is one; symbols such as GB or ms have none."""
    is_word = len(unit) >= SHORTEST_WORD and unit[-1].islower() and not unit.endswith("s")
    if quantity == 1 or not is_word:
        return f"{number(quantity)} {unit}"
    if unit.endswith(("ch", "sh", "x", "z")):
        return f"{number(quantity)} {unit}es"
    if unit.endswith("y") and unit[-2] not in "aeiou":
        return f"{number(quantity)} {unit[:-1]}ies"
    return f"{number(quantity)} {unit}s"


def percent_text(rate_percent: Decimal) -> str:
    """Write a percentage with the digits that the terms give it: 2.90%."""
    return f"{price_text(rate_percent)}%"
