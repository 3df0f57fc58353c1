"""Telling contract workflows that usage came in: at most once a second each, in the background, never in the way.

A nudge is a pointer. What it points to is committed in `usage_dirty`, and a scheduled sweep finds whoever was not told;
therefore a nudge that cannot be delivered is kept, tried again, and never fails the sender.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Self

import structlog

from admin.errors import AwayError

INTERVAL_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 5.0
FLUSH_SECONDS = 5.0

log = structlog.get_logger(__name__)

Deliver = Callable[[Sequence[str]], Awaitable[None]]
"""Nudges these contracts; raises `AwayError` when Temporal does not answer."""


class Nudges:
    """The contracts to tell, coalesced: one delivery per interval, of every contract once.

    Use it as an async context manager; leaving it delivers what is pending, giving up after five seconds.
    """

    def __init__(self, deliver: Deliver, *, interval: float = INTERVAL_SECONDS) -> None:
        self._deliver = deliver
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
            if self._pending:
                self._wake.set()

    async def _flush(self) -> None:
        told = tuple(self._pending)
        if not told:
            return
        self._pending.clear()
        try:
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
