"""Metrics as data: the dated rules by which events of usage turn into a quantity.

A metric has versions; an event counts under the version in force at its timestamp. The rules of each aggregation, as
computed in `pricing.aggregation`, bind every other place that counts:

- sum adds the values, count the events, unique the distinct members;
- max, min and latest take one value: the highest, the lowest, or that of the last event (ties by the events' order),
  where a latest value below zero counts as zero (Lago);
- average is the sum of the values divided by their number;
- percentile interpolates between the two values nearest to the rank, as PostgreSQL's percentile_cont does;
- time_weighted adds the values up to a level and multiplies each level by the time that it lasts.

Where no event counts and nothing is carried over, the quantity is zero.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from pricing.terms import Conversion, QuantityRounding

Aggregation = Literal["sum", "count", "unique", "max", "min", "latest", "average", "percentile", "time_weighted"]
TimeUnit = Literal["second", "minute", "hour", "day", "period"]
Granularity = Literal["second", "day"]
Operation = Literal["add", "remove"]

PropertyValue = str | bool | Decimal
"""A property of an event as it is read; a number is never a float."""

NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Filter:
    """Lets an event count only where one of its properties fits, in exactly one way.

    Equal to a text, one of several texts, a number in [`at_least`, `below`) (None: no bound on that side), or present
    (`exists` true) or absent (false). An event without the property fits `exists` false only.
    """

    property: str
    equals: str | None = None
    one_of: tuple[str, ...] = ()
    at_least: Decimal | None = None
    below: Decimal | None = None
    exists: bool | None = None


@dataclass(frozen=True, slots=True)
class MetricVersion:
    """One version of a metric's rule, in force from `effective_from` (UTC; None: from ever) until the next version's.

    All `filters` must fit and `condition`, a computed filter, must hold. The value of an event is its `property`, or
    `expression` computed from its properties; for unique the property names the member.
    """

    version: int
    effective_from: datetime | None
    event_type: str
    aggregation: Aggregation
    property: str | None = None
    expression: str | None = None
    condition: str | None = None
    filters: tuple[Filter, ...] = ()
    amount_property: str | None = None
    """The money that an event carries, for prices that come with the events."""
    percentile: Decimal | None = None
    """Which percentile, 0 (the lowest value) to 100 (the highest); given exactly for the aggregation percentile."""
    carry_over: bool = False
    """Whether what was reached before a period goes on in it, as levels of storage or seats do."""
    time_unit: TimeUnit = "second"
    """Only time_weighted: a level counts once for each unit that it lasts; `period` gives the period's mean level."""
    granularity: Granularity = "second"
    """Only time_weighted: with `day` a change of level counts for the whole local day on which it happens.

    Then the time unit is day or period, and every day counts the same, however many hours it has. A member that is
    removed still counts on that day, once even if it returns on it (Lago's proration: both days counted).
    """
    group_keys: tuple[str, ...] = ()
    rounding: QuantityRounding | None = None
    conversion: Conversion | None = None
    """Applied to the period's quantity, after `rounding`."""
    operation_property: str | None = None
    """Says `add` or `remove`, for members that come and go: with unique, or time_weighted, whose level they then are.

    `property` names the member then.
    """


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with all its versions, by rising `effective_from`."""

    metric_id: str
    versions: tuple[MetricVersion, ...]


@dataclass(frozen=True, slots=True)
class MeasuredEvent:
    """What one event brings to a metric: its filters have let it pass, its value is computed.

    `value` is None where members or events are counted, `member` where they are not. `order` decides between events of
    the same moment: the greater text is the later one.
    """

    at: datetime
    value: Decimal | None = None
    member: str | None = None
    groups: tuple[tuple[str, str], ...] = ()
    operation: Operation = "add"
    order: str = ""


def version_in_force(metric: Metric, moment: datetime) -> MetricVersion | None:
    """Return the version under which an event of that moment counts; None before the first version begins."""
    begun = [
        version for version in metric.versions if version.effective_from is None or version.effective_from <= moment
    ]
    return begun[-1] if begun else None


def passes(version: MetricVersion, properties: Mapping[str, PropertyValue]) -> bool:
    """Say whether all filters of a version fit the properties of an event; its computed condition is not looked at."""
    return all(_fits(rule, properties.get(rule.property)) for rule in version.filters)


def _fits(rule: Filter, value: PropertyValue | None) -> bool:
    if rule.exists is not None:
        return (value is not None) == rule.exists
    if value is None:
        return False
    if rule.at_least is not None or rule.below is not None:
        number = _number(value)
        return (
            number is not None
            and (rule.at_least is None or number >= rule.at_least)
            and (rule.below is None or number < rule.below)
        )
    texts = rule.one_of if rule.equals is None else (rule.equals,)
    return any(_is_text(value, text) for text in texts)


def _is_text(value: PropertyValue, text: str) -> bool:
    match value:
        case bool():
            return text == ("true" if value else "false")
        case Decimal():
            return value == _number(text)
        case _:
            return value == text


def _number(value: PropertyValue) -> Decimal | None:
    if isinstance(value, str):
        return Decimal(value) if NUMBER.fullmatch(value) else None
    return value if isinstance(value, Decimal) else None
