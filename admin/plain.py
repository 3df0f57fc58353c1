"""Answers as programs read them: decimals as text, times in ISO 8601 (UTC), everything else as plain JSON."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec

Plain = Mapping[str, "Plain"] | Sequence["Plain"] | str | int | float | bool | None

UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)), ("s", timedelta(seconds=1)))


def plain(value: object) -> Plain:
    """Return a value as JSON has it; raise `TypeError` for one that has no such form."""
    match value:
        case None | bool() | int() | str() | float():
            return value
        case Mapping():
            return {str(name): plain(content) for name, content in value.items()}
        case Sequence():
            return [plain(content) for content in value]
        case msgspec.Struct():
            return {name: plain(content) for name, content in msgspec.structs.asdict(value).items()}
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            return _text(value)


def _text(value: object) -> str:
    match value:
        case Decimal():
            return decimal_text(value)
        case datetime():
            return moment_text(value)
        case date():
            return value.isoformat()
        case timedelta():
            return duration_text(value)
        case UUID():
            return str(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return a value as JSON text."""
    return json.dumps(plain(value), ensure_ascii=False, indent=indent)


def decimal_text(value: Decimal) -> str:
    """Write a number in full, without an exponent and without trailing zeros after the point: 12.5, 1000, 0."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def moment_text(value: datetime) -> str:
    """Write a moment in UTC: 2026-10-05T12:30:00Z."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def duration_text(value: timedelta) -> str:
    """Write a duration as contract files do, in the largest unit that divides it: 3d, 36h, 90s."""
    if not value:
        return "0s"
    for unit, length in UNITS:
        if value % length == timedelta(0):
            return f"{value // length}{unit}"
    return f"{value.total_seconds()}s"
