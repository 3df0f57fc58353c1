"""Telling contract workflows that usage came in: at most once a second each, in the background, never in the way.

A nudge is a pointer. What it points to is committed in `usage_dirty`, and a scheduled sweep finds whoever was not told;
therefore a nudge that cannot be delivered is kept, tried again, and never fails the sender. A contract that was told of
its oldest mark and has not taken it yet will take all marks with it, and is not told again meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Self

import sqlalchemy as sa
import structlog

from admin.errors import AwayError

INTERVAL_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 5.0
FLUSH_SECONDS = 5.0
TOLD_FOR_SECONDS = 60.0
"""A mark that is still there after so long is told again: what kept it from the balance may be over."""

log = structlog.get_logger(__name__)

Deliver = Callable[[Sequence[str]], Awaitable[None]]
"""Nudges these contracts; raises `AwayError` when Temporal does not answer."""
OldestMarks = Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]
"""Returns the oldest mark of each of these contracts that has any."""


def oldest_marks(engine: sa.Engine) -> OldestMarks:
    """Return what looks the oldest marks up in a database."""

    def look(contract_ids: Sequence[str]) -> Mapping[str, int]:
        with engine.begin() as connection:
            return dict(connection.execute(_OLDEST, {"contracts": list(contract_ids)}).all())

    async def found(contract_ids: Sequence[str]) -> Mapping[str, int]:
        return await asyncio.to_thread(look, contract_ids)

    return found


class Nudges:
    """The contracts to tell, coalesced: one delivery per interval, of every contract once.

    Use it as an async context manager; leaving it delivers what is pending, giving up after five seconds.
    """

    def __init__(
        self, deliver: Deliver, *, interval: float = INTERVAL_SECONDS, oldest: OldestMarks | None = None
    ) -> None:
        self._deliver = deliver
        self._oldest = oldest
        self._told: dict[str, tuple[int, float]] = {}
        self._later: dict[str, None] = {}
        self._interval = interval
        self._pending: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.away: AwayError | None = None
        """Why the last delivery failed; None when it arrived."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="nudges")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._flush()
        except TimeoutError:
            self.away = AwayError(f"Temporal took no nudge in {FLUSH_SECONDS:.0f} seconds", "the sweep will tell them")

    @property
    def pending(self) -> tuple[str, ...]:
        """Return the contracts that are not told yet."""
        return tuple(self._pending)

    def add(self, contract_ids: Iterable[str]) -> None:
        """Remember to tell these contracts; returns at once. Call it from the event loop's own thread."""
        self._pending.update(dict.fromkeys(contract_ids))
        if self._pending:
            self._wake.set()

    async def _run(self) -> None:
        pause = self._interval
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._flush()
            pause = self._interval if self.away is None else min(2 * pause, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)
            if self._pending or self._later:
                self._wake.set()

    async def _flush(self) -> None:
        waiting = tuple({**self._later, **self._pending})
        if not waiting:
            return
        self._pending.clear()
        self._later.clear()
        told: Sequence[str] = waiting
        try:
            marks = await self._marks_of(waiting)
            told = waiting if marks is None else self._untold(marks)
            if told:
                await self._deliver(told)
        except asyncio.CancelledError:
            self._pending.update(dict.fromkeys(told))
            raise
        except AwayError as error:
            if self.away is None:
                log.warning("nudges wait", reason=error.what, contracts=len(told))
            self.away = error
            self._pending.update(dict.fromkeys(told))
        except Exception:  # the marks are safe in the database, and the next delivery must still happen
            log.exception("nudges failed; the sweep will find these contracts", contracts=told)
        else:
            self.away = None
            now = asyncio.get_running_loop().time()
            self._told.update({name: (marks[name], now) for name in told} if marks else {})

    async def _marks_of(self, waiting: Sequence[str]) -> Mapping[str, int] | None:
        """Return the oldest mark of each contract; None where nobody can say."""
        if self._oldest is None:
            return None
        try:
            return await self._oldest(waiting)
        except sa.exc.SQLAlchemyError:  # a nudge too many does no harm
            log.warning("nudges go to all contracts: the database does not say which were told", exc_info=True)
            return None

    def _untold(self, marks: Mapping[str, int]) -> tuple[str, ...]:
        """Keep those for later that were told of their oldest mark, and return the others."""
        now = asyncio.get_running_loop().time()
        self._told = {
            name: (mark, at)
            for name, (mark, at) in self._told.items()
            if now < at + TOLD_FOR_SECONDS and marks.get(name, mark) == mark
        }
        self._later.update({name: None for name in marks if name in self._told})
        return tuple(name for name in marks if name not in self._told)


_OLDEST = sa.text("""
select contract_id, min(dirty_id) from usage_dirty where contract_id = any(:contracts) group by contract_id
""")
