"""`GET /v1/usage/receipts/{receipt}`: what became of a request that was answered `spooled`."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Depends, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from admin.connections import AWAY
from admin.http.answers import Problem, json_answer
from admin.http.parts import Parts, PartsOf, bearer_of_key
from admin.http.usage import EventAnswer
from ledger.errors import NotFoundError
from ledger.intake.receipts import Receipt, find_receipt
from ledger.intake.spool import Place

router = APIRouter(tags=["usage"])


class WaitingAnswer(BaseModel):
    """The request is on disk and enters when the database is back; `set_aside`: it could not, a person has to look."""

    receipt: str
    outcome: Literal["waiting", "set_aside"]


class ReceiptAnswer(BaseModel):
    """What became of each event of a spooled request."""

    receipt: str
    outcome: Literal["entered"]
    spooled_at: datetime
    entered_at: datetime
    batch_id: int
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    results: list[EventAnswer]


@router.get(
    "/v1/usage/receipts/{receipt}",
    summary="See what became of spooled events",
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": ReceiptAnswer | WaitingAnswer},
        401: {"model": Problem, "description": "No API key that works."},
        404: {"model": Problem, "description": "No request has this receipt."},
        503: {"model": Problem, "description": "The database is away and the request is not in the spool."},
    },
)
async def get_receipt(receipt: str, parts: PartsOf) -> Response:
    """Tell whether a spooled request still waits, and once it is entered what became of each of its events."""
    place = None if parts.spooling is None else await parts.spooling.where(receipt)
    found = None if place == "set_aside" else await run_in_threadpool(_entered, parts, receipt, place)
    if found is not None:
        return json_answer(
            {
                "receipt": found.receipt_id,
                "outcome": "entered",
                "spooled_at": found.spooled_at,
                "entered_at": found.entered_at,
                "batch_id": found.batch_id,
                **found.answer,
            }
        )
    if place is None:
        raise NotFoundError(f"no spooled request has the receipt {receipt!r}; take the one that the answer 202 named")
    return json_answer({"receipt": receipt, "outcome": place})


def _entered(parts: Parts, receipt: str, place: Place | None) -> Receipt | None:
    """Ask the database, which tells more than the disk; that it is away matters only when the disk knows nothing."""
    try:
        with parts.engine.begin() as connection:
            return find_receipt(connection, receipt)
    except AWAY:
        if place is None:
            raise
        return None
