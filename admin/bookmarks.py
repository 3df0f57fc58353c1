"""How far the sending of a usage file has come, kept beside the project's other files, so that it can go on from there.

A bookmark names the last batch that was committed. It holds only for the file as it was and for the database that has
this batch: with another file, or a database made anew, sending begins at the start, and what came already is duplicate.
"""

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa

from activities.settings import state_folder
from ledger import schema

HEAD = 1024 * 1024
"""So many bytes of a file, its size and its time say which file it is."""


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Events of a file that are answered, and the batch that holds the last of them."""

    events: int
    batch_id: int
    received_at: datetime


def bookmark_path(path: Path) -> Path:
    """Return where the bookmark of a file is kept."""
    facts = path.stat()
    with path.open("rb") as content:
        head = hashlib.sha256(content.read(HEAD)).hexdigest()
    identity = f"{path.resolve()}\n{facts.st_size}\n{facts.st_mtime_ns}\n{head}"
    return state_folder() / "sending" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"


def write_bookmark(place: Path, bookmark: Bookmark) -> None:
    """Put a bookmark in place of the one before, whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(msgspec.json.encode(bookmark))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(place)


def read_bookmark(connection: sa.Connection, place: Path) -> Bookmark | None:
    """Return the bookmark that holds for this database; None where there is none, or its batch is not there."""
    try:
        bookmark = msgspec.json.decode(place.read_bytes(), type=Bookmark)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    batch = schema.usage_batch.c
    found = connection.execute(sa.select(batch.received_at).where(batch.batch_id == bookmark.batch_id)).scalar()
    return bookmark if found == bookmark.received_at else None
