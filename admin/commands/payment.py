"""`meterbook payment`: money that came in."""

from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from admin import durable
from admin.commands.options import AsJson, By, OfContract, OfEntity, parse_day
from admin.connections import books
from admin.errors import AwayError
from admin.screen import money, note, say, say_json, show_table
from ledger import payments

application = typer.Typer()


def parse_amount(text: str) -> Decimal:
    """Read an amount exactly; raise a usage error naming the form."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is not an amount; write it as 12.34") from None
    if not amount.is_finite() or amount <= 0:
        raise typer.BadParameter(f"{text!r} must be more than 0")
    return amount


Invoice = Annotated[str, typer.Option("--invoice", metavar="INVOICE", help="The invoice that it pays.")]
OfInvoice = Annotated[str | None, typer.Option("--invoice", metavar="INVOICE", help="Only of this invoice.")]
Amount = Annotated[Decimal, typer.Option("--amount", metavar="12.34", parser=parse_amount, help="What arrived.")]
CurrencyCode = Annotated[str, typer.Option("--currency", metavar="EUR", help="Its currency, by ISO 4217.")]
Reference = Annotated[str, typer.Option("--reference", help="The bank's own id of the transfer: recorded once.")]
ReceivedOn = Annotated[
    date, typer.Option("--received-on", metavar="YYYY-MM-DD", parser=parse_day, help="The bank's booking day.")
]
AllowUnapplied = Annotated[
    bool, typer.Option("--allow-unapplied", help="Keep it as the contract's unapplied cash if the invoice is paid.")
]


@application.command(
    epilog="Example: meterbook payment record --invoice cobalt-packages.2026-10-01 --amount 149.00 --currency EUR "
    "--reference BANK-4711 --received-on 2026-11-05 --by treasury"
)
def record(
    *,
    invoice: Invoice,
    amount: Amount,
    currency: CurrencyCode,
    reference: Reference,
    received_on: ReceivedOn,
    by: By,
    allow_unapplied: AllowUnapplied = False,
) -> None:
    """Record a bank transfer for an invoice; the same reference with the same content again is harmless."""
    with books() as connection:
        payment = payments.record_bank_payment(
            connection,
            payment_id=reference,
            invoice_id=invoice,
            amount=amount,
            currency=currency,
            received_on=received_on,
            by=by,
            allow_unapplied=allow_unapplied,
        )
        open_amount = payments.collection_state(connection, invoice).open_amount
    paid = f"payment {reference} of {money(amount, currency)} {currency} for invoice {invoice}"
    say(
        f"{paid} was recorded already; nothing was changed"
        if payment.repeated
        else f"{paid} is recorded; {money(open_amount, currency)} {currency} stay open"
    )
    if payment.unapplied > 0:
        say(f"{money(payment.unapplied, currency)} {currency} of it are unapplied cash of the contract")
    try:
        durable.payment_recorded(invoice)
    except AwayError as error:
        note(f"the collection of {invoice} is not told yet and looks again by itself ({error.what})")


@application.command("list", epilog="Example: meterbook payment list --entity nordlicht --json")
def list_(
    *, entity: OfEntity = None, contract: OfContract = None, invoice: OfInvoice = None, as_json: AsJson = False
) -> None:
    """List payments in the order of their days."""
    with books() as connection:
        found = payments.list_payments(connection, entity_id=entity, contract_id=contract, invoice_id=invoice)
    if as_json:
        say_json(found)
        return
    show_table(
        ("payment", "received", "method", "amount", "fee", "currency", "paid", "unapplied", "by"),
        [
            (p.payment_id, str(p.received_on), p.method.replace("_", " "), money(p.amount, p.currency),
             money(p.fee, p.currency), p.currency, ", ".join(name for name, _ in p.applied) or "-",
             money(p.unapplied, p.currency), p.recorded_by)
            for p in found
        ],
        right=("amount", "fee", "unapplied"),
        empty="no payment matches",
    )  # fmt: skip
