"""What is recorded of one event's key: its contents over time, who corrected it and why, and what was refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

import sqlalchemy as sa

from ledger.intake.events import PropertyValue, properties_of

MOST_REFUSALS = 20


@dataclass(frozen=True, slots=True)
class Revision:
    """What the key said from one batch on: `revision` 0 as it came, others as corrected.

    It counts from `counted_from_batch_id` on (later than its own batch where its customer came later) and until
    `ended_batch_id` (None: it counts). `customer_id` is None while nobody has the alias.
    """

    revision: int
    batch_id: int
    door: str | None
    received_at: datetime
    customer_alias: str
    customer_id: str | None
    type: str
    timestamp: datetime
    properties: Mapping[str, PropertyValue]
    counted_from_batch_id: int
    ended_batch_id: int | None


@dataclass(frozen=True, slots=True)
class Correction:
    """An act of a person that changed what the key says, from its batch on; `is_withdrawal`: it says nothing since."""

    revision: int
    batch_id: int
    kind: str
    subject: str
    reason: str
    changed_by: str
    changed_at: datetime
    is_withdrawal: bool


@dataclass(frozen=True, slots=True)
class Conflicted:
    """Another content that came under the key and does not count; `resolution` is None while nobody has decided."""

    conflict_id: int
    batch_id: int
    received_at: datetime
    customer: str
    type: str
    timestamp: str
    properties: Mapping[str, PropertyValue]
    resolution: str | None
    resolved_by: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A try that was refused, and why."""

    rejected_id: int
    batch_id: int
    received_at: datetime
    field: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Archived:
    """Where the event is now that its month is no longer in the database."""

    month: date
    path: str
    exported_at: datetime


@dataclass(frozen=True, slots=True)
class Past:
    """Everything that is recorded under a key; `is_known`: an event was accepted under it once."""

    is_known: bool
    revisions: tuple[Revision, ...]
    corrections: tuple[Correction, ...]
    conflicts: tuple[Conflicted, ...]
    refused: tuple[Refused, ...]
    archived: Archived | None

    @property
    def current(self) -> Revision | None:
        """The content that counts; None where none does."""
        return next((one for one in self.revisions if one.ended_batch_id is None), None)


def read_past(connection: sa.Connection, hashed: UUID, source: str, key: str) -> Past:
    """Return what is recorded under a key, found by its hash where its events stand."""
    first = connection.execute(_KEY, {"key": hashed}).one_or_none()
    corrected = connection.execute(_CORRECTIONS, {"key": hashed}).all()
    revisions: tuple[Revision, ...] = ()
    archived = None
    if first is not None:
        moments = sorted({first.ts, *(row.ts for row in corrected)})
        revisions = tuple(_revision(row) for row in connection.execute(_REVISIONS, {"key": hashed, "moments": moments}))
        if not revisions:
            row = connection.execute(_ARCHIVED, {"moment": moments[-1]}).one_or_none()
            archived = None if row is None else Archived(*row)
    return Past(
        is_known=first is not None,
        revisions=revisions,
        corrections=tuple(
            Correction(
                row.revision, row.batch_id, row.kind, row.subject, row.reason, row.changed_by, row.changed_at,
                is_withdrawal=row.payload_hash is None,
            )
            for row in corrected
        ),
        conflicts=tuple(_conflict(row) for row in connection.execute(_CONFLICTS, {"key": hashed})),
        refused=tuple(
            Refused(*row)
            for row in connection.execute(_REFUSED, {"source": source, "key": key, "most": MOST_REFUSALS})
        ),
        archived=archived,
    )  # fmt: skip


def _revision(row: sa.Row[tuple[object, ...]]) -> Revision:
    return Revision(
        revision=row.revision,
        batch_id=row.batch_id,
        door=row.door,
        received_at=row.received_at,
        customer_alias=row.customer_alias,
        customer_id=row.customer_id,
        type=row.type,
        timestamp=row.ts,
        properties=properties_of(row.properties),
        counted_from_batch_id=row.counted_from,
        ended_batch_id=row.ended_batch_id,
    )


def _conflict(row: sa.Row[tuple[object, ...]]) -> Conflicted:
    return Conflicted(
        conflict_id=row.conflict_id,
        batch_id=row.batch_id,
        received_at=row.received_at,
        customer=row.customer,
        type=row.type,
        timestamp=row.timestamp,
        properties=properties_of(row.properties),
        resolution=row.resolution,
        resolved_by=row.resolved_by,
        reason=row.reason,
    )


_KEY = sa.text("select ts from usage_key where key_hash = :key")

_CORRECTIONS = sa.text("""
select c.revision, c.batch_id, c.payload_hash, c.ts, h.kind, h.subject, h.reason, h.changed_by, h.changed_at
from usage_correction c join usage_change h on h.batch_id = c.batch_id
where c.key_hash = :key order by c.revision
""")

_REVISIONS = sa.text("""
select e.revision, e.batch_id, b.door, e.received_at, e.customer_alias, e.customer_id, e.type, e.ts,
    e.properties::text as properties, coalesce(e.attributed_batch_id, e.batch_id) as counted_from, e.ended_batch_id
from usage_event e left join usage_batch b on b.batch_id = e.batch_id
where e.key_hash = :key and e.ts = any(cast(:moments as timestamptz[]))
order by e.revision, e.batch_id
""")

_ARCHIVED = sa.text("""
select month, path, exported_at from usage_archive
where month = date_trunc('month', cast(:moment as timestamptz) at time zone 'UTC')::date and detached_at is not null
""")

_CONFLICTS = sa.text("""
select conflict_id, batch_id, received_at, event ->> 'customer' as customer, event ->> 'type' as type,
    event ->> 'timestamp' as timestamp, (event -> 'properties')::text as properties, resolution, resolved_by, reason
from usage_conflict where key_hash = :key order by conflict_id
""")

_REFUSED = sa.text("""
select rejected_id, batch_id, received_at, field, value, reason
from usage_rejected where source = :source and key = :key order by rejected_id desc limit :most
""")
