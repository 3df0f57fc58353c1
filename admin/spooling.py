"""Usage while PostgreSQL is away: kept on disk at once, entered in its order when the database is back.

From the first request that finds the database away until the spool is empty again, every request goes through the
spool, so that none overtakes another.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import sqlalchemy as sa
import structlog

from admin.connections import AWAY
from admin.gathering import Sent, Spooled
from ledger.intake.receipts import enter_records
from ledger.intake.spool import Place, Run, Spool, abandoned, claim, where
from ledger.intake.together import length

PROBE_SECONDS = 0.5
LONGEST_PROBE_SECONDS = 5.0
ADOPT_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Spooling:
    """The spool of this process and its way into the database. Use it as an async context manager.

    `told` is called in the event loop with the contracts that have something new to accrue.
    """

    def __init__(
        self, engine: sa.Engine, root: Path, *, most_bytes: int, told: Callable[[Iterable[str]], None]
    ) -> None:
        self._engine = engine
        self._root = root
        self._most_bytes = most_bytes
        self._told = told
        self._spool = claim(root, most_bytes=most_bytes)
        self._keeping = 0
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.is_on = not self._spool.is_empty
        """Whether requests go to the spool."""
        self.is_away = False
        """Whether the database did not answer when it was asked last."""

    async def __aenter__(self) -> Self:
        self._report_damage(self._spool)
        self._wake.set()
        self._task = asyncio.create_task(self._run(), name="spool")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopped.set()
        self._wake.set()
        if self._task is not None:
            await self._task
        self._spool.close()

    @property
    def has_room(self) -> bool:
        """Tell whether the spool would still keep a small request."""
        return self._spool.has_room

    @property
    def waiting(self) -> int:
        """Return how many requests wait."""
        return self._spool.waiting

    @property
    def damages(self) -> int:
        """Return how many torn or damaged stretches were found since this process started."""
        return len(self._spool.damages)

    def begin(self, why: Exception) -> None:
        """Let every request go to the spool from now on, because the database is away."""
        if not self.is_away:
            log.warning("the database is away; usage goes to the spool", reason=str(why).partition("\n")[0])
        self.is_on = self.is_away = True
        self._wake.set()

    async def keep(self, group: Sequence[Sent]) -> list[Spooled]:
        """Keep requests on disk and answer each with its receipt; raises `SpoolError` when that fails: none is kept."""
        self._keeping += 1
        try:
            requests = [(sent.batch, sent.received_at) for sent in group]
            records = await asyncio.to_thread(self._spool.append, requests, door="http")
        finally:
            self._keeping -= 1
        return [Spooled(one.receipt_id, one.received_at, length(one.batch)) for one in records]

    async def where(self, receipt_id: str) -> Place | None:
        """Tell what the spools of all processes know of a receipt; ask the database when they know nothing."""
        return await asyncio.to_thread(where, self._root, receipt_id)

    async def _run(self) -> None:
        pause = PROBE_SECONDS
        while not self._stopped.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(ADOPT_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            if self._stopped.is_set():
                return
            if await self._drain():
                pause = PROBE_SECONDS
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopped.wait()
            pause = min(2 * pause, LONGEST_PROBE_SECONDS)
            self._wake.set()

    async def _drain(self) -> bool:
        """Enter what waits, then what other processes left; return whether all of it is entered."""
        try:
            await self._enter_all(self._spool)
            others = abandoned(self._root, most_bytes=self._most_bytes)
            while (spool := await asyncio.to_thread(next, others, None)) is not None:
                with spool:
                    self._report_damage(spool)
                    await self._enter_all(spool)
        except AWAY as error:
            self.begin(error)
            return False
        except Exception:  # what waits is safe on disk, and is tried again
            log.exception("the spool could not be entered")
            return False
        return not self.is_on

    async def _enter_all(self, spool: Spool) -> None:
        while not self._stopped.is_set():
            run = await asyncio.to_thread(spool.next_run)
            self._report_damage(spool)
            if run is not None:
                contracts = await asyncio.to_thread(self._enter, spool, run)
                self.is_away = False
                self._told(contracts)
                continue
            await asyncio.to_thread(self._ask_database)
            self.is_away = False
            if spool is not self._spool:
                return
            if spool.is_empty and not self._keeping:
                if self.is_on:
                    log.info("the spool is entered")
                self.is_on = False
                return

    def _enter(self, spool: Spool, run: Run) -> tuple[str, ...]:
        try:
            with self._engine.begin() as connection:
                contracts = enter_records(connection, run.records, entered_at=datetime.now(UTC))
        except (sa.exc.DataError, sa.exc.IntegrityError):
            if len(run.records) > 1:
                return self._enter_each(spool, run)
            receipt = run.records[0].receipt_id
            log.exception("a spooled request cannot be entered and is set aside", receipt=receipt)
            spool.set_aside(run)
            return ()
        spool.advance(run)
        return contracts

    def _enter_each(self, spool: Spool, run: Run) -> tuple[str, ...]:
        """Enter the records of a run one by one, so that only the one that the database refuses is set aside."""
        return tuple(contract for part in run.apart() for contract in self._enter(spool, part))

    def _ask_database(self) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.text("select 1"))

    def _report_damage(self, spool: Spool) -> None:
        for damage in spool.news_of_damage():
            log.error(
                "the spool holds bytes that are no whole record; they are kept aside",
                segment=damage.segment, begin=damage.begin, bytes=damage.size_bytes, torn=damage.is_torn,
                kept_at=str(damage.kept_at),
            )  # fmt: skip
