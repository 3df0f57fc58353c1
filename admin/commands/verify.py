"""`meterbook verify`: the proof that the books are right."""

import typer

from admin.commands.options import AsJson

EXAMPLE = "Example: meterbook verify --json"


def verify(
    *,
    as_json: AsJson = False,
) -> None:
    """Recompute everything from the raw events on a separate path, and compare; exit code 1 on any difference."""
    from admin.proof import prove  # noqa: PLC0415 - it brings SQLAlchemy and Stripe along, half a second

    if not prove(as_json=as_json):
        raise typer.Exit(1)
