"""Usage events as they are sent: read strictly, each on its own, so that a bad one never fails its neighbours."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, DecimalException
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from ledger.checks import check_aware
from ledger.errors import InvalidError
from pricing.money import EXACT

MAX_BATCH_EVENTS = 10_000
MAX_BATCH_BYTES = 16 * 1024 * 1024
MAX_TEXT = 256
MAX_PROPERTIES = 64
MAX_PROPERTY_TEXT = 1024
MAX_WHOLE_DIGITS = 26
MAX_PLACES = 12
MAX_AHEAD = timedelta(hours=24)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)

MAX_SHOWN = 100
MAX_RAW = 4096
FLOAT_DIGITS = 15
MAX_KNOWN = 100_000
TEXT_FIELDS = ("source", "key", "customer", "type")
FIELDS = frozenset((*TEXT_FIELDS, "timestamp", "properties"))

PropertyValue = str | bool | Decimal


class UsageEvent(msgspec.Struct, frozen=True, gc=False):
    """A readable event. `customer` is the name it was sent under; `timestamp` is in UTC.

    Numbers are exact and without trailing zeros, so that 1.0 and 1 are one value. Source and key say which event it is;
    everything else is what it says.
    """

    source: str
    key: str
    customer: str
    type: str
    timestamp: datetime
    properties: Mapping[str, PropertyValue]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an event cannot be taken: the field, its value (shortened) and, in `reason`, the remedy.

    `source` and `key` are None where they cannot be read; `raw` is the event as it came, shortened.
    """

    index: int
    source: str | None
    key: str | None
    field: str
    value: str
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class ParsedBatch:
    """The events of a batch with their positions, and those that cannot be read."""

    events: tuple[tuple[int, UsageEvent], ...]
    rejections: tuple[Rejection, ...]


class TooManyError(InvalidError):
    """A batch holds more events or more bytes than may come at once."""


class FieldError(Exception):
    """One field of one event cannot be taken."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field} {shown(value)}: {reason}")
        self.field, self.value, self.reason = field, shown(value), reason


def parse_json(body: bytes, *, received_at: datetime) -> ParsedBatch:
    """Read a JSON array of events; raise `InvalidError` when it is none, `TooManyError` over 10,000 events or 16 MB."""
    _check_size(body)
    try:
        objects = _DECODER.decode(body)
    except (ValueError, RecursionError, DecimalException):
        return _parse_each(body, received_at=received_at)
    if not isinstance(objects, list):
        raise InvalidError("the body must be a JSON array of events, or NDJSON with one event a line")
    return parse_objects(objects, received_at=received_at)


def parse_ndjson(body: bytes, *, received_at: datetime) -> ParsedBatch:
    """Read one JSON event a line, skipping blank lines; raise `TooManyError` over 10,000 events or 16 MB."""
    _check_size(body)
    return parse_lines(body.split(b"\n"), received_at=received_at)


def parse_lines(lines: Iterable[bytes], *, received_at: datetime, first: int = 0) -> ParsedBatch:
    """Read one JSON event a line; `first` is the position of the first one."""
    return _batch([_decoded(line) for line in lines if line.strip()], received_at=received_at, first=first)


def parse_objects(objects: Sequence[object], *, received_at: datetime, first: int = 0) -> ParsedBatch:
    """Read events that are decoded already; `first` is the position of the first one.

    A float is taken for the number that its shortest text says, when that has 15 digits at most: then it is the one
    that was sent.
    """
    return _batch(objects, received_at=received_at, first=first)


def key_hash(source: str, key: str) -> UUID:
    """Return which event it is: the digest that duplicates share."""
    return _digest((source, key))


def payload_hash(event: UsageEvent) -> UUID:
    """Return what an event says apart from source and key: the same by every door, in any order of its properties."""
    return _digest((event.customer, event.type, event.timestamp, event.properties))


class Keyed(msgspec.Struct, frozen=True, gc=False):
    """An event at its position, with the digests of `key_hash` and `payload_hash` in hexadecimal.

    `moment` is its time and `properties` are its properties, as canonical JSON has them.
    """

    index: int
    event: UsageEvent
    key: str
    payload: str
    moment: str
    properties: str


def keyed(index: int, event: UsageEvent) -> Keyed:
    """Return an event with its digests, encoding it once."""
    key = hashlib.sha256(_ENCODER.encode((event.source, event.key))).digest()[:16]
    said = _ENCODER.encode((event.customer, event.type, event.timestamp, event.properties))
    text = said.decode()
    end = text.index(_AFTER_TIMESTAMP) + 1
    moment = text[text.rindex('"', 0, end) + 1 : end]
    return Keyed(index, event, key.hex(), hashlib.sha256(said).digest()[:16].hex(), moment, text[end + 2 : -1])


def copied(text: str) -> str:
    """Write a text as COPY reads it."""
    if "\\" not in text and text.isprintable():
        return text
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


_AFTER_TIMESTAMP = 'Z",{'
"""Stands first between the timestamp and the properties: within a text a quotation mark is escaped."""


def event_json(event: UsageEvent) -> str:
    """Return an event as canonical JSON, its numbers exact."""
    return _ENCODER.encode(event).decode()


def properties_json(event: UsageEvent) -> str:
    """Return an event's properties as canonical JSON, its numbers exact."""
    return _ENCODER.encode(event.properties).decode()


def properties_of(text: str) -> dict[str, PropertyValue]:
    """Read properties as `properties_json` wrote them and the database returns them."""
    decoded: dict[str, str | bool | int | Decimal] = _DECODER.decode(text)
    return {
        name: value if isinstance(value, bool | str) else EXACT.normalize(Decimal(value)) or Decimal(0)
        for name, value in decoded.items()
    }


def shown(value: object) -> str:
    """Return a value as people are shown it: one line, shortened."""
    text = value if isinstance(value, str) else _as_json(value)
    text = _storable(text)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def rejection(index: int, event: UsageEvent, error: FieldError) -> Rejection:
    """Return the rejection of an event that could be read but not be counted."""
    raw = event_json(event)[:MAX_RAW]
    return Rejection(index, event.source, event.key, error.field, error.value, error.reason, raw)


# --- reading one event --------------------------------------------------------------------------------------------

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number", order="sorted")


@dataclass(frozen=True, slots=True)
class _Unreadable:
    text: str


def _batch(objects: Sequence[object], *, received_at: datetime, first: int) -> ParsedBatch:
    check_aware("received_at", received_at)
    if len(objects) > MAX_BATCH_EVENTS:
        raise TooManyError(f"a batch of {len(objects)} events is over {MAX_BATCH_EVENTS}; send it in several")
    latest = received_at + MAX_AHEAD
    events, rejections = [], []
    known: set[str] = set()
    for index, value in enumerate(objects, start=first):
        try:
            events.append((index, _event(value, latest, known)))
        except FieldError as error:
            rejections.append(
                Rejection(
                    index,
                    _name_in(value, "source"),
                    _name_in(value, "key"),
                    error.field,
                    error.value,
                    error.reason,
                    _storable(_as_json(value)[:MAX_RAW]),
                )
            )
    return ParsedBatch(tuple(events), tuple(rejections))


def _event(value: object, latest: datetime, known: set[str]) -> UsageEvent:
    """Read an event: the usual ones at once, all others step by step, so that each refusal says what is wrong."""
    if isinstance(value, dict) and len(value) == len(FIELDS):
        event = _usual(value, latest, known)
        if event is not None:
            return event
    return _checked(value, latest)


def _usual(value: Mapping[str, Any], latest: datetime, known: set[str]) -> UsageEvent | None:
    """Read an event that has all fields with plain values; None where anything must be looked at more closely.

    `known` are the texts of this batch that were found to be plain.
    """
    try:
        source, key, customer, event_type = value["source"], value["key"], value["customer"], value["type"]
        moment = datetime.fromisoformat(value["timestamp"])
        properties = _usual_properties(value["properties"], known)
    except (KeyError, TypeError, ValueError, AttributeError, FieldError):
        return None  # read step by step, it says what is wrong
    if properties is None or moment.tzinfo is not UTC or not EARLIEST <= moment <= latest:
        return None
    if not (isinstance(key, str) and _is_plain(key) and _is_known(source, known)):
        return None
    if not (_is_known(customer, known) and _is_known(event_type, known)):
        return None
    return UsageEvent(source, key, customer, event_type, moment, properties)


def _usual_properties(value: Mapping[str, Any], known: set[str]) -> dict[str, PropertyValue] | None:
    properties: dict[str, PropertyValue] = {}
    for name, item in value.items():
        kind = item.__class__
        if kind is int:
            properties[name] = _whole(item)
        elif kind is bool or (kind is str and _is_known(item, known)):
            properties[name] = item
        elif kind is Decimal:
            properties[name] = _number(name, item)
        else:
            return None
        if not _is_known(name, known):
            return None
    return properties if len(properties) <= MAX_PROPERTIES else None


def _is_known(text: object, known: set[str]) -> bool:
    """Say whether a text is plain, and remember it then."""
    if not isinstance(text, str):
        return False
    if text in known:
        return True
    if not _is_plain(text):
        return False
    if len(known) < MAX_KNOWN:
        known.add(text)
    return True


def _is_plain(text: str) -> bool:
    """Say whether a text is short, printable ASCII and not only spaces."""
    return 0 < len(text) <= MAX_TEXT and text.isascii() and text.isprintable() and not text.isspace()


@lru_cache(maxsize=65536)
def _whole(value: int) -> Decimal:
    """Return a whole number as `_number` does, quickly where it comes often."""
    return _number("", value)


def _checked(value: object, latest: datetime) -> UsageEvent:
    if isinstance(value, _Unreadable):
        raise FieldError("event", value.text, "is not JSON; NaN and Infinity are none, and text must be UTF-8")
    if not isinstance(value, dict):
        raise FieldError("event", value, f"must be an object with the fields {', '.join(sorted(FIELDS))}")
    if not value.keys() <= FIELDS:
        unknown = next(str(name) for name in value if name not in FIELDS)
        raise FieldError(shown(unknown), value.get(unknown), "is no field of an event; put it into properties")
    source, key, customer, event_type = (_text(value, field) for field in TEXT_FIELDS)
    timestamp = _timestamp(value.get("timestamp"), latest)
    return UsageEvent(source, key, customer, event_type, timestamp, _properties(value.get("properties", {})))


def _text(event: Mapping[str, object], field: str) -> str:
    value = event.get(field)
    if value is None:
        raise FieldError(field, "", "is missing; every event needs it")
    if not isinstance(value, str):
        raise FieldError(field, value, "must be text; put it in quotes")
    if not value.strip() or len(value) > MAX_TEXT:
        raise FieldError(field, value, f"must be 1 to {MAX_TEXT} characters, not only spaces")
    _check_storable(field, value)
    return value


def _timestamp(value: object, latest: datetime) -> datetime:
    if value is None:
        raise FieldError("timestamp", "", "is missing; every event needs it")
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise FieldError("timestamp", value, "must be a time such as 2026-10-05T12:30:00Z") from None
    elif isinstance(value, datetime):
        moment = value
    else:
        raise FieldError("timestamp", value, "must be text, a time such as 2026-10-05T12:30:00Z")
    if moment.utcoffset() is None:
        raise FieldError("timestamp", value, "has no time zone; end it with Z or an offset such as +02:00")
    if moment < EARLIEST:
        raise FieldError("timestamp", value, "is before 2000-01-01T00:00:00Z; correct it, and the clock that made it")
    if moment > latest:
        raise FieldError("timestamp", value, "is more than 24 hours ahead; correct it, and the clock that made it")
    return moment.astimezone(UTC)


def _properties(value: object) -> Mapping[str, PropertyValue]:
    if not isinstance(value, dict):
        raise FieldError("properties", value, "must be a flat object of text, numbers, true and false")
    if len(value) > MAX_PROPERTIES:
        raise FieldError("properties", len(value), f"has more than {MAX_PROPERTIES} members; send fewer")
    return {_property_name(name): _property(name, item) for name, item in value.items()}


def _property_name(name: object) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_TEXT:
        raise FieldError("properties", name, f"has a member whose name is not 1 to {MAX_TEXT} characters; rename it")
    _check_storable("properties", name)
    return name


def _property(name: str, value: object) -> PropertyValue:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if len(value) > MAX_PROPERTY_TEXT:
            raise FieldError(f"properties.{name}", value, f"is longer than {MAX_PROPERTY_TEXT} characters; shorten it")
        _check_storable(f"properties.{name}", value)
        return value
    if isinstance(value, int | Decimal | float):
        return _number(f"properties.{name}", value)
    raise FieldError(f"properties.{name}", value, "must be text, a number, true or false; leave it out if it has none")


def _number(field: str, value: float | Decimal) -> Decimal:
    if isinstance(value, float):
        text = repr(value)
        if sum(character.isdigit() for character in text.partition("e")[0].strip("-0.").rstrip("0.")) > FLOAT_DIGITS:
            raise FieldError(field, text, "is a float that may have lost digits; send it as a decimal in JSON text")
        value = Decimal(text)
    try:
        number = EXACT.normalize(Decimal(value))
    except DecimalException:
        number = None
    if number is None or not number.is_finite():
        raise FieldError(field, value, "must be a finite number; NaN, Infinity and endless digits are refused")
    exponent = number.as_tuple().exponent
    if number and (number.adjusted() >= MAX_WHOLE_DIGITS or not isinstance(exponent, int) or exponent < -MAX_PLACES):
        raise FieldError(
            field, value, f"has more than {MAX_WHOLE_DIGITS} whole digits or {MAX_PLACES} places; round it first"
        )
    return number or Decimal(0)


def _check_storable(field: str, value: str) -> None:
    if "\x00" in value or not (value.isascii() or _is_unicode(value)):
        raise FieldError(field, value, "holds a NUL or half a character, which no database keeps; remove it")


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- reading many -------------------------------------------------------------------------------------------------


def _check_size(body: bytes) -> None:
    if len(body) > MAX_BATCH_BYTES:
        raise TooManyError(f"a body of {len(body)} bytes is over {MAX_BATCH_BYTES}; send it in several batches")


def _parse_each(body: bytes, *, received_at: datetime) -> ParsedBatch:
    try:
        parts = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (ValueError, RecursionError, DecimalException) as error:
        raise InvalidError(
            f"the body is not a JSON array ({error}); send an array of events, or NDJSON; NaN is not JSON"
        ) from error
    return _batch([_decoded(bytes(part)) for part in parts], received_at=received_at, first=0)


def _decoded(text: bytes) -> object:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError, DecimalException):
        return _Unreadable(text[:MAX_RAW].decode(errors="replace"))


def _name_in(value: object, field: str) -> str | None:
    name = value.get(field) if isinstance(value, dict) else None
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_TEXT or _storable(name) != name:
        return None
    return name


def _as_json(value: object) -> str:
    if isinstance(value, _Unreadable):
        return value.text
    if isinstance(value, float | Decimal):
        return str(value)  # NaN and Infinity have no JSON form
    try:
        return _ENCODER.encode(value).decode()
    except (TypeError, ValueError, RecursionError, OverflowError):
        return repr(value)


def _storable(text: str) -> str:
    return text.replace("\x00", "\\u0000").encode(errors="backslashreplace").decode()


def _digest(value: object) -> UUID:
    return UUID(bytes=hashlib.sha256(_ENCODER.encode(value)).digest()[:16])
