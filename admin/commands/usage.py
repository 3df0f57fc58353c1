"""`meterbook usage`: events on their way in, and what became of them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from admin import durable
from admin.commands import backfill, correction, history, partition
from admin.commands.completeness import completeness, declare, unmatched
from admin.commands.late import late
from admin.commands.options import AsJson, ContractId, InputFile, Limit
from admin.commands.spend import SPEND_EXAMPLE, spend
from admin.connections import books, database_engine, settings
from admin.logs import configure_logs
from admin.plain import plain
from admin.screen import moment, note, say, say_json, seconds, show_facts, show_table
from admin.usage_sending import Progress as SendingProgress
from admin.usage_sending import Sent, send_file, signal_file
from ledger import schema
from ledger.intake.events import MAX_BATCH_EVENTS
from ledger.intake.files import count_events
from ledger.intake.status import UsageStatus, list_conflicts, list_rejected, usage_status

application = typer.Typer()
application.command(epilog="Example: meterbook usage late --contract acme-payg")(late)
application.command(epilog=SPEND_EXAMPLE)(spend)
application.command(epilog="Example: meterbook usage completeness --source gateway --from 2026-10-01")(completeness)
application.command(epilog="Example: meterbook usage declare gateway 2026-10-05T12:00:00Z 1200")(declare)
application.command(epilog="Example: meterbook usage unmatched --limit 10")(unmatched)
application.command(epilog=partition.MONTHS_EXAMPLE)(partition.months)
application.command("archive", epilog=partition.ARCHIVE_EXAMPLE)(partition.archive_month)
application.command("amend", epilog=correction.AMEND_EXAMPLE)(correction.amend_events)
application.command("withdraw", epilog=correction.WITHDRAW_EXAMPLE)(correction.withdraw_events)
application.command("readings", epilog=history.READINGS_EXAMPLE)(history.readings)
application.add_typer(correction.conflicts, name="conflicts", help="Keys that came with two contents: list, decide.")
application.add_typer(backfill.application, name="backfill", help="Send a window of usage again, as a whole.")

REASONS = {
    "unknown_customer": "no customer has the name they came under; create it with that alias",
    "no_metric": "no metric counts their type; create one",
    "no_contract": "no contract covers their time; start one",
    "no_price": "their period is invoiced by terms that have no price for their type",
}
"""Why accepted events are not on any balance, and the remedy."""

BatchSize = Annotated[int, typer.Option(min=1, max=MAX_BATCH_EVENTS, help="Events in one transaction.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where sending this file was broken off.")]


@application.command(epilog="Example: meterbook usage send events.parquet --resume")
def send(file: InputFile, *, batch_size: BatchSize = 5000, resume: Resume = False, as_json: AsJson = False) -> None:
    """Take in a CSV, JSONL or Parquet file, straight into the database; sending it again is safe.

    Every event gets its own answer: a bad one never stops its neighbours. Temporal may be away: balances follow later.
    """
    configure_logs(level=logging.ERROR)  # that Temporal is away is told below, once
    engine = database_engine(settings(), pool_size=1)
    try:
        with _progress("sending", file) as advance:
            sent = durable.run(
                lambda connection: send_file(
                    file, engine, batch_size=batch_size, resume=resume, durable=connection, progress=advance
                )
            )
    finally:
        engine.dispose()
    if as_json:
        say_json(sent)
    else:
        _show_sent(sent)
    if sent.temporal_away is not None:
        note(f"the usage is taken in; balances follow when Temporal is back ({sent.temporal_away})")


@application.command(epilog="Example: meterbook usage signal acme-payg events.jsonl")
def signal(contract_id: ContractId, file: InputFile) -> None:
    """Send a small file as signals into a contract's workflow, for callers who reach only Temporal.

    What is wrong with an event shows afterwards in `meterbook usage status`.
    """
    with _progress("signalling", file) as advance:
        count = durable.run(lambda connection: signal_file(file, contract_id, durable=connection, progress=advance))
    say(f"{count} events are signalled to contract {contract_id}; `meterbook usage status` tells what became of them")


@application.command(epilog="Example: meterbook usage status --json")
def status(*, limit: Limit = 10, as_json: AsJson = False) -> None:
    """Show what became of all usage: accepted = rated + unmatched + withdrawn; and the delay to the balance."""
    with books() as connection:
        found = usage_status(connection)
        waiting = _waiting(connection)
        conflicts = list_conflicts(connection, limit=limit)
        rejected = list_rejected(connection, limit=limit)
    if as_json:
        say_json(
            {
                "received": found.received,
                **{outcome: getattr(found, outcome) for outcome in ("accepted", "duplicate", "conflict", "rejected")},
                "matched": found.matched,
                "unmatched": {**dict.fromkeys(REASONS, 0), **found.unmatched},
                "withdrawn": found.withdrawn,
                "waiting": waiting,
                "delay_seconds": {"p50": _rounded(found.delay_p50_seconds), "p99": _rounded(found.delay_p99_seconds)},
                "hours": plain(found.hours),
                "latest_conflicts": plain(conflicts),
                "latest_rejected": plain(rejected),
            }
        )
        return
    _show_status(found, waiting)
    if conflicts:
        show_table(
            ("source", "key", "received"), [(c.source, c.key, moment(c.received_at)) for c in conflicts],
            title="latest conflicts: the key came before with other content; the first content counts",
        )  # fmt: skip
    if rejected:
        show_table(
            ("source", "key", "field", "value", "reason"),
            [(r.source or "-", r.key or "-", r.field, r.value, r.reason) for r in rejected],
            title="latest rejected",
        )


def _show_sent(sent: Sent) -> None:
    total = sent.accepted + sent.duplicate + sent.conflict + sent.rejected
    if sent.resumed_after:
        say(f"{sent.resumed_after} events were answered before; going on after them")
    say(
        f"{total} events answered: {sent.accepted} accepted, {sent.duplicate} duplicate, {sent.conflict} in conflict, "
        f"{sent.rejected} rejected"
    )
    if sent.refused:
        show_table(
            ("event", "outcome", "source", "key", "field", "value", "reason"),
            [
                (str(r.index + 1), r.outcome, r.source or "-", r.key or "-", r.field or "-", r.value or "-",
                 r.reason or "the key came before with other content")
                for r in sent.refused
            ],
            title=f"the first {len(sent.refused)} that do not count (`meterbook usage status` shows the latest)",
        )  # fmt: skip


def _show_status(found: UsageStatus, waiting: int) -> None:
    facts = [
        ("received", str(found.received)),
        ("accepted", str(found.accepted)),
        ("  rated", str(found.matched)),
        *((f"  {reason}", f"{found.unmatched[reason]}: {REASONS[reason]}") for reason in found.unmatched),
        *([("  withdrawn", str(found.withdrawn))] if found.withdrawn else []),
        ("duplicate", str(found.duplicate)),
        ("conflict", str(found.conflict)),
        ("rejected", str(found.rejected)),
        ("event to balance", f"p50 {seconds(found.delay_p50_seconds)}, p99 {seconds(found.delay_p99_seconds)}"),
        ("waiting", f"{waiting} contracts have usage that is not in their balance yet"),
    ]
    show_facts(facts)


def _waiting(connection: sa.Connection) -> int:
    """Return how many contracts have marks that no accrual took yet."""
    count = sa.select(sa.func.count(sa.distinct(schema.usage_dirty.c.contract_id)))
    return connection.execute(count).scalar_one()


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 3)


class _Rate(ProgressColumn):
    """How many events a second are answered."""

    def render(self, task: Task) -> Text:
        """Return the rate of the last half minute."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} events/s")


@contextmanager
def _progress(doing: str, file: Path) -> Iterator[SendingProgress]:
    """Show a bar on standard error while a file is sent, and leave it there with the rate."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("events"), _Rate(),
        TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task(f"{doing} {file.name}", total=count_events(file) or None)
        yield lambda count: bar.advance(task, count)
