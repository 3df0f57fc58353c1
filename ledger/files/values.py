"""The values of files: each type reads a written text exactly, or says what to write instead."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from ledger.checks import SLUG, check_currency, check_slug, check_text, check_time_zone
from ledger.errors import InvalidError
from ledger.files.document import DATE, DECIMAL, FLAG, TEXT, WHOLE, Scalar
from pricing.calendar import local_midnight
from pricing.money import CURRENCY_EXPONENTS, Currency, currency

MAX_WHOLE_DIGITS = 15
MAX_PLACES = 12
MAX_WHOLE = 10**MAX_WHOLE_DIGITS - 1
MAX_DURATION = timedelta(days=366)
MAX_DUE_DAYS = 365
MAX_PRIORITY = 1_000_000
MAX_WINDOWS = 1000
MAX_LONG_TEXT = 1000
LONGEST_EMAIL = 254
FIRST_YEAR, LAST_YEAR = 2000, 2100
FIRST_MOMENT = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
TAG = "tag:"
NEVER = "never"

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SLUG = SLUG.pattern


@dataclass(frozen=True, slots=True)
class Setting:
    """What the values of a file depend on: the zone of its dates, and the start that parts without one take."""

    time_zone: str = "UTC"
    start: datetime = FIRST_MOMENT


def refused(sentence: str) -> PydanticCustomError:
    """Return the error of a value that cannot be taken, with the sentence that says why and what to write."""
    return PydanticCustomError("refused", "{sentence}", {"sentence": sentence})


def parse_moment(text: str, time_zone: str) -> datetime:
    """Return the UTC moment that a date (its local midnight) or a moment with its offset means.

    Raises `InvalidError` for anything else, and for years before 2000 or after 2100.
    """
    try:
        if len(text) == len("2026-01-01"):
            moment = local_midnight(date.fromisoformat(text), time_zone)
        else:
            moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise InvalidError(f"{text!r} is not a date; write 2026-01-01, or 2026-01-01T00:00:00Z") from None
    if moment.utcoffset() is None:
        raise InvalidError(f"{text!r} has no time zone; write the date alone, or end it with Z or an offset")
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise InvalidError(f"{text!r} must lie between the years {FIRST_YEAR} and {LAST_YEAR}; correct the year")
    return moment.astimezone(UTC)


# --- readers ------------------------------------------------------------------------------------------------------


def _written(value: object, tags: Collection[str], wanted: str) -> str:
    if isinstance(value, Scalar) and value.tag in tags:
        return str(value)
    shown = repr(str(value)) if isinstance(value, Scalar) else "a list or mapping"
    raise refused(f"{shown} must be {wanted}")


def _checked(written: str, check: Callable[[str, str], None]) -> str:
    try:
        check("value", written)
    except InvalidError as error:
        raise refused(str(error).removeprefix("value").removeprefix(":").removeprefix(" ")) from error
    return written


def _text(value: object) -> str:
    return _checked(_written(value, {TEXT}, "text; put it in quotes"), check_text)


def _long_text(longest: int) -> Callable[[object], str]:
    def read(value: object) -> str:
        written = _written(value, {TEXT}, "text; put it in quotes")
        return _checked(written, lambda field, text: check_text(field, text, longest=longest))

    return read


def _slug(value: object) -> str:
    return _checked(_written(value, {TEXT}, "an id; put it in quotes"), check_slug)


def _lot_slug(value: object) -> str:
    slug = _slug(value)
    if "." in slug:
        raise refused(f"{slug!r} must not contain a dot; use a hyphen")  # lot ids are {contract}.{commit}
    return slug


def _product_name(value: object) -> str:
    written = _written(value, {TEXT}, "the id of a product, or its tag as tag:ai; put it in quotes")
    _checked(written.removeprefix(TAG), check_slug)
    return written


def _not_empty(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise refused("names no product; name at least one, or leave it out")
    return names


def _number(value: object) -> Decimal:
    written = _written(value, {WHOLE, DECIMAL, TEXT}, 'a number such as "0.00004"')
    if not _NUMBER.fullmatch(written):
        raise refused(f'{written!r} is not a number; write its digits plainly, such as 1000000 or "0.00004"')
    whole, _, places = written.lstrip("-").partition(".")
    if len(whole) > MAX_WHOLE_DIGITS or len(places) > MAX_PLACES:
        raise refused(f"{written} must have at most {MAX_WHOLE_DIGITS} digits before and {MAX_PLACES} after the point")
    return Decimal(written)


def _whole_number(least: int, most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        number = _number(value)
        if number != number.to_integral_value() or not least <= number <= most:
            raise refused(f"{number} must be a whole number from {least} to {most}")
        return int(number)

    return read


def _flag(value: object) -> bool:
    written = _written(value, {FLAG}, "true or false")
    if written.lower() not in ("true", "false"):
        raise refused(f"{written!r} must be true or false")
    return written.lower() == "true"


def _duration(value: object) -> timedelta:
    written = _written(value, {WHOLE, DECIMAL, TEXT}, "a duration such as 12h or 3d")
    match = _DURATION.fullmatch(written)
    if match is None:
        raise refused(f"{written!r} is not a duration; write a whole number with its unit: 30s, 10m, 12h or 3d")
    length = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if length > MAX_DURATION:
        raise refused(f"{written} must be at most {MAX_DURATION.days}d")
    return length


def _lasts(value: object) -> int | timedelta | str:
    written = _written(value, {WHOLE, TEXT}, "how long it lasts: 1, 14d or never")
    if written == NEVER:
        return NEVER
    if _DURATION.fullmatch(written):
        return _duration(value)
    if not written.isascii() or not written.isdecimal():
        raise refused(f"{written!r} must say how long it lasts: so many windows as 1, so many days as 14d, or never")
    return _whole_number(1, MAX_WINDOWS)(value)


def _moment(value: object, given: ValidationInfo) -> datetime:
    written = _written(value, {TEXT, DATE}, "a date such as 2026-01-01")
    setting: Setting = given.context or Setting()
    try:
        return parse_moment(written, setting.time_zone)
    except InvalidError as error:
        raise refused(str(error)) from error


def _currency(value: object) -> Currency:
    return currency(_checked(_written(value, {TEXT}, "a currency such as EUR"), check_currency))


def _time_zone(value: object) -> str:
    return _checked(_written(value, {TEXT}, "a time zone such as Europe/Berlin"), check_time_zone)


# --- types --------------------------------------------------------------------------------------------------------


def whole(least: int, most: int) -> Any:  # noqa: ANN401 - a type made at run time
    """Return the type of whole numbers from `least` to `most`."""
    return Annotated[int, PlainValidator(_whole_number(least, most)), _as_whole(least, most)]


def _as_whole(least: int, most: int) -> WithJsonSchema:
    bounds = {"type": "integer", "minimum": least, "maximum": most}
    return WithJsonSchema({"anyOf": [bounds, {"type": "string", "pattern": "^-?[0-9]+$"}]})


def _as_text(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


_NAME = {"type": "string", "pattern": f"^({TAG})?{_SLUG}$"}
_NUMBER_TEXT = f"^-?(0|[1-9][0-9]{{0,{MAX_WHOLE_DIGITS - 1}}})(\\.[0-9]{{1,{MAX_PLACES}}})?$"

Text = Annotated[str, PlainValidator(_text), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 200})]
LongText = Annotated[
    str,
    PlainValidator(_long_text(MAX_LONG_TEXT)),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_LONG_TEXT}),
]
Email = Annotated[str, PlainValidator(_long_text(LONGEST_EMAIL)), _as_text("^[^@]+@.*[^@]$")]
Slug = Annotated[str, PlainValidator(_slug), _as_text(f"^{_SLUG}$")]
LotSlug = Annotated[str, PlainValidator(_lot_slug), _as_text("^[a-z0-9][a-z0-9_-]{0,62}$")]
ProductName = Annotated[str, PlainValidator(_product_name)]
ProductNames = Annotated[
    tuple[ProductName, ...],
    AfterValidator(_not_empty),
    WithJsonSchema({"type": "array", "items": _NAME, "minItems": 1}),
]
Number = Annotated[
    Decimal,
    PlainValidator(_number),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": _NUMBER_TEXT}]}),
]
Flag = Annotated[bool, PlainValidator(_flag), WithJsonSchema({"type": "boolean"})]
Duration = Annotated[timedelta, PlainValidator(_duration), _as_text("^[0-9]{1,9}[smhd]$")]
Moment = Annotated[datetime, PlainValidator(_moment), _as_text("^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?$")]
Lasts = Annotated[
    int | timedelta | Literal["never"],
    PlainValidator(_lasts),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_WINDOWS},
                {"type": "string", "pattern": f"^({NEVER}|[0-9]{{1,9}}[smhd]|[1-9][0-9]*)$"},
            ]
        }
    ),
]
CurrencyCode = Annotated[
    Currency, PlainValidator(_currency), WithJsonSchema({"type": "string", "enum": sorted(CURRENCY_EXPONENTS)})
]
TimeZone = Annotated[str, PlainValidator(_time_zone), WithJsonSchema({"type": "string", "minLength": 1})]
DayOfMonth = Annotated[int, PlainValidator(_whole_number(1, 31)), _as_whole(1, 31)]
Month = Annotated[int, PlainValidator(_whole_number(1, 12)), _as_whole(1, 12)]
