"""Many small requests in one transaction, without holding up a lone one.

A request goes at once when nothing is under way. Otherwise it waits for company until a lane is free and either
1,000 events are together or the first of them has waited for the window. A group holds at most 10,000 events.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from ledger.intake.events import MAX_BATCH_EVENTS, ParsedBatch
from ledger.intake.store import BatchResult
from ledger.intake.together import length

LANES = 2
"""Groups that are entered at the same time: one computes while the other waits for the database."""
ENOUGH_EVENTS = 1_000
"""So many gain little from more company."""


class FullError(Exception):
    """So many events wait already that one more request has no room; nothing of it is recorded."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A request that waits on disk until the database is back; what became of its events is told by its receipt."""

    receipt_id: str
    spooled_at: datetime
    events: int


@dataclass(frozen=True, slots=True)
class Sent:
    """One request: its batch, and when it came."""

    batch: ParsedBatch
    received_at: datetime


Answer = BatchResult | Spooled
Settle = Callable[[Sequence[Sent]], Awaitable[Sequence[Answer | Exception]]]
"""Settles a group of requests and answers each; an exception is the answer of the one that failed."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    sent: Sent
    events: int
    since: float
    answer: asyncio.Future[Answer]


class Gathering:
    """The requests that wait for their transaction. Use it as an async context manager: leaving it settles them all."""

    def __init__(self, settle: Settle, *, window: timedelta, most_events: int) -> None:
        self._settle = settle
        self._window_seconds = window.total_seconds()
        self._most_events = most_events
        self._waiting: deque[_Waiting] = deque()
        self._events_waiting = 0
        self._groups: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.events = 0
        """How many events wait or are being entered."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._waiting or self._groups:
            self._go(is_last=True)
            await asyncio.gather(*self._groups)

    async def take(self, sent: Sent) -> Answer:
        """Wait until the request is settled, and return its answer or raise what it failed with.

        Raises `FullError` when too much waits; a lone request is never too large.
        """
        events = length(sent.batch)
        if self.events and self.events + events > self._most_events:
            raise FullError(
                f"{self.events} events wait to be entered and at most {self._most_events} may; "
                "nothing of this request is recorded, send it again when the header Retry-After says"
            )
        loop = asyncio.get_running_loop()
        waiting = _Waiting(sent, events, loop.time(), loop.create_future())
        self._waiting.append(waiting)
        self._events_waiting += events
        self.events += events
        self._go()
        return await waiting.answer

    def _go(self, *, is_last: bool = False) -> None:
        """Send off every group that is due and has a lane; look again when the next one is due."""
        while self._waiting and len(self._groups) < LANES and (is_last or self._is_due()):
            group = asyncio.create_task(self._enter(self._next_group()), name="intake group")
            self._groups.add(group)
            group.add_done_callback(self._group_ended)
        if self._waiting and self._timer is None and len(self._groups) < LANES:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._waiting[0].since + self._window_seconds, self._time_is_up)

    def _is_due(self) -> bool:
        return (
            not self._groups
            or self._events_waiting >= ENOUGH_EVENTS
            or asyncio.get_running_loop().time() >= self._waiting[0].since + self._window_seconds
        )

    def _time_is_up(self) -> None:
        self._timer = None
        self._go()

    def _group_ended(self, group: asyncio.Task[None]) -> None:
        self._groups.discard(group)
        with suppress(RuntimeError):  # the loop is closing, and nobody waits any more
            self._go()

    def _next_group(self) -> list[_Waiting]:
        group = [self._waiting.popleft()]
        events = group[0].events
        while self._waiting and events + self._waiting[0].events <= MAX_BATCH_EVENTS:
            group.append(self._waiting.popleft())
            events += group[-1].events
        self._events_waiting -= events
        return group

    async def _enter(self, group: Sequence[_Waiting]) -> None:
        try:
            answers = await self._settle([one.sent for one in group])
        except Exception as error:  # noqa: BLE001 - handed to every sender of the group, who raises it
            answers = [error] * len(group)
        finally:
            self.events -= sum(one.events for one in group)
        for one, answer in zip(group, answers, strict=True):
            if one.answer.done():  # its sender was cancelled
                continue
            if isinstance(answer, Exception):
                one.answer.set_exception(answer)
            else:
                one.answer.set_result(answer)
