"""Sending usage files: into the database batch by batch, or in small portions as signals."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import sqlalchemy as sa

from admin.bookmarks import Bookmark, bookmark_path, read_bookmark, write_bookmark
from admin.connections import AWAY, explained, settings
from admin.durable import Durable
from admin.errors import AwayError
from admin.nudges import Nudges
from admin.screen import note
from ledger.errors import InvalidError
from ledger.intake.events import MAX_BATCH_EVENTS, ParsedBatch, event_json
from ledger.intake.files import read_usage_file
from ledger.intake.store import BatchResult, EventResult, take_in

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds to wait before a batch is sent again; sending again is safe, because a key counts once."""
SHOWN = 10
REPEAT = "repeat the whole file when it is back: an event counts once"
SIGNAL_EVENTS = 100
SIGNAL_BYTES = 64 * 1024
_ENCODER = msgspec.json.Encoder(decimal_format="number")

Progress = Callable[[int], None]
"""Told how many events were answered since the last time."""


@dataclass(slots=True)
class Sent:
    """What became of a file's events; `refused` holds the first of those that were not taken.

    `resumed_after` events were answered by an earlier call and are not counted here.
    """

    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    batches: int = 0
    resumed_after: int = 0
    seconds: float = 0.0
    refused: list[EventResult] = field(default_factory=list)
    temporal_away: str | None = None

    def add(self, result: BatchResult) -> None:
        """Count one batch."""
        self.batches += 1
        self.accepted += result.accepted
        self.duplicate += result.duplicate
        self.conflict += result.conflict
        self.rejected += result.rejected
        shown = (one for one in result.results if one.outcome in ("conflict", "rejected"))
        self.refused += [one for one, _ in zip(shown, range(SHOWN - len(self.refused)), strict=False)]


async def send_file(
    path: Path, engine: sa.Engine, *, batch_size: int, resume: bool, durable: Durable, progress: Progress
) -> Sent:
    """Take a file in, batch by batch; a batch that PostgreSQL broke off is sent again.

    With `resume` it goes on after the last batch that an earlier, broken-off call committed to this database. Raises
    `InvalidError` for a file that cannot be read on and `AwayError` when PostgreSQL stays away; what was counted
    before stays, and sending the whole file again is safe.
    """
    began = time.monotonic()
    place = bookmark_path(path)
    bookmark = await asyncio.to_thread(_bookmark, engine, place) if resume else None
    sent = Sent(resumed_after=0 if bookmark is None else bookmark.events)
    progress(sent.resumed_after)
    done = sent.resumed_after
    batches = read_usage_file(path, batch_size=batch_size, received_at=datetime.now(UTC), skip=done)
    async with Nudges(durable.nudge) as nudges:
        for batch in batches:
            received_at = datetime.now(UTC)
            result = await _take_in(engine, batch, received_at)
            done += len(result.results)
            write_bookmark(place, Bookmark(done, result.batch_id, received_at))
            nudges.add(result.contracts)
            sent.add(result)
            progress(len(result.results))
    place.unlink(missing_ok=True)
    if nudges.pending and nudges.away is not None:
        sent.temporal_away = nudges.away.what
    sent.seconds = round(time.monotonic() - began, 3)
    return sent


def _bookmark(engine: sa.Engine, place: Path) -> Bookmark | None:
    with explained(settings()), engine.begin() as connection:
        return read_bookmark(connection, place)


async def _take_in(engine: sa.Engine, batch: ParsedBatch, received_at: datetime) -> BatchResult:
    def once() -> BatchResult:
        with engine.begin() as connection:
            return take_in(connection, batch, door="file", received_at=received_at)

    for pause in PAUSES:
        try:
            return await asyncio.to_thread(once)
        except AWAY as error:
            note(f"PostgreSQL broke a batch off ({type(error).__name__}); it is sent again in {pause} s")
            await asyncio.sleep(pause)
    with explained(settings()):
        return await asyncio.to_thread(once)


async def signal_file(path: Path, contract_id: str, *, durable: Durable, progress: Progress) -> int:
    """Signal a file's events into a contract's workflow and return how many went; what is wrong is refused there.

    Raises `NotFoundError` when the contract has no running workflow, `AwayError` when Temporal does not answer.
    """
    count = 0
    for portion in portions(events_of(path)):
        try:
            await durable.signal_usage(contract_id, portion)
        except AwayError as error:
            raise AwayError(f"{count} events were signalled, then {error.what}", REPEAT) from error
        count += len(portion)
        progress(len(portion))
    return count


def events_of(path: Path) -> Iterator[object]:
    """Return a file's events as they travel in a signal; one that cannot be read goes as it stands."""
    for batch in read_usage_file(path, batch_size=MAX_BATCH_EVENTS, received_at=datetime.now(UTC)):
        found: list[tuple[int, object]] = [(index, _decoded(event_json(event))) for index, event in batch.events]
        found += [(rejection.index, _decoded(rejection.raw)) for rejection in batch.rejections]
        yield from (content for _, content in sorted(found, key=lambda one: one[0]))


def portions(events: Iterator[object]) -> Iterator[list[object]]:
    """Cut events into portions of at most 100 events and 64 KB; raise `InvalidError` for one that fits into none."""
    portion: list[object] = []
    size = 2
    for event in events:
        length = len(_ENCODER.encode(event)) + 1
        if length + 2 > SIGNAL_BYTES:
            raise InvalidError(
                f"an event of {length} bytes is too much for a signal; send it with `meterbook usage send`"
            )
        if portion and (len(portion) == SIGNAL_EVENTS or size + length > SIGNAL_BYTES):
            yield portion
            portion, size = [], 2
        portion.append(event)
        size += length
    if portion:
        yield portion


def _decoded(text: str) -> object:
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except ValueError:
        return text.strip()


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
