"""`POST /v1/usage`: events in, each with its own answer."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from admin.gathering import Spooled
from admin.http.answers import NOT_TAKEN, Problem, UnsupportedError, json_answer
from admin.http.encodings import UsageBody
from admin.http.gathering import spooled_answer, take_events
from admin.http.parts import PartsOf, bearer_of_key
from ledger.intake.events import ParsedBatch, parse_json, parse_ndjson
from ledger.intake.store import BatchResult, EventResult

JSON = "application/json"
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")

EVENT: dict[str, Any] = {
    "source": "gateway-eu-1",
    "key": "req-8c1f",
    "customer": "acme",
    "type": "llm.request",
    "timestamp": "2026-10-05T12:30:00Z",
    "properties": {"model": "large", "input_tokens": 1250, "output_tokens": 310},
}
EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["source", "key", "customer", "type", "timestamp"],
    "properties": {
        "source": {"type": "string", "description": "Who reports; with `key` it identifies the event for ever."},
        "key": {"type": "string", "description": "The event's own id at its source."},
        "customer": {"type": "string", "description": "The customer, by one of its aliases."},
        "type": {"type": "string", "description": "What happened; metrics count by it."},
        "timestamp": {"type": "string", "format": "date-time", "description": "When, with its offset from UTC."},
        "properties": {
            "type": "object",
            "additionalProperties": {"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "boolean"}]},
            "description": "Its numbers and names. Numbers are read exactly, as decimals.",
        },
    },
    "example": EVENT,
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"type": "array", "items": EVENT_SCHEMA}, "example": [EVENT]},
            NDJSON[0]: {
                "schema": {"type": "string"},
                "example": '{"source": "gateway-eu-1", "key": "req-8c1f", ...}\n',
            },
        },
    }
}


class EventAnswer(BaseModel):
    """What became of one event; `field`, `value` and `reason` are there when it was rejected."""

    index: int
    outcome: Literal["accepted", "duplicate", "conflict", "rejected"]
    source: str | None
    key: str | None
    field: str | None = Field(examples=["timestamp"])
    value: str | None = Field(examples=["2026-10-05T12:30:00"])
    reason: str | None = Field(examples=["has no time zone; write it with one, 2026-10-05T12:30:00Z"])


class UsageAnswer(BaseModel):
    """What became of a batch, counted; `results` lists what was not accepted, or with `detail=all` every event."""

    batch_id: int
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    results: list[EventAnswer]


class SpooledAnswer(BaseModel):
    """A request that waits on disk; `GET /v1/usage/receipts/{receipt}` tells what became of each event."""

    outcome: Literal["spooled"]
    receipt: str
    events: int
    spooled_at: datetime


router = APIRouter(tags=["usage"])

Detail = Annotated[
    Literal["refused", "all"], Query(description="Which events `results` lists: those not accepted, or all.")
]


@router.post(
    "/v1/usage",
    summary="Send usage events",
    openapi_extra=BODY,
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": UsageAnswer},
        202: {"model": SpooledAnswer, "description": "The database is away or catching up; the events wait on disk."},
        400: {"model": Problem, "description": "No events at all, or a broken gzip or zstd stream."},
        413: {"model": Problem, "description": "More than 10,000 events, or 16 MB, encoded or decoded."},
        415: {"model": Problem, "description": "Neither JSON nor NDJSON, or another encoding than gzip and zstd."},
        **NOT_TAKEN,
    },
)
async def send_usage(request: Request, parts: PartsOf, body: UsageBody, detail: Detail = "refused") -> Response:
    """Take in up to 10,000 events (16 MB) as a JSON array or as NDJSON, plain or encoded with gzip or zstd.

    Each event is answered on its own: `accepted`, `duplicate` (the same again), `conflict` (the same source and key
    with other content; the first counts) or `rejected` (with field, value and remedy). A bad event never fails its
    neighbours. The answer comes after the commit: sending a batch again, whole or in part, is always safe.
    While the database is away the events are kept on disk, answered with 202 and a receipt, and enter in order.
    """
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if kind != JSON and kind not in NDJSON:
        raise UnsupportedError(f"content-type {kind!r} is not read here; send {JSON} or {NDJSON[0]}")
    received_at = datetime.now(UTC)
    batch = await run_in_threadpool(_parse, body, is_array=kind == JSON, received_at=received_at)
    result = await take_events(parts, batch, received_at=received_at)
    if isinstance(result, Spooled):
        return spooled_answer(result)
    return await run_in_threadpool(_answer, result, everything=detail == "all")


def _parse(body: bytes, *, is_array: bool, received_at: datetime) -> ParsedBatch:
    return (parse_json if is_array else parse_ndjson)(body, received_at=received_at)


def _answer(result: BatchResult, *, everything: bool) -> Response:
    listed: list[EventResult] = [one for one in result.results if everything or one.outcome != "accepted"]
    return json_answer(
        {
            "batch_id": result.batch_id,
            "accepted": result.accepted,
            "duplicate": result.duplicate,
            "conflict": result.conflict,
            "rejected": result.rejected,
            "results": listed,
        }
    )
