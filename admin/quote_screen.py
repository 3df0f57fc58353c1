"""A quote as a person reads it: the invoice it would be, then the way to each amount."""

from rich import box
from rich.table import Table
from rich.text import Text

from admin.screen import console, say
from pricing.calendar import local_date
from pricing.explanation import explained_period
from pricing.quotes import Quote
from pricing.rated import Line
from pricing.wording import amount_text, counted, number


def show_quote(quote: Quote, contract_id: str, time_zone: str) -> None:
    """Print a quote; days are those of the zone."""
    first, end = local_date(quote.period.start, time_zone), local_date(quote.period.end, time_zone)
    say(f"Quote of contract {contract_id} for {first} until {end}, before tax", style="bold")
    console().print(_table(quote))
    for sentence in explained_period(quote.rated, time_zone=time_zone):
        say(sentence, style="" if sentence.startswith(" ") else "bold")
    whole = ", what is prepaid is whole" if quote.rated.lots_after else ""
    say(f"\nAll usage is taken to happen at the beginning of {first}, none came before{whole}; nothing is recorded.")


def _table(quote: Quote) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    table.add_column("quantity", justify="right")
    table.add_column(quote.currency.code, justify="right", no_wrap=True)
    places = quote.currency.exponent

    def row(what: str, quantity: str, amount: str, style: str = "") -> None:
        table.add_row(Text(what), Text(quantity), Text(amount), style=style)

    for line in quote.lines:
        row(_name(line), _quantity(line), amount_text(line.amount, places))
    if quote.changes:
        table.add_section()
        row("subtotal", "", amount_text(quote.subtotal, places))
        for change in quote.changes:
            name = f"{change.name}, credit" if change.kind == "credit" else change.name
            row(name, "", amount_text(change.amount, places))
    table.add_section()
    row("total", "", amount_text(quote.total, places), "bold")
    return table


def _name(line: Line) -> str:
    groups = ", ".join(value for _, value in line.groups)
    return f"{line.description} ({groups})" if groups else line.description


def _quantity(line: Line) -> str:
    if line.kind == "usage":
        return counted(line.quantity, line.unit)
    return "" if line.quantity == 1 else number(line.quantity)
