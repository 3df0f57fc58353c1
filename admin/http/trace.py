"""`GET /v1/trace/events`: where a single event went; `GET /v1/explanations/{subject}`: which events make an amount."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from admin.http.answers import Problem, json_answer
from admin.http.parts import PartsOf, bearer_of_key
from admin.http.texts import PathText, QueryText
from ledger.errors import NotFoundError
from ledger.explained_events import MOST, EventsPage, events_page
from ledger.explained_lines import LineExplanation
from ledger.explaining import InvoiceExplanation, TransferExplanation, explain
from ledger.tracing import EventTrace, trace_event

router = APIRouter(tags=["trace"])

After = Annotated[str | None, Query(max_length=128, description="`following` of the page before.")]


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
def get_event_trace(source: QueryText, key: QueryText, parts: PartsOf) -> Response:
    """Return the way of an event from its batch to the payment, or why it got no further. Decimals are text."""
    with parts.engine.begin() as connection:
        found = trace_event(connection, source, key)
    if found.ending == "never_came":
        raise NotFoundError(f"source {source!r}, key {key!r}: {found.why}")
    return json_answer(found)


@router.get(
    "/v1/explanations/{subject:path}/events",
    summary="List the events behind an amount",
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": EventsPage},
        400: {"model": Problem, "description": "`after` is not what a page named."},
        401: {"model": Problem, "description": "No API key that works."},
        404: {"model": Problem, "description": "There is no such invoice, line or transfer."},
        409: {"model": Problem, "description": "The events of its period are archived."},
    },
)
def get_explained_events(
    subject: PathText, parts: PartsOf, after: After = None, limit: Annotated[int, Query(ge=1, le=MOST)] = 100
) -> Response:
    """Return a page of the events of a line or transfer, and by `following` what the next page begins behind.

    What no usage of its own makes has no events; its explanation names in `parts` what has.
    """
    with parts.engine.begin() as connection:
        return json_answer(events_page(connection, subject, after=after, limit=limit))


@router.get(
    "/v1/explanations/{subject:path}",
    summary="Explain an amount",
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": InvoiceExplanation | LineExplanation | TransferExplanation},
        401: {"model": Problem, "description": "No API key that works."},
        404: {"model": Problem, "description": "There is no such invoice, line or transfer."},
        409: {"model": Problem, "description": "The events of its period are archived."},
    },
)
def get_explanation(subject: PathText, parts: PartsOf) -> Response:
    """Explain an invoice, a line (`INVOICE/POSITION`) or a transfer down to its days, each level compared.

    `credit-note-request/REQUEST` is explained like a line. What was computed from other charges (a share of products, a
    discount, a minimum, a maximum) has these as `parts`, each with the subject that explains it further.
    """
    with parts.engine.begin() as connection:
        return json_answer(explain(connection, subject))
