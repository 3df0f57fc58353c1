"""Entering gathered requests into the database, each with its own answer, whatever one of them does."""

import asyncio
from collections.abc import Sequence

import sqlalchemy as sa

from admin.connections import AWAY
from admin.gathering import Answer, Sent
from ledger.intake.store import BatchResult
from ledger.intake.together import take_in_together


class Entering:
    """The database as the gathered requests meet it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    async def settle(self, group: Sequence[Sent]) -> Sequence[Answer | Exception]:
        """Enter a group in one transaction and answer each of its requests.

        When PostgreSQL fails on a group for another reason than being away, its requests are entered one by one, so
        that only the one that it fails on gets the error.
        """
        try:
            return await asyncio.to_thread(self._enter, group)
        except AWAY as error:
            return [error] * len(group)
        except sa.exc.DBAPIError as error:
            if len(group) == 1:
                return [error]
            return [answer for one in group for answer in await self.settle([one])]

    def _enter(self, group: Sequence[Sent]) -> tuple[BatchResult, ...]:
        received_at = min(one.received_at for one in group)
        with self._engine.begin() as connection:
            return take_in_together(connection, [one.batch for one in group], door="http", received_at=received_at)
