"""`meterbook verify`: the proof that the books are right."""

from datetime import date
from typing import Annotated

import typer

from admin.commands.options import AsJson, OfContract, parse_month

EXAMPLE = "Example: meterbook verify --month 2026-10 --json"

OfMonth = Annotated[
    date | None, typer.Option("--month", metavar="YYYY-MM", parser=parse_month, help="Only the usage of a month (UTC).")
]


def verify(*, contract_id: OfContract = None, month: OfMonth = None, as_json: AsJson = False) -> None:
    """Recompute everything from the raw events on a separate path, and compare; exit code 1 on any difference."""
    from admin.proof import prove  # noqa: PLC0415 - it brings SQLAlchemy and Stripe along, half a second

    if not prove(as_json=as_json, contract_id=contract_id, month=month):
        raise typer.Exit(1)
