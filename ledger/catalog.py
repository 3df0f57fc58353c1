"""The catalogue: entities, customers, metrics, rate cards and contracts as files, applied together or not at all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

import sqlalchemy as sa
import yaml

from ledger.amendments import amend_contract, read_amendment
from ledger.contract_checks import differences
from ledger.contracts import agreed_terms, create_contract, get_contract, list_contracts, recorded_definition
from ledger.customers import Customer, create_customer, list_customers
from ledger.database import undone
from ledger.definitions import ContractDefinition
from ledger.entities import Entity, create_entity, list_entities
from ledger.errors import InvalidError, MeterbookError, NotFoundError, StateError
from ledger.files.cards import parse_catalog, parse_rate_card
from ledger.files.contracts import parse_contract
from ledger.files.document import FileError, read_items
from ledger.files.metrics import read_metrics
from ledger.files.parties import read_customers, read_entities
from ledger.files.writing import (
    card_content,
    contract_content,
    customer_content,
    entity_content,
    metric_contents,
    yaml_text,
)
from ledger.metrics import create_metric, list_metrics
from ledger.rate_cards import load_cards, record_card
from ledger.terms_codec import content_of, digest_of
from pricing.calendar import local_midnight
from pricing.cards import RateCard
from pricing.errors import PricingError
from pricing.metrics import Metric

Action = Literal["create", "change", "nothing"]
Item = Entity | Customer | Metric | RateCard | ContractDefinition

ORDER = ("entity", "customer", "metric", "rate_card", "contract")
"""What refers to something comes after it; and the keys by which a file says what it is, the last that it has."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something that a file defines; `text` is the file's, `line` where it begins there."""

    file: str
    kind: str
    item: Item
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Change:
    """What applying does, or did, with one thing; `detail` says from when a change counts."""

    file: str
    kind: str
    name: str
    action: Action
    detail: str = ""


class CatalogError(InvalidError):
    """A catalogue of which nothing was applied; `problems` are all that were found, with their files."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        listed = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"nothing was applied; correct these and repeat:\n{listed}")


def read_catalog(files: Mapping[str, str]) -> tuple[Found, ...]:
    """Return what files define, by name and text, in the order in which it is applied.

    Raises `CatalogError` with every problem of every file, with its line.
    """
    found: list[Found] = []
    problems: list[str] = []
    for file, text in files.items():
        try:
            found += [Found(file, kind, item, text, line) for line, kind, item in _items(text)]
        except FileError as error:
            problems += [f"{file}: {problem}" for problem in error.problems]
        except InvalidError as error:
            problems.append(f"{file}: {error}")
    named: dict[tuple[str, str], str] = {}
    for one in found:
        if isinstance(one.item, Metric):
            continue  # a metric may come once for each of its versions
        first = named.setdefault((one.kind, name_of(one.item)), one.file)
        if first != one.file:
            name = name_of(one.item)
            problems.append(f"{one.file}: line {one.line}: {one.kind} {name} stands in {first} as well; keep one")
    if problems:
        raise CatalogError(problems)
    return tuple(sorted(found, key=lambda one: ORDER.index(one.kind)))


def apply_catalog(
    connection: sa.Connection,
    found: Sequence[Found],
    *,
    by: str,
    effective_from: date | None = None,
    reason: str = "",
) -> tuple[Change, ...]:
    """Record what files define, and return what became of each; the same again changes nothing.

    Contracts whose terms are changed are amended from `effective_from`, midnight in their time zones. Raises
    `CatalogError` with everything that is refused, by file and line: then the caller rolls back.
    """
    changes: list[Change] = []
    problems: list[str] = []
    connection.execute(_LOCK_CUSTOMERS, {"ids": _buyers(found)})
    for one in found:
        savepoint = connection.begin_nested()
        try:
            action, detail = _apply(connection, one, by=by, effective_from=effective_from, reason=reason)
        except (MeterbookError, PricingError) as error:
            savepoint.rollback()
            problems.append(f"{one.file}: line {one.line}: {one.kind}: {error}")
            continue
        savepoint.commit()
        changes.append(Change(one.file, one.kind, name_of(one.item), action, detail))
    if problems:
        raise CatalogError(problems)
    return tuple(changes)


def plan_catalog(
    connection: sa.Connection,
    found: Sequence[Found],
    *,
    by: str,
    effective_from: date | None = None,
    reason: str = "",
) -> tuple[Change, ...]:
    """Return what `apply_catalog` would do, and undo it; raises what it raises."""
    with undone(connection):
        return apply_catalog(connection, found, by=by, effective_from=effective_from, reason=reason)


def export_catalog(connection: sa.Connection) -> dict[str, str]:
    """Return everything that is recorded as files, by name and text; applying them changes nothing."""
    files: dict[str, str] = {}
    entities, customers, metrics = list_entities(connection), list_customers(connection), list_metrics(connection)
    if entities:
        files["entities.yaml"] = yaml_text(*(entity_content(entity) for entity in entities))
    if customers:
        files["customers.yaml"] = yaml_text(*(customer_content(customer) for customer in customers))
    if metrics:
        files["metrics.yaml"] = yaml_text(*(content for metric in metrics for content in metric_contents(metric)))
    for card in load_cards(connection):
        files[f"rate_cards/{card.card_id}.yaml"] = yaml_text(card_content(card))
    for contract in list_contracts(connection):
        definition = replace(recorded_definition(connection, contract.contract_id), end_at=contract.end_at)
        terms = agreed_terms(connection, contract.contract_id)[-1]
        files[f"contracts/{contract.contract_id}.yaml"] = yaml_text(contract_content(definition, terms))
    return files


def name_of(item: Item) -> str:
    """Return the id of something that a file defines."""
    match item:
        case Entity():
            return item.entity_id
        case Customer():
            return item.customer_id
        case Metric():
            return item.metric_id
        case RateCard():
            return item.card_id
        case ContractDefinition():
            return item.contract_id


# --- reading ------------------------------------------------------------------------------------------------------


def _items(text: str) -> list[tuple[int, str, Item]]:
    """Return what a file defines, with the line and the kind of each."""
    kind = kind_of(text)
    parts = read_items(text)
    if kind == "catalog":
        catalog, (whole, *_) = parse_catalog(text), parts
        lists: Sequence[tuple[str, str, Sequence[Item]]] = [
            ("metrics", "metric", catalog.metrics),
            ("rate_cards", "rate_card", catalog.rate_cards),
        ]
        return [
            (whole.findings.line_of(f"{key}[{n}]"), name, item)
            for key, name, items in lists
            for n, item in enumerate(items)
        ]
    readers: Mapping[str, Callable[[str], Sequence[Item]]] = {
        "entity": read_entities,
        "customer": read_customers,
        "metric": read_metrics,
        "rate_card": lambda one: [parse_rate_card(one)],
        "contract": lambda one: [parse_contract(one)],
    }
    lines = [part.findings.line_of(part.path) for part in parts]
    return [(line, kind, item) for line, item in zip(lines, readers[kind](text), strict=True)]


def kind_of(text: str) -> str:
    """Return what a file defines, by the keys of its first document; raise `InvalidError` where none is known."""
    try:
        first: Any = next(yaml.compose_all(text, Loader=yaml.SafeLoader), None)
    except yaml.YAMLError:
        return "contract"  # whose reader tells what is wrong with the YAML
    if isinstance(first, yaml.SequenceNode) and first.value:
        first = first.value[0]
    keys = {key.value for key, _ in first.value} if isinstance(first, yaml.MappingNode) else set()
    if keys & {"metrics", "rate_cards"}:
        return "catalog"
    kinds = [kind for kind in ORDER if kind in keys]
    if not kinds:
        raise InvalidError(f"says with none of the keys {', '.join(ORDER)} what it defines; begin it with one of them")
    return "contract" if "contract" in keys else "rate_card" if "rate_card" in keys else kinds[-1]


# --- applying -----------------------------------------------------------------------------------------------------


def _apply(
    connection: sa.Connection, one: Found, *, by: str, effective_from: date | None, reason: str
) -> tuple[Action, str]:
    match one.item:
        case Entity():
            return _as_action(create_entity(connection, one.item)), ""
        case Customer():
            return _as_action(create_customer(connection, one.item)), ""
        case Metric():
            outcome = create_metric(connection, one.item)
            start = one.item.versions[-1].effective_from
            return _as_action(outcome), f"counts from {start:%Y-%m-%d}" if outcome == "changed" and start else ""
        case RateCard():
            before = {listed.product.product_id: listed for card in load_cards(connection)
                      if card.card_id == one.item.card_id for listed in card.products}  # fmt: skip
            recorded = record_card(connection, one.item, by=by)
            changed = [p.product.product_id for p in one.item.products if before.get(p.product.product_id) != p]
            gone = sorted(before.keys() - {p.product.product_id for p in one.item.products})
            told = ", ".join([*changed, *(f"without {name}" for name in gone)])
            return _as_action(recorded), told if recorded == "changed" else ""
        case ContractDefinition():
            return _apply_contract(connection, one, by=by, effective_from=effective_from, reason=reason)


def _apply_contract(
    connection: sa.Connection, one: Found, *, by: str, effective_from: date | None, reason: str
) -> tuple[Action, str]:
    contract_id = name_of(one.item)
    try:
        get_contract(connection, contract_id)
    except NotFoundError:
        if isinstance(one.item, ContractDefinition):
            create_contract(connection, one.item, by=by)
        return "create", ""
    definition = read_amendment(connection, contract_id, one.text)
    in_force = agreed_terms(connection, contract_id)[-1]
    as_agreed = replace(in_force, version=1, effective_from=definition.terms.effective_from)
    recorded = recorded_definition(connection, contract_id)
    end_at = get_contract(connection, contract_id).end_at
    if definition.end_at is not None and definition.end_at != end_at:
        raise StateError(
            f"contract {contract_id} would end at {definition.end_at.isoformat()} instead of "
            f"{'no day' if end_at is None else end_at.isoformat()}; end it with `meterbook contract end`"
        )
    same = replace(definition, terms=recorded.terms, end_at=None) == replace(recorded, end_at=None)
    if same and digest_of(as_agreed) == digest_of(definition.terms):
        return "nothing", ""
    if effective_from is None:
        raise StateError(
            f"contract {contract_id} is agreed otherwise already; say with --from from which day the change counts"
        )
    moment = local_midnight(effective_from, recorded.time_zone)
    version = amend_contract(
        connection, contract_id, definition, effective_from=moment, reason=reason or "catalogue", by=by
    )
    changed = ", ".join(differences(content_of(as_agreed), content_of(definition.terms)))
    return "change", f"version {version} from {effective_from} in {recorded.time_zone}: {changed}"


def _as_action(outcome: str) -> Action:
    return {"created": "create", "changed": "change"}.get(outcome, "nothing")  # type: ignore[return-value] # the three


def _buyers(found: Sequence[Found]) -> list[str]:
    return sorted({one.item.customer_id for one in found if isinstance(one.item, ContractDefinition)})


_LOCK_CUSTOMERS = sa.text(
    "select customer_id from customer where customer_id = any(:ids) order by customer_id for update"
)
"""Customers before metrics, as intake locks them: otherwise each could wait for the other."""
