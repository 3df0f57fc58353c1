"""What the requests of one server share, and who may ask."""

from dataclasses import dataclass
from typing import Annotated

import sqlalchemy as sa
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from activities.settings import Settings
from admin.connections import AWAY
from admin.durable import Durable
from admin.gathering import Gathering
from admin.http.backpressure import Room
from admin.http.fact_streams import FactStreams
from admin.http.spend_streams import SpendStreams
from admin.known_keys import KnownKeys
from admin.nudges import Nudges
from admin.spooling import Spooling
from ledger.api_keys import ApiKey, check_api_key


class UnauthorisedError(Exception):
    """The request bears no key, or one that does not work."""


class UncheckedError(Exception):
    """The request bears a key that cannot be checked while the database is away."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The settings, the database, Temporal, and what waits in one server: nudges, events, bodies, the spool.

    `spooling` is None where no folder is set for it: then usage is refused while the database is away.
    """

    settings: Settings
    engine: sa.Engine
    durable: Durable
    nudges: Nudges
    gathering: Gathering
    room: Room
    known_keys: KnownKeys
    spooling: Spooling | None
    spend_streams: SpendStreams
    fact_streams: FactStreams


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

    While the database is away, keys that worked within the last day are believed, for what goes to the spool then; a
    revocation counts again when the database is back. Raises `UnauthorisedError`, and `UncheckedError` for other keys.
    """
    secret = await presented_key(credentials)
    if parts.spooling is None:
        key = await run_in_threadpool(_looked_up, parts.engine, secret)
    else:
        key = await _believed(parts, parts.spooling, secret)
    return _known(key)


async def presented_key(credentials: Credentials) -> str:
    """Return the secret that a request bears, for those who check it by `require_key` in the transaction of their work.

    Raises `UnauthorisedError` where there is none.
    """
    if credentials is None:
        raise UnauthorisedError("this needs an API key; send the header `Authorization: Bearer mbk_...`")
    return credentials.credentials


def require_key(connection: sa.Connection, secret: str) -> ApiKey:
    """Return the key of a secret; raise `UnauthorisedError` where it is not known or was revoked."""
    return _known(check_api_key(connection, secret))


def _known(key: ApiKey | None) -> ApiKey:
    if key is None:
        raise UnauthorisedError(
            "this API key is not known or was revoked; make one with `meterbook apikey create NAME`"
        )
    return key


async def _believed(parts: Parts, spooling: Spooling, secret: str) -> ApiKey | None:
    """Look a key up, or believe what was known of it when the database is away."""
    if not spooling.is_away:
        try:
            key = await run_in_threadpool(_looked_up, parts.engine, secret)
        except AWAY as error:
            spooling.begin(error)
        else:
            parts.known_keys.learn(secret, key)
            return key
    known = parts.known_keys.find(secret)
    if known is None:
        raise UncheckedError(
            "the database is away and this API key was not seen within the last day; send again when it is back"
        )
    return known


def _looked_up(engine: sa.Engine, secret: str) -> ApiKey | None:
    with engine.begin() as connection:
        return check_api_key(connection, secret)
