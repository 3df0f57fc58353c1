"""`meterbook hold`: money and units that are reserved before work is done."""

from decimal import Decimal
from typing import Annotated

import typer

from admin.commands.options import AsJson, Limit, OfCustomer
from admin.connections import books
from admin.plain import decimal_text
from admin.screen import moment, say_json, show_table
from ledger.holds import HoldState, list_holds

application = typer.Typer()


@application.callback()
def hold() -> None:
    """Money and units that are reserved before work is done."""


@application.command("list", epilog="Example: meterbook hold list --customer acme --state held")
def list_(
    *,
    customer: OfCustomer = None,
    state: Annotated[HoldState | None, typer.Option("--state", help="Only those in this state.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List holds, the last made first."""
    with books() as connection:
        found = list_holds(connection, customer_id=customer, state=state, limit=limit)
    if as_json:
        say_json(found)
        return
    show_table(
        ("hold", "customer", "feature", "units", "amount", "state", "made", "expires", "event"),
        [
            (
                one.hold_id,
                one.customer_id,
                one.feature_id,
                _figure(one.units),
                _figure(one.amount),
                one.state,
                moment(one.created_at),
                moment(one.expires_at),
                "-" if one.key is None else f"{one.source} {one.key}",
            )
            for one in found
        ],
        right=("units", "amount"),
        empty="nothing is held",
    )


def _figure(value: Decimal) -> str:
    return decimal_text(value) if value else "-"
