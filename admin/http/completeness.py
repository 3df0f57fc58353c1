"""`POST /v1/usage/declared`: what sources say they made; `GET /v1/usage/completeness`: what of it came."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from admin.http.answers import Problem, json_answer
from admin.http.parts import PartsOf, bearer_of_key
from admin.http.texts import WITHOUT_NUL, OptionalQueryText
from ledger.api_keys import ApiKey
from ledger.completeness import HOUR, Completeness, Declaration, completeness, declare_usage

MOST = 10_000
SHOWN = timedelta(days=7)

router = APIRouter(tags=["usage"])

PROBLEMS: dict[int | str, dict[str, object]] = {
    400: {"model": Problem, "description": "An hour that is none, or a span that is none."},
    401: {"model": Problem, "description": "No API key that works."},
}


class Declared(BaseModel):
    """How many events a source made in one hour of usage, by the time that the events themselves bear."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(min_length=1, max_length=256, pattern=WITHOUT_NUL)
    hour: AwareDatetime = Field(examples=["2026-10-05T12:00:00Z"])
    events: int = Field(ge=0, le=2**62)


class DeclaredAnswer(BaseModel):
    """How many of the values were new or other than before."""

    changed: int


@router.post(
    "/v1/usage/declared", summary="Declare what sources made", responses={200: {"model": DeclaredAnswer}, **PROBLEMS}
)
def declare(
    declared: Annotated[list[Declared], Field(max_length=MOST)],
    parts: PartsOf,
    key: Annotated[ApiKey, Depends(bearer_of_key)],
) -> Response:
    """Record how many events sources made, by hour of usage; another value for an hour replaces the one before."""
    values = [Declaration(one.source, one.hour, one.events) for one in declared]
    with parts.engine.begin() as connection:
        changed = declare_usage(connection, values, by=f"API key {key.name}", at=datetime.now(UTC))
    return json_answer({"changed": changed})


@router.get(
    "/v1/usage/completeness",
    summary="See whether all usage came",
    dependencies=[Depends(bearer_of_key)],
    responses={200: {"model": Completeness}, **PROBLEMS},
)
def get_completeness(
    parts: PartsOf,
    source: OptionalQueryText = None,
    start: AwareDatetime | None = None,
    end: AwareDatetime | None = None,
) -> Response:
    """Return by source and hour what was accepted, rated, unmatched and withdrawn, beside what was declared.

    Without `start` and `end` it is that of the last week.
    """
    now = datetime.now(UTC)
    until = end or now.replace(minute=0, second=0, microsecond=0) + HOUR
    with parts.engine.begin() as connection:
        return json_answer(completeness(connection, start=start or until - SHOWN, end=until, now=now, source=source))
