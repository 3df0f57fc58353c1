"""`meterbook close`: taking a month of an entity's books through to its lock."""

import time
from datetime import UTC, date, datetime
from typing import Annotated

import typer
from rich.console import Console

from admin import durable
from admin.commands.options import AsJson, By, EntityId, Month
from admin.connections import books
from admin.errors import DoorError
from admin.plain import Plain, plain
from admin.screen import moment, note, say, say_json, show_facts, show_table
from ledger import closing
from ledger.closing import Close, CloseProgress

application = typer.Typer()

LOOK_SECONDS = 1.0
BLOCKED_LOOKS = 5
"""A problem is believed after so many looks: the close itself may be about to mend it."""

Wait = Annotated[bool, typer.Option("--wait", help="Stay until the month is closed, or something needs a person.")]


@application.command(epilog="Example: meterbook close start nordlicht 2026-10 --by finance --wait")
def start(entity_id: EntityId, month: Month, *, by: By, wait: Wait = False) -> None:
    """Start closing a month: every due period is invoiced, reviews are waited for, then the month is locked.

    Refused while the month, or a period due in it, is not over, and when it is closed already.
    """
    _refuse_closed(entity_id, month)
    durable.start_close(entity_id, month, by=by)
    say(f"the close of {month:%Y-%m} of {entity_id} runs; `meterbook close show {entity_id} {month:%Y-%m}` follows it")
    if wait:
        _wait(entity_id, month)


@application.command(epilog="Example: meterbook close show nordlicht 2026-10 --json")
def show(entity_id: EntityId, month: Month, *, as_json: AsJson = False) -> None:
    """Show how far the close of a month is, and what it waits for."""
    with books() as connection:
        close = closing.get_close(connection, entity_id, month)
        progress = closing.close_progress(connection, entity_id, month)
    if as_json:
        say_json(_content(close, progress))
        return
    show_facts(
        [
            ("close", f"{month:%Y-%m} of {entity_id}"),
            ("state", close.state),
            ("started", f"{moment(close.started_at)} by {close.started_by}"),
            ("finished", moment(close.finished_at)),
        ]
    )
    show_table(
        ("contract", "period from", "invoice", "state"),
        [(contract, moment(start), invoice or "-", state) for contract, start, invoice, state in progress.periods],
        empty="no period is due in this month",
    )
    for sentence in _needs(progress):
        note(sentence)


def _content(close: Close, progress: CloseProgress) -> Plain:
    names = ("contract_id", "period_start", "invoice_id", "state")
    return plain(
        {
            "entity_id": close.entity_id,
            "month": f"{close.month:%Y-%m}",
            "state": close.state,
            "started_by": close.started_by,
            "started_at": close.started_at,
            "finished_at": close.finished_at,
            "periods": [dict(zip(names, period, strict=True)) for period in progress.periods],
            "waiting_review": progress.waiting_review,
            "blocked": [{"contract_id": contract, "problem": problem} for contract, problem in progress.blocked],
            "unaccrued": progress.unaccrued,
            "ready": progress.ready,
        }
    )


def _refuse_closed(entity_id: str, month: date) -> None:
    """Refuse a closed month from the books themselves: Temporal forgets its runs after a while."""
    with books() as connection:
        for close in closing.list_closes(connection, entity_id):
            if close.month == month and close.state == "closed":
                raise DoorError(
                    f"month {month:%Y-%m} of {entity_id} is closed already, since {moment(close.finished_at)}; "
                    "a correction is posted into the open month"
                )


def _needs(progress: CloseProgress) -> list[str]:
    """Return what only a person can do."""
    waiting = [
        f"invoice {invoice} waits for review: `meterbook invoice show {invoice}`, then "
        f"`meterbook invoice approve {invoice}`"
        for invoice in progress.waiting_review
    ]
    return waiting + [f"contract {contract} cannot be rated: {problem}" for contract, problem in progress.blocked]


def _wait(entity_id: str, month: date) -> None:
    blocked = 0
    began = datetime.now(UTC)
    with Console(stderr=True).status(f"closing {month:%Y-%m}") as status:
        while True:
            with books() as connection:
                close = closing.get_close(connection, entity_id, month)
                progress = closing.close_progress(connection, entity_id, month)
            if close.state == "closed":
                break
            done = sum(state in ("finalised", "paid") for *_, state in progress.periods)
            took = (datetime.now(UTC) - began).total_seconds()
            status.update(f"closing {month:%Y-%m}: {done} of {len(progress.periods)} periods invoiced, {took:.0f} s")
            blocked = blocked + 1 if _needs(progress) else 0
            if blocked >= BLOCKED_LOOKS:
                raise DoorError(f"the close of {month:%Y-%m} needs a person:\n  " + "\n  ".join(_needs(progress)))
            time.sleep(LOOK_SECONDS)
    say(f"month {month:%Y-%m} of {entity_id} is closed since {moment(close.finished_at)}")
