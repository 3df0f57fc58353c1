"""Taking a batch in: one transaction in which every event is counted once, or its refusal is recorded.

Locks are taken in one order everywhere: aliases nobody has, customers, metrics, then keys and totals in key order.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import chain
from typing import Literal
from uuid import UUID

import psycopg
import sqlalchemy as sa

from ledger.checks import check_aware
from ledger.intake.events import (
    FieldError,
    ParsedBatch,
    Rejection,
    UsageEvent,
    event_json,
    key_hash,
    payload_hash,
    properties_json,
    rejection,
)
from ledger.intake.rollup import ALIAS_LOCK_SPACE, ALIAS_LOCKS, Computed, add_batch, share_metrics
from ledger.intake.rules import Rule, UnmeasurableError, is_plainly_measurable, measure, read_rules

Outcome = Literal["accepted", "duplicate", "conflict", "rejected"]
_Value = tuple[str, Decimal | None]
"""A metric, and the value of its expression for an event."""


@dataclass(frozen=True, slots=True)
class EventResult:
    """What became of one event; `field`, `value` and `reason` say why it was not accepted and what to do."""

    index: int
    outcome: Outcome
    source: str | None
    key: str | None
    field: str | None = None
    value: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of a batch, event by event in the order sent; `contracts` have something new to accrue."""

    batch_id: int
    results: tuple[EventResult, ...]
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    contracts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Keyed:
    index: int
    event: UsageEvent
    key_hash: UUID
    payload_hash: UUID


def take_in(
    connection: sa.Connection,
    batch: ParsedBatch,
    *,
    door: Literal["file", "http", "signal", "spool"],
    received_at: datetime,
) -> BatchResult:
    """Take a batch in and answer for every event; the answer holds once the caller has committed.

    Batches may overlap, repeat and run at the same time: each key is accepted once, and whichever content comes first
    wins. The batch number is taken after the customers' locks, so that a frozen period's cut-off is exact.
    """
    check_aware("received_at", received_at)
    customers = _lock_customers(connection, sorted({event.customer for _, event in batch.events}))
    share_metrics(connection)
    rules = _rules_by_type(connection, batch.events)
    events, refused, computed = _measure(rules, batch.events)
    rejections = (*batch.rejections, *refused)
    batch_id: int = connection.execute(_NEXT_BATCH).scalar_one()
    keyed = [_Keyed(index, event, key_hash(event.source, event.key), payload_hash(event)) for index, event in events]
    outcomes = _insert_events(connection, keyed, customers, batch_id=batch_id, received_at=received_at)
    contracts: tuple[str, ...] = ()
    fresh = [one for one, outcome in zip(keyed, outcomes, strict=True) if outcome == "accepted"]
    if fresh:
        add_batch(connection, [*chain(*rules.values())], _of_fresh(fresh, computed))
        contracts = _count(connection)
    conflicts = [one for one, outcome in zip(keyed, outcomes, strict=True) if outcome == "conflict"]
    _keep_conflicts(connection, conflicts, batch_id=batch_id, received_at=received_at)
    _keep_rejections(connection, rejections, batch_id=batch_id, received_at=received_at)
    results = [_result(one, outcome) for one, outcome in zip(keyed, outcomes, strict=True)]
    results += [EventResult(r.index, "rejected", r.source, r.key, r.field, r.value, r.reason) for r in rejections]
    counts = _count_outcomes(connection, results, batch_id=batch_id, door=door, received_at=received_at)
    results.sort(key=lambda result: result.index)
    return BatchResult(batch_id, tuple(results), **counts, contracts=contracts)


def alias_locks(aliases: Iterable[str]) -> list[int]:
    """Return the numbers of the advisory locks that guard aliases, in the order to take them."""
    return sorted({hashlib.sha256(alias.encode()).digest()[0] % ALIAS_LOCKS for alias in aliases})


def _lock_customers(connection: sa.Connection, aliases: Sequence[str]) -> Mapping[str, str]:
    """Lock the customers of a batch by alias, and against `attribute_aliases` the aliases that nobody has."""
    customers = _customers(connection, aliases)
    strangers = [alias for alias in aliases if alias not in customers]
    if strangers:
        connection.execute(_LOCK_STRANGERS, {"space": ALIAS_LOCK_SPACE, "locks": alias_locks(strangers)})
        customers |= _customers(connection, strangers)
    connection.execute(_LOCK_CUSTOMERS, {"ids": sorted({*customers.values()})})
    return customers


def _customers(connection: sa.Connection, aliases: Sequence[str]) -> dict[str, str]:
    return dict(connection.execute(_CUSTOMERS, {"aliases": list(aliases)}).all())


def _rules_by_type(connection: sa.Connection, events: Sequence[tuple[int, UsageEvent]]) -> Mapping[str, list[Rule]]:
    """Return the rules that count the types of a batch, by type."""
    types = {event.type for _, event in events}
    found: dict[str, list[Rule]] = defaultdict(list)
    for rule in read_rules(connection):
        if rule.version.event_type in types:
            found[rule.version.event_type].append(rule)
    return found


def _measure(
    rules: Mapping[str, Sequence[Rule]], events: Sequence[tuple[int, UsageEvent]]
) -> tuple[list[tuple[int, UsageEvent]], list[Rejection], Mapping[int, Sequence[_Value]]]:
    """Refuse events without what a metric of their type needs; return the others, and what expressions make of them.

    Only rules that can refuse an event look at it, so that counting costs nothing here.
    """
    strict = {name: [rule for rule in own if rule.can_refuse] for name, own in rules.items()}
    good: list[tuple[int, UsageEvent]] = []
    refused: list[Rejection] = []
    computed: dict[int, list[_Value]] = {}
    for index, event in events:
        try:
            for rule in strict.get(event.type, ()):
                if rule.covers(event.timestamp) and not is_plainly_measurable(rule, event.properties):
                    found = measure(rule, event.properties)
                    if rule.is_computed and found is not None:
                        value = None if rule.version.expression is None else found.value
                        computed.setdefault(index, []).append((rule.metric_id, value))
        except UnmeasurableError as error:
            fault = FieldError(error.field, error.value, error.reason)
            refused.append(rejection(index, event, fault))
        else:
            good.append((index, event))
    return good, refused, computed


def _of_fresh(fresh: Iterable[_Keyed], computed: Mapping[int, Sequence[_Value]]) -> Iterator[Computed]:
    for one in fresh:
        for metric_id, value in computed.get(one.index, ()):
            yield one.key_hash, metric_id, value


def _insert_events(
    connection: sa.Connection,
    keyed: Sequence[_Keyed],
    customers: Mapping[str, str],
    *,
    batch_id: int,
    received_at: datetime,
) -> list[Outcome]:
    """Insert the events whose keys are new and leave exactly those in the temporary table; return every outcome."""
    if not keyed:
        return []
    first: dict[UUID, _Keyed] = {}
    for one in keyed:
        first.setdefault(one.key_hash, one)
    for month in sorted({one.event.timestamp.strftime("%Y-%m-01") for one in first.values()}):
        connection.execute(_PARTITION, {"month": month})
    connection.execute(_INCOMING)
    _copy(connection, first.values(), customers, batch_id=batch_id, received_at=received_at)
    known = connection.execute(_INSERT_KEYS).scalars().all()
    stored = {one.key_hash: one.payload_hash for one in first.values()}
    if known:
        stored |= dict(connection.execute(_DROP_KNOWN, {"known": list(known)}).all())
    connection.execute(_INSERT_EVENTS)
    fresh = first.keys() - {*known}
    return [
        "accepted"
        if one.key_hash in fresh and one is first[one.key_hash]
        else "duplicate"
        if one.payload_hash == stored[one.key_hash]
        else "conflict"
        for one in keyed
    ]


def _copy(
    connection: sa.Connection,
    rows: Iterable[_Keyed],
    customers: Mapping[str, str],
    *,
    batch_id: int,
    received_at: datetime,
) -> None:
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError(f"intake needs a psycopg connection, not {type(driver).__name__}")
    with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
        for one in rows:
            event = one.event
            copy.write_row(
                (
                    event.timestamp,
                    one.key_hash,
                    one.payload_hash,
                    event.source,
                    event.key,
                    event.customer,
                    customers.get(event.customer),
                    event.type,
                    properties_json(event),
                    received_at,
                    batch_id,
                )
            )


def _count(connection: sa.Connection) -> tuple[str, ...]:
    """Add the new events to the tally, mark the contracts that cover them, and return those."""
    connection.execute(_TALLY)
    return tuple(connection.execute(_MARK).scalars())


def _keep_conflicts(
    connection: sa.Connection, conflicts: Sequence[_Keyed], *, batch_id: int, received_at: datetime
) -> None:
    rows = [
        {
            "key_hash": one.key_hash,
            "payload_hash": one.payload_hash,
            "source": one.event.source,
            "key": one.event.key,
            "event": event_json(one.event),
            "received_at": received_at,
            "batch_id": batch_id,
        }
        for one in sorted(conflicts, key=lambda one: (one.key_hash, one.payload_hash))
    ]
    if rows:
        connection.execute(_KEEP_CONFLICT, rows)


def _keep_rejections(
    connection: sa.Connection, rejections: Sequence[Rejection], *, batch_id: int, received_at: datetime
) -> None:
    rows = [
        {
            "source": one.source,
            "key": one.key,
            "field": one.field,
            "value": one.value,
            "reason": one.reason,
            "raw": one.raw,
            "received_at": received_at,
            "batch_id": batch_id,
        }
        for one in rejections
    ]
    if rows:
        connection.execute(_KEEP_REJECTION, rows)


def _count_outcomes(
    connection: sa.Connection, results: Sequence[EventResult], *, batch_id: int, door: str, received_at: datetime
) -> dict[Outcome, int]:
    """Record the batch and what became of its events by source; comes last, because senders of a source meet here."""
    by_source: dict[str, Counter[Outcome]] = defaultdict(Counter)
    for result in results:
        by_source[result.source or ""][result.outcome] += 1
    total: Counter[Outcome] = sum(by_source.values(), Counter())
    counts: dict[Outcome, int] = {outcome: total[outcome] for outcome in _OUTCOMES}
    connection.execute(
        _KEEP_BATCH, {"batch_id": batch_id, "door": door, "received_at": received_at, **_by_name(counts)}
    )
    hour = received_at.replace(minute=0, second=0, microsecond=0)
    rows = [{"source": source, "hour": hour, **_by_name(by_source[source])} for source in sorted(by_source)]
    if rows:
        connection.execute(_KEEP_OUTCOMES, rows)
    return counts


def _by_name(counts: Mapping[Outcome, int]) -> dict[str, int]:
    return {outcome: counts[outcome] for outcome in _OUTCOMES}


def _result(one: _Keyed, outcome: Outcome) -> EventResult:
    if outcome != "conflict":
        return EventResult(one.index, outcome, one.event.source, one.event.key)
    reason = "was sent before from this source with other content, which counts; send a correction under a new key"
    return EventResult(one.index, outcome, one.event.source, one.event.key, "key", one.event.key, reason)


_OUTCOMES: tuple[Outcome, ...] = ("accepted", "duplicate", "conflict", "rejected")

_CUSTOMERS = sa.text("select alias, customer_id from customer_alias where alias = any(:aliases)")

_LOCK_STRANGERS = sa.text(
    "select pg_advisory_xact_lock_shared(:space, number) from unnest(cast(:locks as integer[])) number"
)

_LOCK_CUSTOMERS = sa.text(
    "select customer_id from customer where customer_id = any(:ids) order by customer_id for key share"
)

_NEXT_BATCH = sa.text("select nextval(pg_get_serial_sequence('usage_batch', 'batch_id'))")

_PARTITION = sa.text("select usage_partition(cast(:month as date))")

_INCOMING = sa.text("""
create temporary table if not exists usage_incoming (
    ts timestamptz not null,
    key_hash uuid not null,
    payload_hash uuid not null,
    source text not null,
    key text not null,
    customer_alias text not null,
    customer_id text,
    type text not null,
    properties jsonb not null,
    received_at timestamptz not null,
    batch_id bigint not null
) on commit delete rows
""")

_COPY = """
copy usage_incoming (ts, key_hash, payload_hash, source, key, customer_alias, customer_id, type, properties,
    received_at, batch_id) from stdin
"""

# Returns the keys that were there before. Whoever inserts the same key at the same time is waited for.
_INSERT_KEYS = sa.text("""
with fresh as (
    insert into usage_key (key_hash, payload_hash, ts)
    select key_hash, payload_hash, ts from usage_incoming order by key_hash
    on conflict do nothing
    returning key_hash
)
select key_hash from usage_incoming where key_hash not in (select key_hash from fresh)
""")

_DROP_KNOWN = sa.text("""
delete from usage_incoming i using usage_key k
where k.key_hash = i.key_hash and i.key_hash = any(cast(:known as uuid[]))
returning k.key_hash, k.payload_hash
""")

_INSERT_EVENTS = sa.text("""
insert into usage_event
    (ts, key_hash, source, key, customer_alias, customer_id, type, properties, received_at, batch_id)
select ts, key_hash, source, key, customer_alias, customer_id, type, properties, received_at, batch_id
from usage_incoming
""")

_TALLY = sa.text("""
insert into usage_tally as t (customer_alias, type, source, bucket_start, events)
select customer_alias, type, source, date_bin('15 minutes', ts, timestamptz '2000-01-01 00:00:00Z') as bucket_start,
    count(*)
from usage_incoming
group by 1, 2, 3, 4
order by 1, 2, 3, 4
on conflict (customer_alias, type, source, bucket_start) do update set events = t.events + excluded.events
""")

_MARK = sa.text("""
insert into usage_dirty (contract_id, batch_id, received_at)
select k.contract_id, i.batch_id, i.received_at
from contract k join usage_incoming i on i.customer_id = k.customer_id
where i.ts >= k.start_at and (k.end_at is null or i.ts < k.end_at)
    and i.type in (select event_type from metric)
group by k.contract_id, i.batch_id, i.received_at
order by k.contract_id
returning contract_id
""")

_KEEP_CONFLICT = sa.text("""
insert into usage_conflict (key_hash, payload_hash, source, key, event, received_at, batch_id)
values (:key_hash, :payload_hash, :source, :key, cast(:event as jsonb), :received_at, :batch_id)
on conflict (key_hash, payload_hash) do nothing
""")

_KEEP_REJECTION = sa.text("""
insert into usage_rejected (source, key, field, value, reason, raw, received_at, batch_id)
values (:source, :key, :field, :value, :reason, :raw, :received_at, :batch_id)
""")

_KEEP_BATCH = sa.text("""
insert into usage_batch (batch_id, door, received_at, accepted, duplicate, conflict, rejected)
values (:batch_id, :door, :received_at, :accepted, :duplicate, :conflict, :rejected)
""")

_KEEP_OUTCOMES = sa.text("""
insert into usage_outcome as o (source, received_hour, accepted, duplicate, conflict, rejected)
values (:source, :hour, :accepted, :duplicate, :conflict, :rejected)
on conflict (source, received_hour) do update set
    accepted = o.accepted + excluded.accepted,
    duplicate = o.duplicate + excluded.duplicate,
    conflict = o.conflict + excluded.conflict,
    rejected = o.rejected + excluded.rejected
""")
