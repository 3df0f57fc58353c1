"""`meterbook price`: how amounts came about."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import sqlalchemy as sa
import typer

from admin.commands.options import AsJson, parse_day
from admin.connections import books
from admin.errors import DoorError
from admin.screen import say, say_json
from ledger.accrual import rate_open_periods
from ledger.contracts import Contract, get_contract
from ledger.errors import NotFoundError
from ledger.invoices import Invoice, get_invoice, list_invoices
from pricing.calendar import Period, local_date
from pricing.explanation import explained_line, explained_period
from pricing.money import currency
from pricing.rated import Line, RatedPeriod

application = typer.Typer()

Subject = Annotated[str, typer.Argument(metavar="CONTRACT|INVOICE", help="A contract, or one of its invoices.")]
OfPeriod = Annotated[
    date | None,
    typer.Option("--period", metavar="YYYY-MM-DD", parser=parse_day, help="Only the billing period of this day."),
]
OfProduct = Annotated[str | None, typer.Option("--product", metavar="ID", help="Only this product.")]


@application.callback()
def price() -> None:
    """How amounts came about."""


@application.command(epilog="Example: meterbook price explain acme-payg --period 2026-10-05 --product tokens")
def explain(subject: Subject, *, period: OfPeriod = None, product: OfProduct = None, as_json: AsJson = False) -> None:
    """Explain what a contract's open periods cost to date, or what an invoice bills: every price, every step.

    A contract's period that is invoiced already is explained by its invoice.
    """
    with books() as connection:
        invoice = _invoice(connection, subject)
        contract = get_contract(connection, subject if invoice is None else invoice.contract_id)
        if invoice is not None:
            invoices, rated = [invoice], []
        else:
            invoices = [*list_invoices(connection, contract_id=subject)]
            rated = [*rate_open_periods(connection, subject, as_of=datetime.now(UTC))]
    if period is not None:
        invoices = [one for one in invoices if _holds(one.period, period, contract)]
        rated = [one for one in rated if _holds(one.period, period, contract)]
    elif invoice is None and rated:
        invoices = []
    if not (invoices or rated):
        raise DoorError(
            f"{subject} has no billing period to explain{f' on {period}' if period else ''}; "
            "give a day from its start until today"
        )
    invoices = [_billing_only(one, product) for one in invoices]
    rated = [_rating_only(one, product) for one in rated]
    if as_json:
        say_json(
            {
                "open": [{"rated": one, "explanation": explained_period(one, time_zone=contract.time_zone)}
                         for one in rated],
                "invoices": [{"invoice": one, "explanation": [*_invoice_lines(one, contract)]} for one in invoices],
            }
        )  # fmt: skip
        return
    for billed in invoices:
        say(f"invoice {billed.invoice_id}, {billed.state.replace('_', ' ')}, {_days(billed.period, contract)}")
        _say_all(_invoice_lines(billed, contract), "no line bills it")
    for one in rated:
        say(f"contract {contract.contract_id}, {_days(one.period, contract)}, to date")
        _say_all(iter(explained_period(one, time_zone=contract.time_zone)), "nothing is charged so far")


def _invoice(connection: sa.Connection, subject: str) -> Invoice | None:
    try:
        return get_invoice(connection, subject)
    except NotFoundError:
        return None


def _invoice_lines(invoice: Invoice, contract: Contract) -> Iterator[str]:
    for line in invoice.lines:
        yield from explained_line(line, currency(invoice.currency), time_zone=contract.time_zone)


def _say_all(lines: Iterator[str], empty: str) -> None:
    told = [*lines]
    for line in told or [empty]:
        say(f"  {line}")


def _holds(period: Period, day: date, contract: Contract) -> bool:
    zone = contract.time_zone
    return local_date(period.start, zone) <= day <= local_date(period.end - timedelta(microseconds=1), zone)


def _days(period: Period, contract: Contract) -> str:
    zone = contract.time_zone
    return f"{local_date(period.start, zone)} until {local_date(period.end, zone)}"


def _billing_only(invoice: Invoice, product: str | None) -> Invoice:
    if product is None:
        return invoice
    return replace(invoice, lines=tuple(line for line in invoice.lines if line.product_id == product))


def _rating_only(period: RatedPeriod, product: str | None) -> RatedPeriod:
    if product is None:
        return period
    return replace(
        period,
        charges=tuple(charge for charge in period.charges if charge.product_id == product),
        draws=tuple(draw for draw in period.draws if draw.product_id == product),
        fees=tuple(fee for fee in period.fees if fee.product_id == product),
        lines=tuple(_lines_of(period.lines, product)),
    )


def _lines_of(lines: Sequence[Line], product: str) -> Iterator[Line]:
    """Yield the lines of a product's charges, with the credits that follow each."""
    charged = ""
    for line in lines:
        if line.kind != "credit":
            charged = line.product_id
        if charged == product:
            yield line
