"""`meterbook metric`: what is counted."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

import typer

from admin.commands.options import AsJson, InputFile, parse_day
from admin.connections import books
from admin.input_files import taken
from admin.plain import decimal_text
from admin.screen import moment, say, say_json, show_table
from ledger import metric_trials, metrics
from ledger.files.metrics import read_metrics
from pricing.calendar import Period
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
    read = taken(file, read_metrics)
    with books() as connection:
        outcomes = [(metric.metric_id, metrics.create_metric(connection, metric)) for metric in read]
    for metric_id, outcome in outcomes:
        say(f"metric {metric_id} {OUTCOMES[outcome]}")


From = Annotated[
    date | None,
    typer.Option("--from", metavar="DAY", parser=parse_day, help="The first day, UTC; 31 days before --to."),
]
To = Annotated[
    date | None, typer.Option("--to", metavar="DAY", parser=parse_day, help="The day after the last, UTC; tomorrow.")
]


@application.command(epilog="Example: meterbook metric diff metrics.yaml --from 2026-10-01 --to 2026-11-01")
def diff(file: InputFile, *, first: From = None, end: To = None, as_json: AsJson = False) -> None:
    """Show what the rules of a YAML file would have counted beside what the recorded ones did; nothing is changed.

    A file's rule is applied to the whole span, whatever its effective_from.
    """
    last = end or (datetime.now(UTC) + timedelta(days=1)).date()
    span = Period(_midnight(first or last - timedelta(days=31)), _midnight(last))
    found: list[metric_trials.MetricDifference] = []
    for metric in taken(file, read_metrics):
        with books() as connection:  # a transaction each, because a trial needs a snapshot of its own
            found += metric_trials.try_metric(connection, metric, span)
    if as_json:
        say_json([{**asdict(one), "difference": one.difference} for one in found])
        return
    figures = ("before", "after", "difference")
    show_table(
        ("metric", "customer", "contract", *figures),
        [
            (one.metric_id, one.customer_id, one.contract_id or "-",
             *(decimal_text(figure) for figure in (one.before, one.after, one.difference)))
            for one in found
        ],
        right=figures,
        empty="no usage is counted by either rule in this span; choose another with --from and --to",
    )  # fmt: skip


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


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
