"""`meterbook contract`: what was agreed with customers."""

from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from admin import durable
from admin.commands.options import AsJson, By, ContractId, InputFile, OfCustomer, OfEntity, parse_day, read_text
from admin.connections import books
from admin.contract_screen import show_contract
from admin.errors import AwayError, DoorError
from admin.input_files import taken
from admin.plain import plain
from admin.screen import moment, say, say_json, show_table
from ledger import contracts
from ledger.definitions import ContractDefinition
from ledger.files.contracts import parse_contract
from ledger.spend import spend
from pricing.calendar import local_date, local_midnight

application = typer.Typer()

Start = Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="The first day, instead of the file's `start`.")]
From = Annotated[
    date, typer.Option("--from", metavar="YYYY-MM-DD", parser=parse_day, help="The first day of the new terms.")
]
EndDay = Annotated[
    date, typer.Argument(metavar="YYYY-MM-DD", parser=parse_day, help="The first day that it no longer covers.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the contract.")]
ReasonArgument = Annotated[str, typer.Argument(metavar="REASON", help="Why; it is kept with the contract.")]


@application.command(epilog="Example: meterbook contract validate contract.yaml --start 2026-10-01")
def validate(file: InputFile, *, start: Start = None, as_json: AsJson = False) -> None:
    """Check a contract file without recording anything; every problem is shown with its line."""
    definition = _read(file, start)
    if as_json:
        say_json(definition)
        return
    first = local_date(definition.start_at, definition.time_zone)
    say(
        f"{file} is right: contract {definition.contract_id} of customer {definition.customer_id} "
        f"with entity {definition.entity_id} from {first} in {definition.time_zone}, "
        f"with {len(definition.terms.prices)} products and {len(definition.terms.commits)} commits"
    )


@application.command(epilog="Example: meterbook contract start contract.yaml --start 2026-10-01")
def start(file: InputFile, *, start: Start = None, by: By) -> None:
    """Record a contract's terms and start its durable workflow; the same again is harmless."""
    definition = _read(file, start)
    contract_id = definition.contract_id
    with books() as connection:
        outcome = contracts.create_contract(connection, definition, by=by)
    try:
        durable.start_contract(contract_id)
    except AwayError as error:
        raise AwayError(
            f"contract {contract_id} is recorded, but its workflow is not started: {error.what}",
            "run the same command again to start it",
        ) from error
    workflow = f"workflow contract/{contract_id} runs"
    if outcome == "created":
        say(f"contract {contract_id} is started from {moment(definition.start_at)}; {workflow}")
    else:
        say(f"contract {contract_id} was started already, with the same content; {workflow}")


@application.command(epilog="Example: meterbook contract show acme-payg")
def show(
    contract_id: ContractId,
    *,
    workflow: Annotated[bool, typer.Option("--workflow", help="Ask its workflow as well how it stands.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a contract: its terms, its prepaid amounts and its live spend."""
    with books() as connection:
        contract = contracts.get_contract(connection, contract_id)
        terms = contracts.terms_of(connection, contract_id)
        lots = contracts.lots_of(connection, contract_id)
        spent = spend(connection, contract_id)
    state = durable.contract_state(contract_id) if workflow else None
    if as_json:
        say_json({"contract": contract, "terms": terms, "lots": lots, "spend": spent, "workflow": state})
        return
    show_contract(contract, terms, spent, plain(state))


@application.command("list", epilog="Example: meterbook contract list --customer acme")
def list_(*, customer: OfCustomer = None, entity: OfEntity = None, as_json: AsJson = False) -> None:
    """List contracts."""
    with books() as connection:
        found = contracts.list_contracts(connection, customer_id=customer, entity_id=entity)
    if as_json:
        say_json(found)
        return
    show_table(
        ("contract", "customer", "entity", "currency", "from", "until", "accrued", "problem"),
        [
            (c.contract_id, c.customer_id, c.entity_id, c.currency, str(local_date(c.start_at, c.time_zone)),
             "-" if c.end_at is None else str(local_date(c.end_at, c.time_zone)), moment(c.accrued_at),
             c.problem or "-")
            for c in found
        ],
        empty="no contract is recorded; start one with `meterbook contract start FILE`",
    )  # fmt: skip


@application.command(epilog='Example: meterbook contract amend contract.yaml --from 2026-11-01 --reason "new prices"')
def amend(file: InputFile, *, from_: From, reason: Reason, by: By) -> None:
    """Change a contract's prices from a day on, midnight in its time zone; what was accrued since follows.

    FILE is the whole contract with the new terms. An invoiced period is never changed.
    """
    text = read_text(file)
    contract_id = _read(file, from_.isoformat()).contract_id
    with books() as connection:
        contract = contracts.get_contract(connection, contract_id)
    effective_from = local_midnight(from_, contract.time_zone)
    amended = durable.amend_contract(contract_id, text, effective_from=effective_from, reason=reason, by=by)
    say(f"contract {contract_id} has version {amended.version} of its terms from {moment(effective_from)}")
    _say_problem(contract_id, amended.problem)


@application.command(epilog='Example: meterbook contract end acme-payg 2026-12-01 "moved to a yearly plan"')
def end(contract_id: ContractId, day: EndDay, reason: ReasonArgument, *, by: By) -> None:
    """End a contract at a day, midnight in its time zone; its last period is invoiced as any other."""
    with books() as connection:
        contract = contracts.get_contract(connection, contract_id)
    end_at = local_midnight(day, contract.time_zone)
    ended = durable.end_contract(contract_id, end_at=end_at, reason=reason, by=by)
    say(f"contract {contract_id} ends at {moment(ended.end_at)}")
    _say_problem(contract_id, ended.problem)


def _read(file: Path, start: str | None) -> ContractDefinition:
    return taken(file, partial(parse_contract, start=start))


def _say_problem(contract_id: str, problem: str | None) -> None:
    if problem is not None:
        raise DoorError(f"contract {contract_id} cannot be rated now: {problem}")
