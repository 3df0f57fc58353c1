"""Corrections: single events that were accepted get other content or are withdrawn, by a person and with a reason.

What came in stays as it came, so that every state of the past can be read again; an event that a correction takes the
place of ends with the batch of the correction.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa

from ledger.errors import InvalidError, NotFoundError
from ledger.intake.changes import Act, Correction, Kind, begin, carry_out
from ledger.intake.events import UsageEvent, event_json, key_hash, payload_hash, properties_of

__all__ = ["Correction", "amend", "counting_event", "withdraw"]

SHOWN_KEYS = 3


def amend(
    connection: sa.Connection, events: Sequence[UsageEvent], *, reason: str, by: str, at: datetime, kind: Kind = "amend"
) -> Correction:
    """Give events that were accepted before the content that they should have had; a withdrawn one comes back.

    All or nothing; the same content as they have is harmless. Raises `NotFoundError` for a key that never came,
    `InvalidError` for content that a metric cannot measure, `StateError` for events of archived months.
    """
    act = Act(kind, _subject([(event.source, event.key) for event in events]), reason, by, at)
    begin(connection)
    _want(connection, events)
    return carry_out(connection, act)


def withdraw(
    connection: sa.Connection, keys: Sequence[tuple[str, str]], *, reason: str, by: str, at: datetime
) -> Correction:
    """Let events, by source and key, not count any more; they stay recorded, and those withdrawn before stay so.

    All or nothing. Raises `NotFoundError` for a key that never came, `StateError` for events of archived months.
    """
    act = Act("withdraw", _subject(keys), reason, by, at)
    begin(connection)
    rows = [{"key_hash": key_hash(source, key), "source": source, "key": key} for source, key in sorted({*keys})]
    if rows:
        connection.execute(_WANT_NOTHING, rows)
    return carry_out(connection, act)


def counting_event(connection: sa.Connection, source: str, key: str) -> UsageEvent:
    """Return what counts under a key; raise `NotFoundError` when it never came, is withdrawn or is archived."""
    row = connection.execute(_COUNTING, {"key_hash": key_hash(source, key)}).one_or_none()
    if row is None:
        raise NotFoundError(
            f"no event with source {source!r} and key {key!r} counts: it never came, is withdrawn, or its month is "
            "archived; `meterbook trace event` tells which"
        )
    return UsageEvent(
        row.source, row.key, row.customer_alias, row.type, row.ts.astimezone(UTC), properties_of(row.properties)
    )


def _want(connection: sa.Connection, events: Sequence[UsageEvent]) -> None:
    wanted: dict[UUID, tuple[UUID, UsageEvent]] = {}
    for event in events:
        key, payload = key_hash(event.source, event.key), payload_hash(event)
        if wanted.setdefault(key, (payload, event))[0] != payload:
            raise InvalidError(
                f"the event with source {event.source!r} and key {event.key!r} is amended twice "
                "with different content; keep one of them"
            )
    rows = [
        {"key_hash": key, "payload_hash": payload, "event": event_json(event)}
        for key, (payload, event) in wanted.items()
    ]
    if rows:
        connection.execute(_WANT, rows)


def _subject(keys: Sequence[tuple[str, str]]) -> str:
    """Return which events an act is about, as people read it: the first few by source and key."""
    if not keys:
        raise InvalidError("events must name at least one event; name those to correct")
    shown = ", ".join(f"{source} {key}" for source, key in keys[:SHOWN_KEYS])
    more = len(keys) - SHOWN_KEYS
    return f"{shown} and {more} more" if more > 0 else shown


_WANT = sa.text("""
insert into usage_wanted (key_hash, payload_hash, source, key, ts, customer_alias, type, properties)
select :key_hash, :payload_hash, event ->> 'source', event ->> 'key', (event ->> 'timestamp')::timestamptz,
    event ->> 'customer', event ->> 'type', event -> 'properties'
from (select cast(:event as jsonb) as event) given
""")

_COUNTING = sa.text("""
select e.source, e.key, e.customer_alias, e.type, e.ts, e.properties::text as properties
from usage_key k
left join lateral (
    select c.ts from usage_correction c where c.key_hash = k.key_hash order by c.revision desc limit 1
) moved on true
join usage_event e on e.key_hash = k.key_hash and e.ended_batch_id is null and e.ts = coalesce(moved.ts, k.ts)
where k.key_hash = :key_hash
""")

_WANT_NOTHING = sa.text("insert into usage_wanted (key_hash, source, key) values (:key_hash, :source, :key)")
