"""`meterbook usage spend`: the live spend of a contract by product, group and day."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Literal

import typer
from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from admin.commands.options import AsJson, ContractId
from admin.connections import books
from admin.contract_screen import show_spend
from admin.plain import decimal_text
from admin.screen import console, moment, money, note, say, say_json, show_table
from ledger.spend import DaySpend, SpendByDay, spend_by_day
from ledger.spend import spend as spend_by_product
from ledger.spend_groups import SpendByGroup, spend_by_group

BAR_WIDTH = 40

By = Annotated[Literal["product", "group", "day"] | None, typer.Option("--by", help="Only this view.")]


def spend(contract: ContractId, *, by: By = None, as_json: AsJson = False) -> None:
    """Show what the current period of a contract has cost so far, by product and by day; by group where asked for.

    By product and day it is read from the books, and includes all usage accepted before the moment that is told; by
    group it is rated on demand.
    """
    with books() as connection:
        by_product = spend_by_product(connection, contract) if by in (None, "product") else None
        by_day = spend_by_day(connection, contract) if by in (None, "day") else None
        by_group = spend_by_group(connection, contract) if by == "group" else None
    found = {"product": by_product, "group": by_group, "day": by_day}
    told = {name: view for name, view in found.items() if view is not None}
    if as_json:
        say_json(told if by is None else told[by])
        return
    if by_product is not None:
        show_spend(by_product)
    if by_group is not None:
        _show_groups(by_group)
    if by_day is not None:
        _show_days(by_day)
    for view in [*told.values()][:1]:
        say(f"includes all usage accepted before {moment(view.watermark)}")
        if view.problem is not None:
            note(f"rating stopped: {view.problem}")


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
