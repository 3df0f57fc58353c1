"""`meterbook usage backfill`: a window of usage that is sent again, seen in money, and committed as a whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from admin.commands.options import AsJson, By, InputFile, parse_moment
from admin.connections import books
from admin.correcting import SHOWN, batches_in, nudge, tell
from admin.screen import moment, money, note, say, say_json, show_facts, show_table
from ledger.backfill_previews import Preview, preview_backfill
from ledger.intake import backfills
from ledger.intake.backfills import Backfill, Mode
from ledger.intake.changes import Progress as Telling
from ledger.intake.events import Rejection
from ledger.intake.files import count_events

EXAMPLE = "Example: meterbook usage backfill list"

application = typer.Typer(no_args_is_help=True, epilog=EXAMPLE)

BackfillId = Annotated[str, typer.Argument(metavar="BACKFILL", help="The backfill's id.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the backfill.")]
Start = Annotated[datetime, typer.Option("--from", metavar="TIME", parser=parse_moment, help="The window's start.")]
End = Annotated[
    datetime, typer.Option("--to", metavar="TIME", parser=parse_moment, help="The first moment after the window.")
]
Customer = Annotated[str | None, typer.Option("--customer", metavar="ALIAS", help="Only events under this name.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Only events of this type; repeatable.")]
Sources = Annotated[list[str] | None, typer.Option("--source", help="Only events of this source; repeatable.")]
ModeOption = Annotated[
    Mode, typer.Option("--mode", help="Add what is sent, or replace the window by it: what is not sent is withdrawn.")
]


@application.command(
    "open",
    epilog="Example: meterbook usage backfill open gateway-5-oct --from 2026-10-05T00:00:00Z --to 2026-10-06T00:00:00Z"
    ' --source gateway --mode replace --reason "the gateway counted twice"',
)
def open_(
    backfill_id: BackfillId,
    *,
    start: Start,
    end: End,
    customer: Customer = None,
    types: Types = None,
    sources: Sources = None,
    mode: ModeOption = "add",
    reason: Reason,
    by: By,
) -> None:
    """Open a window for usage that is sent again; nothing counts before it is committed."""
    wanted = Backfill(
        backfill_id,
        customer,
        tuple(sorted({*(types or ())})),
        tuple(sorted({*(sources or ())})),
        start,
        end,
        mode,
        reason,
        by,
        datetime.now(UTC),
    )
    with books() as connection:
        outcome = backfills.open_backfill(connection, wanted)
    is_open = "is open" if outcome == "created" else "was opened already, with the same window"
    say(f"backfill {backfill_id} {is_open}; send events with `meterbook usage backfill send {backfill_id} FILE`")


@application.command(epilog="Example: meterbook usage backfill send gateway-5-oct events.parquet")
def send(backfill_id: BackfillId, file: InputFile, *, as_json: AsJson = False) -> None:
    """Collect a file's events in an open backfill; a key that is sent again takes its last content."""
    staged, refused = 0, list[Rejection]()
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("events"), TimeElapsedColumn(),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip
    with bar, books() as connection:
        task = bar.add_task(f"sending {file.name}", total=count_events(file) or None)
        for batch in batches_in(file):
            answer = backfills.stage(connection, backfill_id, batch)
            staged += answer.staged
            refused += answer.refused
            bar.advance(task, len(batch.events) + len(batch.rejections))
    if as_json:
        say_json({"staged": staged, "refused": len(refused), "first_refused": refused[:SHOWN]})
        return
    say(f"{staged} events are collected in backfill {backfill_id}, {len(refused)} refused")
    if refused:
        show_table(
            ("event", "source", "key", "field", "value", "reason"),
            [(str(r.index + 1), r.source or "-", r.key or "-", r.field, r.value, r.reason) for r in refused[:SHOWN]],
            title=f"the first {min(len(refused), SHOWN)} that were refused",
        )


@application.command(epilog="Example: meterbook usage backfill preview gateway-5-oct")
def preview(backfill_id: BackfillId, *, by: By, as_json: AsJson = False) -> None:
    """Show what committing would change: events, and money by contract, period and product."""
    with _telling() as progress, books() as connection:
        found = preview_backfill(connection, backfill_id, by=by, at=datetime.now(UTC), progress=progress)
    if as_json:
        say_json(
            {
                "events": found.events,
                "differences": [
                    {"amount": one.amount, **{name: getattr(one, name) for name in one.__slots__}}
                    for one in found.differences
                ],
                "problems": found.problems,
            }
        )
        return
    _show_preview(found)


@application.command(epilog="Example: meterbook usage backfill commit gateway-5-oct")
def commit(backfill_id: BackfillId, *, by: By, as_json: AsJson = False) -> None:
    """Let what was sent count, as a whole and at once; the same again is harmless."""
    with _telling() as progress, books() as connection:
        done = backfills.commit_backfill(connection, backfill_id, by=by, at=datetime.now(UTC), progress=progress)
    say_json(done) if as_json else tell(done)
    nudge(done)


@application.command(epilog='Example: meterbook usage backfill revert gateway-5-oct --reason "the gateway was right"')
def revert(backfill_id: BackfillId, *, reason: Reason, by: By, as_json: AsJson = False) -> None:
    """Undo a committed backfill as a whole, or drop an open one; the same again is harmless."""
    with _telling() as progress, books() as connection:
        done = backfills.revert_backfill(
            connection, backfill_id, reason=reason, by=by, at=datetime.now(UTC), progress=progress
        )
    if as_json:
        say_json(done)
    elif done.batch_id is None:
        say(f"backfill {backfill_id} is reverted; nothing of it counts")
    else:
        tell(done)
    nudge(done)


@application.command("list", epilog="Example: meterbook usage backfill list --json")
def list_(*, as_json: AsJson = False) -> None:
    """List all backfills, the one opened last first."""
    with books() as connection:
        found = backfills.list_backfills(connection)
    if as_json:
        say_json(found)
        return
    show_table(
        ("backfill", "state", "mode", "from", "to", "customer", "events", "opened by", "reason"),
        [
            (b.backfill_id, b.state, b.mode, moment(b.start_at), moment(b.end_at), b.customer_alias or "every one",
             str(b.events), b.opened_by, b.reason)
            for b in found
        ],
        right=("events",),
        empty="no backfill was opened yet",
    )  # fmt: skip


@application.command(epilog="Example: meterbook usage backfill show gateway-5-oct")
def show(backfill_id: BackfillId, *, as_json: AsJson = False) -> None:
    """Show one backfill: its window, what was sent into it and how far it is."""
    with books() as connection:
        found = backfills.get_backfill(connection, backfill_id)
    if as_json:
        say_json(found)
        return
    show_facts(
        [
            ("backfill", found.backfill_id),
            ("state", found.state),
            ("mode", found.mode),
            ("window", f"{moment(found.start_at)} to {moment(found.end_at)}"),
            ("customer", found.customer_alias or "every one"),
            ("types", ", ".join(found.types) or "all"),
            ("sources", ", ".join(found.sources) or "all"),
            ("events sent", str(found.events)),
            ("opened", f"by {found.opened_by} at {moment(found.opened_at)}: {found.reason}"),
            ("committed in batch", "-" if found.committed_batch_id is None else str(found.committed_batch_id)),
            ("reverted in batch", "-" if found.reverted_batch_id is None else str(found.reverted_batch_id)),
        ]
    )


@contextmanager
def _telling() -> Iterator[Telling]:
    """Show on a terminal what is being done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("starting") as status:
        yield status.update


def _show_preview(found: Preview) -> None:
    events = found.events
    say(
        f"would add {events.added} events, amend {events.amended} and withdraw {events.withdrawn}; "
        f"{events.unchanged} are as wanted already"
    )
    show_table(
        ("contract", "period from", "state", "product", "quantity before", "after", "before", "after", "difference",
         "currency"),
        [
            (d.contract_id, moment(d.period_start), d.state, d.product_id, money(d.quantity_before),
             money(d.quantity_after), money(d.amount_before, d.currency), money(d.amount_after, d.currency),
             money(d.amount, d.currency), d.currency)
            for d in found.differences
        ],
        right=("quantity before", "after", "before", "difference"),
        empty="no contract's money would change",
    )  # fmt: skip
    for contract_id, problem in sorted(found.problems.items()):
        note(f"contract {contract_id} cannot be rated, so its difference is not known: {problem}")
