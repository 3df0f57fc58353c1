"""Conflicts: events whose key came before with other content, and a person's decision which of the two counts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

import sqlalchemy as sa

from ledger import schema
from ledger.checks import check_aware, check_text
from ledger.database import Json
from ledger.errors import NotFoundError, StateError
from ledger.intake.changes import LONGEST_REASON, Act, Correction, begin, carry_out
from ledger.intake.events import properties_of

CONFLICT = schema.usage_conflict.c

Choice = Literal["old", "new"]
_RESOLUTIONS: Mapping[Choice, str] = {"old": "kept_old", "new": "took_new"}


@dataclass(frozen=True, slots=True)
class OpenConflict:
    """An event whose key was accepted with other content before: `sent` came later and does not count.

    `counting` is what counts under the key: None when it was withdrawn, or stands in an archived month.
    """

    conflict_id: int
    source: str
    key: str
    sent: Mapping[str, Json]
    counting: Mapping[str, Json] | None
    received_at: datetime


def list_open_conflicts(connection: sa.Connection, *, limit: int = 100) -> tuple[OpenConflict, ...]:
    """Return the conflicts that nobody has decided, oldest first, each with what counts in its place."""
    return tuple(
        OpenConflict(
            row.conflict_id,
            row.source,
            row.key,
            json.loads(row.event, parse_float=Decimal),
            None if row.type is None else _content(row),
            row.received_at,
        )
        for row in connection.execute(_OPEN, {"limit": limit})
    )


def resolve(
    connection: sa.Connection, conflict_id: int, take: Choice, *, reason: str, by: str, at: datetime
) -> Correction | None:
    """Decide a conflict: `old` leaves what counts, `new` amends it to what was sent later, and returns the correction.

    The same decision again is harmless. Raises `NotFoundError`, `StateError` when it was decided otherwise or the event
    stands in an archived month, `InvalidError` when a metric cannot measure what was sent.
    """
    check_text("reason", reason, longest=LONGEST_REASON)
    check_text("by", by)
    check_aware("at", at)
    row = connection.execute(
        sa.select(CONFLICT.source, CONFLICT.key, CONFLICT.resolution, CONFLICT.resolved_by)
        .where(CONFLICT.conflict_id == conflict_id)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFoundError(
            f"conflict {conflict_id} does not exist; list those that are open with `meterbook usage conflicts list`"
        )
    if row.resolution == _RESOLUTIONS[take]:
        return None
    if row.resolution is not None:
        raise StateError(
            f"conflict {conflict_id} was decided by {row.resolved_by} already ({row.resolution}); "
            "amend the event to change what counts"
        )
    done = None
    if take == "new":
        act = Act("conflict", f"{row.source} {row.key}", reason, by, at)
        begin(connection)
        connection.execute(_WANT, {"conflict_id": conflict_id})
        done = carry_out(connection, act)
    connection.execute(
        schema.usage_conflict.update()
        .where(CONFLICT.conflict_id == conflict_id)
        .values(resolution=_RESOLUTIONS[take], resolved_at=at, resolved_by=by, reason=reason)
    )
    return done


def _content(row: sa.Row[tuple[UUID, str, str, datetime, str]]) -> Mapping[str, Json]:
    return {
        "source": row.source,
        "key": row.key,
        "customer": row.customer_alias,
        "type": row.type,
        "timestamp": row.ts,
        "properties": properties_of(row.properties),
    }


_OPEN = sa.text("""
select f.conflict_id, f.source, f.key, f.event::text as event, f.received_at, e.customer_alias, e.type, e.ts,
    e.properties::text as properties
from usage_conflict f
join usage_key k on k.key_hash = f.key_hash
left join lateral (
    select c.ts from usage_correction c where c.key_hash = f.key_hash order by c.revision desc limit 1
) moved on true
left join usage_event e on e.key_hash = f.key_hash and e.ended_batch_id is null and e.ts = coalesce(moved.ts, k.ts)
where f.resolution is null
order by f.conflict_id limit :limit
""")

_WANT = sa.text("""
insert into usage_wanted (key_hash, payload_hash, source, key, ts, customer_alias, type, properties)
select key_hash, payload_hash, source, key, (event ->> 'timestamp')::timestamptz, event ->> 'customer',
    event ->> 'type', event -> 'properties'
from usage_conflict where conflict_id = :conflict_id
""")
