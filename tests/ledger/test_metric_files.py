"""Metric files: what a good one says, and that a bad one is told everything at once."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from ledger.files.document import FileError
from ledger.files.metrics import read_metrics
from pricing.metrics import Filter, Metric, MetricVersion
from pricing.terms import Conversion, QuantityRounding

FULL = """\
metric: storage
event_type: storage.level
aggregation: time_weighted
effective_from: 2026-03-01
expression: bytes / 1024
condition: region != "test"
filters:
  - {property: plan, one_of: [pro, team]}
  - {property: size, at_least: "0.5", below: 100}
  - {property: deleted, exists: false}
  - {property: kind, equals: disk}
amount_property: cost
carry_over: true
time_unit: hour
group_keys: [region, disk]
rounding: {rounding: up, places: 2}
conversion: {operation: divide, factor: 1024}
"""


def problems(text: str) -> list[tuple[int, str]]:
    with pytest.raises(FileError) as caught:
        read_metrics(text)
    return [(problem.line, problem.path) for problem in caught.value.problems]


def test_a_metric_says_its_rule_by_the_names_of_its_fields() -> None:
    assert read_metrics(FULL) == (
        Metric(
            "storage",
            (
                MetricVersion(
                    1,
                    datetime(2026, 3, 1, tzinfo=UTC),
                    "storage.level",
                    "time_weighted",
                    expression="bytes / 1024",
                    condition='region != "test"',
                    filters=(
                        Filter("plan", one_of=("pro", "team")),
                        Filter("size", at_least=Decimal("0.5"), below=Decimal(100)),
                        Filter("deleted", exists=False),
                        Filter("kind", equals="disk"),
                    ),
                    amount_property="cost",
                    carry_over=True,
                    time_unit="hour",
                    group_keys=("region", "disk"),
                    rounding=QuantityRounding("up", 2),
                    conversion=Conversion("divide", Decimal(1024)),
                ),
            ),
        ),
    )


def test_all_aggregations_can_be_named() -> None:
    listed = "".join(
        f"- {{metric: {name}, event_type: e, aggregation: {name}, property: p{more}}}\n"
        for name, more in (
            ("sum", ""),
            ("unique", ", operation_property: action"),
            ("max", ""),
            ("min", ""),
            ("latest", ""),
            ("average", ""),
            ("percentile", ", percentile: 95"),
            ("time_weighted", ", granularity: day, time_unit: day"),
        )
    )
    found = read_metrics(listed + "- {metric: count, event_type: e, aggregation: count}\n")
    assert [metric.versions[0].aggregation for metric in found] == [metric.metric_id for metric in found]


@pytest.mark.parametrize(
    ("before", "after", "line", "path"),
    [
        ("aggregation: time_weighted", "aggregation: timeweighted", 3, "aggregation"),
        ("effective_from: 2026-03-01", "effective_from: March", 4, "effective_from"),
        ("bytes / 1024", "bytes /", 5, "expression"),
        ("one_of: [pro, team]", "one_of: pro", 8, "filters[0].one_of"),
        ("one_of: [pro, team]", "equals: pro, exists: true", 8, "filters[0]"),
        ("below: 100", "below: 0.25", 9, "filters[1].below"),
        ("exists: false", "exists: no", 10, "filters[2].exists"),
        ("time_unit: hour", "time_unit: hours", 14, "time_unit"),
        ("group_keys: [region, disk]", "group_keys: [region, region]", 15, "group_keys[1]"),
        ("factor: 1024}", "factor: 0}", 17, "conversion.factor"),
        ("carry_over: true", "carry_ower: true", 13, "carry_ower"),
    ],
)
def test_each_single_fault_is_found_where_it_stands(before: str, after: str, line: int, path: str) -> None:
    assert before in FULL
    assert problems(FULL.replace(before, after, 1)) == [(line, path)]


def test_the_faults_of_all_metrics_are_told_at_once() -> None:
    assert problems(f"---\n{FULL.replace('hour', 'hours')}---\nmetric: b\nevent_type: e\naggregation: sum\n") == [
        (15, "[0].time_unit"),
        (20, "[1].property"),
    ]
