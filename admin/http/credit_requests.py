"""`/v1/credit-requests`: what is above a contract's limit for credits by hand, and waits for a second person."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from admin.http.answers import WITHOUT_KEY, Documented, Problem, json_answer
from admin.http.parts import Parts, PartsOf, bearer_of_key
from admin.http.texts import LONGEST, WITHOUT_NUL, OptionalQueryText, PathText
from ledger.api_keys import ApiKey
from ledger.credit_requests import (
    MOST_REQUESTS,
    CreditRequest,
    approve_request,
    get_request,
    list_requests,
    reject_request,
)

router = APIRouter(tags=["credits"])

Bearer = Annotated[ApiKey, Depends(bearer_of_key)]
UNKNOWN: Documented = {**WITHOUT_KEY, 404: {"model": Problem, "description": "There is no such contract or request."}}
DECIDED: Documented = {
    200: {"model": CreditRequest, "description": "The request with its decision."},
    400: {"model": Problem, "description": "What it asks for cannot be done now; it stays open."},
    **UNKNOWN,
    409: {"model": Problem, "description": "Decided otherwise, asked for with this key, or not to be done now."},
}


class Deciding(BaseModel):
    """Why a request is approved or rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field(min_length=1, max_length=LONGEST, pattern=WITHOUT_NUL)


@dataclass(frozen=True, slots=True)
class CreditRequests:
    """Requests, the latest first."""

    requests: tuple[CreditRequest, ...]


@router.get(
    "/v1/credit-requests",
    summary="See requests about credits",
    dependencies=[Depends(bearer_of_key)],
    responses={200: {"model": CreditRequests}, **UNKNOWN},
)
def get_credit_requests(
    parts: PartsOf,
    contract: OptionalQueryText = None,
    open_only: Annotated[bool, Query(alias="open", description="Only those that nobody has decided on.")] = False,
    limit: Annotated[int, Query(ge=1, le=MOST_REQUESTS)] = 100,
) -> Response:
    """Return what was asked for and waits for a second person, or was decided, of a contract or of all."""
    with parts.engine.begin() as connection:
        found = list_requests(connection, contract_id=contract, only_open=open_only, limit=limit)
        return json_answer(CreditRequests(found))


@router.get(
    "/v1/credit-requests/{request_id}",
    summary="See a request about credits",
    dependencies=[Depends(bearer_of_key)],
    responses={200: {"model": CreditRequest}, **UNKNOWN},
)
def get_credit_request(request_id: PathText, parts: PartsOf) -> Response:
    """Return a request, and what was decided on it."""
    with parts.engine.begin() as connection:
        return json_answer(get_request(connection, request_id))


@router.post("/v1/credit-requests/{request_id}/approve", summary="Approve a request", responses=DECIDED)
async def post_approve(request_id: PathText, wanted: Deciding, parts: PartsOf, key: Bearer) -> Response:
    """Do what was asked for, with the checks of now; another key, or a person at the command, must have asked.

    An approved request again changes nothing.
    """
    return await _decided(parts, approve_request, request_id, wanted, key)


@router.post("/v1/credit-requests/{request_id}/reject", summary="Reject a request", responses=DECIDED)
async def post_reject(request_id: PathText, wanted: Deciding, parts: PartsOf, key: Bearer) -> Response:
    """Decide that what was asked for is not done. A rejected request again changes nothing."""
    return await _decided(parts, reject_request, request_id, wanted, key)


async def _decided(
    parts: Parts, decide: Callable[..., CreditRequest], request_id: str, wanted: Deciding, key: ApiKey
) -> Response:
    """Decide in a transaction of its own, and let the contract draw anew."""

    def done() -> CreditRequest:
        with parts.engine.begin() as connection:
            by = f"API key {key.name}"
            return decide(connection, request_id, reason=wanted.reason, by=by, at=datetime.now(UTC))

    request = await run_in_threadpool(done)
    parts.nudges.add((request.contract_id,))
    return json_answer(request)
