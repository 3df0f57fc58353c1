"""What a person sees: tables and sentences on standard output, refusals on standard error."""

import os
import sys
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from admin.plain import decimal_text, json_text, moment_text
from pricing.money import CURRENCY_EXPONENTS

WIDTH_OF_A_FILE = 180


def console() -> Console:
    """Return the console of standard output; where that is no terminal, and COLUMNS is not set, lines are long."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if known else WIDTH_OF_A_FILE, highlight=False, emoji=False)


def say(sentence: str, *, style: str = "") -> None:
    """Print a sentence as it is, unbroken, so that programs can search it."""
    console().print(Text(sentence, style=style), soft_wrap=True)


def say_json(value: object) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json_text(value, indent=2) + "\n")


def note(sentence: str) -> None:
    """Print a sentence beside the answer, on standard error."""
    Console(stderr=True, highlight=False, emoji=False).print(Text(sentence, style="yellow"), soft_wrap=True)


def refuse(sentence: str) -> None:
    """Print why a command did nothing, on standard error."""
    Console(stderr=True, highlight=False, emoji=False).print(Text(f"error: {sentence}", style="red"), soft_wrap=True)


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str | None = None,
    right: Collection[str] = (),
    empty: str = "nothing is recorded yet",
) -> None:
    """Print a table; columns named in `right` are figures. Without rows, say `empty` instead."""
    listed = [*rows]
    if not listed:
        say(empty)
        return
    _show_title(title)
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in listed:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def show_facts(facts: Iterable[tuple[str, str]], *, title: str | None = None) -> None:
    """Print names with their values, one a line."""
    _show_title(title)
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(Text(name), Text(value))
    console().print(table)


def _show_title(title: str | None) -> None:
    if title is not None:
        console().print(Text(title, style="bold"), soft_wrap=True)


def money(amount: Decimal, currency: str | None = None) -> str:
    """Write an amount exactly, with at least its currency's digits: 1234.50, 0.00012."""
    text = decimal_text(amount)
    places = 0 if currency is None else CURRENCY_EXPONENTS.get(currency, 0)
    missing = places - len(text.partition(".")[2])
    if missing > 0:
        text += ("" if "." in text else ".") + "0" * missing
    return text


def moment(value: datetime | None) -> str:
    """Write a moment in UTC to the second, or a dash."""
    return "-" if value is None else moment_text(value.replace(microsecond=0))


def seconds(value: timedelta | float | Decimal | None) -> str:
    """Write a short duration in seconds, or a dash."""
    if value is None:
        return "-"
    figure = value.total_seconds() if isinstance(value, timedelta) else float(value)
    return f"{figure:.2f} s"
