"""`meterbook usage spend`: the live spend of a contract by product, group and day."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

import sqlalchemy as sa
import typer
from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from admin.commands.history import show_as_of
from admin.commands.options import AsJson, AsOf, ContractId
from admin.connections import books
from admin.contract_screen import show_spend
from admin.errors import DoorError
from admin.plain import decimal_text
from admin.screen import console, moment, money, note, say, say_json, show_table
from ledger.history import spend_at
from ledger.spend import DaySpend, Spend, SpendByDay, spend_by_day
from ledger.spend import spend as spend_by_product
from ledger.spend_groups import SpendByGroup, spend_by_group

BAR_WIDTH = 40

SPEND_EXAMPLE = "Example: meterbook usage spend acme-payg --as-of 2026-10-05T12:00:00Z"

View = Literal["product", "group", "day"]

By = Annotated[View | None, typer.Option("--by", help="Only by this; without it, products and days.")]


def spend(contract: ContractId, *, by: By = None, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Show what a contract's current period costs so far: by product, by group or by day, or as known at a time.

    By product and day it is read from the books, by group it is rated on demand; it includes all usage accepted before
    the moment that is told. An earlier state is rated by product, from what was recorded by then.
    """
    if as_of is not None and by not in (None, "product"):
        raise DoorError(f"--by {by} cannot be told as of an earlier time; leave --by or --as-of away")
    with books() as connection:
        found = _read(connection, contract, by or "product", as_of)
        by_day = spend_by_day(connection, contract) if by is None and as_of is None else None
    if as_json:
        say_json(found)
        return
    match found:
        case Spend():
            show_spend(found)
        case SpendByGroup():
            _show_groups(found)
        case SpendByDay():
            _show_days(found)
    if by_day is not None:
        _show_days(by_day)
    show_as_of(as_of)
    if as_of is None:
        say(f"includes all usage accepted before {moment(found.watermark)}")
    if found.problem is not None:
        note(f"rating stopped: {found.problem}")


def _read(
    connection: sa.Connection, contract_id: str, by: View, as_of: datetime | None
) -> Spend | SpendByGroup | SpendByDay:
    if as_of is not None:
        return spend_at(connection, contract_id, as_of)
    match by:
        case "product":
            return spend_by_product(connection, contract_id)
        case "group":
            return spend_by_group(connection, contract_id)
        case "day":
            return spend_by_day(connection, contract_id)


def _show_groups(found: SpendByGroup) -> None:
    show_table(
        ("product", "groups", "quantity", "unit", "amount"),
        [
            (
                one.product_id,
                ", ".join(f"{key} {value}" for key, value in one.groups) or "-",
                decimal_text(one.quantity),
                one.unit,
                money(one.amount, found.currency),
            )
            for one in found.groups
        ],
        title=f"usage by group from {moment(found.period_start)} to {moment(found.period_end)}",
        right=("quantity", "amount"),
        empty="nothing is used in the current period yet",
    )
    say(f"total {money(found.total, found.currency)} {found.currency}, fees aside")


def _show_days(found: SpendByDay) -> None:
    if not found.days:
        return
    table = Table(title="by day", title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.add_column("day")
    table.add_column(found.currency, justify="right")
    table.add_column("")
    most = _most(found.days)
    for day in found.days:
        size = float(day.amount / most) if most and day.amount > 0 else 0.0  # only how long the bar is drawn
        table.add_row(Text(str(day.day)), Text(money(day.amount, found.currency)), Bar(1.0, 0, size, width=BAR_WIDTH))
    console().print(table)


def _most(days: Sequence[DaySpend]) -> Decimal:
    return max((day.amount for day in days), default=Decimal(0))
