"""What commands that correct usage share: the events of a file, the answer, and telling the contracts."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from admin import durable
from admin.errors import AwayError, DoorError
from admin.screen import note, say
from ledger.intake.changes import Correction
from ledger.intake.events import MAX_BATCH_EVENTS, ParsedBatch, Rejection, UsageEvent
from ledger.intake.files import read_usage_file

SHOWN = 10


def events_in(path: Path) -> list[UsageEvent]:
    """Return all events of a CSV, JSONL or Parquet file; raise `DoorError` naming those that cannot be read."""
    refused: list[Rejection] = []
    events: list[UsageEvent] = []
    for batch in batches_in(path):
        events += [event for _, event in batch.events]
        refused += batch.rejections
    refuse_unread(refused)
    return events


def batches_in(path: Path) -> Iterator[ParsedBatch]:
    """Yield a file's events in batches."""
    return read_usage_file(path, batch_size=MAX_BATCH_EVENTS, received_at=datetime.now(UTC))


def refuse_unread(refused: list[Rejection]) -> None:
    """Raise `DoorError` when events cannot be taken, with the first of them."""
    if refused:
        listed = "\n".join(
            f"  event {one.index + 1}: {one.field} {one.value}: {one.reason}"
            for one in sorted(refused, key=lambda one: one.index)[:SHOWN]
        )
        raise DoorError(f"{len(refused)} events cannot be taken, so nothing was; the first of them:\n{listed}")


def tell(done: Correction) -> None:
    """Say what a correction did."""
    if done.batch_id is None:
        say(f"nothing to do: {done.unchanged} events are as wanted already")
        return
    say(
        f"{done.added} events added, {done.amended} amended, {done.withdrawn} withdrawn, {done.unchanged} as wanted "
        f"already; it counts from batch {done.batch_id} on, for {len(done.contracts)} contracts"
    )


def nudge(done: Correction) -> None:
    """Let the contracts of a correction accrue at once; without Temporal, say that it comes later."""
    if not done.contracts:
        return
    try:
        durable.run(lambda connection: connection.nudge(done.contracts))
    except AwayError as error:
        note(f"the correction is recorded; balances follow when Temporal is back ({error.what})")
