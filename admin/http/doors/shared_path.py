"""`POST /api/v1/events`, which Lago and OpenMeter both use: the body's type and form say whose it is."""

from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from admin.http.answers import NOT_TAKEN, Problem, UnsupportedError
from admin.http.doors.cloudevents import BATCH, CLOUD_EVENT_SCHEMA, JSON, STRUCTURED, is_json, media_type
from admin.http.doors.lago import ONE_SCHEMA, LagoEvent, LagoProblem, bad_request, take_lago
from admin.http.doors.openmeter import OpenMeterProblem, take_openmeter
from admin.http.doors.translating import decoded
from admin.http.encodings import UsageBody
from admin.http.parts import PartsOf, bearer_of_key
from ledger.errors import InvalidError

BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": ONE_SCHEMA},
            STRUCTURED: {"schema": CLOUD_EVENT_SCHEMA},
            BATCH: {"schema": {"type": "array", "minItems": 1, "items": CLOUD_EVENT_SCHEMA}},
        },
    }
}


class LagoOneEvent(BaseModel):
    """Lago's answer to a single event."""

    event: LagoEvent


router = APIRouter(tags=["usage of other systems"])


@router.post(
    "/api/v1/events",
    summary="Send usage as to Lago or OpenMeter",
    openapi_extra=BODY,
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": LagoOneEvent, "description": "Lago's event is taken in."},
        204: {"description": "OpenMeter's events are taken in, or were before."},
        400: {
            "model": Problem | OpenMeterProblem | LagoProblem,
            "description": "Nothing is recorded: no events, or wrong ones.",
        },
        413: {"model": Problem, "description": "More than 10,000 events, or 16 MB, encoded or decoded."},
        415: {"model": Problem, "description": "Neither JSON nor CloudEvents in JSON."},
        422: {"model": LagoProblem, "description": "Lago's event is wrong, or came before."},
        **NOT_TAKEN,
    },
)
async def send_events(request: Request, parts: PartsOf, body: UsageBody) -> Response:
    """Take in Lago's `{"event": {...}}`, or OpenMeter's CloudEvents: one, or an array, whole or not at all."""
    kind = media_type(request) or JSON
    if not is_json(kind):
        raise UnsupportedError(f"content-type {kind!r} is not read here; send {JSON}, {STRUCTURED} or {BATCH}")
    received_at = datetime.now(UTC)
    if kind in (STRUCTURED, BATCH):
        return await take_openmeter(parts, kind, decoded(body), received_at=received_at)
    try:
        value = decoded(body)
    except InvalidError as error:
        return bad_request(str(error))
    if isinstance(value, dict) and "event" in value and "specversion" not in value:
        return await take_lago(parts, value, received_at=received_at)
    return await take_openmeter(parts, kind, value, received_at=received_at)
