"""Facts for those who keep listening: one question a second tells whether there is news, whoever listens."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Self

import sqlalchemy as sa
from fastapi.concurrency import run_in_threadpool

from admin.connections import AWAY
from admin.http.backpressure import BusyError
from ledger.facts import Fact, FactPage, list_facts, settled_until

MOST_LISTENERS = 200
INTERVAL_SECONDS = 1.0


class FactStreams:
    """Those who listen to facts in one server. While the database is away nothing is sent, and nothing is missed."""

    def __init__(
        self, engine: sa.Engine, *, most_listeners: int = MOST_LISTENERS, interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._engine, self._most, self._interval = engine, most_listeners, interval_seconds
        self._listeners = 0
        self._settled = 0
        self._changed = asyncio.Condition()
        self._failure: Exception | None = None
        self._ended = False
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        async with self._changed:
            self._changed.notify_all()

    def check_room(self) -> None:
        """Raise `BusyError` when no further listener has room."""
        if self._listeners >= self._most:
            raise BusyError(f"{self._most} listen to facts already, the most of one server; ask for pages instead")

    async def listen(
        self, *, after: int, kinds: Sequence[str] = (), contract_id: str | None = None
    ) -> AsyncGenerator[Fact]:
        """Yield the facts after a sequence number in their order, as they are settled, until the server ends.

        Raises `BusyError` when no further listener has room.
        """
        self.check_room()
        self._listeners += 1
        try:
            if self._watching is None or self._watching.done():
                self._failure = None
                self._watching = asyncio.create_task(self._watch())
            while not self._ended:
                try:
                    page = await run_in_threadpool(self._read, after, kinds, contract_id)
                except AWAY:
                    await asyncio.sleep(self._interval)
                    continue
                for fact in page.facts:
                    yield fact
                after = page.next_after
                if not page.has_more:
                    await self._news(after)
        finally:
            self._listeners -= 1

    async def _news(self, after: int) -> None:
        """Wait until something after a sequence number is settled, or the server ends."""
        async with self._changed:
            while not self._ended and self._failure is None and self._settled <= after:
                await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    async def _watch(self) -> None:
        """Ask how far facts are settled, as long as anybody listens."""
        try:
            while self._listeners:
                with suppress(*AWAY):
                    settled = await run_in_threadpool(self._ask)
                    if settled != self._settled:
                        async with self._changed:
                            self._settled = settled
                            self._changed.notify_all()
                await asyncio.sleep(self._interval)
        except Exception as error:  # noqa: BLE001 - whatever it is, the listeners raise it
            async with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _ask(self) -> int:
        with self._engine.begin() as connection:
            return settled_until(connection)

    def _read(self, after: int, kinds: Sequence[str], contract_id: str | None) -> FactPage:
        with self._engine.begin() as connection:
            return list_facts(connection, after=after, kinds=kinds, contract_id=contract_id)
