"""`meterbook quote`: what a contract would charge, for usage that is only said."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from admin.commands.options import AsJson, InputFile, parse_day

EXAMPLE = "Example: meterbook quote contract.yaml --usage 'tokens\\[model=large]=1250000' --usage requests=310"
"""The backslash keeps the bracket from being read as markup."""


Usage = Annotated[
    list[str] | None,
    typer.Option(
        metavar="METRIC=QUANTITY",
        help="What a metric counts; by group where prices ask for it: 'METRIC[KEY=VALUE,KEY=VALUE]=QUANTITY'.",
    ),
]
Values = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC=VALUE,VALUE", help="Each event's value instead, for prices that look at each."),
]
Events = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC=NUMBER", help="How many events the usage has, for prices with a fee for each."),
]
Amount = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC=MONEY", help="The money that the events carry, for prices that come with them."),
]
Cards = Annotated[
    list[Path] | None,
    typer.Option("--card", exists=True, dir_okay=False, help="A rate card's file, instead of the recorded cards."),
]
Start = Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="The first day, instead of the file's `start`.")]
OfPeriod = Annotated[
    date | None,
    typer.Option(
        "--period", metavar="YYYY-MM-DD", parser=parse_day, help="The billing period of this day, not the first."
    ),
]


def quote(
    file: InputFile,
    *,
    usage: Usage = None,
    values: Values = None,
    events: Events = None,
    amount: Amount = None,
    card: Cards = None,
    start: Start = None,
    period: OfPeriod = None,
    as_json: AsJson = False,
) -> None:
    """Show what a contract file would bill for a period, and how: nothing is recorded, no customer is needed.

    Each option of usage may be given again, for other metrics and groups.
    """
    from admin import quoting  # noqa: PLC0415 - it brings pydantic and SQLAlchemy along

    said = quoting.said_usage(usage or (), values=values or (), events=events or (), amount=amount or ())
    quoted = quoting.quote_file(file, said, cards=card or (), start=start, day=period)
    quoting.show(quoted, as_json=as_json)
