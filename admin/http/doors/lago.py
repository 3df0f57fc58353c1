"""Lago's `POST /api/v1/events` and `/api/v1/events/batch`: events in Lago's form, answered in Lago's form.

As Lago documents: `transaction_id` says which event it is (its source is `lago` here); one that came before is refused
with 422 and `value_already_exist`; a batch is atomic. `external_subscription_id` is the customer by one of its aliases,
so give each customer its subscription ids as aliases. `timestamp` is in seconds since 1970, by default when the event
came. Numbers in `properties` may be text, which is then the exact number. `precise_total_amount_cents` is kept as a
property of that name.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, DecimalException
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from admin.gathering import Spooled
from admin.http.answers import NOT_TAKEN, UTF_8, Problem, UnsupportedError, json_answer
from admin.http.doors.cloudevents import JSON, is_json, media_type
from admin.http.doors.translating import decoded, encoded, flat, known, members, translated
from admin.http.doors.whole import Refused, take_whole
from admin.http.encodings import UsageBody
from admin.http.parts import Parts, PartsOf, bearer_of_key
from ledger.errors import InvalidError
from ledger.intake.events import FieldError, ParsedBatch, key_hash
from ledger.intake.store import EventResult
from pricing.money import WIDE

SOURCE: Final = "lago"
MAX_EVENTS: Final = 100
AMOUNT: Final = "precise_total_amount_cents"
SUBSCRIPTION: Final = "external_subscription_id"
CUSTOMER: Final = "external_customer_id"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECONDS: Final = Decimal(1_000_000)
LATEST_SECONDS: Final = 100_000_000_000
NAMES: Final = {"key": "transaction_id", "customer": SUBSCRIPTION, "type": "code"}
"""Our fields by Lago's names."""
FIELDS: Final = frozenset((*NAMES.values(), CUSTOMER, "timestamp", "properties", AMOUNT))

EVENT_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["transaction_id", SUBSCRIPTION, "code"],
    "properties": {
        **{name: {"type": "string"} for name in NAMES.values()},
        "timestamp": {"anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "string"}, {"type": "null"}]},
        "properties": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        AMOUNT: {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "example": {
        "transaction_id": "req-8c1f",
        SUBSCRIPTION: "acme",
        "code": "llm.request",
        "timestamp": 1791203400,
        "properties": {"model": "large", "tokens": 1250},
    },
}
ONE_SCHEMA: Final = {"type": "object", "required": ["event"], "properties": {"event": EVENT_SCHEMA}}
BATCH_SCHEMA: Final = {
    "type": "object",
    "required": ["events"],
    "properties": {"events": {"type": "array", "minItems": 1, "maxItems": MAX_EVENTS, "items": EVENT_SCHEMA}},
}


class LagoProblem(BaseModel):
    """Lago's error; `error_details` names the fields with their codes and remedies, of a batch by place."""

    status: int
    error: str
    code: str
    error_details: dict[str, Any]


class LagoEvent(BaseModel):
    """An event as Lago answers it; ids of Lago's own objects are null."""

    lago_id: str
    transaction_id: str
    lago_customer_id: None
    lago_subscription_id: None
    external_subscription_id: str
    code: str
    timestamp: str
    precise_total_amount_cents: str | None
    properties: dict[str, Any]
    created_at: str


class LagoEvents(BaseModel):
    """A batch as Lago answers it."""

    events: list[LagoEvent]


router = APIRouter(tags=["usage of other systems"])


@router.post(
    "/api/v1/events/batch",
    summary="Send a batch of usage as to Lago",
    openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": BATCH_SCHEMA}}}},
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": LagoEvents},
        400: {"model": Problem | LagoProblem, "description": "No JSON, or a broken gzip or zstd stream."},
        413: {"model": Problem, "description": "More than 16 MB, encoded or decoded."},
        415: {"model": Problem, "description": "Another type than JSON."},
        422: {"model": LagoProblem, "description": "Nothing is recorded: an event is wrong, or came before."},
        **NOT_TAKEN,
    },
)
async def send_lago_batch(request: Request, parts: PartsOf, body: UsageBody) -> Response:
    """Take in up to 100 events as Lago's clients send them, all or none."""
    if not is_json(media_type(request) or JSON):
        raise UnsupportedError(f"content-type {media_type(request)!r} is not read here; send {JSON}")
    received_at = datetime.now(UTC)
    try:
        value = await run_in_threadpool(decoded, body)
    except InvalidError as error:
        return bad_request(str(error))
    items = value.get("events") if isinstance(value, dict) else None
    if not isinstance(items, list) or not items:
        return _unprocessable({"events": ["no_events", "send an object whose member events is an array of events"]})
    if len(items) > MAX_EVENTS:
        reason = f"{len(items)} events are over {MAX_EVENTS}; send them in several requests"
        return _unprocessable({"events": ["too_many_events", reason]})
    answer = await _take(parts, items, received_at)
    if isinstance(answer, Refused):
        return _unprocessable({str(one.index): _details(one, items[one.index]) for one in answer.results})
    return _answered({"events": answer[0]}, answer[1])


async def take_lago(parts: Parts, value: Mapping[str, object], *, received_at: datetime) -> Response:
    """Take in the single event of a body `{"event": {...}}`."""
    answer = await _take(parts, [value["event"]], received_at)
    if isinstance(answer, Refused):
        return _unprocessable(_details(answer.results[0], value["event"]))
    return _answered({"event": answer[0][0]}, answer[1])


def bad_request(reason: str) -> Response:
    """Answer 400 as Lago does."""
    status = HTTPStatus.BAD_REQUEST
    problem = LagoProblem(status=status, error=status.phrase, code="bad_request", error_details={"body": [reason]})
    return json_answer(problem.model_dump(), status=status)


async def _take(
    parts: Parts, items: Sequence[object], received_at: datetime
) -> Refused | tuple[list[dict[str, object]], Spooled | None]:
    def event_of(value: object) -> dict[str, object]:
        return _event_of(value, received_at)

    batch = await run_in_threadpool(translated, items, event_of, received_at=received_at)
    answer = await take_whole(
        parts, batch, received_at=received_at, is_refused=lambda result: result.outcome in ("duplicate", "conflict")
    )
    if isinstance(answer, Refused):
        return answer
    return _echoed(items, batch, received_at), answer if isinstance(answer, Spooled) else None


def _event_of(value: object, received_at: datetime) -> dict[str, object]:
    event = members(value, f"an object with the fields {', '.join(sorted(FIELDS))}")
    properties = flat(event.get("properties"), reads_numbers=True)
    amount = flat({AMOUNT: event.get(AMOUNT)}, reads_numbers=True).get(AMOUNT)
    if amount is not None:
        if AMOUNT in properties:
            raise FieldError(AMOUNT, amount, "is there twice, as a field and as a property; leave one out")
        if isinstance(amount, bool) or not isinstance(amount, int | Decimal):
            raise FieldError(AMOUNT, amount, 'must be a decimal number such as "1234.56"')
        properties[AMOUNT] = amount
    return known(
        {
            "source": SOURCE,
            "key": event.get("transaction_id"),
            "customer": event.get(SUBSCRIPTION, event.get(CUSTOMER)),
            "type": event.get("code"),
            "timestamp": _moment(event.get("timestamp"), received_at),
            "properties": properties,
        }
    )


def _moment(value: object, received_at: datetime) -> datetime:
    """Return the time that a number of seconds since 1970 means, cut to microseconds."""
    if value is None:
        return received_at
    try:
        seconds = Decimal(value) if isinstance(value, int | str | Decimal) and not isinstance(value, bool) else None
    except (DecimalException, ValueError):
        seconds = None
    if seconds is None or not seconds.is_finite() or abs(seconds) >= LATEST_SECONDS:
        raise FieldError("timestamp", value, "must be in seconds since 1970, such as 1791203400 or 1791203400.123")
    return EPOCH + timedelta(microseconds=int(WIDE.multiply(seconds, MICROSECONDS)))


def _echoed(items: Sequence[object], batch: ParsedBatch, received_at: datetime) -> list[dict[str, object]]:
    return [
        {
            "lago_id": str(key_hash(event.source, event.key)),
            "transaction_id": event.key,
            "lago_customer_id": None,
            "lago_subscription_id": None,
            SUBSCRIPTION: event.customer,
            "code": event.type,
            "timestamp": _iso(event.timestamp, "milliseconds"),
            AMOUNT: None if AMOUNT not in event.properties else str(event.properties[AMOUNT]),
            "properties": (item.get("properties") if isinstance(item, dict) else None) or {},
            "created_at": _iso(received_at, "seconds"),
        }
        for item, (_, event) in zip(items, batch.events, strict=True)
    ]


def _iso(moment: datetime, precision: str) -> str:
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def _answered(value: object, spooled: Spooled | None) -> Response:
    headers = None if spooled is None else {"location": f"/v1/usage/receipts/{spooled.receipt_id}"}
    return Response(encoded(value), headers=headers, media_type=UTF_8)


def _unprocessable(details: dict[str, Any]) -> Response:
    problem = LagoProblem(status=422, error="Unprocessable Entity", code="validation_errors", error_details=details)
    return json_answer(problem.model_dump(), status=HTTPStatus(422))


def _details(result: EventResult, item: object) -> dict[str, list[str]]:
    """Return a field with Lago's code, where Lago has one, its value and the remedy."""
    if result.outcome != "rejected":
        return {"transaction_id": ["value_already_exist", *([] if result.reason is None else [result.reason])]}
    field = NAMES.get(result.field or "event", result.field or "event")
    is_missing = isinstance(item, dict) and item.get(field) is None and field in NAMES.values()
    code = "value_is_mandatory" if is_missing else "invalid_format" if field == "timestamp" else "value_is_invalid"
    return {field: [code, f"{result.value or ''} {result.reason or ''}".strip()]}
