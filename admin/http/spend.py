"""`GET /v1/contracts/{id}/spend` and `.../spend/stream`: what a contract has spent so far, once or as it changes."""

from typing import Literal

from fastapi import APIRouter, Depends, Response
from fastapi.concurrency import run_in_threadpool
from sse_starlette import EventSourceResponse, ServerSentEvent

from admin.http.answers import Problem, json_answer
from admin.http.parts import Parts, PartsOf, bearer_of_key
from admin.http.texts import PathText
from ledger.contracts import get_contract
from ledger.spend import Spend, SpendByDay, spend, spend_by_day
from ledger.spend_groups import SpendByGroup, spend_by_group

HEARTBEAT_SECONDS = 15

router = APIRouter(tags=["contracts"])


@router.get(
    "/v1/contracts/{contract_id}/spend",
    summary="See a contract's live spend",
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": Spend | SpendByGroup | SpendByDay},
        400: {"model": Problem, "description": "By group, usage that cannot be rated."},
        401: {"model": Problem, "description": "No API key that works."},
        404: {"model": Problem, "description": "There is no such contract."},
    },
)
def get_spend(contract_id: PathText, parts: PartsOf, by: Literal["product", "group", "day"] = "product") -> Response:
    """Return the spend of the current period by product, and what is left of prepaid amounts; or by day, or by group.

    By product and day it is read from what is posted in the ledger, so it cannot disagree with the books; by group it
    is rated on demand. Each includes all usage that was accepted before its `watermark`. Decimals are text.
    """
    read = {"product": spend, "group": spend_by_group, "day": spend_by_day}[by]
    with parts.engine.begin() as connection:
        return json_answer(read(connection, contract_id))


@router.get(
    "/v1/contracts/{contract_id}/spend/stream",
    summary="Listen to a contract's live spend",
    dependencies=[Depends(bearer_of_key)],
    response_class=EventSourceResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Events `spend`, each with the spend by product."},
        401: {"model": Problem, "description": "No API key that works."},
        404: {"model": Problem, "description": "There is no such contract."},
        429: {"model": Problem, "description": "As many listen already as one server serves."},
    },
)
async def get_spend_stream(contract_id: PathText, parts: PartsOf) -> Response:
    """Send the spend by product now and, at most once a second, whenever its figures change (server-sent events).

    Between them comments show that the connection lives. It ends when the server does; then connect again.
    """
    await run_in_threadpool(_check_contract, parts, contract_id)
    parts.spend_streams.check_room()
    events = (ServerSentEvent(text, event="spend") async for text in parts.spend_streams.listen(contract_id))
    return EventSourceResponse(
        events,
        ping=HEARTBEAT_SECONDS,
        ping_message_factory=lambda: ServerSentEvent(comment="still here"),
        sep="\n",
    )


def _check_contract(parts: Parts, contract_id: str) -> None:
    with parts.engine.begin() as connection:
        get_contract(connection, contract_id)
