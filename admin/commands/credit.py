"""`meterbook credit`: promotional credits and prepaid amounts of a contract, granted, changed, and burning down."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer
from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from admin import durable
from admin.commands.options import AsJson, By, ContractId, parse_day, parse_moment
from admin.connections import books
from admin.errors import AwayError
from admin.screen import console, moment, money, note, say, say_json, show_table
from ledger import credit_requests
from ledger import credits as credit_books
from ledger.contracts import Contract, get_contract
from ledger.credit_requests import CreditRequest
from ledger.credits import BurnDay, BurnDown, CreditBalance, LotBalance
from ledger.lots import contract_of_lot
from pricing.calendar import local_date, local_midnight

application = typer.Typer()

BAR_WIDTH = 40


def parse_amount(text: str) -> Decimal:
    """Read an amount exactly; raise a usage error naming the form."""
    try:
        return Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is not an amount; write it as 50 or 12.34") from None


def parse_time(text: str) -> date:
    """Read a day, or a moment with its zone; raise a usage error naming the forms."""
    return parse_moment(text) if "T" in text else parse_day(text)


CreditId = Annotated[str, typer.Argument(metavar="CREDIT", help="An id for the credit, such as welcome-2026.")]
LotId = Annotated[str, typer.Argument(metavar="LOT", help="The lot's id, CONTRACT.CREDIT or CONTRACT.COMMIT.")]
RequestId = Annotated[str, typer.Argument(metavar="REQUEST", help="The request's id: see `credit requests`.")]
MaybeContract = Annotated[str | None, typer.Argument(metavar="[CONTRACT]", help="Only of this contract.")]
Requests = Annotated[
    int, typer.Option("--limit", min=1, max=credit_requests.MOST_REQUESTS, help="Show at most so many.")
]
OnlyOpen = Annotated[bool, typer.Option("--open", help="Only those that nobody has decided on.")]
Amount = Annotated[
    Decimal, typer.Argument(metavar="AMOUNT", parser=parse_amount, help="How much, in the contract's currency.")
]
Name = Annotated[str, typer.Option("--name", help="What it is called on invoices.")]
From = Annotated[
    date | None,
    typer.Option(
        "--from", metavar="TIME", parser=parse_time, help="The first usage it pays: a day or a time; without it, today."
    ),
]
Until = Annotated[
    date | None,
    typer.Option("--until", metavar="TIME", parser=parse_time, help="When it expires; without it, with the contract."),
]
NewEnd = Annotated[
    date, typer.Option("--until", metavar="TIME", parser=parse_time, help="When it expires: a day or a time.")
]
Products = Annotated[
    list[str] | None,
    typer.Option("--product", metavar="PRODUCT", help="Pay only this product, or tag:NAME; repeatable."),
]
Groups = Annotated[
    list[str] | None,
    typer.Option("--group", metavar="KEY=VALUE", help="Pay only usage with this group value; repeatable."),
]
Priority = Annotated[int, typer.Option("--priority", help="Lower burns first.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the credit.")]
Entries = Annotated[int, typer.Option("--limit", min=1, max=credit_books.MOST_ENTRIES, help="Show at most so many.")]
After = Annotated[
    str | None, typer.Option("--after", metavar="ENTRY", help="Begin after this entry, the last one seen.")
]


@application.command(
    epilog="Example: meterbook credit grant acme-payg welcome 50 --name Welcome --until 2026-12-31 "
    '--reason "a welcome" --product tokens'
)
def grant(
    contract: ContractId,
    credit: CreditId,
    amount: Amount,
    *,
    name: Name,
    from_: From = None,
    until: Until = None,
    product: Products = None,
    group: Groups = None,
    priority: Priority = 100,
    reason: Reason,
    by: By,
    as_json: AsJson = False,
) -> None:
    """Grant a promotional credit; usage of open periods that it could have paid is drawn from it.

    A day begins at midnight in the contract's time zone, a time lies where usage of the customer is cut: at full hours,
    or quarters of them. The same credit again is harmless.
    """
    now = datetime.now(UTC)
    with books() as connection:
        found = get_contract(connection, contract)
        wanted = credit_requests.WantedCredit(
            credit,
            name,
            amount,
            start=_moment(found, from_ or local_date(now, found.time_zone)),
            end=None if until is None else _moment(found, until),
            products=tuple(product or ()),
            groups=tuple(_groups(group or ())),
            priority=priority,
        )
        outcome = credit_requests.grant_or_ask(connection, contract, wanted, reason=reason, by=by, at=now)
    lot_id = f"{contract}.{credit}"
    if isinstance(outcome, CreditRequest):
        _say_asked(outcome, as_json=as_json)
        return
    if as_json:
        say_json({"lot_id": lot_id, "outcome": outcome})
    elif outcome == "granted":
        say(f"lot {lot_id} is granted with {money(amount, found.currency)} {found.currency}")
    else:
        say(f"lot {lot_id} was granted already, with the same content")
    _nudge(contract)


@application.command(epilog='Example: meterbook credit void acme-payg.welcome --reason "granted by mistake"')
def void(lot: LotId, *, reason: Reason, by: By, as_json: AsJson = False) -> None:
    """End a lot at the next full hour (or quarter): what it paid before stays paid, what is left is voided.

    What was paid for a commit is not given back: once late usage has had its grace, it is booked as breakage.
    """
    with books() as connection:
        end = credit_requests.void_or_ask(connection, lot, reason=reason, by=by, at=datetime.now(UTC))
        contract_id = contract_of_lot(connection, lot)
    if isinstance(end, CreditRequest):
        _say_asked(end, as_json=as_json)
        return
    say_json({"lot_id": lot, "end_at": end}) if as_json else say(f"lot {lot} is voided from {moment(end)} on")
    _nudge(contract_id)


@application.command(epilog='Example: meterbook credit extend acme-payg.welcome --until 2027-01-31 --reason "goodwill"')
def extend(lot: LotId, *, until: NewEnd, reason: Reason, by: By, as_json: AsJson = False) -> None:
    """Let a lot expire later, or earlier, but not in the past; usage of open periods is drawn anew."""
    with books() as connection:
        contract_id = contract_of_lot(connection, lot)
        end = _moment(get_contract(connection, contract_id), until)
        asked = credit_requests.move_or_ask(connection, lot, end=end, reason=reason, by=by, at=datetime.now(UTC))
    if asked is not None:
        _say_asked(asked, as_json=as_json)
        return
    say_json({"lot_id": lot, "end_at": end}) if as_json else say(f"lot {lot} expires at {moment(end)}")
    _nudge(contract_id)


@application.command("requests", epilog="Example: meterbook credit requests acme-payg --open")
def list_requests(
    contract: MaybeContract = None, *, open_: OnlyOpen = False, limit: Requests = 100, as_json: AsJson = False
) -> None:
    """Show what waits for a second person's approval, and what was decided, the latest first.

    Grants by hand, voids and other ends of lots wait where they are above their contract's credit_approval_above.
    """
    with books() as connection:
        found = credit_requests.list_requests(connection, contract_id=contract, only_open=open_, limit=limit)
        currencies = {one.contract_id: get_contract(connection, one.contract_id).currency for one in found}
    if as_json:
        say_json({"requests": found})
        return
    show_table(
        ("request", "amount", "asked by", "asked at", "reason", "decision", "decided by"),
        [
            (one.request_id, f"{money(one.amount, currencies[one.contract_id])} {currencies[one.contract_id]}",
             one.requested_by, moment(one.requested_at), one.reason, one.decision or "open", one.decided_by or "-")
            for one in found
        ],
        right=("amount",),
        empty="nothing was asked for" if not open_ else "nothing waits for a decision",
    )  # fmt: skip


@application.command(epilog='Example: meterbook credit approve acme-payg.sorry:grant-1 --reason "agreed with sales"')
def approve(request: RequestId, *, reason: Reason, by: By, as_json: AsJson = False) -> None:
    """Do what somebody else asked for, if it still can be done; an approved request again is harmless."""
    with books() as connection:
        found = credit_requests.approve_request(connection, request, reason=reason, by=by, at=datetime.now(UTC))
    _say_decided(found, as_json=as_json)
    _nudge(found.contract_id)


@application.command(epilog='Example: meterbook credit reject acme-payg.sorry:grant-1 --reason "too much"')
def reject(request: RequestId, *, reason: Reason, by: By, as_json: AsJson = False) -> None:
    """Decide that what somebody else asked for is not done; the request stays, and may be made again."""
    with books() as connection:
        found = credit_requests.reject_request(connection, request, reason=reason, by=by, at=datetime.now(UTC))
    _say_decided(found, as_json=as_json)


@application.command(epilog="Example: meterbook credit balance acme-payg")
def balance(contract: ContractId, *, as_json: AsJson = False) -> None:
    """Show what each lot of a contract was granted and became: drawn, left, expired or voided."""
    with books() as connection:
        found = credit_books.credit_balance(connection, contract, at=datetime.now(UTC))
    if as_json:
        say_json(found)
        return
    figures = ("amount", "drawn", "expired", "voided", "left")
    show_table(
        ("lot", "name", "kind", "state", *figures, "from", "until", "pays"),
        [
            (lot.lot_id, lot.name, lot.kind, lot.state,
             *(money(getattr(lot, figure), found.currency) for figure in figures), moment(lot.start_at),
             moment(lot.end_at), _scope(lot))
            for lot in found.lots
        ],
        right=figures,
        empty=f"contract {contract} has no credits and no commits; grant one with `meterbook credit grant`",
    )  # fmt: skip
    if found.lots:
        say(f"{money(found.available, found.currency)} {found.currency} available in lots that are in force")
    _say_how_fresh(found)


@application.command(epilog="Example: meterbook credit ledger acme-payg --limit 50")
def ledger(contract: ContractId, *, limit: Entries = 100, after: After = None, as_json: AsJson = False) -> None:
    """Show how a contract's credits came and went, in the order of time, with the balance after each entry."""
    with books() as connection:
        found = credit_books.credit_ledger(connection, contract, at=datetime.now(UTC), after=after, limit=limit)
    if as_json:
        say_json(found)
        return
    show_table(
        ("day", "entry", "lot", "product", "amount", "balance"),
        [
            (str(entry.day), entry.kind, entry.lot_id, entry.product_id or "-",
             ("" if entry.kind == "granted" else "-") + money(entry.amount, found.currency),
             money(entry.balance, found.currency))
            for entry in found.entries
        ],
        right=("amount", "balance"),
        empty=f"contract {contract} has no entries" + ("" if after is None else f" after {after}"),
    )  # fmt: skip
    if found.after is not None:
        say(f"more with --after {found.after}")


@application.command("burn-down", epilog="Example: meterbook credit burn-down acme-payg")
def burn_down(contract: ContractId, *, as_json: AsJson = False) -> None:
    """Show the balance of a contract's credits day by day, and when they are used up at the pace of the last week."""
    with books() as connection:
        found = credit_books.burn_down(connection, contract, at=datetime.now(UTC))
    if as_json:
        say_json(found)
        return
    if not found.days:
        say(f"contract {contract} has no credits that have begun")
        return
    _plot(found)
    say(f"{money(found.available, found.currency)} {found.currency} available in lots that are in force")
    say(_forecast(found))


def _plot(found: BurnDown) -> None:
    table = Table(title="balance by day", title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.add_column("day")
    for name in ("granted", "drawn", "gone", found.currency):
        table.add_column(name, justify="right")
    table.add_column("")
    most = _most(found.days)
    for day in found.days:
        size = float(day.balance / most) if most and day.balance > 0 else 0.0  # only how long the bar is drawn
        figures = (day.granted, day.drawn, day.gone, day.balance)
        cells = [Text(money(figure, found.currency) if figure else "-") for figure in figures[:3]]
        balance = Text(money(day.balance, found.currency))
        table.add_row(Text(str(day.day)), *cells, balance, Bar(1.0, 0, size, width=BAR_WIDTH))
    console().print(table)


def _most(days: Sequence[BurnDay]) -> Decimal:
    return max((day.balance for day in days), default=Decimal(0))


def _forecast(found: BurnDown) -> str:
    if found.average is None:
        return "nothing was drawn in the last full days, so nothing is forecast"
    pace = f"at {money(found.average, found.currency)} {found.currency} a day, the mean of the last full days"
    if found.exhausted_on is None:
        return f"{pace}, it lasts for more than a hundred years"
    return f"{pace}, nothing is left on {found.exhausted_on}"


def _say_how_fresh(found: CreditBalance) -> None:
    say(f"includes all usage accepted before {moment(found.watermark)}")
    if found.problem is not None:
        note(f"rating stopped: {found.problem}")


def _groups(given: Sequence[str]) -> list[tuple[str, str]]:
    """Read group values as KEY=VALUE; raise a usage error naming the form."""
    pairs = [text.partition("=") for text in given]
    for key, _, value in pairs:
        if not key or not value:
            raise typer.BadParameter(f"--group {key!r} has no value; write it as region=eu")
    return [(key, value) for key, _, value in pairs]


def _scope(lot: LotBalance) -> str:
    """Say in words what a lot pays."""
    products = ", ".join(lot.products) or "all usage"
    return (
        f"{products} with {', '.join(f'{key} {value}' for key, value in lot.groups.items())}"
        if lot.groups
        else products
    )


def _say_asked(request: CreditRequest, *, as_json: bool) -> None:
    if as_json:
        say_json(request)
        return
    say(f"request {request.request_id} waits for another person: it is above the contract's credit_approval_above")
    note(f"`meterbook credit approve {request.request_id}` does it, `meterbook credit reject` does not")


def _say_decided(request: CreditRequest, *, as_json: bool) -> None:
    say_json(request) if as_json else say(f"request {request.request_id} is {request.decision} by {request.decided_by}")


def _moment(contract: Contract, given: date) -> datetime:
    """Return a moment as it is, and of a day its midnight in the contract's time zone."""
    return given if isinstance(given, datetime) else local_midnight(given, contract.time_zone)


def _nudge(contract_id: str) -> None:
    """Let the contract draw anew at once; without Temporal, say that it comes later."""
    try:
        durable.run(lambda connection: connection.nudge((contract_id,)))
    except AwayError as error:
        note(f"this is recorded; the balance follows when Temporal is back ({error.what})")
