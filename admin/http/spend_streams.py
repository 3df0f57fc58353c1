"""Live spend for those who keep listening: each contract is asked for at most once a second, for all its listeners."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import sqlalchemy as sa
from fastapi.concurrency import run_in_threadpool

from admin.connections import AWAY
from admin.http.backpressure import BusyError
from admin.plain import json_text, plain
from ledger.spend import Spend, spend

MOST_LISTENERS = 200
INTERVAL_SECONDS = 1.0
MOVING = ("watermark", "accrued_at")
"""What goes on by itself while nothing is spent."""


@dataclass(slots=True)
class _Topic:
    """A contract that is listened to: the latest news, and who wait for the next."""

    latest: str | None = None
    figures: str | None = None
    number: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    listeners: int = 0
    task: asyncio.Task[None] | None = None
    failure: Exception | None = None
    """Why nobody is told anything any more; every listener raises it."""


class SpendStreams:
    """The contracts whose spend is listened to in one server.

    While the database is away nothing is sent; the news come when it is back. Listeners that are slow miss what is
    between, never the latest.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        most_listeners: int = MOST_LISTENERS,
        interval_seconds: float = INTERVAL_SECONDS,
        read: Callable[[sa.Connection, str], Spend] = spend,
    ) -> None:
        self._engine = engine
        self._most = most_listeners
        self._interval = interval_seconds
        self._read = read
        self._topics: dict[str, _Topic] = {}
        self._ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        for topic in [*self._topics.values()]:
            await self._stop(topic)
            async with topic.changed:
                topic.changed.notify_all()

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return sum(topic.listeners for topic in self._topics.values())

    def check_room(self) -> None:
        """Raise `BusyError` when no further listener has room."""
        if self.listeners >= self._most:
            raise BusyError(
                f"{self._most} listen to spend already, the most of one server; ask for it without a stream"
            )

    async def listen(self, contract_id: str) -> AsyncGenerator[str]:
        """Yield the spend of a contract as JSON, now and whenever its figures change, until the server ends.

        Raises `BusyError` when no further listener has room.
        """
        self.check_room()
        topic = self._topics.setdefault(contract_id, _Topic())
        topic.listeners += 1
        try:
            if topic.task is None:
                topic.task = asyncio.create_task(self._watch(contract_id, topic))
            seen = 0
            while True:
                async with topic.changed:
                    while not self._ended and topic.failure is None and topic.number == seen:
                        await topic.changed.wait()
                    seen, latest = topic.number, topic.latest
                if topic.failure is not None:
                    raise topic.failure
                if self._ended or latest is None:
                    return
                yield latest
        finally:
            topic.listeners -= 1
            if not topic.listeners:
                self._topics.pop(contract_id, None)
                await self._stop(topic)

    async def _watch(self, contract_id: str, topic: _Topic) -> None:
        try:
            while True:
                with suppress(*AWAY):
                    await self._look(contract_id, topic)
                await asyncio.sleep(self._interval)
        except Exception as error:  # noqa: BLE001 - whatever it is, the listeners raise it
            async with topic.changed:
                topic.failure = error
                topic.changed.notify_all()

    async def _look(self, contract_id: str, topic: _Topic) -> None:
        found = await run_in_threadpool(self._ask, contract_id)
        figures = json_text(_settled(found))
        if figures == topic.figures:
            return
        async with topic.changed:
            topic.figures, topic.latest = figures, json_text(found)
            topic.number += 1
            topic.changed.notify_all()

    def _ask(self, contract_id: str) -> Spend:
        with self._engine.begin() as connection:
            return self._read(connection, contract_id)

    async def _stop(self, topic: _Topic) -> None:
        if topic.task is not None:
            topic.task.cancel()
            with suppress(asyncio.CancelledError):
                await topic.task
            topic.task = None


def _settled(found: Spend) -> object:
    content = plain(found)
    return {name: value for name, value in content.items() if name not in MOVING} if isinstance(content, dict) else None
