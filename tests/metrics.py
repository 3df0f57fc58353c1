"""Metrics for tests, in one line each."""

from typing import Any

from pricing.metrics import Aggregation, Metric, MetricVersion


def metric(
    metric_id: str,
    event_type: str,
    aggregation: Aggregation,
    value: str | None = None,
    group_keys: tuple[str, ...] = (),
    **more: Any,  # noqa: ANN401 -- any further field of a version
) -> Metric:
    """A metric of one version, in force from ever unless `effective_from` says otherwise."""
    fields: dict[str, Any] = {"version": 1, "effective_from": None, **more}
    version = MetricVersion(
        event_type=event_type, aggregation=aggregation, property=value, group_keys=group_keys, **fields
    )
    return Metric(metric_id, (version,))
