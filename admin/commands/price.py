"""`meterbook price`: how amounts came about."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from admin.commands.options import AsJson
from admin.connections import books
from admin.screen import say, say_json
from ledger.accrual import rate_open_periods
from ledger.contracts import get_contract
from ledger.errors import NotFoundError
from ledger.invoices import Invoice, get_invoice, list_invoices
from pricing.calendar import local_date
from pricing.explanation import amount_text, explained_period
from pricing.rated import Line, RatedPeriod

application = typer.Typer()

Subject = Annotated[str, typer.Argument(metavar="CONTRACT|INVOICE", help="A contract, or one of its invoices.")]
OfProduct = Annotated[str | None, typer.Option("--product", help="Only this product.")]


@application.callback()
def price() -> None:
    """How amounts came about."""


@application.command(epilog="Example: meterbook price explain acme-payg --product tokens")
def explain(subject: Subject, *, product: OfProduct = None, as_json: AsJson = False) -> None:
    """Explain what a contract's open periods cost to date, or what an invoice bills: readings, prices, every step."""
    now = datetime.now(UTC)
    with books() as connection:
        try:
            invoice: Invoice | None = get_invoice(connection, subject)
        except NotFoundError:
            invoice = None
        contract = get_contract(connection, subject if invoice is None else invoice.contract_id)
        rated = rate_open_periods(connection, subject, as_of=now) if invoice is None else ()
        billed = [] if invoice else list_invoices(connection, contract_id=subject)
    if as_json:
        say_json(invoice.lines if invoice else [_only(period, product) for period in rated])
        return
    if invoice is not None:
        for line in invoice.lines:
            if product in (None, line.product_id):
                _say_line(line, invoice.currency)
        return
    for period in rated:
        first = local_date(period.period.start, contract.time_zone)
        say(f"{subject}, period from {first}, to date:")
        told = explained_period(_only(period, product))
        for sentence in told or ("  nothing is charged so far",):
            say(sentence)
    if billed:
        names = ", ".join(one.invoice_id for one in billed)
        say(f"invoiced before: {names}; explain one with `meterbook price explain INVOICE`")


def _only(period: RatedPeriod, product: str | None) -> RatedPeriod:
    if product is None:
        return period
    return RatedPeriod(
        period.period,
        period.currency,
        tuple(charge for charge in period.charges if charge.product_id == product),
        tuple(draw for draw in period.draws if draw.product_id == product),
        tuple(fee for fee in period.fees if fee.product_id == product),
        tuple(line for line in period.lines if line.product_id == product),
        period.lots_after,
    )


def _say_line(line: Line, currency: str) -> None:
    groups = ", ".join(f"{key} {value}" for key, value in line.groups)
    say(f"{line.description}{f' ({groups})' if groups else ''}: {amount_text(line.amount)} {currency}")
    for step in line.steps:
        say(f"  {step.text} = {amount_text(step.amount)}")
    if line.source:
        say(f"  the price is that of {line.source}")
    if line.exact != line.amount:
        say(f"  {amount_text(line.exact)} before rounding")
