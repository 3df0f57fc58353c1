"""Taking a batch in: one transaction in which every event is counted once, or its refusal is recorded.

Locks are taken in one order everywhere: aliases nobody has, customers, metrics, then keys and totals in key order.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Literal
from uuid import UUID

import msgspec
import sqlalchemy as sa

from ledger.checks import check_aware
from ledger.database import driver_of
from ledger.intake.batches import make_partitions_of, next_batch
from ledger.intake.events import (
    FieldError,
    Keyed,
    ParsedBatch,
    Rejection,
    UsageEvent,
    copied,
    event_json,
    keyed,
    rejection,
)
from ledger.intake.plainly import Customers, add_plainly, count, counts_plainly, tally
from ledger.intake.rollup import ALIAS_LOCK_SPACE, ALIAS_LOCKS, Computed, add_batch, share_metrics
from ledger.intake.rules import Rule, UnmeasurableError, is_plainly_measurable, measure, read_rules

Outcome = Literal["accepted", "duplicate", "conflict", "rejected"]
NULL = "\\N"
"""How COPY reads that there is nothing."""
ROWS_AT_ONCE = 1000
"""How many rows are written before they are sent, so that the server reads the first while the next are written."""

_Value = tuple[str, Decimal | None]
"""A metric, and the value of its expression for an event."""


class EventResult(msgspec.Struct, frozen=True, gc=False):
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
    batch_id = next_batch(connection)
    all_keyed = [keyed(index, event) for index, event in events]
    outcomes = _insert_events(connection, all_keyed, customers, batch_id=batch_id, received_at=received_at)
    fresh = [one for one, outcome in zip(all_keyed, outcomes, strict=True) if outcome == "accepted"]
    contracts: set[str] = set()
    if fresh:
        plain, others = _parted(rules)
        counted = count(plain, fresh, customers)
        found = add_plainly(connection, counted, batch_id=batch_id, received_at=received_at)
        of_fresh = _of_fresh(fresh, computed)
        more = add_batch(connection, others, of_fresh, batch_id=batch_id, received_at=received_at)
        contracts.update(found, more)
        tally(connection, counted)
    conflicts = [one for one, outcome in zip(all_keyed, outcomes, strict=True) if outcome == "conflict"]
    _keep_conflicts(connection, conflicts, batch_id=batch_id, received_at=received_at)
    _keep_rejections(connection, rejections, batch_id=batch_id, received_at=received_at)
    results = [_result(one, outcome) for one, outcome in zip(all_keyed, outcomes, strict=True)]
    results += [EventResult(r.index, "rejected", r.source, r.key, r.field, r.value, r.reason) for r in rejections]
    counts = _count_outcomes(connection, results, batch_id=batch_id, door=door, received_at=received_at)
    if rejections:
        results.sort(key=lambda result: result.index)
    return BatchResult(batch_id, tuple(results), **counts, contracts=tuple(sorted(contracts)))


def alias_locks(aliases: Iterable[str]) -> list[int]:
    """Return the numbers of the advisory locks that guard aliases, in the order to take them."""
    return sorted({hashlib.sha256(alias.encode()).digest()[0] % ALIAS_LOCKS for alias in aliases})


def _lock_customers(connection: sa.Connection, aliases: Sequence[str]) -> Customers:
    """Lock the customers of a batch by alias, and against `attribute_aliases` the aliases that nobody has.

    An alias may move while its customer is waited for; then the customer of now is locked too.
    """
    by_alias = _customers(connection, aliases)
    strangers = [alias for alias in aliases if alias not in by_alias]
    if strangers:
        connection.execute(_LOCK_STRANGERS, {"space": ALIAS_LOCK_SPACE, "locks": alias_locks(strangers)})
        by_alias |= _customers(connection, strangers)
    while True:
        minutes = connection.execute(_LOCK_CUSTOMERS, {"ids": sorted({*by_alias.values()})})
        found = Customers(by_alias, dict(minutes.all()))
        by_alias = _customers(connection, aliases)
        if by_alias == found.by_alias:
            return found


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
) -> tuple[Sequence[tuple[int, UsageEvent]], list[Rejection], Mapping[int, Sequence[_Value]]]:
    """Refuse events without what a metric of their type needs; return the others, and what expressions make of them.

    Only rules that can refuse an event look at it, so that counting costs nothing here.
    """
    strict = {name: [rule for rule in own if rule.can_refuse] for name, own in rules.items()}
    if not any(strict.values()):
        return events, [], {}
    good: list[tuple[int, UsageEvent]] = []
    refused: list[Rejection] = []
    computed: dict[int, list[_Value]] = {}
    needs = {name: _needs(own) for name, own in strict.items()}
    for position in events:
        index, event = position
        if _has_all(event, needs.get(event.type, ())):
            good.append(position)
            continue
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
            good.append(position)
    return good, refused, computed


def _needs(rules: Sequence[Rule]) -> tuple[str, ...] | None:
    """Return the numbers that suffice for all rules of a type; None where one wants to know more."""
    if any(rule.is_computed or rule.member is not None for rule in rules):
        return None
    named = (name for rule in rules for name in (rule.number, rule.version.amount_property))
    return tuple(sorted({name for name in named if name is not None}))


def _has_all(event: UsageEvent, numbers: Sequence[str] | None) -> bool:
    """Say whether an event has these numbers; with None it must be looked at."""
    if numbers is None:
        return False
    properties = event.properties
    for name in numbers:  # noqa: SIM110 - a generator would take twice as long, for every event
        if properties.get(name).__class__ is not Decimal:
            return False
    return True


def _parted(rules: Mapping[str, Sequence[Rule]]) -> tuple[dict[str, list[Rule]], list[Rule]]:
    """Part the rules into those that are counted while the events are in hand, by type, and the others."""
    plain = {name: [rule for rule in own if counts_plainly(rule)] for name, own in rules.items()}
    return plain, [rule for own in rules.values() for rule in own if not counts_plainly(rule)]


def _of_fresh(fresh: Iterable[Keyed], computed: Mapping[int, Sequence[_Value]]) -> Iterator[Computed]:
    for one in fresh:
        for metric_id, value in computed.get(one.index, ()):
            yield UUID(one.key), metric_id, value


def _insert_events(
    connection: sa.Connection, events: Sequence[Keyed], customers: Customers, *, batch_id: int, received_at: datetime
) -> list[Outcome]:
    """Insert the events whose keys are new and leave exactly those in the temporary table; return every outcome."""
    if not events:
        return []
    first: dict[str, Keyed] = {}
    for one in events:
        first.setdefault(one.key, one)
    months = {(one.event.timestamp.year, one.event.timestamp.month) for one in events}
    make_partitions_of(connection, [date(year, month, 1) for year, month in months])
    connection.execute(_INCOMING)
    _copy(connection, first.values(), customers, batch_id=batch_id, received_at=received_at)
    known: dict[str, str] = {}
    if connection.execute(_INSERT_KEYS).rowcount < len(first):
        known = dict(connection.execute(_DROP_KNOWN, {"batch_id": batch_id}).all())
    if len(known) < len(first):
        connection.execute(_INSERT_EVENTS)
    corrected = _corrected(connection, [one for one in events if one.payload != known.get(one.key, one.payload)])
    return [_outcome(one, first[one.key], known.get(one.key), corrected) for one in events]


def _corrected(connection: sa.Connection, differing: Sequence[Keyed]) -> set[tuple[str, str]]:
    """Return the keys with the contents that they have had by corrections: those are as well known as the first."""
    if not differing:
        return set()
    rows = connection.execute(_CORRECTED, {"keys": [one.key for one in differing]})
    return {(row.key_hash, row.payload_hash) for row in rows}


def _outcome(one: Keyed, first: Keyed, known: str | None, corrected: Container[tuple[str, str]]) -> Outcome:
    """Say what becomes of an event beside the first of its key in the batch, and what is `known` of the key before."""
    if known is None and one is first:
        return "accepted"
    same = one.payload == (first.payload if known is None else known) or (one.key, one.payload) in corrected
    return "duplicate" if same else "conflict"


def _copy(
    connection: sa.Connection, rows: Iterable[Keyed], customers: Customers, *, batch_id: int, received_at: datetime
) -> None:
    """Copy events into the temporary table, while the next ones are written."""
    common = f"{received_at.isoformat()}\t{batch_id}\n"
    owners = {alias: copied(customer_id) for alias, customer_id in customers.by_alias.items()}
    names: dict[str, str] = {}  # sources, aliases and types come again and again
    remaining = iter(rows)
    with driver_of(connection).cursor() as cursor, cursor.copy(_COPY) as copy:
        while portion := [*islice(remaining, ROWS_AT_ONCE)]:
            copy.write("".join([_line(one, owners, names, common) for one in portion]))


def _line(one: Keyed, owners: Mapping[str, str], names: dict[str, str], common: str) -> str:
    event, properties = one.event, one.properties
    source, alias, kind = (
        names.get(name) or _named(name, names) for name in (event.source, event.customer, event.type)
    )
    if "\\" in properties:
        properties = copied(properties)
    return (
        f"{one.moment}\t{one.key}\t{one.payload}\t{source}\t{copied(event.key)}\t{alias}"
        f"\t{owners.get(event.customer, NULL)}\t{kind}\t{properties}\t{common}"
    )


def _named(name: str, names: dict[str, str]) -> str:
    names[name] = copied(name)
    return names[name]


def _keep_conflicts(
    connection: sa.Connection, conflicts: Sequence[Keyed], *, batch_id: int, received_at: datetime
) -> None:
    rows = [
        {
            "key_hash": one.key,
            "payload_hash": one.payload,
            "source": one.event.source,
            "key": one.event.key,
            "event": event_json(one.event),
            "received_at": received_at,
            "batch_id": batch_id,
        }
        for one in sorted(conflicts, key=lambda one: (one.key, one.payload))
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


def _result(one: Keyed, outcome: Outcome) -> EventResult:
    index, event = one.index, one.event
    if outcome != "conflict":
        return EventResult(index, outcome, event.source, event.key)
    reason = "was sent before from this source with other content, which counts; send a correction under a new key"
    return EventResult(index, outcome, event.source, event.key, "key", event.key, reason)


_OUTCOMES: tuple[Outcome, ...] = ("accepted", "duplicate", "conflict", "rejected")

_CUSTOMERS = sa.text("select alias, customer_id from customer_alias where alias = any(:aliases)")

_LOCK_STRANGERS = sa.text(
    "select pg_advisory_xact_lock_shared(:space, number) from unnest(cast(:locks as integer[])) number"
)

_LOCK_CUSTOMERS = sa.text(
    "select customer_id, bucket_minutes from customer where customer_id = any(:ids) order by customer_id for key share"
)

# A transaction may take in several batches.
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
) on commit delete rows;
delete from usage_incoming
""")

_COPY = """
copy usage_incoming (ts, key_hash, payload_hash, source, key, customer_alias, customer_id, type, properties,
    received_at, batch_id) from stdin
"""

# Whoever inserts the same key at the same time is waited for; then the next statement sees that it is there.
_INSERT_KEYS = sa.text("""
insert into usage_key (key_hash, payload_hash, ts, batch_id)
select key_hash, payload_hash, ts, batch_id from usage_incoming order by key_hash
on conflict do nothing
""")

_DROP_KNOWN = sa.text("""
delete from usage_incoming i using usage_key k
where k.key_hash = i.key_hash and k.batch_id is distinct from :batch_id
returning replace(k.key_hash::text, '-', '') as key_hash, replace(k.payload_hash::text, '-', '') as payload_hash
""")

_CORRECTED = sa.text("""
select replace(key_hash::text, '-', '') as key_hash, replace(payload_hash::text, '-', '') as payload_hash
from usage_correction where key_hash = any(cast(:keys as uuid[])) and payload_hash is not null
""")

_INSERT_EVENTS = sa.text("""
insert into usage_event
    (ts, key_hash, source, key, customer_alias, customer_id, type, properties, received_at, batch_id)
select ts, key_hash, source, key, customer_alias, customer_id, type, properties, received_at, batch_id
from usage_incoming
""")

_KEEP_CONFLICT = sa.text("""
insert into usage_conflict (key_hash, payload_hash, source, key, event, received_at, batch_id)
values (cast(:key_hash as uuid), cast(:payload_hash as uuid), :source, :key, cast(:event as jsonb), :received_at,
    :batch_id)
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
