"""What the requests of one server share, and who may ask."""

from dataclasses import dataclass
from typing import Annotated

import sqlalchemy as sa
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from activities.settings import Settings
from admin.durable import Durable
from admin.gathering import Gathering
from admin.http.backpressure import Room
from admin.nudges import Nudges
from ledger.api_keys import ApiKey, check_api_key


class UnauthorisedError(Exception):
    """The request bears no key, or one that does not work."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The settings, the database, Temporal, and what waits in one server: nudges, events, bodies."""

    settings: Settings
    engine: sa.Engine
    durable: Durable
    nudges: Nudges
    gathering: Gathering
    room: Room


def parts_of(request: Request) -> Parts:
    """Return what the server's lifespan has set up."""
    parts = request.app.state.parts
    if not isinstance(parts, Parts):
        raise TypeError("the application was called outside its lifespan")
    return parts


PartsOf = Annotated[Parts, Depends(parts_of)]

BEARER = HTTPBearer(auto_error=False, description="An API key: `meterbook apikey create NAME` makes one.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]


async def bearer_of_key(credentials: Credentials, parts: PartsOf) -> ApiKey:
    """Return the key that a request bears, looked up each time, so that a revoked one fails at once.

    Raises `UnauthorisedError`.
    """
    if credentials is None:
        raise UnauthorisedError("this needs an API key; send the header `Authorization: Bearer mbk_...`")

    def check() -> ApiKey | None:
        with parts.engine.begin() as connection:
            return check_api_key(connection, credentials.credentials)

    key = await run_in_threadpool(check)
    if key is None:
        raise UnauthorisedError(
            "this API key is not known or was revoked; make one with `meterbook apikey create NAME`"
        )
    return key
