"""`/v1/gate` and `/v1/holds`: may a customer use a feature now, and money or units reserved before work is done."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from admin.http.answers import WITHOUT_KEY, Documented, Problem, UnsupportedError, json_answer
from admin.http.doors.cloudevents import JSON, is_json, media_type
from admin.http.doors.translating import decoded
from admin.http.encodings import UsageBody
from admin.http.parts import Parts, PartsOf, bearer_of_key, presented_key, require_key
from admin.http.texts import LONGEST, WITHOUT_NUL, PathText
from admin.http.usage import EVENT, EVENT_SCHEMA
from ledger.errors import InvalidError
from ledger.gates import MOST_CHECKS, GateAnswer, GateRequest, check_gate, check_gates
from ledger.holds import HOLD_ID, Capture, Hold, capture, get_hold, hold, release
from ledger.intake.events import UsageEvent, parse_objects

FIGURE: Final = r"^[0-9]{1,26}(\.[0-9]{1,12})?$"

Name = Annotated[str, Field(min_length=1, max_length=LONGEST, pattern=WITHOUT_NUL)]
Figure = Annotated[str, Field(pattern=FIGURE)]
UNKNOWN: Documented = {**WITHOUT_KEY, 404: {"model": Problem, "description": "There is no such hold."}}
AWAY: Documented = {503: {"model": Problem, "description": "The database is away; nothing was done, ask again."}}

router = APIRouter(tags=["gates"])

PresentedKey = Annotated[str, Depends(presented_key)]
"""Checked in the transaction that answers, because these routes are asked before each piece of work."""


class Check(BaseModel):
    """A customer and a feature; the estimate, in units or in money and as text, may be left out."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"example": {"customer_id": "acme", "feature_id": "writing", "units": "2000"}},
    )

    customer_id: Name
    feature_id: Name
    units: Figure | None = Field(default=None, description="Above zero, of the feature's products.")
    amount: Figure | None = Field(default=None, description="Above zero, in the contract's currency.")

    @property
    def request(self) -> GateRequest:
        """The request as the ledger reads it."""
        return GateRequest(self.customer_id, self.feature_id, _figure(self.units), _figure(self.amount))


class Checks(BaseModel):
    """Up to 100 checks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checks: list[Check] = Field(min_length=1, max_length=MOST_CHECKS)


class GateAnswers(BaseModel):
    """The answers in the order of the checks."""

    answers: list[GateAnswer]


class NewHold(BaseModel):
    """What to reserve, and until when: exactly one of `units` and `amount`, above zero and as text."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "example": {
                "hold_id": "req-8c1f", "customer_id": "acme", "feature_id": "writing", "amount": "0.60",
                "expires_at": "2026-10-05T12:35:00Z",
            }
        },
    )  # fmt: skip

    hold_id: str = Field(pattern=f"^{HOLD_ID}$", description="Your own id; the same hold again is harmless.")
    customer_id: Name
    feature_id: Name
    units: Figure | None = None
    amount: Figure | None = None
    expires_at: AwareDatetime


class CaptureBody(BaseModel):
    """The event of the usage, and what to do when it uses more than is held."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event: dict[str, Any]
    excess: Literal["refuse", "take"] = "refuse"


CAPTURE_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["event"],
                    "properties": {
                        "event": EVENT_SCHEMA,
                        "excess": {
                            "type": "string",
                            "enum": ["refuse", "take"],
                            "default": "refuse",
                            "description": "Where the event uses more than is held: refuse it, or take it as usage.",
                        },
                    },
                },
                "example": {"event": EVENT, "excess": "take"},
            }
        },
    }
}


@router.post(
    "/v1/gate",
    summary="Ask whether a feature may be used",
    responses={
        200: {"model": GateAnswer},
        400: {"model": Problem, "description": "An estimate that is not above zero."},
        **WITHOUT_KEY,
        **AWAY,
    },
)
async def post_gate(check: Check, parts: PartsOf, secret: PresentedKey) -> Response:
    """Answer whether a customer may use a feature now, what is left, and why not where it may not.

    `left_amount` and `left_units` are less what is held, and include all usage accepted before `watermark`; keep the
    answer until `keep_until` at most. Without an estimate something must be left. A gate reserves nothing: two that are
    asked at once may both be allowed the last unit; make a hold where that matters.
    """
    return json_answer(await run_in_threadpool(_check, parts, secret, check.request))


@router.post(
    "/v1/gates",
    summary="Ask for up to 100 features at once",
    responses={
        200: {"model": GateAnswers},
        400: {"model": Problem, "description": "An estimate that is not above zero."},
        **WITHOUT_KEY,
        **AWAY,
    },
)
async def post_gates(body: Checks, parts: PartsOf, secret: PresentedKey) -> Response:
    """Answer each check as `POST /v1/gate` does, in their order."""
    requests = [check.request for check in body.checks]
    return json_answer({"answers": await run_in_threadpool(_check_all, parts, secret, requests)})


@router.post(
    "/v1/holds",
    summary="Reserve money or units",
    responses={
        200: {"model": Hold, "description": "It is held; or was before, and this is how it stands."},
        400: {"model": Problem, "description": "What cannot be held so, with the remedy."},
        **WITHOUT_KEY,
        409: {"model": Problem, "description": "Less is left, no gate is open, or the id has other content."},
        **AWAY,
    },
)
async def post_hold(wanted: NewHold, parts: PartsOf, secret: PresentedKey) -> Response:
    """Reserve an estimate until it is captured with its usage, released, or expires by itself.

    Holds of all features that draw from one balance never exceed it together. The same hold again is answered with the
    hold as it stands.
    """
    return json_answer(await run_in_threadpool(_hold, parts, secret, wanted))


@router.get(
    "/v1/holds/{hold_id}",
    summary="See a hold",
    dependencies=[Depends(bearer_of_key)],
    responses={200: {"model": Hold}, **UNKNOWN, **AWAY},
)
async def read_hold(hold_id: PathText, parts: PartsOf) -> Response:
    """Return a hold as it stands; one in state `held` whose `expires_at` has passed holds nothing any more."""
    return json_answer(await run_in_threadpool(_read, parts, hold_id))


@router.post(
    "/v1/holds/{hold_id}/capture",
    summary="Capture a hold with its usage",
    dependencies=[Depends(bearer_of_key)],
    openapi_extra=CAPTURE_BODY,
    responses={
        200: {"model": Capture, "description": "The usage is taken in, and counts as held until it is accrued."},
        400: {"model": Problem, "description": "An event that cannot be taken, or is no usage of the feature."},
        **UNKNOWN,
        409: {"model": Problem, "description": "Captured with another event, released, expired, or too little held."},
        413: {"model": Problem, "description": "More than 16 MB, encoded or decoded."},
        415: {"model": Problem, "description": "Another type than JSON, or another encoding than gzip and zstd."},
        422: {"model": Problem, "description": "Not of this form."},
        429: {"model": Problem, "description": "Too much waits here already; nothing was done, ask again."},
        **AWAY,
    },
)
async def post_capture(hold_id: PathText, request: Request, parts: PartsOf, body: UsageBody) -> Response:
    """Take the usage in and settle the hold with it, in one transaction; what was held above it is given back.

    The event is the one that `POST /v1/usage` takes, and counts once however often it is sent. The same capture again
    is answered with `duplicate`.
    """
    if not is_json(media_type(request) or JSON):
        raise UnsupportedError(f"content-type {media_type(request)!r} is not read here; send {JSON}")
    done = await run_in_threadpool(_capture, parts, hold_id, body)
    parts.nudges.add(done.contracts)
    return json_answer(done)


@router.post(
    "/v1/holds/{hold_id}/release",
    summary="Release a hold",
    dependencies=[Depends(bearer_of_key)],
    responses={
        200: {"model": Hold, "description": "Nothing is held by it any more."},
        **UNKNOWN,
        409: {"model": Problem, "description": "It is captured already."},
        **AWAY,
    },
)
async def post_release(hold_id: PathText, parts: PartsOf) -> Response:
    """Give back what is held; the same again is harmless."""
    return json_answer(await run_in_threadpool(_release, parts, hold_id))


# --- in the database ----------------------------------------------------------------------------------------------


def _check(parts: Parts, secret: str, request: GateRequest) -> GateAnswer:
    with parts.engine.begin() as connection:
        require_key(connection, secret)
        return check_gate(
            connection,
            request.customer_id,
            request.feature_id,
            units=request.units,
            amount=request.amount,
            at=datetime.now(UTC),
        )


def _check_all(parts: Parts, secret: str, requests: list[GateRequest]) -> tuple[GateAnswer, ...]:
    with parts.engine.begin() as connection:
        require_key(connection, secret)
        return check_gates(connection, requests, at=datetime.now(UTC))


def _hold(parts: Parts, secret: str, wanted: NewHold) -> Hold:
    with parts.engine.begin() as connection:
        require_key(connection, secret)
        return hold(
            connection,
            wanted.hold_id,
            wanted.customer_id,
            wanted.feature_id,
            units=_figure(wanted.units),
            amount=_figure(wanted.amount),
            expires_at=wanted.expires_at,
            at=datetime.now(UTC),
        )


def _read(parts: Parts, hold_id: str) -> Hold:
    with parts.engine.begin() as connection:
        return get_hold(connection, hold_id)


def _release(parts: Parts, hold_id: str) -> Hold:
    with parts.engine.begin() as connection:
        return release(connection, hold_id, at=datetime.now(UTC))


def _capture(parts: Parts, hold_id: str, body: bytes) -> Capture:
    try:
        asked = CaptureBody.model_validate(decoded(body))
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
    now = datetime.now(UTC)
    event, excess = _event(asked.event, now), asked.excess
    with parts.engine.begin() as connection:
        return capture(connection, hold_id, event, at=now, excess=excess)


def _event(content: dict[str, Any], at: datetime) -> UsageEvent:
    batch = parse_objects([content], received_at=at)
    for refused in batch.rejections:
        raise InvalidError(f"event: {refused.field} {refused.value} {refused.reason}")
    return batch.events[0][1]


def _figure(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
