"""Metric files: what is counted."""

from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter

from ledger.errors import InvalidError
from ledger.expressions import compiled
from ledger.files.document import Part, joined, read_items
from ledger.files.problems import read
from ledger.files.shapes import FileModel, Shaped, built, extended
from ledger.files.values import Setting, Slug
from pricing.metric_checks import version_problems
from pricing.metrics import Metric, MetricVersion


def _metric(said: FileModel) -> Metric:
    metric_id: str = said.model_dump(include={"metric"})["metric"]
    return Metric(metric_id, (built(MetricVersion, said, version=1),))


METRIC_FILE: Any = Annotated[extended("Metric", MetricVersion, metric=(Slug, ...)), AfterValidator(_metric)]
"""A metric as it is written in a file: one version of it."""

METRIC = TypeAdapter(Annotated[Metric, Shaped(METRIC_FILE)])


def read_metrics(text: str) -> tuple[Metric, ...]:
    """Read metrics, each with one version: one or several documents, or a list.

    Dates are midnights in UTC. Raises `FileError` with everything that is wrong.
    """
    parts = read_items(text)
    found = [metric_of(part) for part in parts]
    parts[0].findings.settle()
    return tuple(metric for metric in found if metric is not None)


def metric_of(part: Part) -> Metric | None:
    """Return the metric that a part of a file describes, or None with its problems noted."""
    metric = read(METRIC, part, Setting())
    if metric is None:
        return None
    (version,) = metric.versions
    for path, message in version_problems(version):
        part.findings.refuse(joined(part.path, path), message)
    for key in ("expression", "condition"):
        _check_expression(part, key, getattr(version, key))
    return metric


def _check_expression(part: Part, key: str, expression: str | None) -> None:
    try:
        if expression is not None:
            compiled(expression)
    except InvalidError as error:
        part.findings.refuse(joined(part.path, key), str(error))
