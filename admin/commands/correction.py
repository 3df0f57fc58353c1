"""`meterbook usage amend`, `withdraw` and `conflicts`: correcting what was accepted, by a person and with a reason."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from admin.commands.options import AsJson, By, Limit
from admin.connections import books
from admin.correcting import events_in, nudge, refuse_unread, tell
from admin.plain import json_text
from admin.screen import moment, say, say_json, show_table
from ledger.intake.conflicts import Choice, list_open_conflicts, resolve
from ledger.intake.corrections import amend, counting_event, withdraw
from ledger.intake.events import UsageEvent, event_json, parse_objects

AMEND_EXAMPLE = (
    "Example: meterbook usage amend --source gateway-eu --key req-7 --set tokens=40 "
    '--reason "the gateway counted retries"'
)
WITHDRAW_EXAMPLE = 'Example: meterbook usage withdraw gateway-eu req-7 req-8 --reason "test traffic"'

conflicts = typer.Typer(no_args_is_help=True, epilog="Example: meterbook usage conflicts list")

Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the correction.")]
EventFile = Annotated[
    Path | None,
    typer.Argument(exists=True, dir_okay=False, readable=True, metavar="[FILE]", help="Events as they should be."),
]  # fmt: skip
Source = Annotated[str | None, typer.Option("--source", help="The source of a single event.")]
Key = Annotated[str | None, typer.Option("--key", help="The key of a single event.")]
Customer = Annotated[str | None, typer.Option("--customer", metavar="ALIAS", help="Its right customer.")]
Type = Annotated[str | None, typer.Option("--type", help="Its right type.")]
Timestamp = Annotated[str | None, typer.Option("--timestamp", metavar="TIME", help="Its right time.")]
Properties = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A property with its right value; repeatable.")
]


def amend_events(
    file: EventFile = None,
    *,
    source: Source = None,
    key: Key = None,
    customer: Customer = None,
    type_: Type = None,
    timestamp: Timestamp = None,
    properties: Properties = None,
    reason: Reason,
    by: By,
    as_json: AsJson = False,
) -> None:
    """Give accepted events the content that they should have had: those of a file, or one by source and key.

    All or nothing; the same again is harmless. A withdrawn event comes back with a file that holds it. What was
    invoiced already is adjusted by the contract's policy.
    """
    if (file is None) == (source is None or key is None):
        raise typer.BadParameter("name either a FILE of events, or one event by --source and --key")
    given = {"customer": customer, "type": type_, "timestamp": timestamp}
    with books() as connection:
        if file is not None:
            events = events_in(file)
        else:
            events = [_changed(connection, source or "", key or "", given, properties or [])]
        done = amend(connection, events, reason=reason, by=by, at=datetime.now(UTC))
    say_json(done) if as_json else tell(done)
    nudge(done)


def withdraw_events(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source of the events.")],
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="The keys of the events.")],
    *,
    reason: Reason,
    by: By,
    as_json: AsJson = False,
) -> None:
    """Let accepted events not count any more; they stay recorded. All or nothing, and the same again is harmless."""
    with books() as connection:
        done = withdraw(connection, [(source, key) for key in keys], reason=reason, by=by, at=datetime.now(UTC))
    say_json(done) if as_json else tell(done)
    nudge(done)


@conflicts.command("list", epilog="Example: meterbook usage conflicts list --json")
def list_(*, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List events whose key came before with other content and that nobody has decided, oldest first."""
    with books() as connection:
        found = list_open_conflicts(connection, limit=limit)
    if as_json:
        say_json(found)
        return
    show_table(
        ("conflict", "source", "key", "received", "counts", "was sent later"),
        [
            (str(c.conflict_id), c.source, c.key, moment(c.received_at),
             "nothing: withdrawn or archived" if c.counting is None else json_text(c.counting), json_text(c.sent))
            for c in found
        ],
        empty="no conflict is open",
    )  # fmt: skip


@conflicts.command("resolve", epilog='Example: meterbook usage conflicts resolve 7 --take new --reason "a resend"')
def resolve_(
    conflict_id: Annotated[int, typer.Argument(metavar="CONFLICT", help="The number of the conflict.")],
    *,
    take: Annotated[Choice, typer.Option("--take", help="Which content counts: the old one, or what was sent later.")],
    reason: Reason,
    by: By,
    as_json: AsJson = False,
) -> None:
    """Decide which of two contents counts."""
    with books() as connection:
        done = resolve(connection, conflict_id, take, reason=reason, by=by, at=datetime.now(UTC))
    if as_json:
        say_json({"conflict_id": conflict_id, "take": take, "correction": done})
    elif done is None:
        say(f"conflict {conflict_id} is decided: what counts stays as it is")
    else:
        tell(done)
    if done is not None:
        nudge(done)


def _changed(
    connection: sa.Connection, source: str, key: str, given: dict[str, str | None], properties: list[str]
) -> UsageEvent:
    """Return what counts under a key with the changes that were given."""
    content = json.loads(event_json(counting_event(connection, source, key)), parse_float=Decimal)
    content |= {name: value for name, value in given.items() if value is not None}
    for one in properties:
        name, equals, value = one.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set {one!r} must be NAME=VALUE; without a value the property is left out")
        content["properties"].pop(name, None)
        if value:
            content["properties"][name] = _value(value)
    batch = parse_objects([content], received_at=datetime.now(UTC))
    refuse_unread([*batch.rejections])
    return batch.events[0][1]


def _value(text: str) -> object:
    """Read a property's value: a number, true or false where it is one, otherwise text."""
    try:
        value = json.loads(text, parse_float=Decimal, parse_constant=str)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | Decimal) else text
