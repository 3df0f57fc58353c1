"""JSON Schemas of files: they take what the readers take, and refuse what has the wrong structure."""

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from jsonschema import Draft202012Validator

from ledger.errors import InvalidError
from ledger.files.schemas import KINDS, json_schema
from pricing.prices import Price
from tests.ledger.test_contract_files import CARDED, GOOD
from tests.ledger.test_metric_files import FULL
from tests.ledger.test_rate_card_files import CARD

EXAMPLES = Path(__file__).parents[2] / "infra" / "demo" / "files"
METRIC = "{metric: calls, event_type: call, aggregation: count}"


class _AsWritten(yaml.SafeLoader):
    """Reads YAML as JSON has it: dates are texts."""


_AsWritten.yaml_implicit_resolvers = {
    start: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith("timestamp")]
    for start, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def faults(kind: str, text: str) -> set[str]:
    """Return the places at which a file breaks the schema of its kind."""
    content: Any = yaml.load(text, Loader=_AsWritten)  # noqa: S506 - a SafeLoader
    validator = Draft202012Validator(json_schema(kind))
    return {error.json_path for error in validator.iter_errors(content)}


@pytest.mark.parametrize("kind", KINDS)
def test_each_schema_is_itself_valid_and_refuses_an_empty_file(kind: str) -> None:
    Draft202012Validator.check_schema(json_schema(kind))
    assert faults(kind, "just words")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("contract", path.name) for path in sorted(EXAMPLES.glob("contract-*.yaml"))),
        ("customer", "customers.yaml"),
        ("customer", "customer-dune.yaml"),
        ("entity", "entity.yaml"),
        ("metric", "metrics.yaml"),
    ],
)
def test_the_files_of_the_demo_are_valid(kind: str, name: str) -> None:
    assert faults(kind, (EXAMPLES / name).read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("contract", GOOD),
        ("contract", CARDED),
        ("metric", FULL),
        ("rate_card", CARD),
        ("product", CARD[CARD.index("  - {id: seat-fee") :]),
        ("catalog", f"metrics: [{METRIC}]"),
    ],
)
def test_what_the_readers_take_is_valid(kind: str, text: str) -> None:
    assert faults(kind, text) == set()


@pytest.mark.parametrize(
    ("kind", "text", "path"),
    [
        ("contract", GOOD.replace("customer: acme", "client: acme"), "$"),
        ("contract", GOOD.replace("unit: token", "unit: [token]"), "$.products[0].unit"),
        ("contract", GOOD.replace("size: 1000, ", ""), "$.products[2].price"),
        ("contract", GOOD.replace("model: package", "model: packages"), "$.products[2].price"),
        ("contract", GOOD.replace("unit_price: 0.1}", "unit_price: cheap}"), "$.products[1].price"),
        ("contract", GOOD.replace("grace: 12h", "grace: soon"), "$.invoicing.grace"),
        ("contract", CARDED.replace("anchor: 15", "anchor: 32"), "$.anchor"),
        ("contract", CARDED.replace("cadence: quarter", "cadence: quarterly"), "$.cadence"),
        ("contract", CARDED.replace("products: [calls]", "products: []"), "$.overrides[1].products"),
        ("rate_card", CARD.replace("from: 2026-02-01", "form: 2026-02-01"), "$.products[1].rates[1]"),
        ("metric", FULL.replace("time_weighted", "timely"), "$"),
        ("entity", "{entity: a, name: A, currency: DOGE, time_zone: UTC, invoice_prefix: A}", "$"),
    ],
)
def test_what_has_the_wrong_structure_is_refused(kind: str, text: str, path: str) -> None:
    assert faults(kind, text) == {path}


def test_the_schema_of_contracts_names_every_price_model() -> None:
    known = {definition["properties"]["model"]["const"] for definition in _models(json_schema("contract"))}
    assert known == {kind.__dataclass_fields__["model"].default for kind in get_args(Price)}


def _models(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in schema["$defs"].values() if "model" in one.get("properties", {})]


def test_every_key_of_every_file_is_described() -> None:
    described = (EXAMPLES.parents[2] / "docs" / "files.md").read_text(encoding="utf-8")
    for kind in KINDS:
        schema = json_schema(kind)
        keys = {key for one in (schema, *schema["$defs"].values()) for key in one.get("properties", {})}
        assert {key for key in keys if f"`{key}`" not in described} == set(), kind


def test_an_unknown_kind_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(InvalidError, match="kind 'contracts' is not known; did you mean contract"):
        json_schema("contracts")
