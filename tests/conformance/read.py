"""Reading the texts of cases: decimals, moments, and the names that options have there."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pricing.prices import Cadence, Rounding

Json = Mapping[str, Any]

ROUNDINGS: Mapping[str, Rounding] = {
    "up": "up",
    "ceil": "up",
    "ceiling": "up",
    "down": "down",
    "floor": "down",
    "round": "half_up",
    "half_up": "half_up",
    "none": "none",
}
CADENCES: Mapping[str, Cadence] = {
    "day": "day",
    "daily": "day",
    "week": "week",
    "weekly": "week",
    "month": "month",
    "monthly": "month",
    "two_weeks": "two_weeks",
    "biweekly": "two_weeks",
    "quarter": "quarter",
    "quarterly": "quarter",
    "half_year": "half_year",
    "half_yearly": "half_year",
    "semiannual": "half_year",
    "semi_annual": "half_year",
    "year": "year",
    "yearly": "year",
}


def decimal(value: object) -> Decimal:
    """Read a number; a float is refused, since it is not the number that was written."""
    if isinstance(value, bool | float) or not isinstance(value, int | str | Decimal):
        raise TypeError(f"{value!r} is no decimal; write it as a text or a whole number")
    return Decimal(value)


def decimal_or_none(value: object) -> Decimal | None:
    """Read a number that may be absent."""
    return None if value is None else decimal(value)


def moment(text: str) -> datetime:
    """Read a moment; a date is its midnight, in UTC unless the text says otherwise."""
    read = datetime.fromisoformat(text)
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)


def moment_or_none(text: str | None) -> datetime | None:
    """Read a moment that may be absent."""
    return None if text is None else moment(text)
