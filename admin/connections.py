"""What the doors need from outside: settings and the database, each failure one sentence with its remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from activities.settings import Settings, load_settings
from admin.errors import AwayError, DoorError
from ledger.database import create_engine

CONNECT_SECONDS = 5
UNDEFINED_TABLE = "42P01"
AWAY = (OperationalError, InterfaceError, PoolTimeoutError)
"""What SQLAlchemy raises when the server is away or broke off: nothing was committed, asking again is safe."""


@cache
def settings() -> Settings:
    """Return this process's settings; raise `DoorError` naming what is missing."""
    try:
        return load_settings()
    except ValidationError as error:
        names = ", ".join(".".join(str(part) for part in problem["loc"]).upper() for problem in error.errors())
        raise DoorError(
            f"the settings {names} are missing or wrong; start the local stack with `meterbook up`, "
            "or set these environment variables to use your own servers"
        ) from error


def database_engine(chosen: Settings, *, pool_size: int = 5) -> sa.Engine:
    """Return an engine that gives up connecting after five seconds."""
    url = sa.make_url(chosen.database_url)
    if "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": str(CONNECT_SECONDS)})
    return create_engine(url.render_as_string(hide_password=False), pool_size=pool_size)


@contextmanager
def books() -> Iterator[sa.Connection]:
    """Open the books for one transaction: committed when the block ends, rolled back when it raises.

    Raises `AwayError` when PostgreSQL does not answer, `DoorError` when the database was never migrated.
    """
    engine = database_engine(settings(), pool_size=1)
    try:
        with explained(settings()), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def explained(chosen: Settings) -> Iterator[None]:
    """Turn the failure of a connection within the block into one sentence with its remedy."""
    try:
        yield
    except AWAY as error:
        raise AwayError(
            f"PostgreSQL at {_address(chosen)} does not answer ({_first_line(error)})",
            "start it with `meterbook up` or correct DATABASE_URL, then repeat: nothing was half done",
        ) from error
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == UNDEFINED_TABLE:
            raise DoorError(
                f"the database {_address(chosen)} has no Meterbook tables, or old ones; "
                "run `python -m ledger.migrations`"
            ) from error
        raise


def _address(chosen: Settings) -> str:
    url = sa.make_url(chosen.database_url)
    return f"{url.host}:{url.port or 5432}/{url.database}"


def _first_line(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return str(cause).strip().partition("\n")[0].rstrip(":. ")
