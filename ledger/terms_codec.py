"""Terms and policies as JSON: how they are kept in the database and how their content is compared."""

from datetime import UTC, datetime

from pydantic import TypeAdapter

from ledger.database import Json, sha256_of
from pricing.terms import Terms

_TERMS = TypeAdapter(Terms)


def terms_to_json(terms: Terms) -> dict[str, Json]:
    """Return terms as JSON: decimals as text, moments in UTC; a price says which `model` it is."""
    encoded: dict[str, Json] = _TERMS.dump_python(terms, mode="json")
    return encoded


def terms_from_json(encoded: Json) -> Terms:
    """Return the terms that `terms_to_json` wrote, exactly; raise pydantic's `ValidationError` for anything else."""
    return _TERMS.validate_python(encoded)


def content_of(terms: Terms) -> dict[str, Json]:
    """Return what terms say apart from their version number: equal content means equal terms, 1.20 being 1.2."""
    content: dict[str, Json] = _in_utc(_TERMS.dump_python(terms))
    del content["version"]
    return content


def digest_of(terms: Terms) -> bytes:
    """Return the sha256 of the terms' content."""
    return sha256_of(content_of(terms))


def _in_utc(value: object) -> object:
    match value:
        case dict():
            return {key: _in_utc(item) for key, item in value.items()}
        case list() | tuple():
            return [_in_utc(item) for item in value]
        case datetime():
            return value.astimezone(UTC)
        case _:
            return value
