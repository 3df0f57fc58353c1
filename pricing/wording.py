"""How quantities and prices are written in the explanation of an amount: plain English, no exponent, no lost digit."""

from decimal import Decimal

from pricing.money import EXACT

SHORTEST_WORD = 3
A_CENT = Decimal("0.01")
A_CENT_OF_A_CENT = Decimal("0.0001")


def number(quantity: Decimal) -> str:
    """Write a quantity with thousands separators and without trailing zeros: 1,000,000 or 0.5."""
    return f"{quantity.normalize(EXACT):,f}"


def price_text(price: Decimal) -> str:
    """Write a price with the digits that the terms give it: 0.50 stays 0.50."""
    return f"{price:,f}"


def unit_price_text(price: Decimal) -> str:
    """Write the price of one unit; where it is far below a cent, of a thousand or a million: 2.00 per million."""
    if not price or EXACT.abs(price) >= A_CENT:
        return price_text(price)
    scale, name = (3, "thousand") if EXACT.abs(price) >= A_CENT_OF_A_CENT else (6, "million")
    return f"{amount_text(EXACT.scaleb(price, scale))} per {name}"


def amount_text(amount: Decimal, least_places: int = 2) -> str:
    """Write an amount exactly, with thousands separators and at least so many decimals: 1,234.50 or 0.00012."""
    figures = number(amount)
    missing = least_places - len(figures.partition(".")[2])
    if missing <= 0:
        return figures
    return figures + ("" if "." in figures else ".") + "0" * missing


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
