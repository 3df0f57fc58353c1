"""A file of events that are not answered yet, so that a crash of the sending process loses none.

Every line is a checksum (CRC 32 as eight hexadecimal digits), a space and JSON: an event, or the number of events from
the front that are answered. Events are on the disk (fsync) when `append` returns. An answer that was not noted before a
crash only means that its events are sent again, which is harmless: they bear the same keys.
"""

import fcntl
import json
import os
import zlib
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from meterbook_client.errors import JournalError

SHRINK_BYTES = 16 * 1024 * 1024


class Journal:
    """An open journal; it belongs to one process at a time. Raises `JournalError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _opened(path)
        self.waiting = self._read()
        """The events that were not answered when the journal was opened."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def append(self, events: Sequence[str]) -> None:
        """Put events, written as JSON, at the end; they are safe when this returns."""
        self._write([_line(event) for event in events])
        os.fsync(self._file.fileno())

    def answered(self, count: int, *, left: Sequence[str]) -> None:
        """Note that so many events from the front are answered; `left` are those that wait behind them."""
        if not left:
            self._file.truncate(0)
        elif self._file.tell() > SHRINK_BYTES:
            self._rewrite(left)
        else:
            self._write([_line(str(count))])

    def close(self) -> None:
        """Leave the journal to the next process."""
        self._file.close()

    def _read(self) -> list[str]:
        """Read what is whole, and cut off what a crash left unfinished behind it."""
        self._file.seek(0)
        waiting: list[str] = []
        end = 0
        for line in self._file.readall().splitlines(keepends=True):
            content = _content(line)
            if content is None:
                break
            end += len(line)
            if content.isdecimal():
                del waiting[: int(content)]
            else:
                waiting.append(content)
        if not waiting and self._file.tell() and not end:
            self._refuse_foreign()
        self._file.truncate(end)
        self._file.seek(end)
        return waiting

    def _refuse_foreign(self) -> None:
        self._file.seek(0)
        first = self._file.read(256)
        if b"\n" in first:
            self._file.close()
            raise JournalError(f"{self._path} is no journal; give another path, or remove the file")

    def _rewrite(self, left: Sequence[str]) -> None:
        """Begin the file anew with what waits: a new file takes the place of the old one, whole or not at all."""
        draft = self._path.with_name(self._path.name + ".draft")
        file = draft.open("w+b", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX)
        before, self._file = self._file, file
        self._write([_line(event) for event in left])
        os.fsync(file.fileno())
        draft.replace(self._path)
        before.close()

    def _write(self, lines: Sequence[bytes]) -> None:
        """Write lines whole, or leave the file as it was."""
        begin = self._file.seek(0, os.SEEK_END)
        rest = memoryview(b"".join(lines))
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError:
            self._file.truncate(begin)
            raise


def _opened(path: Path) -> FileIO:
    """Open the file that has this name, for this process alone."""
    while True:
        file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise JournalError(
                f"journal {path} is in use by another process; give each sender a journal of its own"
            ) from error
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return file
        file.close()  # its owner put another file in its place just now


def _line(content: str) -> bytes:
    text = content.encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _content(line: bytes) -> str | None:
    checksum, space, text = line[:8], line[8:9], line[9:-1]
    if not line.endswith(b"\n") or space != b" " or checksum != b"%08x" % zlib.crc32(text):
        return None
    content = text.decode()
    return content if content.isdecimal() or isinstance(json.loads(content), dict) else None
