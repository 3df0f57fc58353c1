"""Files that say who sells, who buys and what is counted: read strictly, every fault at once, with its line."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from ledger.checks import check_currency, check_slug, check_text, check_time_zone
from ledger.customers import Customer
from ledger.entities import Entity
from ledger.errors import InvalidError
from ledger.metrics import checked
from pricing.metrics import NUMBER, Aggregation, Filter, Granularity, Metric, MetricVersion, TimeUnit
from pricing.prices import Rounding
from pricing.terms import Conversion, QuantityRounding

Kept = TypeVar("Kept")
Place = tuple[str | int, ...]

WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here; correct its spelling or remove it",
    "string_type": "must be text; put it between quotes",
}
"""Faults that every file shares, in our words; anything else is said by the check that found it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at one place of a file."""

    line: int
    place: str
    message: str


class FileError(InvalidError):
    """A file that cannot be taken, with every fault it has."""

    def __init__(self, name: str, faults: tuple[Fault, ...]) -> None:
        listed = "\n".join(f"  line {fault.line}: {fault.place} {fault.message}" for fault in faults)
        super().__init__(f"{name} was not taken; correct it and repeat:\n{listed}")
        self.faults = faults


def _checked(check: Callable[[str, str], None], field: str) -> AfterValidator:
    def validate(value: str) -> str:
        try:
            check(field, value)
        except InvalidError as error:
            raise PydanticCustomError("refused", "{why}", {"why": str(error).removeprefix(f"{field} ")}) from error
        return value

    return AfterValidator(validate)


def _exact(value: object) -> object:
    """Take a number as it is written: whole, or in quotes; what YAML reads as a float may have lost digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return Decimal(value)
    raise PydanticCustomError("refused", "must be a whole number, or a decimal between quotes")


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class EntityFile(_File):
    """An entity as it is written in a file."""

    entity: Annotated[str, _checked(check_slug, "entity")]
    name: Annotated[str, _checked(check_text, "name")]
    currency: Annotated[str, _checked(check_currency, "currency")]
    time_zone: Annotated[str, _checked(check_time_zone, "time_zone")]
    invoice_prefix: str

    def kept(self) -> Entity:
        """Return the entity to record; raise `InvalidError`."""
        return Entity(self.entity, self.name, self.currency, self.time_zone, self.invoice_prefix)


class CustomerFile(_File):
    """A customer as it is written in a file."""

    customer: Annotated[str, _checked(check_slug, "customer")]
    name: Annotated[str, _checked(check_text, "name")]
    email: str | None = None
    aliases: list[Annotated[str, _checked(check_text, "alias")]] = []
    stripe_customer_id: str | None = None
    payment_method: str | None = None

    def kept(self) -> Customer:
        """Return the customer to record; raise `InvalidError`."""
        return Customer(
            self.customer, self.name, self.email, tuple(self.aliases), self.stripe_customer_id, self.payment_method
        )


Exact = Annotated[Decimal, BeforeValidator(_exact)]


class FilterFile(_File):
    """A filter of a metric: exactly one of `equals`, `one_of`, `exists`, and a range of `at_least` and `below`."""

    property: str
    equals: str | None = None
    one_of: list[str] = []
    at_least: Exact | None = None
    below: Exact | None = None
    exists: bool | None = None

    def kept(self) -> Filter:
        """Return the filter as metrics hold it."""
        return Filter(self.property, self.equals, tuple(self.one_of), self.at_least, self.below, self.exists)


class RoundingFile(_File):
    """How a metric's quantity is rounded."""

    rounding: Rounding
    places: int = 0


class ConversionFile(_File):
    """How a metric's unit becomes the price's."""

    operation: Literal["divide", "multiply"]
    factor: Exact
    rounding: Rounding = "none"


class MetricFile(_File):
    """A metric as it is written in a file."""

    metric: Annotated[str, _checked(check_slug, "metric")]
    event_type: Annotated[str, _checked(check_text, "event_type")]
    aggregation: Aggregation
    property: str | None = None
    group_keys: list[str] = []
    filters: list[FilterFile] = []
    expression: str | None = None
    condition: str | None = None
    amount_property: str | None = None
    percentile: Exact | None = None
    carry_over: bool = False
    time_unit: TimeUnit = "second"
    granularity: Granularity = "second"
    rounding: RoundingFile | None = None
    conversion: ConversionFile | None = None
    operation_property: str | None = None
    effective_from: datetime | None = None

    def kept(self) -> Metric:
        """Return the metric to record; raise `InvalidError`."""
        rounding, conversion = self.rounding, self.conversion
        version = MetricVersion(
            version=1,
            effective_from=self.effective_from,
            event_type=self.event_type,
            aggregation=self.aggregation,
            property=self.property,
            expression=self.expression,
            condition=self.condition,
            filters=tuple(one.kept() for one in self.filters),
            amount_property=self.amount_property,
            percentile=self.percentile,
            carry_over=self.carry_over,
            time_unit=self.time_unit,
            granularity=self.granularity,
            group_keys=tuple(self.group_keys),
            rounding=None if rounding is None else QuantityRounding(rounding.rounding, rounding.places),
            conversion=None
            if conversion is None
            else Conversion(conversion.operation, conversion.factor, conversion.rounding),
            operation_property=self.operation_property,
        )
        metric = Metric(self.metric, (version,))
        checked(metric)
        return metric


def read_entities(text: str, *, name: str) -> tuple[Entity, ...]:
    """Read entities: one or several documents, or a list; raise `FileError` with every fault."""
    return _read(text, EntityFile, EntityFile.kept, name=name)


def read_customers(text: str, *, name: str) -> tuple[Customer, ...]:
    """Read customers: one or several documents, or a list; raise `FileError` with every fault."""
    return _read(text, CustomerFile, CustomerFile.kept, name=name)


def read_metrics(text: str, *, name: str) -> tuple[Metric, ...]:
    """Read metrics: one or several documents, or a list; raise `FileError` with every fault."""
    return _read(text, MetricFile, MetricFile.kept, name=name)


Model = TypeVar("Model", bound=_File)


def _read(text: str, model: type[Model], keep: Callable[[Model], Kept], *, name: str) -> tuple[Kept, ...]:
    faults: list[Fault] = []
    kept: list[Kept] = []
    for item, content in _items(text, faults, name=name):
        try:
            kept.append(keep(model.model_validate(content)))
        except ValidationError as error:
            faults += [_fault(item, problem["loc"], problem["type"], problem["msg"]) for problem in error.errors()]
        except InvalidError as error:
            faults.append(Fault(_line(item), "", str(error)))
    if not kept and not faults:
        faults.append(Fault(1, "the file", "is empty; write at least one document"))
    if faults:
        raise FileError(name, tuple(sorted(faults, key=lambda fault: fault.line)))
    return tuple(kept)


def _items(text: str, faults: list[Fault], *, name: str) -> Iterator[tuple[yaml.Node, object]]:
    """Return each described thing with the place it stands at; keys that stand twice are faults."""
    try:
        documents = [*yaml.compose_all(text, yaml.SafeLoader)]
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        raise FileError(name, (Fault(line, "the file", f"is not YAML: {error.problem}"),)) from error
    except yaml.YAMLError as error:
        raise FileError(name, (Fault(1, "the file", f"is not YAML: {error}"),)) from error
    for document in documents:
        for item in document.value if isinstance(document, yaml.SequenceNode) else [document]:
            _refuse_twice(item, faults)
            try:
                content: object = yaml.SafeLoader("").construct_document(item)
            except (yaml.YAMLError, ValueError) as error:
                faults.append(Fault(_line(item), "the document", f"cannot be read: {error}"))
                continue
            if isinstance(content, Mapping):
                yield item, content
            else:
                faults.append(Fault(_line(item), "the document", "must be a mapping of names to values"))


def _refuse_twice(node: yaml.Node, faults: list[Fault]) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[Any] = set()
    for key, content in node.value:
        if key.value in seen:
            faults.append(Fault(_line(key), str(key.value), "stands twice; remove one"))
        seen.add(key.value)
        _refuse_twice(content, faults)


def _fault(item: yaml.Node, place: Place, kind: str, message: str) -> Fault:
    node = item
    for part in place:
        node = _below(node, part, prefer_key=kind == "extra_forbidden") or node
    return Fault(_line(node), ".".join(str(part) for part in place), WORDS.get(kind, message))


def _below(node: yaml.Node, part: str | int, *, prefer_key: bool) -> yaml.Node | None:
    found: yaml.Node | None = None
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        found = node.value[part]
    if isinstance(node, yaml.MappingNode):
        for key, content in node.value:
            if key.value == part:
                found = key if prefer_key else content
    return found


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
