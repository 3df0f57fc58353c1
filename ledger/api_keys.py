"""API keys: who may speak to the HTTP API. Only the sha256 of a secret is kept; the secret is shown once."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from ledger import schema
from ledger.checks import check_text
from ledger.database import uuid7
from ledger.errors import NotFoundError

PREFIX = "mbk_"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is listed: never with its secret. `revoked_at` is None while it works."""

    api_key_id: str
    name: str
    created_at: datetime
    revoked_at: datetime | None


def create_api_key(connection: sa.Connection, name: str) -> tuple[ApiKey, str]:
    """Make a key named for its bearer, and return it with its secret, which cannot be had again."""
    check_text("name", name)
    secret = PREFIX + secrets.token_urlsafe(32)
    insert = schema.api_key.insert().values(api_key_id=f"key_{uuid7().hex}", name=name, secret_sha256=_digest(secret))
    return ApiKey(*connection.execute(insert.returning(*_COLUMNS)).one()), secret


def check_api_key(connection: sa.Connection, secret: str) -> ApiKey | None:
    """Return the key that a secret belongs to; None when there is none or it was revoked.

    The lookup is by digest, so its duration tells nothing about the secret.
    """
    found = sa.select(*_COLUMNS).where(
        schema.api_key.c.secret_sha256 == _digest(secret), schema.api_key.c.revoked_at.is_(None)
    )
    row = connection.execute(found).one_or_none()
    return None if row is None else ApiKey(*row)


def revoke_api_key(connection: sa.Connection, api_key_id: str, *, at: datetime) -> ApiKey:
    """Make a key useless from now on; a revoked key keeps its first time of revocation. Raises `NotFoundError`."""
    update = (
        schema.api_key.update()
        .where(schema.api_key.c.api_key_id == api_key_id)
        .values(revoked_at=sa.func.coalesce(schema.api_key.c.revoked_at, at))
    )
    row = connection.execute(update.returning(*_COLUMNS)).one_or_none()
    if row is None:
        raise NotFoundError(f"API key {api_key_id} does not exist; list those that do")
    return ApiKey(*row)


def list_api_keys(connection: sa.Connection) -> tuple[ApiKey, ...]:
    """Return all keys, oldest first."""
    return tuple(ApiKey(*row) for row in connection.execute(sa.select(*_COLUMNS).order_by(schema.api_key.c.created_at)))


_COLUMNS = (
    schema.api_key.c.api_key_id,
    schema.api_key.c.name,
    schema.api_key.c.created_at,
    schema.api_key.c.revoked_at,
)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
