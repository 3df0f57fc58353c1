"""Bounded memory: how many bytes of bodies one server holds at a time, and what it says when there are more."""

from collections.abc import Iterator
from contextlib import contextmanager

BUSY_SECONDS = 1


class BusyError(Exception):
    """So much is waiting already that one more request would take memory that is not there; nothing is recorded."""


class Held:
    """The bytes that one request holds."""

    def __init__(self, room: "Room") -> None:
        self._room = room
        self.bytes = 0

    def add(self, count: int) -> None:
        """Hold so many bytes more; raise `BusyError` when they have no room."""
        self._room.add(count)
        self.bytes += count


class Room:
    """The bytes of all bodies that are read, decoded or waiting; a single request always finds room in an empty one."""

    def __init__(self, *, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.bytes = 0

    @contextmanager
    def held(self) -> Iterator[Held]:
        """Give the bytes of one request back when the block ends."""
        held = Held(self)
        try:
            yield held
        finally:
            self.bytes -= held.bytes

    def add(self, count: int) -> None:
        """Hold so many bytes more; raise `BusyError` when they have no room."""
        if self.bytes + count > self._most_bytes:
            raise BusyError(
                f"the requests in progress hold {self.bytes} of {self._most_bytes} bytes; "
                "nothing of this one is recorded, send it again when the header Retry-After says"
            )
        self.bytes += count
