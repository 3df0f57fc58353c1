"""Metrics: which events their filters let pass, which version counts, and what contradicts itself."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from pricing.metric_checks import metric_problems, version_problems
from pricing.metrics import Filter, Metric, MetricVersion, PropertyValue, passes, version_in_force
from pricing.terms import Conversion, QuantityRounding

D = Decimal
TOKENS = MetricVersion(1, None, "completion", "sum", property="tokens")


def day(number: int) -> datetime:
    return datetime(2026, 4, number, tzinfo=UTC)


# --- filters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        (Filter("region", equals="eu"), "eu", True),
        (Filter("region", equals="eu"), "EU", False),  # texts are compared as they are
        (Filter("region", equals="eu"), None, False),
        (Filter("cached", equals="true"), True, True),
        (Filter("cached", equals="false"), False, True),
        (Filter("cached", equals="1"), True, False),  # a truth value is no number
        (Filter("size", equals="5"), D("5.0"), True),  # numbers by their value
        (Filter("size", equals="5"), "5.0", False),
        (Filter("size", equals="large"), D(5), False),
        (Filter("region", one_of=("eu", "us")), "us", True),
        (Filter("region", one_of=("eu", "us")), "af", False),
        (Filter("size", at_least=D(10), below=D(20)), D(10), True),  # the lower bound belongs to the range
        (Filter("size", at_least=D(10), below=D(20)), D(20), False),  # the upper one does not
        (Filter("size", at_least=D(10)), D(1000), True),
        (Filter("size", below=D(0)), D("-0.1"), True),
        (Filter("size", at_least=D(10)), "12.5", True),  # a number that was sent as text
        (Filter("size", at_least=D(10)), "1e3", False),
        (Filter("size", at_least=D(0)), True, False),
        (Filter("size", at_least=D(0)), None, False),
        (Filter("region", exists=True), "", True),
        (Filter("region", exists=True), None, False),
        (Filter("region", exists=False), None, True),
        (Filter("region", exists=False), "eu", False),
    ],
)
def test_a_filter_fits_in_one_way(rule: Filter, value: PropertyValue | None, expected: bool) -> None:
    properties = {} if value is None else {rule.property: value}
    assert passes(replace(TOKENS, filters=(rule,)), properties) is expected


def test_all_filters_must_fit() -> None:
    version = replace(TOKENS, filters=(Filter("region", equals="eu"), Filter("size", below=D(5))))
    assert passes(version, {"region": "eu", "size": D(4)})
    assert not passes(version, {"region": "eu", "size": D(5)})
    assert passes(TOKENS, {})


# --- versions -----------------------------------------------------------------------------------------------------


def test_an_event_counts_under_the_version_in_force_at_its_time() -> None:
    first, second = TOKENS, replace(TOKENS, version=2, effective_from=day(10), property="units")
    metric = Metric("tokens", (first, second))
    assert version_in_force(metric, day(9)) is first
    assert version_in_force(metric, day(10)) is second
    assert version_in_force(Metric("tokens", (second,)), day(9)) is None


def test_versions_follow_each_other_in_time() -> None:
    second = replace(TOKENS, version=2, effective_from=day(10))
    assert metric_problems(Metric("tokens", (TOKENS, second))) == ()
    assert [path for path, _ in metric_problems(Metric("tokens", ()))] == ["versions"]
    assert [path for path, _ in metric_problems(Metric("tokens", (second, second)))] == [
        "versions[1].version",
        "versions[1].effective_from",
    ]
    assert metric_problems(Metric("tokens", (second, replace(TOKENS, version=3)))) == (
        ("versions[1].effective_from", "is missing; only a metric's first version is in force from ever"),
    )
    naive = replace(TOKENS, version=2, effective_from=datetime(2026, 4, 1))  # noqa: DTZ001, a naive time is the fault
    assert [path for path, _ in metric_problems(Metric("tokens", (TOKENS, naive)))] == ["versions[1].effective_from"]


def test_a_problem_within_a_version_names_its_place() -> None:
    metric = Metric("tokens", (TOKENS, replace(TOKENS, version=2, effective_from=day(10), property=None)))
    assert [path for path, _ in metric_problems(metric)] == ["versions[1].property"]


# --- contradictions -----------------------------------------------------------------------------------------------

SEATS = MetricVersion(1, None, "seat", "unique", property="user", operation_property="op", carry_over=True)
STORAGE = MetricVersion(1, None, "stored", "time_weighted", property="gigabytes", carry_over=True)


@pytest.mark.parametrize(
    "version",
    [
        TOKENS,
        MetricVersion(1, None, "call", "count"),
        replace(TOKENS, property=None, expression="input + output", condition="model != 'free'"),
        replace(TOKENS, aggregation="percentile", percentile=D("99.5")),
        replace(TOKENS, aggregation="latest", carry_over=True),
        SEATS,
        replace(SEATS, operation_property=None),
        replace(SEATS, aggregation="time_weighted", time_unit="period", granularity="day"),
        STORAGE,
        replace(STORAGE, time_unit="hour"),
        replace(TOKENS, rounding=QuantityRounding("up", 5), conversion=Conversion("divide", D(1000))),
    ],
)
def test_a_rule_that_holds_together_has_no_problem(version: MetricVersion) -> None:
    assert version_problems(version) == ()


@pytest.mark.parametrize(
    ("version", "changes", "path"),
    [
        (TOKENS, {"event_type": ""}, "event_type"),
        (TOKENS, {"property": None}, "property"),
        (TOKENS, {"expression": "input"}, "property"),  # a property and an expression
        (TOKENS, {"property": ""}, "property"),
        (TOKENS, {"condition": ""}, "condition"),
        (TOKENS, {"aggregation": "count"}, "property"),
        (TOKENS, {"aggregation": "count", "property": None, "expression": "input"}, "expression"),
        (SEATS, {"property": None}, "property"),
        (SEATS, {"expression": "user"}, "expression"),
        (TOKENS, {"operation_property": "op"}, "operation_property"),
        (TOKENS, {"aggregation": "percentile"}, "percentile"),
        (TOKENS, {"aggregation": "percentile", "percentile": D("100.1")}, "percentile"),
        (TOKENS, {"aggregation": "percentile", "percentile": D("NaN")}, "percentile"),
        (TOKENS, {"percentile": D(50)}, "percentile"),
        (TOKENS, {"aggregation": "average", "carry_over": True}, "carry_over"),
        (TOKENS, {"time_unit": "hour"}, "time_unit"),
        (TOKENS, {"granularity": "day"}, "granularity"),
        (STORAGE, {"granularity": "day", "time_unit": "hour"}, "time_unit"),
        (TOKENS, {"group_keys": ("model", "model")}, "group_keys[1]"),
        (TOKENS, {"group_keys": ("",)}, "group_keys[0]"),
        (TOKENS, {"filters": (Filter("region"),)}, "filters[0]"),
        (TOKENS, {"filters": (Filter("region", equals="eu", exists=True),)}, "filters[0]"),
        (TOKENS, {"filters": (Filter("", equals="eu"),)}, "filters[0].property"),
        (TOKENS, {"filters": (Filter("size", at_least=D(5), below=D(5)),)}, "filters[0].below"),
        (TOKENS, {"filters": (Filter("size", below=D("Infinity")),)}, "filters[0].below"),
        (TOKENS, {"filters": (Filter("region", one_of=("eu", "eu")),)}, "filters[0].one_of[1]"),
        (TOKENS, {"rounding": QuantityRounding("up", 13)}, "rounding.places"),
        (TOKENS, {"conversion": Conversion("divide", D(0))}, "conversion.factor"),
    ],
)
def test_a_contradiction_is_named_with_its_path(version: MetricVersion, changes: dict[str, Any], path: str) -> None:
    problems = version_problems(replace(version, **changes))
    assert [found for found, _ in problems] == [path]
