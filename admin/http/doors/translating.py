"""Other systems' events as events of ours: numbers exact, nesting made flat, and what cannot be read refused alone."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal, DecimalException
from typing import Final

import msgspec

from ledger.errors import InvalidError
from ledger.intake.events import (
    MAX_PLACES,
    MAX_RAW,
    MAX_WHOLE_DIGITS,
    FieldError,
    ParsedBatch,
    Rejection,
    parse_objects,
    shown,
)

MAX_DEPTH = 8
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
_DECODE: Final = msgspec.json.Decoder(float_hook=Decimal).decode
_ENCODE: Final = msgspec.json.Encoder(decimal_format="number").encode

Translate = Callable[[object], dict[str, object]]
"""Makes of another system's event the object that `parse_objects` reads, or raises `FieldError` with our field."""


def decoded(body: bytes) -> object:
    """Return what a JSON body says, its numbers exact; raise `InvalidError` when it is no JSON."""
    try:
        return _DECODE(body)
    except (ValueError, DecimalException, RecursionError) as error:
        raise InvalidError(f"the body is not JSON ({error}); NaN and Infinity are none, and text is UTF-8") from error


def encoded(value: object) -> bytes:
    """Return a value as JSON, its numbers as they were sent."""
    return _ENCODE(value)


def translated(items: Sequence[object], translate: Translate, *, received_at: datetime) -> ParsedBatch:
    """Read another system's events; an event that cannot be translated is refused alone, at its position."""
    objects: list[dict[str, object]] = []
    positions: list[int] = []
    refused: list[Rejection] = []
    for position, item in enumerate(items):
        try:
            objects.append(translate(item))
            positions.append(position)
        except FieldError as error:
            refused.append(Rejection(position, None, None, shown(error.field), error.value, error.reason, _raw(item)))
    batch = parse_objects(objects, received_at=received_at)
    refused += [replace(one, index=positions[one.index]) for one in batch.rejections]
    events = tuple((positions[index], event) for index, event in batch.events)
    return ParsedBatch(events, tuple(sorted(refused, key=lambda one: one.index)))


def members(value: object, kind: str) -> Mapping[str, object]:
    """Return the members of a JSON object; raise `FieldError` saying what `kind` of object it must be."""
    if not isinstance(value, dict):
        raise FieldError("event", value, f"must be {kind}")
    return value


def known(named: Mapping[str, object]) -> dict[str, object]:
    """Return the fields that are there: null says the same as leaving a field out."""
    return {name: value for name, value in named.items() if value is not None}


def flat(value: object, *, reads_numbers: bool) -> dict[str, object]:
    """Return the members of an object without nesting: {"a": {"b": 1}} is {"a.b": 1}; null members are left out.

    With `reads_numbers`, text that is a plain decimal number ("12", "-0.50") is that number, exactly, because the
    other system asks for numbers to be sent so; a text with leading zeros, an exponent or more digits than a property
    may have stays text. Raises `FieldError` for another value than an object, and for two members of one name.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise FieldError("properties", value, "must be a JSON object; its members are the event's properties")
    found: dict[str, object] = {}
    for name, item in _leaves(value, "", 1):
        if name in found:
            raise FieldError(f"properties.{name}", item, "is there twice once nesting is made flat; rename one")
        found[name] = _number(item) if reads_numbers and isinstance(item, str) else item
    return found


def _leaves(value: Mapping[str, object], prefix: str, depth: int) -> Iterator[tuple[str, object]]:
    for name, item in value.items():
        if isinstance(item, dict):
            if depth == MAX_DEPTH:
                raise FieldError(f"properties.{prefix}{name}", item, f"is nested deeper than {MAX_DEPTH}; send it flat")
            yield from _leaves(item, f"{prefix}{name}.", depth + 1)
        elif item is not None:
            yield prefix + name, item


def _number(text: str) -> str | Decimal:
    found = NUMBER.fullmatch(text)
    if found is None or len(found[1]) > MAX_WHOLE_DIGITS or len(found[2] or ".") - 1 > MAX_PLACES:
        return text
    return Decimal(text)


def _raw(item: object) -> str:
    try:
        text = encoded(item).decode()
    except (TypeError, ValueError, RecursionError, OverflowError):
        text = repr(item)
    return text[:MAX_RAW].replace("\x00", "\\u0000").encode(errors="backslashreplace").decode()
