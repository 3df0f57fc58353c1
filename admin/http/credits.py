"""`/v1/contracts/{id}/credits`: what a contract's credits and commits have left, how it came, and changes by hand."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from admin.http.answers import WITHOUT_KEY, Documented, Problem, json_answer
from admin.http.parts import Parts, PartsOf, bearer_of_key
from admin.http.texts import LONGEST, WITHOUT_NUL, OptionalQueryText, PathText
from ledger.api_keys import ApiKey
from ledger.credit_requests import CreditRequest, WantedCredit, grant_or_ask, move_or_ask, void_or_ask
from ledger.credits import (
    MOST_ENTRIES,
    BurnDown,
    CreditBalance,
    CreditLedger,
    LotBalance,
    burn_down,
    credit_balance,
    credit_ledger,
)
from ledger.errors import NotFoundError
from ledger.lots import HIGHEST_PRIORITY, contract_of_lot

MOST_PRODUCTS = 1_000
MOST_GROUPS = 100
AMOUNT = r"^[0-9]{1,26}(\.[0-9]{1,12})?$"

router = APIRouter(tags=["credits"])

Bearer = Annotated[ApiKey, Depends(bearer_of_key)]
Text = Annotated[str, Field(min_length=1, max_length=LONGEST, pattern=WITHOUT_NUL)]
UNKNOWN: Documented = {**WITHOUT_KEY, 404: {"model": Problem, "description": "There is no such contract."}}
CHANGED: Documented = {
    200: {"model": LotBalance, "description": "The lot as it is then; its draws follow within seconds."},
    202: {"model": CreditRequest, "description": "Above the contract's limit: it waits for a second person."},
    400: {"model": Problem, "description": "What cannot be, with the remedy; nothing was changed."},
    **WITHOUT_KEY,
    404: {"model": Problem, "description": "There is no such contract or lot."},
    409: {"model": Problem, "description": "Other content under this id, or what is over, voided or invoiced."},
}


class NewCredit(BaseModel):
    """A promotional credit, with its amount as text; without an end it serves until the contract ends."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "example": {
                "credit_id": "welcome", "name": "Welcome", "amount": "50", "start": "2026-10-01T00:00:00+02:00",
                "end": "2027-01-01T00:00:00+01:00", "products": ["tokens"], "reason": "a welcome",
            }
        },
    )  # fmt: skip

    credit_id: Text
    name: Text = Field(description="What it is called on invoices.")
    amount: str = Field(pattern=AMOUNT, description="In the contract's currency, above zero.")
    start: AwareDatetime = Field(description="The first usage that it pays; where usage is cut, as at full hours.")
    end: AwareDatetime | None = Field(default=None, description="When it expires.")
    products: list[Text] = Field(
        default=[], max_length=MOST_PRODUCTS, description="Ids or tags; empty: it pays all usage."
    )
    groups: dict[Text, Text] = Field(
        default={}, max_length=MOST_GROUPS, description="Pays only usage with all these group values."
    )
    priority: int = Field(default=100, ge=0, le=HIGHEST_PRIORITY, description="Lower burns first.")
    reason: Text


class Voiding(BaseModel):
    """Why a lot is voided."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Text


class NewExpiry(BaseModel):
    """When a lot expires, and why that is changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    end: AwareDatetime
    reason: Text


@router.get(
    "/v1/contracts/{contract_id}/credits",
    summary="See a contract's credits",
    dependencies=[Depends(bearer_of_key)],
    responses={200: {"model": CreditBalance}, **UNKNOWN},
)
def get_credits(contract_id: PathText, parts: PartsOf) -> Response:
    """Return what each credit and commit was granted and became, and what those in force have left.

    It is read from what is posted in the ledger, and includes all usage that was accepted before its `watermark`.
    """
    with parts.engine.begin() as connection:
        return json_answer(credit_balance(connection, contract_id, at=datetime.now(UTC)))


@router.get(
    "/v1/contracts/{contract_id}/credits/ledger",
    summary="See how credits came and went",
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": CreditLedger},
        400: {"model": Problem, "description": "An `after` that is no entry."},
        **UNKNOWN,
    },
)
def get_credit_ledger(
    contract_id: PathText,
    parts: PartsOf,
    after: OptionalQueryText = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 100,
) -> Response:
    """Return entries (granted, drawn by day and product, expired, voided) in the order of time, with running balance.

    Give `after` of an answer to get the next page; it is null on the last one.
    """
    with parts.engine.begin() as connection:
        now = datetime.now(UTC)
        return json_answer(credit_ledger(connection, contract_id, at=now, after=after, limit=limit))


@router.get(
    "/v1/contracts/{contract_id}/credits/burn-down",
    summary="See how credits burn down",
    dependencies=[Depends(bearer_of_key)],
    responses={200: {"model": BurnDown}, **UNKNOWN},
)
def get_burn_down(contract_id: PathText, parts: PartsOf) -> Response:
    """Return the balance by day, and the day on which nothing is left at the average pace of the last full days."""
    with parts.engine.begin() as connection:
        return json_answer(burn_down(connection, contract_id, at=datetime.now(UTC)))


@router.post("/v1/contracts/{contract_id}/credits", summary="Grant a credit", responses=CHANGED)
async def post_credit(contract_id: PathText, wanted: NewCredit, parts: PartsOf, key: Bearer) -> Response:
    """Grant a promotional credit; usage of open periods that it could have paid is drawn from it.

    Its lot is CONTRACT.CREDIT. The same request again changes nothing.
    """

    def grant(connection: sa.Connection, at: datetime) -> CreditRequest | None:
        credit = WantedCredit(
            wanted.credit_id,
            wanted.name,
            Decimal(wanted.amount),
            wanted.start,
            wanted.end,
            tuple(wanted.products),
            tuple(wanted.groups.items()),
            wanted.priority,
        )
        by = f"API key {key.name}"
        return _asked(grant_or_ask(connection, contract_id, credit, reason=wanted.reason, by=by, at=at))

    return await _changed(parts, contract_id, wanted.credit_id, grant)


@router.post(
    "/v1/contracts/{contract_id}/credits/{credit_id}/void", summary="Void a credit or commit", responses=CHANGED
)
async def post_void(
    contract_id: PathText, credit_id: PathText, wanted: Voiding, parts: PartsOf, key: Bearer
) -> Response:
    """End a lot at the next full hour (or quarter): what it paid before stays paid, what is left is voided.

    What was paid for a commit is not given back. Voiding it again changes nothing.
    """

    def void(connection: sa.Connection, at: datetime) -> CreditRequest | None:
        lot_id = _lot_id(connection, contract_id, credit_id)
        return _asked(void_or_ask(connection, lot_id, reason=wanted.reason, by=f"API key {key.name}", at=at))

    return await _changed(parts, contract_id, credit_id, void)


@router.post(
    "/v1/contracts/{contract_id}/credits/{credit_id}/expiry",
    summary="Move the end of a credit or commit",
    responses=CHANGED,
)
async def post_expiry(
    contract_id: PathText, credit_id: PathText, wanted: NewExpiry, parts: PartsOf, key: Bearer
) -> Response:
    """Let a lot expire later, or earlier, but not in the past; usage of open periods is drawn anew."""

    def move(connection: sa.Connection, at: datetime) -> CreditRequest | None:
        lot_id = _lot_id(connection, contract_id, credit_id)
        by = f"API key {key.name}"
        return move_or_ask(connection, lot_id, end=wanted.end, reason=wanted.reason, by=by, at=at)

    return await _changed(parts, contract_id, credit_id, move)


def _lot_id(connection: sa.Connection, contract_id: str, credit_id: str) -> str:
    """Return the lot of a credit or commit of this contract; raise `NotFoundError`."""
    lot_id = f"{contract_id}.{credit_id}"
    if contract_of_lot(connection, lot_id) != contract_id:
        raise NotFoundError(f"contract {contract_id} has no credit or commit {credit_id}; list those that it has")
    return lot_id


async def _changed(
    parts: Parts, contract_id: str, credit_id: str, change: Callable[[sa.Connection, datetime], CreditRequest | None]
) -> Response:
    """Change a lot in a transaction of its own, let its contract draw anew, and answer with the lot as it is then.

    Where that waits for a second person, the answer is the request.
    """

    def done() -> LotBalance | CreditRequest:
        at = datetime.now(UTC)
        with parts.engine.begin() as connection:
            asked = change(connection, at)
            if asked is not None:
                return asked
            lots = {lot.lot_id: lot for lot in credit_balance(connection, contract_id, at=at).lots}
        return lots[f"{contract_id}.{credit_id}"]

    changed = await run_in_threadpool(done)
    if isinstance(changed, CreditRequest):
        return json_answer(changed, status=HTTPStatus.ACCEPTED)
    parts.nudges.add((contract_id,))
    return json_answer(changed)


def _asked(outcome: object) -> CreditRequest | None:
    return outcome if isinstance(outcome, CreditRequest) else None
