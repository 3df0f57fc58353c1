"""JSON Schemas of the files, made from the types that read them, for editors and other programs."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from ledger.errors import InvalidError
from ledger.files.cards import CATALOG, PRODUCT, RATE_CARD
from ledger.files.contracts import CONTRACT
from ledger.files.metrics import METRIC
from ledger.files.parties import CUSTOMER, ENTITY
from ledger.files.problems import instead

DIALECT = "https://json-schema.org/draft/2020-12/schema"

KINDS: Mapping[str, TypeAdapter[Any]] = {
    "entity": ENTITY,
    "customer": CUSTOMER,
    "metric": METRIC,
    "product": PRODUCT,
    "rate_card": RATE_CARD,
    "contract": CONTRACT,
    "catalog": CATALOG,
}
LISTED = frozenset({"entity", "customer", "metric", "product"})
"""Kinds of which a file may hold a list."""


def json_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a kind of file; raise `InvalidError` for an unknown kind."""
    if kind not in KINDS:
        raise InvalidError(f"kind {kind!r} is not known; {instead(kind, KINDS)}")
    item = KINDS[kind].json_schema(by_alias=True)
    definitions = item.pop("$defs", {})
    title = f"Meterbook: {kind.replace('_', ' ')}"
    if kind in LISTED:
        name = item.get("title", kind)
        definitions[name], here = item, {"$ref": f"#/$defs/{name}"}
        item = {"anyOf": [here, {"type": "array", "items": here, "minItems": 1}]}
    return {"$schema": DIALECT, **item, "title": title, "$defs": definitions}
