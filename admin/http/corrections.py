"""`POST /v1/usage/corrections`: single events get other content or are withdrawn, with a reason, all or nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from admin.http.answers import WITHOUT_KEY, Problem, UnsupportedError, json_answer
from admin.http.doors.cloudevents import JSON, is_json, media_type
from admin.http.doors.translating import decoded
from admin.http.encodings import UsageBody
from admin.http.parts import PartsOf, bearer_of_key
from admin.http.texts import LONGEST, WITHOUT_NUL
from ledger import schema
from ledger.api_keys import ApiKey
from ledger.errors import InvalidError, NotFoundError
from ledger.intake.changes import LONGEST_REASON, Correction, begin, lock_customers
from ledger.intake.corrections import amend, counting_event, withdraw
from ledger.intake.events import UsageEvent, event_json, parse_objects

MOST: Final = 1_000
NOT_BLANK: Final = r"^[^\x00]*[^\s\x00][^\x00]*$"

Name = Annotated[str, Field(min_length=1, max_length=LONGEST, pattern=WITHOUT_NUL)]
Value = str | bool | int | Decimal
VALUE_SCHEMA: Final = {"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "boolean"}]}
PROPERTIES_SCHEMA: Final[dict[str, Any]] = {"additionalProperties": VALUE_SCHEMA}
SET_SCHEMA: Final[dict[str, Any]] = {"additionalProperties": {"anyOf": [*VALUE_SCHEMA["anyOf"], {"type": "null"}]}}


class Withdrawal(BaseModel):
    """The event does not count any more; it stays recorded."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    action: Literal["withdraw"]
    source: Name
    key: Name


class Amendment(BaseModel):
    """The event gets the content that it should have had; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    action: Literal["amend"]
    source: Name
    key: Name
    customer: Name = Field(default="", description="Its right customer, by an alias.")
    type: Name = Field(default="", description="Its right type.")
    timestamp: Name = Field(default="", description="Its right time, with the offset from UTC.")
    properties: dict[str, Value] = Field(
        default_factory=dict,
        description="All its right properties, in place of those that it has. Numbers are read exactly.",
        json_schema_extra=PROPERTIES_SCHEMA,
    )
    set: dict[str, Value | None] = Field(
        default_factory=dict,
        description="Single properties with their right values; null takes one out. Not together with `properties`.",
        json_schema_extra=SET_SCHEMA,
    )

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        given = self.model_fields_set - {"action", "source", "key"}
        if not given:
            raise ValueError("names nothing to amend; give customer, type, timestamp, properties or set")
        if {"properties", "set"} <= given:
            raise ValueError("properties and set are both there; give all properties, or set single ones")
        return self

    @property
    def given(self) -> Mapping[str, object]:
        """The fields that are to be other than they are."""
        return self.model_dump(include={"customer", "type", "timestamp", "properties"} & self.model_fields_set)

    @property
    def is_whole(self) -> bool:
        """Whether all of the event's content is given, so that it may be withdrawn at present."""
        return len(self.given) == len(("customer", "type", "timestamp", "properties"))


class Corrections(BaseModel):
    """What to correct, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    reason: str = Field(min_length=1, max_length=LONGEST_REASON, pattern=NOT_BLANK)
    corrections: list[Annotated[Amendment | Withdrawal, Field(discriminator="action")]] = Field(
        min_length=1, max_length=MOST
    )


class CorrectionAnswer(BaseModel):
    """What was changed, in numbers of events; `contracts` are those whose balances follow.

    `batch_id` is from which batch on all of it counts; null when everything was as wanted already.
    """

    batch_id: int | None
    amended: int
    withdrawn: int
    unchanged: int
    contracts: list[str]


EXAMPLE: Final = {
    "reason": "the gateway counted retries",
    "corrections": [
        {"action": "amend", "source": "gateway-eu-1", "key": "req-8c1f", "set": {"input_tokens": 950}},
        {"action": "withdraw", "source": "gateway-eu-1", "key": "req-8c20"},
    ],
}


def _schema() -> dict[str, Any]:
    """Return the body's form without references, which would have to stand among those of the whole API."""
    form = Corrections.model_json_schema()
    form["properties"]["corrections"]["items"] = {"oneOf": [one.model_json_schema() for one in (Amendment, Withdrawal)]}
    for one in form["properties"]["corrections"]["items"]["oneOf"]:
        for field in one["properties"].values():
            field.pop("default", None)
    del form["$defs"]
    return form


router = APIRouter(tags=["usage"])


@router.post(
    "/v1/usage/corrections",
    summary="Correct single events",
    openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": _schema(), "example": EXAMPLE}}}},
    responses={
        200: {"model": CorrectionAnswer, "description": "All is as wanted, from the batch on."},
        400: {"model": Problem, "description": "No JSON, or content that cannot be taken; nothing was changed."},
        **WITHOUT_KEY,
        404: {"model": Problem, "description": "An event never came, or does not count; nothing was changed."},
        409: {"model": Problem, "description": "An event stands in an archived month; nothing was changed."},
        413: {"model": Problem, "description": "More than 16 MB, encoded or decoded."},
        415: {"model": Problem, "description": "Another type than JSON, or another encoding than gzip and zstd."},
        422: {"model": Problem, "description": "Not of this form, or no reason; nothing was changed."},
        429: {"model": Problem, "description": "Too much waits here already; nothing was changed, send it again."},
        503: {"model": Problem, "description": "The database is away; nothing was changed, send it again."},
    },
)
async def correct_usage(
    request: Request, parts: PartsOf, body: UsageBody, key: Annotated[ApiKey, Depends(bearer_of_key)]
) -> Response:
    """Amend or withdraw up to 1,000 events that were accepted before, all or nothing, in one transaction.

    What came in stays recorded, with who corrected it (the API key's name), when and why. The same request again
    changes nothing and is answered with `unchanged`. What is amended is one batch and what is withdrawn another; both
    count together or not at all. An event that was withdrawn comes back when it is amended with customer, type,
    timestamp and properties. Corrections are never spooled: while the database is away they are
    answered with 503. To replace all events of a window or a customer, open a backfill with `meterbook usage backfill`,
    which shows the difference in money before it counts.
    """
    if not is_json(media_type(request) or JSON):
        raise UnsupportedError(f"content-type {media_type(request)!r} is not read here; send {JSON}")
    done = await run_in_threadpool(_correct, parts.engine, body, f"API key {key.name}")
    parts.nudges.add(done.contracts)
    return json_answer(
        {
            "batch_id": done.batch_id,
            "amended": done.amended,
            "withdrawn": done.withdrawn,
            "unchanged": done.unchanged,
            "contracts": done.contracts,
        }
    )


def _correct(engine: sa.Engine, body: bytes, by: str) -> Correction:
    wanted = _read(body)
    at = datetime.now(UTC)
    with engine.begin() as connection:
        begin(connection)
        work = _work(connection, wanted.corrections, at)
        lock_customers(connection, _customers(connection, work.aliases))
        done: list[Correction] = []
        if work.events:
            done.append(amend(connection, work.events, reason=wanted.reason, by=by, at=at))
        if work.keys:
            done.append(withdraw(connection, work.keys, reason=wanted.reason, by=by, at=at))
    return Correction(
        max((one.batch_id for one in done if one.batch_id is not None), default=None),
        sum(one.added for one in done),
        sum(one.amended for one in done),
        sum(one.withdrawn for one in done),
        sum(one.unchanged for one in done),
        tuple(sorted({contract for one in done for contract in one.contracts})),
    )


def _read(body: bytes) -> Corrections:
    try:
        return Corrections.model_validate(decoded(body))
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


# --- what the corrections mean ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Work:
    """Events as they should be, keys to withdraw, and the aliases of all that counts before or after."""

    events: Sequence[UsageEvent]
    keys: Sequence[tuple[str, str]]
    aliases: frozenset[str]


def _work(connection: sa.Connection, corrections: Sequence[Amendment | Withdrawal], at: datetime) -> _Work:
    events: list[UsageEvent] = []
    keys: list[tuple[str, str]] = []
    aliases: set[str] = set()
    for index, one in enumerate(corrections):
        counts = _counting(connection, one)
        aliases |= set() if counts is None else {counts.customer}
        if isinstance(one, Withdrawal):
            keys.append((one.source, one.key))
        else:
            events.append(_amended(index, one, counts, at))
    both = sorted({(event.source, event.key) for event in events} & {*keys})
    if both:
        source, key = both[0]
        raise InvalidError(f"the event with source {source!r} and key {key!r} is amended and withdrawn; keep one")
    return _Work(events, keys, frozenset(aliases | {event.customer for event in events}))


def _counting(connection: sa.Connection, one: Amendment | Withdrawal) -> UsageEvent | None:
    """Return what counts under a key; None where nothing does and the correction needs nothing of it."""
    try:
        return counting_event(connection, one.source, one.key)
    except NotFoundError:
        if isinstance(one, Amendment) and not one.is_whole:
            raise
        return None


def _amended(index: int, one: Amendment, counts: UsageEvent | None, at: datetime) -> UsageEvent:
    """Return an event as it should be; raise `InvalidError` naming what of it cannot be taken."""
    content: dict[str, Any] = {"source": one.source, "key": one.key, "properties": {}}
    if counts is not None:
        content = json.loads(event_json(counts), parse_float=Decimal)
    content |= one.given
    content["properties"] = {
        name: value for name, value in {**content["properties"], **one.set}.items() if value is not None
    }
    batch = parse_objects([content], received_at=at)
    for refused in batch.rejections:
        raise InvalidError(
            f"corrections.{index}, source {one.source!r} and key {one.key!r}: "
            f"{refused.field} {refused.value} {refused.reason}"
        )
    return batch.events[0][1]


def _customers(connection: sa.Connection, aliases: frozenset[str]) -> Sequence[str]:
    """Return whose aliases these are: all are locked at once, as amending and withdrawing lock one after the other."""
    alias = schema.customer_alias.c
    return connection.execute(sa.select(alias.customer_id).where(alias.alias.in_(aliases)).distinct()).scalars().all()
