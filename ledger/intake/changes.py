"""Changing what was accepted: rows end, others come in their place, and everything that was counted from them follows.

An act of a person is one batch, all or nothing. What it wants stands in the temporary table `usage_wanted`, one row per
key with the content it is to have (none: it is withdrawn); `usage_changing` holds those whose content differs, beside
the row that counts. Locks: the one of corrections, then as intake takes them: customers by id, metrics, keys in order.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import sqlalchemy as sa

from ledger.checks import check_aware, check_text
from ledger.errors import InvalidError, NotFoundError, StateError
from ledger.intake.archived import archived_until
from ledger.intake.batches import make_partitions_of, next_batch
from ledger.intake.events import properties_of, shown
from ledger.intake.rollup import EVENTS_AT_ONCE, recount, share_metrics
from ledger.intake.rules import Rule, UnmeasurableError, measure, read_rules

Kind = Literal["amend", "withdraw", "conflict", "backfill", "revert", "alias"]

CORRECTION_LOCK = 0x6D626B63
"""The advisory lock that corrections take alone and the attribution of aliases shares."""

LONGEST_REASON = 1000

Progress = Callable[[str], None]
"""Is told what is being done, for work that may take long."""


@dataclass(frozen=True, slots=True)
class Act:
    """Who changes usage, when and why; `subject` is the event, the alias or the backfill. Raises `InvalidError`."""

    kind: Kind
    subject: str
    reason: str
    by: str
    at: datetime

    def __post_init__(self) -> None:
        check_text("reason", self.reason, longest=LONGEST_REASON)
        check_text("by", self.by)
        check_aware("at", self.at)


@dataclass(frozen=True, slots=True)
class Correction:
    """What an act changed, in numbers of events; `contracts` have something to accrue.

    `batch_id` is from which batch on it counts; None when everything was as wanted already.
    """

    batch_id: int | None
    added: int
    amended: int
    withdrawn: int
    unchanged: int
    contracts: tuple[str, ...]


def begin(connection: sa.Connection) -> None:
    """Keep corrections for this transaction alone and empty the table of what is wanted."""
    connection.execute(_LOCK, {"lock": CORRECTION_LOCK})
    connection.execute(_WANTED)
    connection.execute(_CHANGING)
    connection.execute(sa.text("delete from usage_wanted"))
    connection.execute(sa.text("delete from usage_changing"))


def share_corrections(connection: sa.Connection) -> None:
    """Keep corrections out until the transaction ends; others who attribute usage may go on."""
    connection.execute(_SHARE, {"lock": CORRECTION_LOCK})


def carry_out(
    connection: sa.Connection,
    act: Act,
    *,
    may_add: bool = False,
    measured: bool = True,
    moving: bool = False,
    progress: Progress | None = None,
) -> Correction:
    """Bring the events of `usage_wanted` to the content wanted, and count again what that touches.

    Unknown keys are refused, or with `may_add` come in. With `measured`, content that a metric cannot measure is
    refused. With `moving`, events keep their content and go to whoever has their alias. Raises `NotFoundError`,
    `InvalidError`, `StateError`; the caller then rolls back.
    """
    tell = progress or _tell_nobody
    tell("comparing with what counts")
    wanted = _resolve(connection, moving=moving)
    _refuse_unreachable(connection, may_add=may_add)
    if not moving:
        connection.execute(_DROP_UNCHANGED)
    lock_customers(connection, connection.execute(_CUSTOMERS).scalars())
    share_metrics(connection)
    if measured:
        tell("trying the metrics")
        _refuse_unmeasurable(connection)
    counts = connection.execute(_COUNTS).one()
    changed = counts.added + counts.amended + counts.withdrawn
    if not changed:
        return Correction(None, 0, 0, 0, wanted, ())
    tell(f"writing {changed} changes")
    batch_id = draw_batch(connection, act, added=counts.added, amended=counts.amended, withdrawn=counts.withdrawn)
    _write(connection, batch_id, act.at, added=counts.added)
    tell("counting again")
    contracts = _count_again(connection, batch_id, act.at)
    return Correction(batch_id, counts.added, counts.amended, counts.withdrawn, wanted - changed, contracts)


def draw_batch(connection: sa.Connection, act: Act, *, added: int, amended: int, withdrawn: int) -> int:
    """Record an act under the next batch number, and return that; the customers it touches are locked before."""
    batch_id = next_batch(connection)
    facts = {
        "batch_id": batch_id,
        "kind": act.kind,
        "subject": act.subject,
        "reason": act.reason,
        "by": act.by,
        "at": act.at,
        "added": added,
        "amended": amended,
        "withdrawn": withdrawn,
    }
    connection.execute(_KEEP_BATCH, facts)
    connection.execute(_KEEP_CHANGE, facts)
    return batch_id


def lock_customers(connection: sa.Connection, customer_ids: Iterable[str]) -> None:
    """Lock customers against intake, in the order of their ids."""
    connection.execute(_LOCK_CUSTOMERS, {"ids": sorted({*customer_ids})})


def _tell_nobody(_: str) -> None:
    """Tell nobody."""


# --- what differs -------------------------------------------------------------------------------------------------


def _resolve(connection: sa.Connection, *, moving: bool) -> int:
    """Put what is wanted beside what counts, and return the number of keys wanted."""
    connection.execute(sa.text("analyze usage_wanted"))
    span = connection.execute(_SPAN).one()
    resolved = connection.execute(_RESOLVE, {"first": span.first, "last": span.last, "moving": moving})
    connection.execute(sa.text("analyze usage_changing"))
    return resolved.rowcount


def _refuse_unreachable(connection: sa.Connection, *, may_add: bool) -> None:
    if not may_add and (unknown := connection.execute(_UNKNOWN).first()) is not None:
        raise NotFoundError(
            f"source {unknown.source!r} never sent an event with key {unknown.key!r}; "
            "check both, or send it with `meterbook usage send`"
        )
    limit = archived_until(connection)
    lost = connection.execute(_UNREACHABLE, {"limit": limit}).first()
    if lost is None:
        return
    if limit is None:
        raise AssertionError(f"the event {lost.source!r} {lost.key!r} counts, but stands nowhere")
    raise StateError(
        f"the event with source {lost.source!r} and key {lost.key!r} stands in a month that is archived, "
        f"or would come to stand there (before {limit.isoformat()}); "
        "archived months stay as they are: settle it by a correction of the invoice instead"
    )


def _refuse_unmeasurable(connection: sa.Connection) -> None:
    rules: dict[str, list[Rule]] = defaultdict(list)
    for rule in read_rules(connection):
        if rule.can_refuse:
            rules[rule.version.event_type].append(rule)
    query = _CONTENTS.execution_options(yield_per=EVENTS_AT_ONCE)
    with connection.execute(query, {"types": sorted(rules)}) as found:
        for row in found:
            _measure([rule for rule in rules[row.type] if rule.covers(row.ts)], row)


def _measure(rules: Sequence[Rule], row: sa.Row[tuple[object, ...]]) -> None:
    properties = properties_of(row.properties)
    for rule in rules:
        try:
            measure(rule, properties)
        except UnmeasurableError as error:
            raise InvalidError(
                f"the event with source {row.source!r} and key {row.key!r}: "
                f"{error.field} {shown(error.value)} {error.reason}"
            ) from error


# --- writing ------------------------------------------------------------------------------------------------------


def _write(connection: sa.Connection, batch_id: int, at: datetime, *, added: int) -> None:
    facts = {"batch_id": batch_id, "at": at}
    make_partitions_of(connection, connection.execute(_MONTHS).scalars())
    if added:
        inserted: list[UUID] = list(connection.execute(_INSERT_KEYS, facts).scalars())
        if len(inserted) != added:
            raise StateError("a key that is added was sent by its source at this moment; repeat the command")
        hour = at.replace(minute=0, second=0, microsecond=0)
        connection.execute(_KEEP_OUTCOMES, {"hour": hour})
    span = connection.execute(_OLD_SPAN).one()
    connection.execute(_END, {**facts, "first": span.first, "last": span.last})
    connection.execute(_INSERT_EVENTS, facts)
    connection.execute(_KEEP_CORRECTIONS, facts)


def _count_again(connection: sa.Connection, batch_id: int, at: datetime) -> tuple[str, ...]:
    connection.execute(_TALLY)
    buckets: dict[str, list[datetime]] = defaultdict(list)
    for row in connection.execute(_BUCKETS):
        buckets[row.customer_id].append(row.bucket_start)
    for customer_id in sorted(buckets):
        recount(connection, customer_id, buckets[customer_id])
    return tuple(connection.execute(_MARK, {"batch_id": batch_id, "at": at}).scalars())


_LOCK = sa.text("select pg_advisory_xact_lock(:lock)")

_SHARE = sa.text("select pg_advisory_xact_lock_shared(:lock)")

_WANTED = sa.text("""
create temporary table if not exists usage_wanted (
    key_hash uuid primary key,
    payload_hash uuid,
    source text not null,
    key text not null,
    ts timestamptz,
    customer_alias text,
    type text,
    properties jsonb
) on commit delete rows
""")

_CHANGING = sa.text("""
create temporary table if not exists usage_changing (
    key_hash uuid primary key,
    payload_hash uuid,
    source text not null,
    key text not null,
    ts timestamptz,
    customer_alias text,
    customer_id text,
    type text,
    properties jsonb,
    is_known boolean not null,
    counts boolean not null,
    known_hash uuid,
    revision smallint not null,
    known_ts timestamptz,
    old_ts timestamptz,
    old_batch_id bigint,
    old_customer_id text,
    old_customer_alias text,
    old_type text
) on commit delete rows
""")

_SPAN = sa.text("""
select min(ts) as first, max(ts) as last from (
    select k.ts from usage_wanted w join usage_key k on k.key_hash = w.key_hash
    union all
    select c.ts from usage_wanted w join usage_correction c on c.key_hash = w.key_hash
) place
""")

# Keys that came before their batch was noted have none: of their events only one can count.
_RESOLVE = sa.text("""
with latest as (
    select distinct on (c.key_hash) c.* from usage_correction c join usage_wanted w on w.key_hash = c.key_hash
    order by c.key_hash, c.revision desc
),
placed as (
    select w.*, k.key_hash is not null as is_known, coalesce(l.revision, 0) as revision,
        case when l.key_hash is null then k.payload_hash else l.payload_hash end as known_hash,
        coalesce(l.ts, k.ts) as known_ts,
        case when l.key_hash is null then k.batch_id else l.batch_id end as known_batch_id
    from usage_wanted w
    left join usage_key k on k.key_hash = w.key_hash
    left join latest l on l.key_hash = w.key_hash
)
insert into usage_changing
select p.key_hash, case when :moving then p.known_hash else p.payload_hash end, p.source, p.key, p.ts,
    p.customer_alias, a.customer_id, p.type, p.properties, p.is_known, p.known_hash is not null, p.known_hash,
    p.revision, p.known_ts, e.ts, e.batch_id, e.customer_id, e.customer_alias, e.type
from placed p
left join usage_event e on e.key_hash = p.key_hash and e.ts = p.known_ts
    and e.batch_id = coalesce(p.known_batch_id, e.batch_id) and e.ended_batch_id is null and p.known_hash is not null
    and e.ts >= cast(:first as timestamptz) and e.ts <= cast(:last as timestamptz)
left join customer_alias a on a.alias = p.customer_alias
""")

_UNKNOWN = sa.text("select source, key from usage_changing where not is_known order by source, key limit 1")

_UNREACHABLE = sa.text("""
select source, key from usage_changing
where payload_hash is distinct from known_hash
    and ((counts and old_ts is null) or known_ts < cast(:limit as timestamptz) or ts < cast(:limit as timestamptz))
order by source, key limit 1
""")

_DROP_UNCHANGED = sa.text("delete from usage_changing where is_known and payload_hash is not distinct from known_hash")

_CUSTOMERS = sa.text("""
select customer_id from usage_changing where customer_id is not null
union
select old_customer_id from usage_changing where old_customer_id is not null
""")

_LOCK_CUSTOMERS = sa.text(
    "select customer_id from customer where customer_id = any(:ids) order by customer_id for update"
)

_CONTENTS = sa.text("""
select source, key, type, ts, properties::text as properties from usage_changing
where payload_hash is not null and type = any(:types)
order by source, key
""")

_COUNTS = sa.text("""
select count(*) filter (where not is_known) as added,
    count(*) filter (where is_known and payload_hash is not null) as amended,
    count(*) filter (where payload_hash is null) as withdrawn
from usage_changing
""")

_KEEP_BATCH = sa.text("""
insert into usage_batch (batch_id, door, received_at, accepted, duplicate, conflict, rejected)
values (:batch_id, 'correction', :at, :added, 0, 0, 0)
""")

_KEEP_CHANGE = sa.text("""
insert into usage_change (batch_id, kind, subject, reason, changed_by, changed_at, added, amended, withdrawn)
values (:batch_id, :kind, :subject, :reason, :by, :at, :added, :amended, :withdrawn)
""")

_MONTHS = sa.text("""
select distinct date_trunc('month', ts at time zone 'UTC')::date from usage_changing
where payload_hash is not null order by 1
""")

_INSERT_KEYS = sa.text("""
insert into usage_key (key_hash, payload_hash, ts, batch_id)
select key_hash, payload_hash, ts, :batch_id from usage_changing where not is_known order by key_hash
on conflict do nothing
returning key_hash
""")

_KEEP_OUTCOMES = sa.text("""
insert into usage_outcome as o (source, received_hour, accepted, duplicate, conflict, rejected)
select source, :hour, count(*), 0, 0, 0 from usage_changing where not is_known group by source order by source
on conflict (source, received_hour) do update set accepted = o.accepted + excluded.accepted
""")

_OLD_SPAN = sa.text("select min(old_ts) as first, max(old_ts) as last from usage_changing")

_END = sa.text("""
update usage_event e set ended_batch_id = :batch_id
from usage_changing c
where e.key_hash = c.key_hash and e.ts = c.old_ts and e.batch_id = c.old_batch_id and e.ended_batch_id is null
    and e.ts >= cast(:first as timestamptz) and e.ts <= cast(:last as timestamptz)
""")

_INSERT_EVENTS = sa.text("""
insert into usage_event
    (ts, key_hash, source, key, customer_alias, customer_id, type, properties, received_at, batch_id, revision)
select ts, key_hash, source, key, customer_alias, customer_id, type, properties, :at, :batch_id,
    case when is_known then revision + 1 else 0 end
from usage_changing where payload_hash is not null
""")

_KEEP_CORRECTIONS = sa.text("""
insert into usage_correction (key_hash, revision, batch_id, payload_hash, ts)
select key_hash, revision + 1, :batch_id, payload_hash, coalesce(ts, old_ts) from usage_changing where is_known
""")

_TALLY = sa.text("""
insert into usage_tally as t (customer_alias, type, source, bucket_start, events)
select customer_alias, type, source, date_bin('15 minutes', ts, timestamptz '2000-01-01 00:00:00Z') as bucket_start,
    sum(difference)
from (
    select old_customer_alias as customer_alias, old_type as type, source, old_ts as ts, -1 as difference
    from usage_changing where old_ts is not null
    union all
    select customer_alias, type, source, ts, 1 from usage_changing where payload_hash is not null
) moved
group by 1, 2, 3, 4
having sum(difference) <> 0
order by 1, 2, 3, 4
on conflict (customer_alias, type, source, bucket_start) do update set events = t.events + excluded.events
""")

_TOUCHED = """
    select old_customer_id as customer_id, old_type as type, old_ts as ts
    from usage_changing where old_ts is not null
    union all
    select customer_id, type, ts from usage_changing where payload_hash is not null
"""

_BUCKETS = sa.text(f"""
select distinct c.customer_id, date_bin(make_interval(mins => c.bucket_minutes), touched.ts,
    timestamptz '2000-01-01 00:00:00Z') as bucket_start
from ({_TOUCHED}) touched join customer c on c.customer_id = touched.customer_id
""")  # noqa: S608 -- a part of the statement, written above

_MARK = sa.text(f"""
insert into usage_dirty (contract_id, batch_id, received_at)
select contract_id, :batch_id, :at from contract k
where exists (
    select from ({_TOUCHED}) touched
    where touched.customer_id = k.customer_id and touched.ts >= k.start_at
        and (k.end_at is null or touched.ts < k.end_at) and touched.type in (select event_type from metric)
)
order by contract_id
returning contract_id
""")  # noqa: S608 -- a part of the statement, written above
