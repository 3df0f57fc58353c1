"""Entering gathered requests into the database, each with its own answer, whatever one of them does."""

import asyncio
from collections.abc import Sequence

import sqlalchemy as sa

from admin.connections import AWAY
from admin.gathering import Answer, Sent
from admin.spooling import Spooling
from ledger.intake.spool import SpoolError
from ledger.intake.store import BatchResult
from ledger.intake.together import take_in_together

PASSING = "40"
"""The class of SQLSTATE of a transaction that PostgreSQL gave up for another one: it has only to be repeated."""
ATTEMPTS = 3


class Entering:
    """The database as the gathered requests meet it, and the spool where one is set."""

    def __init__(self, engine: sa.Engine, spooling: Spooling | None) -> None:
        self._engine = engine
        self._spooling = spooling

    async def settle(self, group: Sequence[Sent]) -> Sequence[Answer | Exception]:
        """Enter a group in one transaction, or keep it in the spool, and answer each of its requests.

        When PostgreSQL fails on a group for another reason than being away, its requests are entered one by one, so
        that only the one that it fails on gets the error.
        """
        if self._spooling is not None and self._spooling.is_on:
            return await self._kept(self._spooling, group)
        try:
            return await asyncio.to_thread(self._enter, group)
        except AWAY as error:
            if self._spooling is None or _is_passing(error):
                return [error] * len(group)
            self._spooling.begin(error)
            return await self._kept(self._spooling, group)
        except sa.exc.DBAPIError as error:
            if len(group) == 1:
                return [error]
            return [answer for one in group for answer in await self.settle([one])]

    async def _kept(self, spooling: Spooling, group: Sequence[Sent]) -> Sequence[Answer | Exception]:
        try:
            return await spooling.keep(group)
        except SpoolError as error:
            return [error] * len(group)

    def _enter(self, group: Sequence[Sent]) -> tuple[BatchResult, ...]:
        batches = [one.batch for one in group]
        received_at = min(one.received_at for one in group)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._engine.begin() as connection:
                    return take_in_together(connection, batches, door="http", received_at=received_at)
            except sa.exc.OperationalError as error:
                if attempt == ATTEMPTS or not _is_passing(error):
                    raise
        raise AssertionError("every attempt returns or raises")


def _is_passing(error: Exception) -> bool:
    state = getattr(error.orig, "sqlstate", None) if isinstance(error, sa.exc.DBAPIError) else None
    return state is not None and state.startswith(PASSING)
