"""`meterbook trace`: where a single event went."""

from typing import Annotated

import typer

from admin.commands.options import AsJson
from admin.connections import books
from admin.screen import say_json
from admin.trace_screen import show_trace
from ledger.tracing import trace_event

application = typer.Typer()

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="The source that the event names.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The event's key.")]


@application.callback()
def trace() -> None:
    """Where a single event went."""


@application.command(epilog="Example: meterbook trace event gateway-eu-1 req-000123")
def event(source: Source, key: Key, *, as_json: AsJson = False) -> None:
    """Follow an event from its batch over metric, bucket and charge to transfers, invoice line and payment.

    Where it got no further, the reason is told with the remedy. Exit code 1 for an event that never came.
    """
    with books() as connection:
        found = trace_event(connection, source, key)
    if as_json:
        say_json(found)
    else:
        show_trace(found)
    if found.ending == "never_came":
        raise typer.Exit(1)
