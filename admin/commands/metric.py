"""`meterbook metric`: what is counted."""

from collections.abc import Mapping

import typer

from admin.commands.options import AsJson, InputFile, read_text
from admin.connections import books
from admin.party_files import read_metrics
from admin.screen import moment, say, say_json, show_table
from ledger import metrics
from pricing.metrics import MetricVersion

application = typer.Typer()

OUTCOMES: Mapping[metrics.CreatedMetric, str] = {
    "created": "is created",
    "changed": "has a new version",
    "exists": "exists already, with the same content",
}


@application.command(epilog="Example: meterbook metric create metrics.yaml")
def create(file: InputFile) -> None:
    """Record the metrics of a YAML file (all or none), and count the events that came in before them."""
    read = read_metrics(read_text(file), name=str(file))
    with books() as connection:
        outcomes = [(metric.metric_id, metrics.create_metric(connection, metric)) for metric in read]
    for metric_id, outcome in outcomes:
        say(f"metric {metric_id} {OUTCOMES[outcome]}")


@application.command("list", epilog="Example: meterbook metric list --json")
def list_(*, as_json: AsJson = False) -> None:
    """List all metrics."""
    with books() as connection:
        found = metrics.list_metrics(connection)
    if as_json:
        say_json(found)
        return
    show_table(
        ("metric", "version", "in force from", "events of type", "counts", "split by"),
        [
            (m.metric_id, str(v.version), "-" if v.effective_from is None else moment(v.effective_from), v.event_type,
             _counted(v), ", ".join(v.group_keys) or "-")
            for m in found
            for v in m.versions
        ],
        empty="no metric is recorded yet; create one with `meterbook metric create FILE`",
    )  # fmt: skip


def _counted(version: MetricVersion) -> str:
    value = version.property or version.expression
    filtered = bool(version.filters) or version.condition is not None
    return version.aggregation + (f" of {value}" if value else "") + (", filtered" if filtered else "")
