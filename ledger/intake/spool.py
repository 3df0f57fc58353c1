"""The spool: requests on disk while the database is away, safe before they are answered, read back in their order.

    folder/0/lock               held by the process that owns the slot, as long as it lives
    folder/0/000000000001.seg   records, one after the other; written to the end, never changed
    folder/0/aside/             torn and damaged stretches, and records that could not be entered: kept for a person

Every process has a slot of its own. A segment is deleted when all its records are entered; a record that is read
again after a crash is known by its receipt. What a power cut left half written is cut off at opening: it was never
answered.
"""

import fcntl
import os
import re
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Self

from ledger.database import uuid7
from ledger.intake.events import MAX_BATCH_EVENTS, ParsedBatch
from ledger.intake.spool_records import (
    Record,
    RecordError,
    Stretch,
    frame_of,
    is_torn,
    receipt_of,
    record_of,
    stretches,
)
from ledger.intake.together import length

SEGMENT_BYTES = 8 * 1024 * 1024
SUFFIX = ".seg"
SLOTS = 256
TOGETHER = timedelta(seconds=1)
"""Records that came within it are entered as one batch."""
Place = Literal["waiting", "set_aside"]


class SpoolError(Exception):
    """The spool cannot keep a request; its text says why and what to do."""


class SpoolFullError(SpoolError):
    """The spool holds as much as it may."""


class SpoolTakenError(SpoolError):
    """Another process owns the slot."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no whole record, kept aside; torn when they are the begin of one that ends beyond the segment."""

    segment: str
    begin: int
    size_bytes: int
    is_torn: bool
    kept_at: Path


@dataclass(frozen=True, slots=True)
class Run:
    """Records to enter together, where each begins in their segment, and where to go on after them."""

    records: tuple[Record, ...]
    segment: int
    begins: tuple[int, ...]
    end: int

    def apart(self) -> tuple["Run", ...]:
        """Return each record as a run of its own."""
        ends = (*self.begins[1:], self.end)
        return tuple(
            Run((record,), self.segment, (begin,), end)
            for record, begin, end in zip(self.records, self.begins, ends, strict=True)
        )


class Spool:
    """One slot, owned by this process until `close`. Every method may be called from any thread."""

    def __init__(self, folder: Path, *, most_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Own the slot in `folder`, check every record in it and cut off what a power cut left half written.

        Raises `SpoolTakenError` when another process owns it.
        """
        _make(folder)
        self.folder = folder
        self._most_bytes = most_bytes
        self._segment_bytes = segment_bytes
        self._guard = threading.RLock()
        self._lock = _locked(folder / "lock")
        self._sizes: dict[int, int] = {}
        self._open: tuple[int, int] | None = None
        self._last = 0
        self.size_bytes = 0
        """How many bytes the segments hold."""
        self.waiting = 0
        """How many records wait."""
        self.damages: list[Damage] = []
        """What was found broken since the slot was opened."""
        self._told = 0
        for number in _numbers(folder):
            self._check(number)
        self._next = (min(self._sizes, default=0), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the slot to whoever wants it; what waits in it stays."""
        with self._guard:
            self._leave_segment()
            os.close(self._lock)

    def news_of_damage(self) -> list[Damage]:
        """Return what was found broken since this was asked last."""
        with self._guard:
            news = self.damages[self._told :]
            self._told = len(self.damages)
            return news

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing waits."""
        return not self._sizes

    @property
    def has_room(self) -> bool:
        """Tell whether a small request would still be kept."""
        return self.size_bytes < self._most_bytes

    def append(self, requests: Sequence[tuple[ParsedBatch, datetime]], *, door: str) -> tuple[Record, ...]:
        """Keep requests with the moments when they came, and return them with their receipts once the disk has them.

        Raises `SpoolFullError`, or `SpoolError` when the disk refuses: none of them is kept then.
        """
        with self._guard:
            number = self._last if self._has_room_in_segment() else self._last + 1
            records = tuple(
                Record(f"rcp_{self.folder.name}-{number}-{uuid7().hex}", received_at, door, batch)
                for batch, received_at in requests
            )
            content = b"".join(frame_of(record) for record in records)
            if self.size_bytes + len(content) > self._most_bytes:
                raise SpoolFullError(
                    f"the spool is full ({self.size_bytes} of {self._most_bytes} bytes); "
                    "send again once the database is back"
                )
            try:
                self._write(number, content)
            except OSError as error:
                self._undo(number)
                raise SpoolError(f"the spool cannot be written ({error}); send again later") from error
            self.waiting += len(records)
            return records

    def next_run(self) -> Run | None:
        """Return the records that come next, as many as may be entered together; None when none wait.

        A damaged stretch before them is kept aside. The same are returned until `advance` is called.
        """
        with self._guard:
            while self._next[0] in self._sizes:
                run = self._run_of_segment()
                if run.records:
                    return run
                self._move(run)
            return None

    def advance(self, run: Run) -> None:
        """Forget records that are entered."""
        with self._guard:
            self.waiting -= len(run.records)
            self._move(run)

    def set_aside(self, run: Run) -> None:
        """Keep the only record of a run aside, because it cannot be entered."""
        with self._guard:
            record = run.records[0]
            _keep(self._aside(f"{record.receipt_id}.record"), frame_of(record))
            self.advance(run)

    def _run_of_segment(self) -> Run:
        """Return what comes next in the present segment; without records, when the rest of it holds none."""
        number, begin = self._next
        content = self._path(number).read_bytes()[: self._sizes[number]]
        records: list[Record] = []
        begins: list[int] = []
        events = 0
        for stretch in stretches(content, begin=begin):
            record = self._readable(number, content, stretch)
            if record is not None:
                events += length(record.batch)
                is_late = bool(records) and record.received_at - records[0].received_at > TOGETHER
                if records and (events > MAX_BATCH_EVENTS or is_late):
                    return Run(tuple(records), number, tuple(begins), stretch.begin)
                records.append(record)
                begins.append(stretch.begin)
        return Run(tuple(records), number, tuple(begins), len(content))

    def _readable(self, number: int, content: bytes, stretch: Stretch) -> Record | None:
        if stretch.is_whole:
            try:
                return record_of(content[stretch.begin : stretch.end])
            except RecordError:
                self.waiting -= 1
        self._keep_damage(number, content, stretch)
        return None

    def _keep_damage(self, number: int, content: bytes, stretch: Stretch) -> None:
        broken = content[stretch.begin : stretch.end]
        torn = is_torn(content, stretch)
        kind = "torn" if torn else "damaged"
        path = self._aside(f"{number}-{stretch.begin}-{zlib.crc32(broken):08x}.{kind}")
        if not path.exists():  # it is met when the slot is opened, and again when it is read
            _keep(path, broken)
            self.damages.append(Damage(self._path(number).name, stretch.begin, len(broken), torn, path))

    def _move(self, run: Run) -> None:
        """Go on after a run; delete the segment that is read to its end."""
        number = run.segment
        self._next = (number, run.end)
        if run.end >= self._sizes[number]:
            if self._open is not None and number == self._last:
                self._leave_segment()
            self._path(number).unlink()
            self.size_bytes -= self._sizes.pop(number)
            self._next = (min(self._sizes, default=0), 0)
            if self.is_empty:
                self.waiting = 0  # a record that was damaged while it waited has been counted, and was not entered

    def _check(self, number: int) -> None:
        """Count the records of a segment, keep aside what is none, and cut the segment after its last whole record."""
        content = self._path(number).read_bytes()
        size = 0
        for stretch in stretches(content):
            if stretch.is_whole:
                self.waiting += 1
                size = stretch.end
            else:
                self._keep_damage(number, content, stretch)
        if size < len(content):
            _cut(self._path(number), size)
        self._last = number
        if size:
            self._sizes[number] = size
            self.size_bytes += size
        else:
            self._path(number).unlink()

    def _has_room_in_segment(self) -> bool:
        return self._open is not None and self._sizes[self._last] < self._segment_bytes

    def _write(self, number: int, content: bytes) -> None:
        if self._open is None or self._open[0] != number:
            self._leave_segment()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
            self._open = (number, os.open(self._path(number), flags, 0o600))
            _sync_folder(self.folder)
            self._last = number
        descriptor = self._open[1]
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
        self._sizes[number] = self._sizes.get(number, 0) + len(content)
        self.size_bytes += len(content)
        if self._next[0] not in self._sizes:
            self._next = (number, 0)

    def _undo(self, number: int) -> None:
        """Cut off what a failed write may have left; a disk that refuses this too leaves a stretch that is not read."""
        self._leave_segment()
        self._last = max(self._last, number)
        with suppress(OSError):
            if number in self._sizes:
                _cut(self._path(number), self._sizes[number])
            else:
                self._path(number).unlink(missing_ok=True)

    def _leave_segment(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012d}{SUFFIX}"

    def _aside(self, name: str) -> Path:
        return self.folder / "aside" / name


def claim(root: Path, *, most_bytes: int) -> Spool:
    """Own the first free slot of a folder; raise `SpoolTakenError` when all are taken."""
    for number in range(SLOTS):
        with suppress(SpoolTakenError):
            return Spool(root / str(number), most_bytes=most_bytes)
    raise SpoolTakenError(f"all {SLOTS} slots of {root} are taken; give this server a folder of its own")


def abandoned(root: Path, *, most_bytes: int) -> Iterator[Spool]:
    """Own, one after the other, the slots of processes that are gone and left records; the caller closes each."""
    for folder in sorted(root.glob("[0-9]*")):
        if _numbers(folder):
            with suppress(SpoolTakenError):
                yield Spool(folder, most_bytes=most_bytes)


def where(root: Path, receipt_id: str) -> Place | None:
    """Tell what the disk knows of a receipt: `waiting`, `set_aside`, or None when it knows nothing of it.

    Looks into every process's slot. A record is `waiting` a little longer than it is: ask the database as well.
    """
    place = _RECEIPT.fullmatch(receipt_id)
    if place is None:
        return None
    folder = root / place["slot"]
    if (folder / "aside" / f"{receipt_id}.record").exists():
        return "set_aside"
    try:
        content = (folder / f"{int(place['segment']):012d}{SUFFIX}").read_bytes()
    except FileNotFoundError:
        return None
    found = (content[stretch.begin : stretch.end] for stretch in stretches(content) if stretch.is_whole)
    return "waiting" if any(receipt_of(frame) == receipt_id for frame in found) else None


_RECEIPT = re.compile("rcp_(?P<slot>[0-9]{1,3})-(?P<segment>[0-9]{1,12})-[0-9a-f]{32}")


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob(f"*{SUFFIX}"))


def _make(folder: Path) -> None:
    """Make a folder and those above it, so that they outlive a power cut as well as what is written into it."""
    if not folder.exists():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise SpoolTakenError(f"another process owns {path.parent}; give this one a slot of its own") from error
    return descriptor


def _keep(path: Path, content: bytes) -> None:
    _make(path.parent)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def _cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
