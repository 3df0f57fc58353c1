"""`meterbook ledger`: the books, as balances, statements and journals."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated

import typer

from admin.commands.options import AsJson, EntityId, Limit, OfContract, parse_day, parse_month
from admin.connections import books
from admin.plain import decimal_text
from admin.screen import moment, money, say, say_json, show_table
from ledger import reports
from ledger.reports import AccountName

application = typer.Typer()

AsOf = Annotated[
    date | None,
    typer.Option("--as-of", metavar="YYYY-MM-DD", parser=parse_day, help="Up to and including this day."),
]
OfMonth = Annotated[
    date | None, typer.Option("--month", metavar="YYYY-MM", parser=parse_month, help="Only this month.")
]
Since = Annotated[date | None, typer.Option(metavar="YYYY-MM-DD", parser=parse_day, help="From this day on.")]
Until = Annotated[date | None, typer.Option(metavar="YYYY-MM-DD", parser=parse_day, help="Up to and with this day.")]
Code = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's code, such as accounts_receivable.")]


@application.command("trial-balance", epilog="Example: meterbook ledger trial-balance nordlicht --as-of 2026-10-31")
def trial_balance(
    entity_id: EntityId, *, as_of: AsOf = None, contract: OfContract = None, as_json: AsJson = False
) -> None:
    """Show the sums of all accounts; debits and credits are equal."""
    with books() as connection:
        found = reports.trial_balance(connection, entity_id, as_of=as_of, contract_id=contract)
    if as_json:
        say_json(found)
        return
    show_table(
        ("account", "currency", "debits", "credits", "balance"),
        [
            (
                row.code,
                row.currency,
                *(money(figure, row.currency) for figure in (row.debits, row.credits, row.balance)),
            )
            for row in (*found.rows, *found.totals)
        ],
        title=f"Trial balance of {entity_id}" + (f" as of {as_of}" if as_of else ""),
        right=("debits", "credits", "balance"),
        empty=f"nothing is posted for {entity_id} yet",
    )


@application.command(epilog="Example: meterbook ledger account nordlicht accounts_receivable --contract acme-payg")
def account(
    entity_id: EntityId,
    code: Code,
    *,
    contract: OfContract = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Show an account's statement with its running balance (the last entries)."""
    bound = None if until is None else until + timedelta(days=1)
    with books() as connection:
        found = reports.account_entries(
            connection, entity_id=entity_id, code=code, contract_id=contract, since=since, until=bound, limit=limit
        )
    if as_json:
        say_json(found)
        return
    show_table(
        ("day", "kind", "contract", "other side", "debit", "credit", "balance", "currency"),
        [
            (str(e.effective_on), e.kind, e.contract_id or "-", e.opposite, _figure(e.debit, e.currency),
             _figure(e.credit, e.currency), money(e.balance, e.currency), e.currency)
            for e in found
        ],
        title=f"{code} of {contract or entity_id}",
        right=("debit", "credit", "balance"),
        empty=f"nothing is posted on {code}; `meterbook ledger trial-balance {entity_id}` lists the accounts in use",
    )  # fmt: skip


@application.command(epilog="Example: meterbook ledger journal nordlicht --contract acme-payg --limit 5")
def journal(entity_id: EntityId, *, contract: OfContract = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Show the newest journals: the transfers that recorded one fact together."""
    with books() as connection:
        found = reports.journal(connection, entity_id=entity_id, contract_id=contract, limit=limit)
    if as_json:
        say_json(found)
        return
    show_table(
        ("posted", "day", "kind", "debit", "credit", "amount", "currency", "key"),
        [
            (moment(j.posted_at), str(t.effective_on), t.kind, _name(t.debit), _name(t.credit),
             money(t.amount, t.currency), t.currency, t.key)
            for j in found
            for t in j.transfers
        ],
        right=("amount",),
        empty=f"nothing is posted for {entity_id} yet",
    )  # fmt: skip


@application.command(epilog="Example: meterbook ledger customers nordlicht --month 2026-10")
def customers(entity_id: EntityId, *, month: OfMonth = None, as_json: AsJson = False) -> None:
    """Show per customer what was used, spent, invoiced and paid."""
    with books() as connection:
        found = reports.customer_table(connection, entity_id, month)
    if as_json:
        say_json(found)
        return
    show_table(
        ("customer", "name", "events", "quantity", "spend", "invoiced", "paid", "currency"),
        [
            (c.customer_id, c.name, f"{c.events:,}", decimal_text(c.quantity), money(c.spend, c.currency),
             money(c.invoiced, c.currency), money(c.paid, c.currency), c.currency)
            for c in found
        ],
        title=f"Customers of {entity_id}" + (f" in {month:%Y-%m}" if month else ""),
        right=("events", "quantity", "spend", "invoiced", "paid"),
        empty=f"no customer has a contract with {entity_id} yet",
    )  # fmt: skip
    say("spend is accrued to date; invoices bill usage after its period and fees before theirs")


def _name(name: AccountName) -> str:
    return name.code if name.contract_id is None else f"{name.code} ({name.contract_id})"


def _figure(amount: Decimal, currency: str) -> str:
    return money(amount, currency) if amount else ""
