"""Events as they are made: which one it is, is said once and never changes."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from meterbook_client.errors import InvalidEventError

Value = str | bool | int | Decimal
MAX_REQUEST_EVENTS = 10_000
MAX_REQUEST_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """One fact of usage.

    `source` and `key` say which event it is: the same again counts once, for ever. Without a key it is derived from
    everything else that the event says, so that two events of the same content are one; give a key wherever the same
    may happen twice at one moment. `timestamp` has a time zone. Numbers in `properties` are whole numbers or decimals;
    a float is refused, because it may have lost digits. Raises `InvalidEventError`.
    """

    source: str
    customer: str
    type: str
    timestamp: datetime
    properties: Mapping[str, Value] = field(default_factory=dict)
    key: str = ""

    def __post_init__(self) -> None:
        for name in ("source", "customer", "type"):
            value: object = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise InvalidEventError(f"{name} {value!r} must be text and not empty")
        if self.timestamp.utcoffset() is None:
            raise InvalidEventError(
                f"timestamp {self.timestamp.isoformat()} has no time zone; make it with one, as datetime.now(UTC) does"
            )
        object.__setattr__(self, "properties", dict(self.properties))
        for name, item in self.properties.items():
            _check_value(name, item)
        if not self.key:
            object.__setattr__(self, "key", hashlib.sha256(self._content().encode()).hexdigest()[:32])

    def as_json(self) -> str:
        """Return the event as a line of JSON, its numbers exact."""
        return f'{{"key":{_quoted(self.key)},{self._content()}}}'

    def _content(self) -> str:
        named = sorted(self.properties.items())
        properties = ",".join(f"{_quoted(name)}:{_written(value)}" for name, value in named)
        moment = self.timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return (
            f'"source":{_quoted(self.source)},"customer":{_quoted(self.customer)},"type":{_quoted(self.type)},'
            f'"timestamp":"{moment}","properties":{{{properties}}}'
        )


def portions(lines: Iterable[str], *, most_events: int) -> Iterator[Sequence[str]]:
    """Cut events, written as JSON, into requests of at most so many events and 8 MB."""
    portion: list[str] = []
    size = 0
    for line in lines:
        length = len(line.encode()) + 1
        if portion and (len(portion) == most_events or size + length > MAX_REQUEST_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(line)
        size += length
    if portion:
        yield portion


def _check_value(name: object, value: object) -> None:
    if not isinstance(name, str) or not name.strip():
        raise InvalidEventError(f"properties has a member {name!r}; its name must be text and not empty")
    if isinstance(value, float):
        raise InvalidEventError(f"properties.{name} {value!r} is a float; give Decimal({str(value)!r}) or an int")
    if isinstance(value, Decimal) and not value.is_finite():
        raise InvalidEventError(f"properties.{name} {value} must be a finite number")
    if not isinstance(value, str | bool | int | Decimal):
        raise InvalidEventError(f"properties.{name} {value!r} must be text, a whole number, a Decimal, true or false")


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return f"{value:f}" if isinstance(value, Decimal) else _quoted(value)


def _quoted(text: str) -> str:
    return json.dumps(text)
