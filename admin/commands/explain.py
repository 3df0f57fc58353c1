"""`meterbook explain`: which events make up an amount."""

from typing import Annotated

import typer

from admin.commands.options import AsJson

EXAMPLE = "Example: meterbook explain acme-payg.2026-10-01/1 --limit 100"

Subject = Annotated[
    str,
    typer.Argument(
        metavar="INVOICE|INVOICE/LINE|TRANSFER",
        help="An invoice, one of its lines, a transfer, or `credit-note-request/` with the id of a request.",
    ),
]
After = Annotated[str | None, typer.Option("--after", help="Go on behind the page that named this.")]
PageSize = Annotated[int, typer.Option(min=1, max=1000, help="Events on a page.")]


def explain(subject: Subject, *, after: After = None, limit: PageSize = 20, as_json: AsJson = False) -> None:
    """Explain an amount down to its events: steps, days, readings, and a page of the events themselves.

    The period is rated anew from its events, as they counted when it was billed. Every level is compared with the one
    above; exit code 1 when one differs. A share of other products, a discount, a minimum or a maximum names the lines
    that it was computed from: explain those for their events.
    """
    from admin.explain_screen import explain_on_screen  # noqa: PLC0415 - it brings SQLAlchemy along, half a second

    if not explain_on_screen(subject, after=after, limit=limit, as_json=as_json):
        raise typer.Exit(1)
