"""Connecting to PostgreSQL: engines, ids and digests."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa
import uuid_utils.compat

from pricing.money import WIDE

APPLICATION_ROLE = "meterbook_app"
"""Every session of the product works as this role: it may insert into the ledger, never update or delete there."""

Json = Mapping[str, "Json"] | Sequence["Json"] | str | int | bool | Decimal | datetime | date | None


def create_engine(database_url: str, *, pool_size: int = 5) -> sa.Engine:
    """Return an engine whose sessions work in UTC as the application role.

    `database_url` is a libpq URL (postgresql://user:password@host:port/name); its user must be a member of that role.
    """
    return sa.create_engine(
        sa.make_url(database_url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        connect_args={"options": f"-c role={APPLICATION_ROLE} -c timezone=UTC"},
    )


def driver_of(connection: sa.Connection) -> psycopg.Connection[Any]:
    """Return the psycopg connection below, for what only it can do: COPY, cursors that the server keeps."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError(f"this needs a psycopg connection, not {type(driver).__name__}")
    return driver


@contextmanager
def undone(connection: sa.Connection) -> Iterator[None]:
    """Undo whatever the block does, whether it ends well or raises."""
    nested = connection.begin_nested()
    try:
        yield
    finally:
        nested.rollback()


def uuid7() -> UUID:
    """Return a time-ordered UUID (RFC 9562, version 7)."""
    return uuid_utils.compat.uuid7()


def canonical_json(value: Json) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, decimals and times as text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_as_text)


def sha256_of(value: Json) -> bytes:
    """Return the sha256 of a value's canonical JSON: the digest that tells the same content from other content."""
    return hashlib.sha256(canonical_json(value).encode()).digest()


def _as_text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value.normalize(WIDE), "f")  # the default context would cut a ledger amount to 28 digits
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")
