"""Metronome's `POST /v1/ingest`: an array of 1 to 100 events, answered with 200 and an empty object.

As Metronome documents: `transaction_id` says which event it is (its source is `metronome` here), `customer_id` is the
customer by one of its aliases, an event that came before is ignored, and numbers in `properties` are sent as text,
which is then the exact number.
"""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from admin.gathering import Spooled
from admin.http.answers import NOT_TAKEN, Problem, UnsupportedError, json_answer
from admin.http.doors.cloudevents import JSON, is_json, media_type
from admin.http.doors.translating import decoded, flat, known, members, translated
from admin.http.doors.whole import Refused, take_whole
from admin.http.encodings import UsageBody
from admin.http.parts import PartsOf, bearer_of_key
from ledger.errors import InvalidError
from ledger.intake.events import FieldError, ParsedBatch
from ledger.intake.store import EventResult

SOURCE: Final = "metronome"
MAX_EVENTS: Final = 100
NAMES: Final = {"key": "transaction_id", "customer": "customer_id", "type": "event_type"}
"""Our fields by Metronome's names."""
FIELDS: Final = frozenset((*NAMES.values(), "timestamp", "properties"))

EVENT_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["transaction_id", "customer_id", "event_type", "timestamp"],
    "properties": {
        **{name: {"type": "string"} for name in NAMES.values()},
        "timestamp": {"type": "string", "format": "date-time"},
        "properties": {"type": "object"},
    },
    "example": {
        "transaction_id": "req-8c1f",
        "customer_id": "acme",
        "event_type": "llm.request",
        "timestamp": "2026-10-05T12:30:00Z",
        "properties": {"model": "large", "tokens": "1250"},
    },
}
ARRAY: Final = {"type": "array", "minItems": 1, "maxItems": MAX_EVENTS, "items": EVENT_SCHEMA}


class EventProblem(BaseModel):
    """What is wrong with one event, by its place in the array."""

    index: int
    transaction_id: str
    field: str
    value: str
    message: str


class MetronomeProblem(BaseModel):
    """Metronome's error: a message; `errors` says what is wrong with each event."""

    message: str
    errors: list[EventProblem]


router = APIRouter(tags=["usage of other systems"])


@router.post(
    "/v1/ingest",
    summary="Send usage as to Metronome",
    openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": ARRAY}}}},
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"content": {JSON: {"schema": {"type": "object"}}}, "description": "All events are taken in."},
        400: {
            "model": Problem | MetronomeProblem,
            "description": "Nothing is recorded: events are wrong or in conflict.",
        },
        413: {"model": Problem, "description": "More than 16 MB, encoded or decoded."},
        415: {"model": Problem, "description": "Another type than JSON."},
        **NOT_TAKEN,
    },
)
async def send_metronome(request: Request, parts: PartsOf, body: UsageBody) -> Response:
    """Take in an array as Metronome's clients send it, whole or not at all.

    A rejected event, or one whose `transaction_id` came with other content, is answered with 400 and its reasons.
    """
    if not is_json(media_type(request) or JSON):
        raise UnsupportedError(f"content-type {media_type(request)!r} is not read here; send {JSON}")
    received_at = datetime.now(UTC)
    try:
        batch = await run_in_threadpool(_parsed, body, received_at)
    except InvalidError as error:
        return json_answer({"message": str(error), "errors": []}, status=HTTPStatus.BAD_REQUEST)
    answer = await take_whole(
        parts, batch, received_at=received_at, is_refused=lambda result: result.outcome == "conflict"
    )
    if isinstance(answer, Refused):
        return _problem(answer)
    taken = json_answer({})
    if isinstance(answer, Spooled):
        taken.headers["location"] = f"/v1/usage/receipts/{answer.receipt_id}"
    return taken


def event_of(value: object) -> dict[str, object]:
    """Return Metronome's event as the event that `parse_objects` reads; raise `FieldError` for what is none."""
    event = members(value, f"an object with the fields {', '.join(sorted(FIELDS))}")
    unknown = sorted(event.keys() - FIELDS)
    if unknown:
        raise FieldError(unknown[0], event[unknown[0]], "is no field of an event; put it into properties")
    named = {ours: event.get(theirs) for ours, theirs in NAMES.items()}
    properties = flat(event.get("properties"), reads_numbers=True)
    return known({"source": SOURCE, **named, "timestamp": event.get("timestamp"), "properties": properties})


def _parsed(body: bytes, received_at: datetime) -> ParsedBatch:
    items = decoded(body)
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_EVENTS:
        raise InvalidError(f"the body must be a JSON array of 1 to {MAX_EVENTS} events; send more in several requests")
    return translated(items, event_of, received_at=received_at)


def _problem(refused: Refused) -> Response:
    errors = [_error(one) for one in refused.results]
    first = errors[0]
    message = f"nothing is recorded; event {first.index}: {first.field} {first.message}"
    problem = MetronomeProblem(message=message, errors=errors)
    return json_answer(problem.model_dump(), status=HTTPStatus.BAD_REQUEST)


def _error(result: EventResult) -> EventProblem:
    field = result.field or "event"
    return EventProblem(
        index=result.index,
        transaction_id=result.key or "",
        field=NAMES.get(field, field),
        value=result.value or "",
        message=result.reason or "",
    )
