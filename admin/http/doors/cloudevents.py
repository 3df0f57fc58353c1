"""`POST /v1/usage/cloudevents`: CloudEvents 1.0 (JSON) over HTTP in structured, batch and binary mode."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from admin.gathering import Spooled
from admin.http.answers import NOT_TAKEN, Problem, UnsupportedError, json_answer
from admin.http.doors.translating import decoded, flat, known, members, translated
from admin.http.encodings import UsageBody
from admin.http.gathering import spooled_answer, take_events
from admin.http.parts import PartsOf, bearer_of_key
from admin.http.usage import Detail, SpooledAnswer, UsageAnswer
from ledger.errors import InvalidError
from ledger.intake.events import FieldError
from ledger.intake.store import BatchResult

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
JSON: Final = "application/json"
VERSION: Final = "1.0"
HEADER: Final = "ce-"

CLOUD_EVENT: dict[str, Any] = {
    "specversion": VERSION,
    "id": "req-8c1f",
    "source": "gateway-eu-1",
    "type": "llm.request",
    "subject": "acme",
    "time": "2026-10-05T12:30:00Z",
    "data": {"model": "large", "tokens": {"input": 1250, "output": 310}},
}
CLOUD_EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["specversion", "id", "source", "type", "subject", "time"],
    "properties": {
        "specversion": {"type": "string", "const": VERSION},
        "id": {"type": "string", "description": "The event's own id at its source: its key."},
        "source": {"type": "string", "description": "Who reports; with `id` it identifies the event for ever."},
        "type": {"type": "string", "description": "What happened; metrics count by it."},
        "subject": {"type": "string", "description": "The customer, by one of its aliases."},
        "time": {"type": "string", "format": "date-time", "description": "When, with its offset from UTC."},
        "data": {"type": "object", "description": "Its properties; nested members are named with dots."},
    },
    "example": CLOUD_EVENT,
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            STRUCTURED: {"schema": CLOUD_EVENT_SCHEMA},
            BATCH: {"schema": {"type": "array", "items": CLOUD_EVENT_SCHEMA}},
            JSON: {"schema": CLOUD_EVENT_SCHEMA["properties"]["data"]},
        },
    }
}

router = APIRouter(tags=["usage of other systems"])


@router.post(
    "/v1/usage/cloudevents",
    summary="Send usage as CloudEvents",
    openapi_extra=BODY,
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": UsageAnswer},
        202: {"model": SpooledAnswer, "description": "The database is away or catching up; the events wait on disk."},
        400: {"model": Problem, "description": "No CloudEvents at all, or a broken gzip or zstd stream."},
        413: {"model": Problem, "description": "More than 10,000 events, or 16 MB, encoded or decoded."},
        415: {"model": Problem, "description": "Another type than CloudEvents in JSON."},
        422: {"model": Problem | UsageAnswer, "description": "The single event was rejected, or is in conflict."},
        **NOT_TAKEN,
    },
)
async def send_cloudevents(request: Request, parts: PartsOf, body: UsageBody, detail: Detail = "refused") -> Response:
    """Take in CloudEvents 1.0 whose data is a JSON object: one (structured or binary mode), or up to 10,000 (batch).

    `id` and `source` say which event it is, `subject` is the customer, `data` its properties. Nested data are named
    with dots; extension attributes are not kept. A batch is answered event by event, as `/v1/usage` does. A single
    event that is rejected or in conflict is answered with 422, so that a broker does not take it for delivered.
    """
    received_at = datetime.now(UTC)
    items, is_batch = await run_in_threadpool(_events_in, request, body)
    batch = await run_in_threadpool(translated, items, event_of, received_at=received_at)
    result = await take_events(parts, batch, received_at=received_at)
    if isinstance(result, Spooled):
        return spooled_answer(result)
    is_refused = not is_batch and result.rejected + result.conflict > 0
    return await run_in_threadpool(
        _answer, result, everything=detail == "all", status=HTTPStatus(422) if is_refused else HTTPStatus.OK
    )


def event_of(value: object) -> dict[str, object]:
    """Return a CloudEvent as the event that `parse_objects` reads; raise `FieldError` for what is none."""
    event = members(value, "a CloudEvent: an object with specversion, id, source, type, subject, time and data")
    check_form(event)
    return {**attributes_of(event), "properties": flat(event.get("data"), reads_numbers=False)}


def check_form(event: Mapping[str, object]) -> None:
    """Raise `FieldError` unless this is CloudEvents 1.0 with its data in JSON."""
    if event.get("specversion") != VERSION:
        raise FieldError("specversion", event.get("specversion") or "", f"must be {VERSION!r}; other versions differ")
    if event.get("data_base64") is not None:
        raise FieldError("data_base64", event["data_base64"], "is not read here; send a JSON object as data")
    kind = event.get("datacontenttype")
    if kind is not None and not (isinstance(kind, str) and is_json(kind)):
        raise FieldError("datacontenttype", kind, f"is not read here; send a JSON object as data, with {JSON} or none")


def attributes_of(event: Mapping[str, object]) -> dict[str, object]:
    """Return which event it is, whose, of what type, and when, as far as it says."""
    named = {"source": "source", "key": "id", "customer": "subject", "type": "type", "timestamp": "time"}
    return known({ours: event.get(theirs) for ours, theirs in named.items()})


def is_json(kind: str) -> bool:
    """Tell whether a media type is JSON."""
    name = kind.partition(";")[0].strip().lower()
    return name in (JSON, "text/json") or name.endswith("+json")


def media_type(request: Request) -> str:
    """Return the type of a request's body, without its parameters; empty when there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def batch_in(body: bytes) -> Sequence[object]:
    """Return the events of a batch; raise `InvalidError` when it is no JSON array."""
    items = decoded(body)
    if not isinstance(items, list):
        raise InvalidError(f"the body must be a JSON array of CloudEvents; send a single one as {STRUCTURED}")
    return items


def _events_in(request: Request, body: bytes) -> tuple[Sequence[object], bool]:
    kind = media_type(request)
    if kind == BATCH:
        return batch_in(body), True
    if kind == STRUCTURED:
        return [decoded(body)], False
    if HEADER + "specversion" not in request.headers or not is_json(kind or JSON):
        raise UnsupportedError(
            f"content-type {kind!r} is not read here; send {STRUCTURED}, {BATCH}, "
            f"or {JSON} with the headers ce-specversion, ce-id, ce-source, ce-type, ce-subject and ce-time"
        )
    attributes = {
        name.removeprefix(HEADER): unquote(value) for name, value in request.headers.items() if name.startswith(HEADER)
    }
    return [{**attributes, "data": decoded(body) if body.strip() else None}], False


def _answer(result: BatchResult, *, everything: bool, status: HTTPStatus) -> Response:
    listed = [one for one in result.results if everything or one.outcome != "accepted"]
    counts = {name: getattr(result, name) for name in ("batch_id", "accepted", "duplicate", "conflict", "rejected")}
    return json_answer({**counts, "results": listed}, status=status)
