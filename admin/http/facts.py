"""`GET /v1/facts` and `/v1/facts/stream`: what happened, by pages or as it happens."""

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.concurrency import run_in_threadpool
from sse_starlette import EventSourceResponse, ServerSentEvent

from admin.http.answers import WITHOUT_KEY, Problem, json_answer
from admin.http.parts import Parts, PartsOf, bearer_of_key
from admin.http.texts import LONGEST, WITHOUT_NUL, OptionalQueryText
from admin.plain import json_text
from ledger.contracts import get_contract
from ledger.facts import FactPage, list_facts, settled_until

HEARTBEAT_SECONDS = 15
MOST = 1_000
LAST = 2**63 - 1

router = APIRouter(tags=["facts"])

KindText = Annotated[str, Query(min_length=1, max_length=LONGEST, pattern=WITHOUT_NUL)]
Kinds = Annotated[list[KindText], Query(alias="kind", max_length=50, description="Only these; may be repeated.")]


@router.get(
    "/v1/facts",
    summary="List facts",
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": FactPage},
        **WITHOUT_KEY,
        404: {"model": Problem, "description": "There is no such contract."},
    },
)
def get_facts(
    parts: PartsOf,
    kind: Kinds = [],  # noqa: B006 - FastAPI copies it
    contract: OptionalQueryText = None,
    after: Annotated[int, Query(ge=0, le=LAST, description="The sequence number of the last fact you had.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
) -> Response:
    """Return facts in the order of their sequence; ask on with `next_after` and none is missed.

    A fact is listed when no earlier one can follow, a moment after its transaction.
    """
    with parts.engine.begin() as connection:
        return json_answer(list_facts(connection, after=after, kinds=kind, contract_id=contract, limit=limit))


@router.get(
    "/v1/facts/stream",
    summary="Listen to facts",
    dependencies=[Depends(bearer_of_key)],
    response_class=EventSourceResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Events named by their kind, each with a fact."},
        **WITHOUT_KEY,
        404: {"model": Problem, "description": "There is no such contract."},
        429: {"model": Problem, "description": "As many listen already as one server serves."},
    },
)
async def get_fact_stream(
    parts: PartsOf,
    kind: Kinds = [],  # noqa: B006 - FastAPI copies it
    contract: OptionalQueryText = None,
    after: Annotated[int | None, Query(ge=0, le=LAST, description="Unset: only what happens from now on.")] = None,
    last_event_id: Annotated[int | None, Header(ge=0, le=LAST, description="Counts before `after`.")] = None,
) -> Response:
    """Send facts in the order of their sequence, which is the event's id, as they happen (server-sent events).

    Connect again with the last id as `Last-Event-ID`, as browsers do by themselves, and none is missed. The first
    event holds only the id to begin from. It ends when the server does.
    """
    given = after if last_event_id is None else last_event_id
    begin = await run_in_threadpool(_begin, parts, contract, given)
    parts.fact_streams.check_room()
    return EventSourceResponse(
        _events(parts, begin, kind, contract),
        ping=HEARTBEAT_SECONDS,
        ping_message_factory=lambda: ServerSentEvent(comment="still here"),
        sep="\n",
    )


async def _events(
    parts: Parts, begin: int, kinds: list[str], contract_id: str | None
) -> AsyncGenerator[ServerSentEvent]:
    yield ServerSentEvent(id=str(begin))  # so that who is cut off before the first fact has where to go on
    async for fact in parts.fact_streams.listen(after=begin, kinds=kinds, contract_id=contract_id):
        yield ServerSentEvent(json_text(fact), event=fact.kind, id=str(fact.sequence))


def _begin(parts: Parts, contract_id: str | None, after: int | None) -> int:
    with parts.engine.begin() as connection:
        if contract_id is not None:
            get_contract(connection, contract_id)
        return settled_until(connection) if after is None else after
