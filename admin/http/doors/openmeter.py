"""OpenMeter's `POST /api/v1/events`: CloudEvents whose `subject` is the customer, answered with 204.

As OpenMeter documents: `time` is by default when the event came, an event whose id and source came before is ignored,
and numbers in `data` may be sent as text, which is then the exact number.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Final

from fastapi import Response
from pydantic import BaseModel

from admin.gathering import Spooled
from admin.http.answers import json_answer
from admin.http.doors.cloudevents import BATCH, STRUCTURED, attributes_of, check_form
from admin.http.doors.translating import flat, members, translated
from admin.http.doors.whole import Refused, take_whole
from admin.http.parts import Parts
from ledger.errors import InvalidError
from ledger.intake.store import EventResult

NAMES: Final = {"key": "id", "customer": "subject", "timestamp": "time", "properties": "data"}
"""Our fields by OpenMeter's names."""


class OpenMeterProblem(BaseModel):
    """OpenMeter's problem (RFC 7807); `extensions.validationErrors` says what is wrong with each event."""

    type: str
    title: str
    status: int
    detail: str
    extensions: dict[str, list[dict[str, str | int]]]


async def take_openmeter(parts: Parts, kind: str, value: object, *, received_at: datetime) -> Response:
    """Take in one event or an array of them, whole or not at all.

    A rejected event, or one in conflict, is answered with 400 and its reasons; an event without `time` that came
    before is ignored, as its time is not known to differ.
    """
    items = _events_in(kind, value)
    timeless = {index for index, item in enumerate(items) if isinstance(item, dict) and item.get("time") is None}

    def is_refused(result: EventResult) -> bool:
        return result.outcome == "conflict" and result.index not in timeless

    def event_of(value: object) -> dict[str, object]:
        event = members(value, "a CloudEvent: an object with specversion, id, source, type, subject and data")
        check_form({"specversion": "1.0", **event})
        properties = flat(event.get("data"), reads_numbers=True)
        return {"timestamp": received_at, **attributes_of(event), "properties": properties}

    batch = translated(items, event_of, received_at=received_at)
    answer = await take_whole(parts, batch, received_at=received_at, is_refused=is_refused)
    if isinstance(answer, Refused):
        return _problem([_error(one) for one in answer.results])
    headers = {"location": f"/v1/usage/receipts/{answer.receipt_id}"} if isinstance(answer, Spooled) else None
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)


def _events_in(kind: str, value: object) -> Sequence[object]:
    if isinstance(value, list) and kind != STRUCTURED:
        if not value:
            raise InvalidError("the array holds no events; send at least one")
        return value
    if isinstance(value, dict) and kind != BATCH:
        return [value]
    raise InvalidError(f"the body of {kind} must be a JSON {'array of events' if kind == BATCH else 'object'}")


def _error(result: EventResult) -> dict[str, str | int]:
    ours, dot, rest = (result.field or "event").partition(".")
    return {
        "index": result.index,
        "id": result.key or "",
        "field": NAMES.get(ours, ours) + dot + rest,
        "value": result.value or "",
        "message": result.reason or "",
    }


def _problem(errors: Sequence[Mapping[str, str | int]]) -> Response:
    first = errors[0]
    problem = {
        "type": "about:blank",
        "title": HTTPStatus.BAD_REQUEST.phrase,
        "status": int(HTTPStatus.BAD_REQUEST),
        "detail": f"nothing is recorded; event {first['index']}: {first['field']} {first['message']}",
        "extensions": {"validationErrors": errors},
    }
    answer = json_answer(problem, status=HTTPStatus.BAD_REQUEST)
    answer.headers["content-type"] = "application/problem+json"
    return answer
