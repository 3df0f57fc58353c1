"""Requests that are taken whole or not at all, for protocols that have one answer for all of their events."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from fastapi.concurrency import run_in_threadpool

from admin.connections import AWAY
from admin.gathering import Spooled
from admin.http.gathering import take_events
from admin.http.parts import Parts
from ledger.intake.events import FieldError, ParsedBatch, Rejection, rejection
from ledger.intake.store import BatchResult, EventResult, take_in


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing of the request is recorded but these refusals; each has its field, value and remedy."""

    results: tuple[EventResult, ...]


Answer = BatchResult | Spooled | Refused
IsRefused = Callable[[EventResult], bool]
"""Says which outcomes the protocol has no success for."""


async def take_whole(parts: Parts, batch: ParsedBatch, *, received_at: datetime, is_refused: IsRefused) -> Answer:
    """Take a request in whole, or say why not; events that are rejected are noted, so that people see them.

    While the database is away the request goes to the spool whole, and what becomes of its events is told by its
    receipt alone. Raises as `take_events` does.
    """
    if batch.rejections:
        await _note(parts, batch.rejections, received_at)
        return Refused(tuple(_result(one) for one in batch.rejections))
    is_spooling = parts.spooling is not None and parts.spooling.is_on
    if len(batch.events) <= 1 or is_spooling:
        result = await take_events(parts, batch, received_at=received_at)
        return result if isinstance(result, Spooled) else _checked(result, is_refused)
    try:
        answer = await run_in_threadpool(_take_in, parts.engine, batch, received_at, is_refused)
    except AWAY as error:
        if parts.spooling is None or _is_passing(error):
            raise
        parts.spooling.begin(error)
        return await take_events(parts, batch, received_at=received_at)
    if isinstance(answer, BatchResult):
        parts.nudges.add(answer.contracts)
        return answer
    await _note(parts, _rejections(batch, answer), received_at)
    return answer


def _take_in(
    engine: sa.Engine, batch: ParsedBatch, received_at: datetime, is_refused: IsRefused
) -> BatchResult | Refused:
    with engine.connect() as connection, connection.begin() as transaction:
        answer = _checked(take_in(connection, batch, door="http", received_at=received_at), is_refused)
        if isinstance(answer, Refused):
            transaction.rollback()
        return answer


def _is_passing(error: Exception) -> bool:
    """Tell whether PostgreSQL gave the transaction up for another one, so that it is there and only busy."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else None
    return str(getattr(cause, "sqlstate", None) or "").startswith("40")


def _checked(result: BatchResult, is_refused: IsRefused) -> BatchResult | Refused:
    refused = tuple(one for one in result.results if one.outcome == "rejected" or is_refused(one))
    return Refused(refused) if refused else result


async def _note(parts: Parts, rejections: tuple[Rejection, ...], received_at: datetime) -> None:
    if rejections:
        await take_events(parts, ParsedBatch((), rejections), received_at=received_at)


def _rejections(batch: ParsedBatch, refused: Refused) -> tuple[Rejection, ...]:
    events = dict(batch.events)
    return tuple(
        rejection(one.index, events[one.index], FieldError(one.field or "event", one.value or "", one.reason or ""))
        for one in refused.results
        if one.outcome == "rejected"
    )


def _result(one: Rejection) -> EventResult:
    return EventResult(one.index, "rejected", one.source, one.key, one.field, one.value, one.reason)
