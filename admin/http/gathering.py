"""One way in for the usage of every door: gathered with others, spooled while the database is away."""

from datetime import datetime
from http import HTTPStatus

from fastapi import Response

from admin.gathering import Sent, Spooled
from admin.http.answers import json_answer
from admin.http.parts import Parts
from ledger.intake.events import ParsedBatch
from ledger.intake.store import BatchResult


async def take_events(parts: Parts, batch: ParsedBatch, *, received_at: datetime) -> BatchResult | Spooled:
    """Take the events of one request in, and return when they are committed or safe on disk.

    `received_at` is when the request came, as it was given to the parser. Contracts are nudged. Raises `FullError` when
    too many events wait, and what the database raises where there is no spool: nothing is recorded then.
    """
    answer = await parts.gathering.take(Sent(batch, received_at))
    if isinstance(answer, BatchResult):
        parts.nudges.add(answer.contracts)
    return answer


def spooled_answer(spooled: Spooled) -> Response:
    """Answer 202 with the receipt by which `GET /v1/usage/receipts/{receipt}` tells what became of each event."""
    value = {
        "outcome": "spooled",
        "receipt": spooled.receipt_id,
        "events": spooled.events,
        "spooled_at": spooled.spooled_at,
    }
    answer = json_answer(value, status=HTTPStatus.ACCEPTED)
    answer.headers["location"] = f"/v1/usage/receipts/{spooled.receipt_id}"
    return answer
