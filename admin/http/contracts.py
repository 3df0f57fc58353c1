"""`GET /v1/contracts/{id}/spend`: what a contract has spent so far, as posted."""

from fastapi import APIRouter, Depends, Response

from admin.http.answers import Problem, json_answer
from admin.http.parts import PartsOf, bearer_of_key
from ledger.spend import Spend, spend

router = APIRouter(tags=["contracts"])


@router.get(
    "/v1/contracts/{contract_id}/spend",
    summary="See a contract's live spend",
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": Spend},
        401: {"model": Problem, "description": "No API key that works."},
        404: {"model": Problem, "description": "There is no such contract."},
    },
)
def get_spend(contract_id: str, parts: PartsOf) -> Response:
    """Return the spend of the current period by product, and what is left of prepaid amounts.

    It is read from what is posted in the ledger, so it cannot disagree with the books. Decimals are text.
    """
    with parts.engine.begin() as connection:
        return json_answer(spend(connection, contract_id))
