"""Terms, policies and definitions as JSON: how they are kept in the database and how their content is compared."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from ledger.contract_files import ContractDefinition, Policy
from ledger.database import Json, canonical_json, sha256_of
from pricing.terms import Terms

_TERMS = TypeAdapter(Terms)
_POLICY = TypeAdapter(Policy)
_DEFINITION = TypeAdapter(ContractDefinition)


def terms_to_json(terms: Terms) -> dict[str, Json]:
    """Return terms as JSON: decimals as text, moments in UTC; a price says which `model` it is."""
    encoded: dict[str, Json] = _TERMS.dump_python(terms, mode="json")
    return encoded


def terms_from_json(encoded: Json) -> Terms:
    """Return the terms that `terms_to_json` wrote, exactly; raise pydantic's `ValidationError` for anything else."""
    return _TERMS.validate_python(encoded)


def policy_to_json(policy: Policy) -> dict[str, Json]:
    """Return a policy as JSON: decimals as text, durations in ISO 8601 (P3D)."""
    encoded: dict[str, Json] = _POLICY.dump_python(policy, mode="json")
    return encoded


def policy_from_json(encoded: Json) -> Policy:
    """Return the policy that `policy_to_json` wrote; raise pydantic's `ValidationError` for anything else."""
    return _POLICY.validate_python(encoded)


def definition_content(definition: ContractDefinition) -> dict[str, Json]:
    """Return what a contract's definition says, as it is kept and compared: all values in their one JSON form."""
    content: dict[str, Json] = json.loads(canonical_json(_in_utc(_DEFINITION.dump_python(definition))))
    return content


def content_of(terms: Terms) -> dict[str, Json]:
    """Return what terms say apart from their version number: equal content means equal terms, 1.20 being 1.2."""
    content: dict[str, Json] = _in_utc(_TERMS.dump_python(terms))
    del content["version"]
    return content


def digest_of(terms: Terms) -> bytes:
    """Return the sha256 of the terms' content."""
    return sha256_of(content_of(terms))


def _in_utc(value: Any) -> Any:  # noqa: ANN401 - whatever pydantic makes of a dataclass
    match value:
        case dict():
            return {key: _in_utc(item) for key, item in value.items()}
        case list() | tuple():
            return [_in_utc(item) for item in value]
        case datetime():
            return value.astimezone(UTC)
        case timedelta():
            return f"{value // timedelta(seconds=1)}s"
        case _:
            return value
