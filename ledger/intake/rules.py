"""Rules: the versions of metrics with the time in which each is in force, and what one event is to each of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from typing import Literal

import msgspec
import sqlalchemy as sa
from pydantic import TypeAdapter

from ledger.expressions import EvaluationError, compiled
from ledger.intake.events import PropertyValue
from pricing.metrics import NUMBER, Filter, MetricVersion, passes
from pricing.money import EXACT, ZERO

OPERATIONS = ("add", "remove")


@dataclass(frozen=True, slots=True)
class Rule:
    """A version of a metric; it counts events from its `effective_from` (None: from ever) until `until` (None: on)."""

    metric_id: str
    version: MetricVersion
    until: datetime | None = None

    def covers(self, moment: datetime) -> bool:
        """Say whether the rule is in force at a moment."""
        start = self.version.effective_from
        return (start is None or start <= moment) and (self.until is None or moment < self.until)

    @property
    def number(self) -> str | None:
        """The property whose number is added up or compared; None where none is."""
        return None if self.version.aggregation == "count" or self.member is not None else self.version.property

    @property
    def member(self) -> str | None:
        """The property that names who comes and goes: its different values are counted, or weighted by time."""
        is_named = self.version.aggregation == "unique" or self.version.operation_property is not None
        return self.version.property if is_named else None

    @property
    def is_computed(self) -> bool:
        """Whether Python must look at each event."""
        return self.version.expression is not None or self.version.condition is not None

    @property
    def can_refuse(self) -> bool:
        """Whether an event may lack what the rule needs."""
        needs = (self.number, self.member, self.version.amount_property)
        return self.is_computed or any(name is not None for name in needs)

    @property
    def is_extended(self) -> bool:
        """Whether a bucket needs more than the sum and the number of its events."""
        is_plain = self.version.aggregation in ("sum", "count", "average", "percentile")
        return not is_plain or self.version.amount_property is not None


@dataclass(frozen=True, slots=True)
class Measure:
    """What an event is to a rule: the number it adds, who it is about, and the money it carries."""

    value: Decimal
    member: str | None = None
    operation: Literal["add", "remove"] = "add"
    amount: Decimal | None = None


class UnmeasurableError(Exception):
    """An event lacks what a rule needs: the property (or the expression of the metric), its value, and why."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.value, self.reason = field, value, reason


VERSION = TypeAdapter(MetricVersion)
_ENCODER = msgspec.json.Encoder(decimal_format="number")


def read_rules(connection: sa.Connection) -> tuple[Rule, ...]:
    """Return the recorded versions of all metrics, by metric and time."""
    rows = connection.execute(_VERSIONS).all()
    return tuple(
        rule
        for metric_id, own in groupby(rows, key=lambda row: str(row.metric_id))
        for rule in rules_of(metric_id, [_version(row.definition) for row in own])
    )


def event_types_of(rules: Iterable[Rule]) -> Mapping[str, str]:
    """Return the event type that each metric counts, by metric; that of its latest version."""
    return {rule.metric_id: rule.version.event_type for rule in rules}


def rules_of(metric_id: str, versions: Sequence[MetricVersion]) -> tuple[Rule, ...]:
    """Return the versions of a metric as rules, each in force until the next begins."""
    ends = [*(version.effective_from for version in versions[1:]), None]
    return tuple(Rule(metric_id, version, end) for version, end in zip(versions, ends, strict=True))


def measure(rule: Rule, properties: Mapping[str, PropertyValue]) -> Measure | None:
    """Return what an event of the rule's type is to it; None where a filter or the condition leaves it out.

    Raises `UnmeasurableError` for an event that is counted and lacks a number, a value or a property.
    """
    version = rule.version
    if not passes(version, properties):
        return None
    if version.condition is not None and not _holds(rule, version.condition, properties):
        return None
    amount = None if version.amount_property is None else _number(rule, version.amount_property, properties)
    if version.expression is not None:
        return Measure(_computed(rule, version.expression, properties), amount=amount)
    if rule.member is not None:
        return Measure(Decimal(1), _member(rule, properties), _operation(rule, properties), amount)
    value = Decimal(1) if rule.number is None else _number(rule, rule.number, properties)
    return Measure(value, amount=amount)


def is_plainly_measurable(rule: Rule, properties: Mapping[str, PropertyValue]) -> bool:
    """Say without looking at filters whether an event has all that a rule can need; the quick way for most events."""
    if rule.is_computed or rule.version.operation_property is not None:
        return False
    if rule.number is not None and not isinstance(properties.get(rule.number), Decimal):
        return False
    if rule.member is not None and rule.member not in properties:
        return False
    amount = rule.version.amount_property
    return amount is None or isinstance(properties.get(amount), Decimal)


def text_of(value: PropertyValue) -> str:
    """Return a property's value as the text that groups, members and filters know it by."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return format(EXACT.normalize(value) or ZERO, "f") if isinstance(value, Decimal) else value


def groups_of(rule: Rule, properties: Mapping[str, PropertyValue]) -> tuple[tuple[str, str], ...]:
    """Return an event's group keys with their values, sorted by key; a property that it lacks is left out."""
    return tuple((key, text_of(properties[key])) for key in sorted(rule.version.group_keys) if key in properties)


# --- for the database ---------------------------------------------------------------------------------------------


def rules_json(rules: Iterable[Rule]) -> str:
    """Return rules as the rows that the statements of the rollup read."""
    return _ENCODER.encode(
        [
            {
                "metric_id": rule.metric_id,
                "by_moment": rule.version.aggregation == "time_weighted",
                "event_type": rule.version.event_type,
                "number": rule.number,
                "member": rule.member,
                "operation": rule.version.operation_property,
                "amount": rule.version.amount_property,
                "group_keys": list(rule.version.group_keys),
                "filters": _filters(rule.version.filters),
                "is_computed": rule.is_computed,
                "valid_from": "-infinity" if rule.version.effective_from is None else str(rule.version.effective_from),
                "valid_until": "infinity" if rule.until is None else str(rule.until),
            }
            for rule in rules
        ]
    ).decode()


def _filters(filters: Sequence[Filter]) -> list[dict[str, object]] | None:
    """Return filters as the statements of the rollup read them; they let pass what `pricing.metrics.passes` does."""
    return [
        {
            "property": one.property,
            "exists": one.exists,
            "values": [value for text in _texts(one) for value in _values(text)] if _texts(one) else None,
            "at_least": None if one.at_least is None else str(one.at_least),
            "below": None if one.below is None else str(one.below),
        }
        for one in filters
    ] or None


def _texts(one: Filter) -> tuple[str, ...]:
    return one.one_of if one.equals is None else (one.equals,)


def _values(text: str) -> list[PropertyValue]:
    """Return every value that counts as this text: itself, and the number or the truth value that is written so."""
    found: list[PropertyValue] = [text]
    if text in ("true", "false"):
        found.append(text == "true")
    if NUMBER.fullmatch(text):
        found.append(Decimal(text))
    return found


# --- one event ----------------------------------------------------------------------------------------------------


def _number(rule: Rule, name: str, properties: Mapping[str, PropertyValue]) -> Decimal:
    value = properties.get(name)
    if isinstance(value, Decimal):
        return value
    verb = "carries its money there" if name == rule.version.amount_property else _VERBS[rule.version.aggregation]
    reason = f"must be a number, because metric {rule.metric_id} {verb}; send one, or 0"
    raise UnmeasurableError(f"properties.{name}", "" if value is None else value, reason)


def _member(rule: Rule, properties: Mapping[str, PropertyValue]) -> str:
    name = rule.member or ""
    if name not in properties:
        reason = f"is missing, because metric {rule.metric_id} counts by it; send one"
        raise UnmeasurableError(f"properties.{name}", "", reason)
    return text_of(properties[name])


def _operation(rule: Rule, properties: Mapping[str, PropertyValue]) -> Literal["add", "remove"]:
    name = rule.version.operation_property
    value = "add" if name is None else properties.get(name, "add")
    if value == "add":
        return "add"
    if value == "remove":
        return "remove"
    reason = f"must be add or remove, because metric {rule.metric_id} adds and removes by it; leave it out to add"
    raise UnmeasurableError(f"properties.{name}", value, reason)


def _computed(rule: Rule, expression: str, properties: Mapping[str, PropertyValue]) -> Decimal:
    try:
        return compiled(expression).number(properties)
    except EvaluationError as error:
        raise _failed(rule, "expression", expression, error, properties) from error


def _holds(rule: Rule, condition: str, properties: Mapping[str, PropertyValue]) -> bool:
    try:
        return compiled(condition).holds(properties)
    except EvaluationError as error:
        raise _failed(rule, "condition", condition, error, properties) from error


def _failed(
    rule: Rule, kind: str, text: str, error: EvaluationError, properties: Mapping[str, PropertyValue]
) -> UnmeasurableError:
    whose = f"the {kind} {text} of metric {rule.metric_id}"
    if error.name is not None:
        value = properties.get(error.name, "")
        return UnmeasurableError(f"properties.{error.name}", value, f"{error.reason}, and {whose} needs it; send one")
    return UnmeasurableError("properties", "", f"do not suit {whose}, which {error.reason}; correct the values")


_VERBS: Mapping[str, str] = {
    "sum": "adds it up",
    "max": "looks for the highest",
    "min": "looks for the lowest",
    "latest": "takes the latest",
    "average": "takes the average",
    "percentile": "takes a percentile",
    "time_weighted": "weighs it by time",
}


@lru_cache(maxsize=4096)
def _version(definition: str) -> MetricVersion:
    return VERSION.validate_json(definition)


_VERSIONS = sa.text("select metric_id, definition::text as definition from metric order by metric_id, version")
