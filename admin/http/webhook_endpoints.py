"""`/v1/webhook-endpoints`: endpoints that hear of facts by webhook, Slack or e-mail, and what each has heard."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, BackgroundTasks, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from activities.webhook_targets import check_channel
from admin.errors import AwayError
from admin.http.answers import WITHOUT_KEY, Documented, Problem
from admin.http.answers import json_answer as answer
from admin.http.parts import Parts, PartsOf, bearer_of_key
from admin.http.texts import LONGEST, WITHOUT_NUL, PathText
from ledger import webhooks
from ledger.webhooks import Channel, Delivery, Endpoint

LAST = 2**63 - 1
MOST = 1_000
PATH = "/v1/webhook-endpoints/{endpoint_id}"
OF_ONE: Documented = {
    **WITHOUT_KEY,
    404: {"model": Problem, "description": "There is no such endpoint."},
    409: {"model": Problem, "description": "The endpoint was removed, or is not of that channel."},
}

router = APIRouter(tags=["webhooks"], dependencies=[Depends(bearer_of_key)])

Text = Annotated[str, Field(min_length=1, max_length=LONGEST, pattern=WITHOUT_NUL)]


class NewEndpoint(BaseModel):
    """Where facts are to go; without `kinds` all of them."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"example": {"endpoint_id": "pager", "url": "https://hooks.example.com/meterbook"}},
    )

    endpoint_id: Text
    url: str = Field(min_length=1, max_length=2000, pattern=WITHOUT_NUL, description="https://..., or mailto:...")
    kinds: list[Text] = Field(default=[], max_length=50)
    channel: Channel = "webhook"


class Replay(BaseModel):
    """From which fact on all are sent again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_sequence: int = Field(ge=1, le=LAST)


@dataclass(frozen=True, slots=True)
class EndpointWithSecret:
    """An endpoint; `secret` is that of a webhook, shown only by the request that makes it, else null."""

    endpoint: Endpoint
    secret: str | None


@dataclass(frozen=True, slots=True)
class EndpointWithCount:
    """An endpoint, and how many messages were changed."""

    endpoint: Endpoint
    messages: int


@router.get(
    "/v1/webhook-endpoints", summary="List endpoints", responses={200: {"model": list[Endpoint]}, **WITHOUT_KEY}
)
def get_endpoints(parts: PartsOf) -> Response:
    """Return the endpoints that are not removed, by id, never with their secrets or the path of a Slack URL."""
    with parts.engine.begin() as connection:
        return answer([webhooks.shown(endpoint) for endpoint in webhooks.list_endpoints(connection)])


@router.post(
    "/v1/webhook-endpoints",
    summary="Create an endpoint",
    responses={
        200: {"model": EndpointWithSecret, "description": "The endpoint, made by this request or by the same before."},
        400: {"model": Problem, "description": "An id or a URL that an endpoint may not have."},
        **WITHOUT_KEY,
        409: {"model": Problem, "description": "The id is another's, the name leads nowhere, or no mail can be sent."},
    },
)
def post_endpoint(wanted: NewEndpoint, parts: PartsOf, later: BackgroundTasks) -> Response:
    """Let an endpoint hear of what happens from now on; the same request again changes nothing and shows no secret."""
    check_channel(wanted.channel, wanted.url, parts.settings)
    endpoint_id, allow_private = wanted.endpoint_id, parts.settings.meterbook_webhook_allow_private
    at, secret = datetime.now(UTC), None
    with parts.engine.begin() as connection:
        if wanted.channel == "webhook":
            secret = webhooks.create_endpoint(
                connection, endpoint_id, wanted.url, wanted.kinds, allow_private=allow_private, at=at
            )
        else:
            webhooks.create_unsigned_endpoint(
                connection,
                endpoint_id,
                wanted.url,
                wanted.kinds,
                channel=wanted.channel,
                allow_private=allow_private,
                at=at,
            )
        made = webhooks.shown(webhooks.get_endpoint(connection, endpoint_id))
    return _waking(parts, later, endpoint_id, EndpointWithSecret(made, secret))


@router.post(PATH + "/pause", summary="Pause an endpoint", responses={200: {"model": Endpoint}, **OF_ONE})
def post_pause(endpoint_id: PathText, parts: PartsOf) -> Response:
    """Send nothing until it is resumed; what happens meanwhile is kept for it."""
    with parts.engine.begin() as connection:
        webhooks.pause_endpoint(connection, endpoint_id)
        return answer(webhooks.shown(webhooks.get_endpoint(connection, endpoint_id)))


@router.post(PATH + "/resume", summary="Resume an endpoint", responses={200: {"model": EndpointWithCount}, **OF_ONE})
def post_resume(endpoint_id: PathText, parts: PartsOf, later: BackgroundTasks) -> Response:
    """Send again, and at once the `messages` that wait."""
    with parts.engine.begin() as connection:
        waiting = webhooks.resume_endpoint(connection, endpoint_id, at=datetime.now(UTC))
        found = webhooks.shown(webhooks.get_endpoint(connection, endpoint_id))
    return _waking(parts, later, endpoint_id, EndpointWithCount(found, waiting))


@router.post(PATH + "/remove", summary="Remove an endpoint", responses={200: {"model": EndpointWithCount}, **OF_ONE})
def post_remove(endpoint_id: PathText, parts: PartsOf, later: BackgroundTasks) -> Response:
    """Remove it for good: the `messages` that wait are dead, and its id is not given again."""
    with parts.engine.begin() as connection:
        dead = webhooks.remove_endpoint(connection, endpoint_id)
        found = webhooks.shown(webhooks.get_endpoint(connection, endpoint_id))
    return _waking(parts, later, endpoint_id, EndpointWithCount(found, dead))


@router.post(PATH + "/rotate", summary="Change a secret", responses={200: {"model": EndpointWithSecret}, **OF_ONE})
def post_rotate(endpoint_id: PathText, parts: PartsOf) -> Response:
    """Return another secret, this once; for 24 hours messages are signed with the old one too."""
    with parts.engine.begin() as connection:
        secret = webhooks.rotate_secret(connection, endpoint_id, at=datetime.now(UTC))
        return answer(EndpointWithSecret(webhooks.get_endpoint(connection, endpoint_id), secret))


@router.post(PATH + "/replay", summary="Send facts again", responses={200: {"model": EndpointWithCount}, **OF_ONE})
def post_replay(endpoint_id: PathText, wanted: Replay, parts: PartsOf, later: BackgroundTasks) -> Response:
    """Send every fact from a sequence number on again, whatever became of it, under the same message ids."""
    with parts.engine.begin() as connection:
        count = webhooks.replay(connection, endpoint_id, from_sequence=wanted.from_sequence, at=datetime.now(UTC))
        found = webhooks.shown(webhooks.get_endpoint(connection, endpoint_id))
    return _waking(parts, later, endpoint_id, EndpointWithCount(found, count))


@router.get(
    PATH + "/deliveries",
    summary="See what an endpoint heard",
    responses={
        200: {"model": list[Delivery]},
        **WITHOUT_KEY,
        404: {"model": Problem, "description": "There is no such endpoint."},
    },
)
def get_deliveries(
    endpoint_id: PathText,
    parts: PartsOf,
    state: Literal["pending", "delivered", "dead"] | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
) -> Response:
    """Return what it heard or is to hear, the latest first, with what the last attempt came to."""
    with parts.engine.begin() as connection:
        return answer(webhooks.list_deliveries(connection, endpoint_id, state=state, limit=limit))


def _waking(parts: Parts, later: BackgroundTasks, endpoint_id: str, value: object) -> Response:
    """Answer, and then have the endpoint's delivery look at once."""
    later.add_task(_wake, parts, endpoint_id)
    response = answer(value)
    response.background = later
    return response


async def _wake(parts: Parts, endpoint_id: str) -> None:
    with suppress(AwayError):  # the sweep makes up for it when Temporal is back
        await parts.durable.wake_webhook(endpoint_id)
