"""What names and moments must look like before they are recorded; a refusal is an `InvalidError` naming the field."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ledger.errors import InvalidError
from pricing.money import currency

SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def check_slug(field: str, value: str) -> None:
    """Refuse an id that is not a slug: it becomes part of workflow ids, invoice ids and file names."""
    if not SLUG.fullmatch(value):
        raise InvalidError(
            f"{field} {value!r} must be 1 to 63 lower-case letters, digits, dots, hyphens or underscores, "
            "starting with a letter or digit"
        )


def check_text(field: str, value: str, *, longest: int = 200) -> None:
    """Refuse an empty or over-long text, and one with control characters."""
    if not value.strip() or len(value) > longest or not value.isprintable():
        raise InvalidError(f"{field} {value[:longest]!r} must be 1 to {longest} printable characters")


def check_currency(field: str, value: str) -> None:
    """Refuse a currency whose minor unit is not known."""
    try:
        currency(value)
    except ValueError as error:
        raise InvalidError(f"{field}: {error}") from error


def check_time_zone(field: str, value: str) -> None:
    """Refuse a name that is not in the time zone database."""
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidError(f"{field} {value!r} is not a time zone; use a name such as Europe/Berlin") from error


def check_aware(field: str, value: datetime) -> None:
    """Refuse a moment without an offset from UTC: it could mean any of 26 hours."""
    if value.utcoffset() is None:
        raise InvalidError(f"{field} {value.isoformat()} has no time zone; write it with one, 2026-01-01T00:00:00Z")
