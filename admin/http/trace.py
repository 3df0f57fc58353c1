"""`GET /v1/trace/events`: where a single event went; `GET /v1/explanations/{subject}`: which events make an amount."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from admin.http.answers import Problem, json_answer
from admin.http.parts import PartsOf, bearer_of_key
from ledger.errors import NotFoundError
from ledger.tracing import EventTrace, trace_event

router = APIRouter(tags=["trace"])

Text = Annotated[str, Query(min_length=1, max_length=256)]


@router.get(
    "/v1/trace/events",
    summary="Follow one event",
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": EventTrace},
        401: {"model": Problem, "description": "No API key that works."},
        404: {"model": Problem, "description": "No event came under this source and key."},
    },
)
def get_event_trace(source: Text, key: Text, parts: PartsOf) -> Response:
    """Return the way of an event from its batch to the payment, or why it got no further. Decimals are text."""
    with parts.engine.begin() as connection:
        found = trace_event(connection, source, key)
    if found.ending == "never_came":
        raise NotFoundError(f"source {source!r}, key {key!r}: {found.why}")
    return json_answer(found)
