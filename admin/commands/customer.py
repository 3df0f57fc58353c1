"""`meterbook customer`: who buys."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from admin.commands.options import AsJson, By, InputFile
from admin.connections import books
from admin.correcting import nudge, tell
from admin.input_files import taken
from admin.screen import say, say_json, show_facts, show_table
from ledger import customers
from ledger.files.parties import read_customers

application = typer.Typer()

CustomerId = Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer's id.")]


@application.command(epilog="Example: meterbook customer create customers.yaml")
def create(file: InputFile) -> None:
    """Record the customers of a YAML file (all or none), and count the usage that came in under their names before."""
    read = taken(file, read_customers)
    with books() as connection:
        outcomes = [(customer, customers.create_customer(connection, customer)) for customer in read]
    for customer, outcome in outcomes:
        done = "is created" if outcome == "created" else "exists already, with the same content"
        say(f"customer {customer.customer_id} {done}; its usage arrives as {', '.join(customer.aliases)}")


@application.command(
    "move-alias", epilog='Example: meterbook customer move-alias acme-eu --to acme --reason "one company since May"'
)
def move_alias(
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="The name that usage arrives under.")],
    *,
    to: Annotated[str, typer.Option("--to", metavar="CUSTOMER", help="Whose usage it is.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the move.")],
    by: By,
    as_json: AsJson = False,
) -> None:
    """Give a customer an alias that another one, or nobody, has: its usage, past and to come, goes with it."""
    with books() as connection:
        done = customers.move_alias(connection, alias, to, reason=reason, by=by, at=datetime.now(UTC))
    if as_json:
        say_json(done)
    else:
        say(f"usage under {alias} belongs to customer {to}")
        tell(done)
    nudge(done)


@application.command("list", epilog="Example: meterbook customer list --json")
def list_(*, as_json: AsJson = False) -> None:
    """List all customers."""
    with books() as connection:
        found = customers.list_customers(connection)
    if as_json:
        say_json(found)
        return
    show_table(
        ("customer", "name", "email", "aliases", "at Stripe"),
        [(c.customer_id, c.name, c.email or "-", ", ".join(c.aliases), c.stripe_customer_id or "-") for c in found],
        empty="no customer is recorded yet; create one with `meterbook customer create FILE`",
    )


@application.command(epilog="Example: meterbook customer show acme")
def show(customer_id: CustomerId, *, as_json: AsJson = False) -> None:
    """Show one customer."""
    with books() as connection:
        customer = customers.get_customer(connection, customer_id)
    if as_json:
        say_json(customer)
        return
    show_facts(
        [
            ("customer", customer.customer_id),
            ("name", customer.name),
            ("email", customer.email or "-"),
            ("aliases", ", ".join(customer.aliases)),
            ("at Stripe", customer.stripe_customer_id or "not known there yet"),
            ("payment method", customer.payment_method or "-"),
        ]
    )
