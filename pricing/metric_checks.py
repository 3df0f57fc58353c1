"""Checks of metrics: what makes a rule contradict itself, each fault with the path at which it stands."""

from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

from pricing.metrics import Filter, Metric, MetricVersion
from pricing.money import ZERO
from pricing.price_checks import Problem, number_problems
from pricing.product_checks import MOST_PLACES

HIGHEST_PERCENTILE = Decimal(100)
CARRYING = frozenset({"sum", "count", "unique", "max", "min", "latest", "time_weighted"})
"""Aggregations in which what was reached before a period can go on in it."""


def metric_problems(metric: Metric) -> tuple[Problem, ...]:
    """Return every contradiction in a metric; paths begin with the version's place, as in `versions[0].property`."""
    return (
        *_sequence_problems(metric),
        *(
            (f"versions[{n}].{path}", sentence)
            for n, version in enumerate(metric.versions)
            for path, sentence in version_problems(version)
        ),
    )


def version_problems(version: MetricVersion) -> tuple[Problem, ...]:
    """Return every contradiction within one version of a metric."""
    return (
        *_name_problems(version),
        *_value_problems(version),
        *_carrying_problems(version),
        *_time_problems(version),
        *_operation_problems(version),
        *_group_problems(version),
        *(p for n, rule in enumerate(version.filters) for p in _filter_problems(f"filters[{n}]", rule)),
        *_quantity_problems(version),
    )


def _sequence_problems(metric: Metric) -> Iterator[Problem]:
    if not metric.versions:
        yield "versions", "is empty; a metric has at least one version"
    for n, version in enumerate(metric.versions):
        if version.effective_from is not None and version.effective_from.tzinfo is None:
            yield f"versions[{n}].effective_from", "has no time zone; give one, for example +00:00"
            return  # it cannot be compared
    for n, (before, after) in enumerate(pairwise(metric.versions), start=1):
        path = f"versions[{n}]"
        if after.version <= before.version:
            yield (
                f"{path}.version",
                f"is {after.version}; it must be above {before.version}, that of the version before",
            )
        if after.effective_from is None:
            yield f"{path}.effective_from", "is missing; only a metric's first version is in force from ever"
        elif before.effective_from is not None and after.effective_from <= before.effective_from:
            earlier = before.effective_from.isoformat()
            yield f"{path}.effective_from", f"is not after {earlier}, where the version before begins; give a later one"


def _value_problems(version: MetricVersion) -> Iterator[Problem]:
    kind = version.aggregation
    if kind == "unique" or version.operation_property is not None:
        if version.property is None:
            yield "property", "is missing; name the property that holds the member"
        if version.expression is not None:
            yield "expression", "is given where members count; name the member's property instead"
    elif kind == "count":
        for name, given in (("property", version.property), ("expression", version.expression)):
            if given is not None:
                yield name, "is given for the aggregation count, which looks at no value; leave it out"
    elif (version.property is None) == (version.expression is None):
        found = "stands beside an expression" if version.property is not None else "is missing, and so is an expression"
        yield "property", f"{found}; give exactly one of property and expression for the aggregation {kind}"


def _name_problems(version: MetricVersion) -> Iterator[Problem]:
    if not version.event_type:
        yield "event_type", "is empty; name the type of the events that count"
    for name, given in _names(version):
        if given == "":
            yield name, "is empty; give it a text or leave it out"


def _names(version: MetricVersion) -> tuple[tuple[str, str | None], ...]:
    return (
        ("property", version.property),
        ("expression", version.expression),
        ("condition", version.condition),
        ("amount_property", version.amount_property),
        ("operation_property", version.operation_property),
    )


def _carrying_problems(version: MetricVersion) -> Iterator[Problem]:
    if version.carry_over and version.aggregation not in CARRYING:
        kinds = ", ".join(sorted(CARRYING))
        yield "carry_over", f"is given for the aggregation {version.aggregation}; only {kinds} can carry over"


def _time_problems(version: MetricVersion) -> Iterator[Problem]:
    if version.aggregation == "percentile":
        if version.percentile is None:
            yield "percentile", "is missing; give the percentile, from 0 to 100"
        elif not version.percentile.is_finite() or not ZERO <= version.percentile <= HIGHEST_PERCENTILE:
            yield "percentile", f"is {version.percentile}; it must be between 0 and 100"
        else:
            yield from number_problems("percentile", version.percentile)
    elif version.percentile is not None:
        yield "percentile", f"is given for the aggregation {version.aggregation}; leave it out"
    if version.aggregation != "time_weighted":
        for name, value in (("time_unit", version.time_unit), ("granularity", version.granularity)):
            if value != "second":
                yield name, f"is {value} for the aggregation {version.aggregation}; only time_weighted has one"
    elif version.granularity == "day" and version.time_unit not in ("day", "period"):
        yield "time_unit", f"is {version.time_unit} where whole days count; give day or period"


def _operation_problems(version: MetricVersion) -> Iterator[Problem]:
    if version.operation_property is not None and version.aggregation not in ("unique", "time_weighted"):
        yield "operation_property", f"is given for the aggregation {version.aggregation}; only members come and go"


def _group_problems(version: MetricVersion) -> Iterator[Problem]:
    for n, key in enumerate(version.group_keys):
        if not key:
            yield f"group_keys[{n}]", "is empty; name a property"
        if key in version.group_keys[:n]:
            yield f"group_keys[{n}]", f"repeats {key!r}; name each property once"


def _filter_problems(path: str, rule: Filter) -> Iterator[Problem]:
    if not rule.property:
        yield f"{path}.property", "is empty; name the property that the filter looks at"
    kinds = [
        rule.equals is not None,
        bool(rule.one_of),
        rule.at_least is not None or rule.below is not None,
        rule.exists is not None,
    ]
    if sum(kinds) != 1:
        yield path, "must have exactly one of equals, one_of, a range (at_least, below) and exists"
    for name, bound in (("at_least", rule.at_least), ("below", rule.below)):
        if bound is not None and not bound.is_finite():
            yield f"{path}.{name}", f"is {bound}; give a number"
    is_finite = all(bound is None or bound.is_finite() for bound in (rule.at_least, rule.below))
    if is_finite and rule.at_least is not None and rule.below is not None and rule.below <= rule.at_least:
        yield f"{path}.below", f"is {rule.below:f}; it must be above at_least, {rule.at_least:f}"
    for n, text in enumerate(rule.one_of):
        if text in rule.one_of[:n]:
            yield f"{path}.one_of[{n}]", f"repeats {text!r}; give each value once"


def _quantity_problems(version: MetricVersion) -> Iterator[Problem]:
    if version.rounding is not None and abs(version.rounding.places) > MOST_PLACES:
        yield "rounding.places", f"is {version.rounding.places}; it must be between -{MOST_PLACES} and {MOST_PLACES}"
    if version.conversion is not None:
        yield from number_problems("conversion.factor", version.conversion.factor, above_zero=True)
