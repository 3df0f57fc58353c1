"""Backfills: a window of usage that is sent again, collected first, looked at in money, then committed as a whole.

With the mode `add`, what is sent comes in, and amends events whose keys are known. With `replace`, events of the window
that are not sent again are withdrawn besides: the window then holds exactly what was sent.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from ledger import schema
from ledger.checks import check_aware, check_slug, check_text
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.intake.archived import archived_until
from ledger.intake.changes import LONGEST_REASON, Act, Correction, Progress, begin, carry_out
from ledger.intake.events import (
    FieldError,
    ParsedBatch,
    Rejection,
    UsageEvent,
    event_json,
    key_hash,
    payload_hash,
    rejection,
)

BACKFILL = schema.backfill

Mode = Literal["add", "replace"]


@dataclass(frozen=True, slots=True)
class Backfill:
    """A window [start_at, end_at) of usage that is sent again, and how far it is.

    It is about events of one name of a customer (None: all), of these types and sources (empty: all). Its numbers of
    batches tell when it was committed and reverted. Raises `InvalidError`.
    """

    backfill_id: str
    customer_alias: str | None
    types: tuple[str, ...]
    sources: tuple[str, ...]
    start_at: datetime
    end_at: datetime
    mode: Mode
    reason: str
    opened_by: str
    opened_at: datetime
    state: Literal["open", "committed", "reverted"] = "open"
    committed_batch_id: int | None = None
    reverted_batch_id: int | None = None
    events: int = 0

    def __post_init__(self) -> None:
        check_slug("backfill_id", self.backfill_id)
        check_text("reason", self.reason, longest=LONGEST_REASON)
        check_text("opened_by", self.opened_by)
        check_aware("start_at", self.start_at)
        check_aware("end_at", self.end_at)
        if self.end_at <= self.start_at:
            raise InvalidError(f"end_at {self.end_at.isoformat()} must be after start_at {self.start_at.isoformat()}")


@dataclass(frozen=True, slots=True)
class Staged:
    """How many events were put into a backfill, and which were not, with the reason."""

    staged: int
    refused: tuple[Rejection, ...]


def open_backfill(connection: sa.Connection, backfill: Backfill) -> Literal["created", "exists"]:
    """Record a backfill; the same again is harmless.

    Raises `ConflictError` for the id with another window, `StateError` for one that reaches into archived months.
    """
    if _of(connection, backfill.backfill_id) is not None:
        found = get_backfill(connection, backfill.backfill_id)
        if _window(found) != _window(backfill):
            raise ConflictError(f"backfill {backfill.backfill_id} exists with another window; choose another id")
        return "exists"
    _refuse_archived(connection, backfill)
    connection.execute(
        BACKFILL.insert().values(
            backfill_id=backfill.backfill_id,
            customer_alias=backfill.customer_alias,
            types=list(backfill.types),
            sources=list(backfill.sources),
            start_at=backfill.start_at,
            end_at=backfill.end_at,
            mode=backfill.mode,
            reason=backfill.reason,
            opened_by=backfill.opened_by,
            opened_at=backfill.opened_at,
        )
    )
    return "created"


def get_backfill(connection: sa.Connection, backfill_id: str) -> Backfill:
    """Return a backfill with the number of events that were sent into it; raise `NotFoundError`."""
    row = _of(connection, backfill_id)
    if row is None:
        raise NotFoundError(f"backfill {backfill_id} does not exist; open it with `meterbook usage backfill open`")
    return _from_row(row)


def list_backfills(connection: sa.Connection) -> tuple[Backfill, ...]:
    """Return all backfills, the one opened last first."""
    order = (BACKFILL.c.opened_at.desc(), BACKFILL.c.backfill_id)
    return tuple(_from_row(row) for row in connection.execute(_backfills().order_by(*order)))


def stage(connection: sa.Connection, backfill_id: str, batch: ParsedBatch) -> Staged:
    """Put events into an open backfill without counting them; a key that is sent again takes its last content.

    Events outside the window, or that cannot be read, are refused each on its own. Raises `NotFoundError`,
    `StateError`.
    """
    backfill = _lock(connection, backfill_id)
    if backfill.state != "open":
        raise StateError(f"backfill {backfill_id} is {backfill.state}; open another one to send more")
    refused = list(batch.rejections)
    rows = {}
    for index, event in batch.events:
        error = _outside(backfill, event)
        if error is not None:
            refused.append(rejection(index, event, error))
            continue
        rows[key_hash(event.source, event.key)] = {
            "backfill_id": backfill_id,
            "key_hash": key_hash(event.source, event.key),
            "payload_hash": payload_hash(event),
            "event": event_json(event),
        }
    if rows:
        connection.execute(_DROP_STAGED, {"backfill_id": backfill_id, "keys": list(rows)})
        connection.execute(_STAGE, list(rows.values()))
    return Staged(len(batch.events) + len(batch.rejections) - len(refused), tuple(refused))


def commit_backfill(
    connection: sa.Connection, backfill_id: str, *, by: str, at: datetime, progress: Progress | None = None
) -> Correction:
    """Let what was sent into a backfill count, as a whole; the same again is harmless.

    Raises `NotFoundError`, `StateError` when it was reverted or touches archived months, `InvalidError` when a metric
    cannot measure an event.
    """
    backfill = _lock(connection, backfill_id)
    if backfill.state == "committed":
        return Correction(None, 0, 0, 0, backfill.events, ())
    if backfill.state == "reverted":
        raise StateError(f"backfill {backfill_id} was reverted; open another one with a new id")
    _refuse_archived(connection, backfill)
    begin(connection)
    connection.execute(_WANT_STAGED, {"backfill_id": backfill_id})
    if backfill.mode == "replace":
        connection.execute(_WANT_NOT_STAGED, _window(backfill))
    act = Act("backfill", backfill_id, backfill.reason, by, at)
    done = carry_out(connection, act, may_add=True, progress=progress)
    _set(connection, backfill_id, state="committed", committed_batch_id=done.batch_id)
    return done


def revert_backfill(
    connection: sa.Connection, backfill_id: str, *, reason: str, by: str, at: datetime, progress: Progress | None = None
) -> Correction:
    """Undo a committed backfill as a whole, or drop an open one; the same again is harmless.

    Its additions are withdrawn and what it amended or withdrew comes back as it was. Raises `NotFoundError`, and
    `StateError` when one of its events was corrected since.
    """
    act = Act("revert", backfill_id, reason, by, at)
    backfill = _lock(connection, backfill_id)
    nothing = Correction(None, 0, 0, 0, backfill.events, ())
    if backfill.state == "reverted":
        return nothing
    if backfill.committed_batch_id is None:
        _set(connection, backfill_id, state="reverted")
        return nothing
    begin(connection)
    facts = {"batch_id": backfill.committed_batch_id}
    _refuse_corrected_since(connection, backfill)
    span = connection.execute(_REVERTED_SPAN, facts).one()
    connection.execute(_WANT_BEFORE, {**facts, "first": span.first, "last": span.last})
    connection.execute(_WANT_NO_ADDITIONS, facts)
    done = carry_out(connection, act, measured=False, progress=progress)
    _set(connection, backfill_id, state="reverted", reverted_batch_id=done.batch_id)
    return done


def _refuse_corrected_since(connection: sa.Connection, backfill: Backfill) -> None:
    later = connection.execute(_CORRECTED_SINCE, {"batch_id": backfill.committed_batch_id}).first()
    if later is not None:
        raise StateError(
            f"backfill {backfill.backfill_id} cannot be reverted as a whole: the event with source {later.source!r} "
            f"and key {later.key!r} was corrected since, by {later.changed_by}; amend or withdraw the events themselves"
        )


def _refuse_archived(connection: sa.Connection, backfill: Backfill) -> None:
    limit = archived_until(connection)
    if limit is not None and backfill.start_at < limit:
        raise StateError(
            f"backfill {backfill.backfill_id} starts at {backfill.start_at.isoformat()}, in a month that is archived; "
            f"start it at {limit.isoformat()} or later"
        )


def _outside(backfill: Backfill, event: UsageEvent) -> FieldError | None:
    """Return why an event is not of a backfill's window; None when it is."""
    whose = f"of backfill {backfill.backfill_id}; leave it out or open another one"
    if not backfill.start_at <= event.timestamp < backfill.end_at:
        return FieldError("timestamp", event.timestamp.isoformat(), f"is outside the window {whose}")
    if backfill.customer_alias is not None and event.customer != backfill.customer_alias:
        return FieldError("customer", event.customer, f"is not the customer {whose}")
    if backfill.types and event.type not in backfill.types:
        return FieldError("type", event.type, f"is none of the types {whose}")
    if backfill.sources and event.source not in backfill.sources:
        return FieldError("source", event.source, f"is none of the sources {whose}")
    return None


# --- from and to the database -------------------------------------------------------------------------------------


def _backfills() -> sa.Select[tuple[object, ...]]:
    staged = schema.backfill_event.c
    count = sa.select(sa.func.count()).where(staged.backfill_id == BACKFILL.c.backfill_id).scalar_subquery()
    return sa.select(*BACKFILL.c, count.label("events"))


def _of(connection: sa.Connection, backfill_id: str) -> sa.Row[tuple[object, ...]] | None:
    return connection.execute(_backfills().where(BACKFILL.c.backfill_id == backfill_id)).one_or_none()


def _lock(connection: sa.Connection, backfill_id: str) -> Backfill:
    connection.execute(sa.select(BACKFILL.c.state).where(BACKFILL.c.backfill_id == backfill_id).with_for_update())
    return get_backfill(connection, backfill_id)


def _set(connection: sa.Connection, backfill_id: str, **values: object) -> None:
    connection.execute(BACKFILL.update().where(BACKFILL.c.backfill_id == backfill_id).values(**values))


def _window(backfill: Backfill) -> dict[str, object]:
    return {
        "backfill_id": backfill.backfill_id,
        "alias": backfill.customer_alias,
        "types": sorted(backfill.types),
        "sources": sorted(backfill.sources),
        "start_at": backfill.start_at,
        "end_at": backfill.end_at,
        "mode": backfill.mode,
    }


def _from_row(row: sa.Row[tuple[object, ...]]) -> Backfill:
    stored = {column.name: getattr(row, column.name) for column in BACKFILL.c}
    return Backfill(**{**stored, "types": tuple(row.types), "sources": tuple(row.sources), "events": row.events})


_DROP_STAGED = sa.text(
    "delete from backfill_event where backfill_id = :backfill_id and key_hash = any(cast(:keys as uuid[]))"
)

_STAGE = sa.text("""
insert into backfill_event (backfill_id, key_hash, payload_hash, event)
values (:backfill_id, :key_hash, :payload_hash, cast(:event as jsonb))
""")

_WANT_STAGED = sa.text("""
insert into usage_wanted (key_hash, payload_hash, source, key, ts, customer_alias, type, properties)
select key_hash, payload_hash, event ->> 'source', event ->> 'key', (event ->> 'timestamp')::timestamptz,
    event ->> 'customer', event ->> 'type', event -> 'properties'
from backfill_event where backfill_id = :backfill_id
""")

_WANT_NOT_STAGED = sa.text("""
insert into usage_wanted (key_hash, source, key)
select e.key_hash, e.source, e.key from usage_event e
where e.ts >= :start_at and e.ts < :end_at and e.ended_batch_id is null
    and (cast(:alias as text) is null or e.customer_alias = :alias)
    and (cardinality(cast(:types as text[])) = 0 or e.type = any(:types))
    and (cardinality(cast(:sources as text[])) = 0 or e.source = any(:sources))
    and not exists (
        select from backfill_event s where s.backfill_id = :backfill_id and s.key_hash = e.key_hash
    )
""")

_REVERTED_SPAN = sa.text("""
select min(ts) as first, max(ts) as last from (
    select k.ts from usage_correction c join usage_key k on k.key_hash = c.key_hash where c.batch_id = :batch_id
    union all
    select o.ts from usage_correction c join usage_correction o on o.key_hash = c.key_hash where c.batch_id = :batch_id
) place
""")

# The content before the batch; none when the key was withdrawn then, and the batch brought it back.
_WANT_BEFORE = sa.text("""
insert into usage_wanted (key_hash, payload_hash, source, key, ts, customer_alias, type, properties)
select c.key_hash, case when b.key_hash is not null then
        case when c.revision = 1 then k.payload_hash else before.payload_hash end
    end, coalesce(b.source, n.source), coalesce(b.key, n.key), b.ts, b.customer_alias, b.type, b.properties
from usage_correction c
join usage_key k on k.key_hash = c.key_hash
left join usage_correction before on before.key_hash = c.key_hash and before.revision = c.revision - 1
left join usage_event b on b.key_hash = c.key_hash and b.ended_batch_id = :batch_id
    and b.ts >= cast(:first as timestamptz) and b.ts <= cast(:last as timestamptz)
left join usage_event n on n.key_hash = c.key_hash and n.batch_id = :batch_id and n.ts = c.ts
where c.batch_id = :batch_id
""")

_WANT_NO_ADDITIONS = sa.text("""
insert into usage_wanted (key_hash, source, key)
select key_hash, source, key from usage_event where batch_id = :batch_id and revision = 0
""")

# An alias that moved since takes no content away.
_CORRECTED_SINCE = sa.text("""
with touched as (
    select key_hash from usage_correction where batch_id = :batch_id
    union
    select key_hash from usage_event where batch_id = :batch_id and revision = 0
)
select e.source, e.key, h.changed_by
from touched t
join usage_correction c on c.key_hash = t.key_hash and c.batch_id > :batch_id
join usage_change h on h.batch_id = c.batch_id and h.kind <> 'alias'
join usage_key k on k.key_hash = t.key_hash
join usage_event e on e.key_hash = t.key_hash and e.ts = k.ts
order by e.source, e.key limit 1
""")
