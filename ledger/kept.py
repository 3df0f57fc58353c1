"""Kept readings: the usage by which the open periods of a contract stand in the books, group by group.

A row holds all readings of one metric, group and period, interval by interval. They hold for as long as the digest of
what they were cut and rated by does.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.intake.readings import groups_of_text
from ledger.marks import Mark
from pricing.separable import Counted
from pricing.terms import Reading
from pricing.usage import Groups

KEPT = schema.kept_reading
BASIS = schema.kept_basis
PARTS = schema.kept_part
Pair = tuple[str, UUID]
"""A metric, and the hash of a group of it in the rollup."""
Figures = tuple[datetime, Decimal, int, Decimal]
"""What one interval counted: its start, the quantity, the events and the money that they carried."""
Part = tuple[datetime, str, datetime]
"""A period by its start, a product, and an interval by its start."""
Amounts = tuple[Decimal, Decimal]
"""The quantity and the amount that a product comes to."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of a metric, all its hashes in the rollup, and what is kept of it, by the start of the period."""

    metric_id: str
    groups: Groups
    rollup_hashes: frozenset[UUID]
    before: Mapping[datetime, tuple[Figures, ...]]


@dataclass(frozen=True, slots=True)
class Change:
    """The readings of a group in a period, as they are kept and as they are now."""

    group: Group
    period_start: datetime
    before: tuple[Reading, ...]
    now: tuple[Reading, ...]


def pairs_of(marks: Iterable[Mark]) -> frozenset[Pair] | None:
    """Return all that marks name; None where everything may have changed."""
    found: set[Pair] = set()
    for mark in marks:
        if mark.pairs is None:
            return None
        found |= mark.pairs
    return frozenset(found)


def holds(connection: sa.Connection, contract_id: str, digest: bytes) -> bool:
    """Say whether the readings of a contract are kept, and were cut and rated by what the digest stands for."""
    stored = connection.execute(
        sa.select(BASIS.c.digest).where(BASIS.c.contract_id == contract_id)
    ).scalar_one_or_none()
    return stored is not None and bytes(stored) == digest


def forget(connection: sa.Connection, contract_id: str) -> None:
    """Let what is kept of a contract hold no longer."""
    connection.execute(BASIS.delete().where(BASIS.c.contract_id == contract_id))


def kept_groups(
    connection: sa.Connection, contract_id: str, customer_id: str, pairs: Iterable[Pair]
) -> tuple[Group, ...]:
    """Return the groups that hashes in the rollup stand for, each once, with what is kept of them."""
    ordered = sorted(pairs)
    facts = {
        "contract_id": contract_id,
        "customer_id": customer_id,
        "metrics": [metric_id for metric_id, _ in ordered],
        "hashes": [group_hash for _, group_hash in ordered],
    }
    hashes: dict[tuple[str, Groups], set[UUID]] = defaultdict(set)
    for metric_id, group_hash, text in connection.execute(_GROUPS, facts):
        hashes[metric_id, groups_of_text(text)].add(group_hash)
    kept: dict[tuple[str, Groups], dict[datetime, tuple[Figures, ...]]] = defaultdict(dict)
    names = [*hashes]
    facts["metrics"] = [metric_id for metric_id, _ in names]
    facts["hashes"] = [_hash_of(groups) for _, groups in names]
    for row in connection.execute(_KEPT, facts):
        name = row.metric_id, groups_of_text(row.groups)
        hashes[name] |= {*row.rollup_hashes}
        kept[name][row.period_start] = tuple(zip(row.starts, row.quantities, row.events, row.amounts, strict=True))
    return tuple(Group(*name, frozenset(hashes[name]), kept[name]) for name in names)


def sum_of_others(
    connection: sa.Connection,
    contract_id: str,
    period_start: datetime,
    counted: Counted,
    *,
    groups: Groups,
    changes: Sequence[Change],
) -> tuple[Figures, ...]:
    """Return what the groups of a series have counted together in each interval, without those that changed."""
    facts = {
        "contract_id": contract_id,
        "period_start": period_start,
        "metric_id": counted.metric_id,
        "groups": _text_of(groups),
        "absent": [key for key in counted.keys if key not in dict(groups)],
        "changed": [_hash_of(change.group.groups) for change in changes],
    }
    return tuple((row.start, row.quantity, row.events, row.amount) for row in connection.execute(_OTHERS, facts))


def replace_readings(connection: sa.Connection, contract_id: str, changes: Sequence[Change]) -> None:
    """Keep what has changed as it is now; a group that has no reading any more has none kept."""
    gone = [
        {"contract_id": contract_id, "start": change.period_start, "metric": change.group.metric_id, "hash": key}
        for change in changes
        for key in [_hash_of(change.group.groups)]
        if not change.now
    ]
    if gone:
        connection.execute(_DELETE, gone)
    rows = [
        _row(contract_id, change.period_start, change.now, change.group.rollup_hashes)
        for change in changes
        if change.now
    ]
    if rows:
        row = insert(KEPT)
        columns = ("rollup_hashes", "starts", "quantities", "events", "amounts")
        replaced = {name: row.excluded[name] for name in columns}
        connection.execute(row.on_conflict_do_update(index_elements=[*KEPT.primary_key.columns], set_=replaced), rows)


def parts_of_days(connection: sa.Connection, contract_id: str) -> Mapping[Part, Amounts]:
    """Return what is kept of the parts of days that lots cut."""
    rows = connection.execute(_PARTS, {"contract_id": contract_id})
    return {(row.period_start, row.product_id, row.start_at): (row.quantity, row.amount) for row in rows}


def replace_parts(connection: sa.Connection, contract_id: str, parts: Mapping[Part, Amounts]) -> None:
    """Keep these parts of days as they are now, and the others as they were."""
    if not parts:
        return
    row = insert(PARTS)
    replaced = {name: row.excluded[name] for name in ("quantity", "amount")}
    upsert = row.on_conflict_do_update(index_elements=[*PARTS.primary_key.columns], set_=replaced)
    names = ("period_start", "product_id", "start_at", "quantity", "amount")
    rows = [
        {"contract_id": contract_id, **dict(zip(names, (*part, *amounts), strict=True))}
        for part, amounts in parts.items()
    ]
    connection.execute(upsert, rows)


def keep_all(
    connection: sa.Connection,
    contract_id: str,
    customer_id: str,
    *,
    digest: bytes,
    readings: Mapping[datetime, Sequence[Reading]],
    parts: Mapping[Part, Amounts],
) -> None:
    """Keep the readings of the open periods, by their starts, and `parts` of days, in place of all that was kept."""
    connection.execute(KEPT.delete().where(KEPT.c.contract_id == contract_id))
    if connection.execute(_PARTS, {"contract_id": contract_id}).first() is not None:
        connection.execute(PARTS.delete().where(PARTS.c.contract_id == contract_id))
    replace_parts(connection, contract_id, parts)
    hashes: dict[tuple[str, Groups], set[UUID]] = defaultdict(set)
    for metric_id, group_hash, text in connection.execute(_ALL_GROUPS, {"customer_id": customer_id}):
        hashes[metric_id, groups_of_text(text)].add(group_hash)
    rows = []
    for start, own in readings.items():
        by_group: dict[tuple[str, Groups], list[Reading]] = defaultdict(list)
        for reading in own:
            by_group[reading.metric_id, reading.groups].append(reading)
        rows += [_row(contract_id, start, part, hashes[name]) for name, part in by_group.items()]
    if rows:
        connection.execute(KEPT.insert(), rows)
    row = insert(BASIS).values(contract_id=contract_id, digest=digest)
    connection.execute(row.on_conflict_do_update(index_elements=[BASIS.c.contract_id], set_={"digest": digest}))


def _row(
    contract_id: str, period_start: datetime, readings: Sequence[Reading], rollup_hashes: Iterable[UUID]
) -> dict[str, object]:
    groups = readings[0].groups
    ordered = sorted(readings, key=lambda reading: reading.start)
    return {
        "contract_id": contract_id,
        "period_start": period_start,
        "metric_id": readings[0].metric_id,
        "groups_hash": _hash_of(groups),
        "groups": dict(groups),
        "rollup_hashes": sorted(rollup_hashes),
        "starts": [reading.start for reading in ordered],
        "quantities": [reading.quantity for reading in ordered],
        "events": [reading.events for reading in ordered],
        "amounts": [reading.amount for reading in ordered],
    }


def _text_of(groups: Groups) -> str:
    return msgspec.json.encode(dict(sorted(groups))).decode()


def _hash_of(groups: Groups) -> UUID:
    return UUID(bytes=sha256(_text_of(groups).encode()).digest()[:16])


_GROUPS = sa.text("""
select o.metric_id, o.group_hash, g.groups::text as groups
from unnest(cast(:metrics as text[]), cast(:hashes as uuid[])) as o (metric_id, group_hash)
cross join lateral (
    select r.groups from usage_rollup r
    where r.customer_id = :customer_id and r.metric_id = o.metric_id and r.group_hash = o.group_hash
    order by r.bucket_start limit 1
) g
""")

# Steps from group to group by the index, without reading the buckets in between.
_ALL_GROUPS = sa.text("""
with recursive found as (
    (
        select metric_id, group_hash, groups from usage_rollup where customer_id = :customer_id
        order by metric_id, group_hash limit 1
    )
    union all
    select n.* from found f cross join lateral (
        select r.metric_id, r.group_hash, r.groups from usage_rollup r
        where r.customer_id = :customer_id and (r.metric_id, r.group_hash) > (f.metric_id, f.group_hash)
        order by r.metric_id, r.group_hash limit 1
    ) n
)
select metric_id, group_hash, groups::text as groups from found
""")

_KEPT = sa.text("""
select k.period_start, k.metric_id, k.groups::text as groups, k.rollup_hashes, k.starts, k.quantities, k.events,
    k.amounts
from kept_reading k
where k.contract_id = :contract_id
    and (k.metric_id, k.groups_hash) in (
        select * from unnest(cast(:metrics as text[]), cast(:hashes as uuid[]))
    )
""")

_PARTS = sa.text(
    "select period_start, product_id, start_at, quantity, amount from kept_part where contract_id = :contract_id"
)

_OTHERS = sa.text("""
select u.start, sum(u.quantity) as quantity, sum(u.events)::bigint as events, sum(u.amount) as amount
from kept_reading k
cross join lateral unnest(k.starts, k.quantities, k.events, k.amounts) as u (start, quantity, events, amount)
where k.contract_id = :contract_id and k.period_start = :period_start and k.metric_id = :metric_id
    and k.groups @> cast(:groups as jsonb) and not jsonb_exists_any(k.groups, cast(:absent as text[]))
    and k.groups_hash <> all(cast(:changed as uuid[]))
group by u.start
""")

_DELETE = sa.text("""
delete from kept_reading
where contract_id = :contract_id and period_start = :start and metric_id = :metric and groups_hash = :hash
""")
