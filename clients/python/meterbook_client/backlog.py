"""What waits to be sent: the events in their order, in memory and where there is one in the journal as well."""

import time
from collections import deque
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from meterbook_client.errors import FullError
from meterbook_client.events import Event, portions
from meterbook_client.journal import Journal


class Backlog:
    """The events of one sender that are not answered yet."""

    def __init__(self, path: Path | None, *, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._journal = None if path is None else Journal(path)
        self._lines: deque[str] = deque(self._journal.waiting if self._journal is not None else ())
        self._since = time.monotonic()

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def age_seconds(self) -> float:
        """How long the first event has waited."""
        return time.monotonic() - self._since if self._lines else 0.0

    def add(self, events: Sequence[Event]) -> None:
        """Let events wait; with a journal they are safe on the disk when this returns. Raises `FullError`."""
        if len(self._lines) + len(events) > self._most_waiting:
            raise FullError(
                f"{len(self._lines)} events wait and at most {self._most_waiting} may; none of these {len(events)} "
                "was taken, give them again when some were sent"
            )
        lines = [event.as_json() for event in events]
        if self._journal is not None:
            self._journal.append(lines)
        if not self._lines:
            self._since = time.monotonic()
        self._lines.extend(lines)

    def next_portion(self, most_events: int) -> Sequence[str]:
        """Return the first events that fit into one request."""
        return next(portions(islice(self._lines, most_events), most_events=most_events), ())

    def answered(self, count: int) -> None:
        """Forget the first events: they are answered."""
        for _ in range(count):
            self._lines.popleft()
        self._since = time.monotonic()
        if self._journal is not None:
            self._journal.answered(count, left=self._lines)

    def close(self) -> None:
        """Leave what waits to the journal, if there is one."""
        if self._journal is not None:
            self._journal.close()

    def left_behind(self) -> str:
        """Say what is to be done about events that could not be sent."""
        where = "are lost: send them again" if self._journal is None else "stay in the journal: open it again"
        return f"{len(self._lines)} events are not answered and {where}"
