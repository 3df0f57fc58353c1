"""Terms, policies and definitions as JSON: how they are kept in the database and how their content is compared."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from ledger.database import Json, canonical_json, sha256_of
from ledger.definitions import CollectionPolicy, ContractDefinition, InvoicingPolicy, Policy
from pricing.prices import Tier
from pricing.terms import Commit, ProductPrice, Terms

_TERMS = TypeAdapter(Terms)
_POLICY = TypeAdapter(Policy)

ALWAYS: Mapping[type, frozenset[str]] = {
    Tier: frozenset({"flat_fee"}),
    ProductPrice: frozenset({"metric_id", "unit"}),
    Commit: frozenset({"products", "priority"}),
    Terms: frozenset({"commits"}),
    InvoicingPolicy: frozenset({"review_above", "review_growth"}),
    CollectionPolicy: frozenset({"retry_after"}),
}
"""Fields that content names even at their defaults. Never change it: the digests of recorded terms depend on it.

Every other field at its default is left out, so that content recorded before a field came into being stays equal.
"""


def terms_to_json(terms: Terms) -> dict[str, Json]:
    """Return terms as JSON: decimals as text, moments in UTC; a price says which `model` it is."""
    encoded: dict[str, Json] = _TERMS.dump_python(terms, mode="json")
    return encoded


def terms_from_json(encoded: Json) -> Terms:
    """Return the terms that `terms_to_json` wrote, exactly; raise pydantic's `ValidationError` for anything else.

    What terms written before a field came into being do not say is that field's default.
    """
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
    content: dict[str, Json] = json.loads(canonical_json(_content(definition)))
    return content


def content_of(terms: Terms) -> dict[str, Json]:
    """Return what terms say apart from their version number: equal content means equal terms, 1.20 being 1.2."""
    content: dict[str, Json] = _content(terms)
    del content["version"]
    return content


def digest_of(terms: Terms) -> bytes:
    """Return the sha256 of the terms' content."""
    return sha256_of(content_of(terms))


def _content(value: Any) -> Any:  # noqa: ANN401 - any part of a definition, as JSON
    match value:
        case tuple():
            return [_content(item) for item in value]
        case datetime():
            return value.astimezone(UTC)
        case timedelta():
            return f"{value // timedelta(seconds=1)}s"
        case _ if is_dataclass(value):
            return {name: _content(getattr(value, name)) for name in _said(value)}
        case _:
            return value


def _said(value: Any) -> Iterator[str]:  # noqa: ANN401 - any dataclass
    """Yield the fields that content names."""
    always = ALWAYS.get(type(value), frozenset())
    for field in fields(value):
        is_default = field.default is not MISSING and getattr(value, field.name) == field.default
        if not is_default or field.name == "model" or field.name in always:
            yield field.name
