"""`meterbook metric`: what is counted."""

import typer

from admin.commands.options import AsJson, InputFile, read_text
from admin.connections import books
from admin.party_files import read_metrics
from admin.screen import say, say_json, show_table
from ledger import metrics

application = typer.Typer()


@application.command(epilog="Example: meterbook metric create metrics.yaml")
def create(file: InputFile) -> None:
    """Record the metrics of a YAML file (all or none), and count the events that came in before them."""
    read = read_metrics(read_text(file), name=str(file))
    with books() as connection:
        outcomes = [(metric.metric_id, metrics.create_metric(connection, metric)) for metric in read]
    for metric_id, outcome in outcomes:
        say(f"metric {metric_id} {'is created' if outcome == 'created' else 'exists already, with the same content'}")


@application.command("list", epilog="Example: meterbook metric list --json")
def list_(*, as_json: AsJson = False) -> None:
    """List all metrics."""
    with books() as connection:
        found = metrics.list_metrics(connection)
    if as_json:
        say_json(found)
        return
    show_table(
        ("metric", "events of type", "counts", "split by"),
        [
            (m.metric_id, m.event_type, m.aggregation + (f" of {m.property}" if m.property else ""),
             ", ".join(m.group_keys) or "-")
            for m in found
        ],
        empty="no metric is recorded yet; create one with `meterbook metric create FILE`",
    )  # fmt: skip
