"""Detached months: their events are read from the files that were exported, and stand for those in the table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date
from typing import Any

import sqlalchemy as sa

from ledger import schema
from ledger.intake.archived import month_span
from ledger.intake.partitions import Archive, list_archives, read_archive, sha256_of_file
from ledger.verification.check import Check, Differences
from ledger.verification.raw import Event
from ledger.verification.scope import Scope


@dataclass(frozen=True, slots=True)
class Archives:
    """The detached months of a scope: those whose file can be read, and those whose events nobody can see here."""

    readable: tuple[Archive, ...]
    missing: tuple[date, ...]
    check: Check


def archives_in(connection: sa.Connection, scope: Scope) -> Archives:
    """Find the files of detached months, and compare each with the digest and the count that were recorded."""
    readable: list[Archive] = []
    missing: list[date] = []
    differences = Differences()
    detached = [one for one in list_archives(connection) if one.detached_at is not None]
    inside = [one for one in detached if scope.has(month_span(one.month).start)]
    for one in inside:
        if not one.path.is_file():
            missing.append(one.month)
        elif sha256_of_file(one.path) != one.sha256:
            missing.append(one.month)
            differences.add(f"the file {one.path} of {one.month:%Y-%m} is not the one that was exported")
        else:
            readable.append(one)
            rows = sum(len(page) for page in read_archive(one.path))
            if rows != one.events:
                differences.add(f"the file of {one.month:%Y-%m} holds {rows} events, not {one.events}")
    names = ", ".join(f"{month:%Y-%m}" for month in missing)
    unverified = f"the events of {names} cannot be read here: what follows from them is unverified" if missing else ""
    check = Check(
        "archived months are as they were exported",
        "months detached",
        str(len(inside)),
        "files with their digest",
        str(len(readable) - (differences.number if not missing else 0)),
        not differences.number,
        differences.text or unverified,
    )
    return Archives(tuple(readable), tuple(missing), check)


def archived_events(connection: sa.Connection, archives: Archives, scope: Scope) -> Iterator[Event]:
    """Yield the events of detached months, each with its key, as they stood in the table."""
    own = _aliases(connection, scope)
    for archive in archives.readable:
        for page in read_archive(archive.path):
            rows = [row for row in page if own is None or row["customer_alias"] in own or _belongs(row, scope)]
            yield from _with_keys(connection, rows)


def count_archived_keys(connection: sa.Connection, archives: Archives, scope: Scope) -> int:
    """Count the keys of the months that can be read; of the others, those whose event came after the month left."""
    number = 0
    event, key = schema.usage_event.c, schema.usage_key.c
    for archive in archives.readable:
        span = month_span(archive.month)
        if scope.contract_id is not None:
            number += sum(1 for one in archived_events(connection, archives, scope) if one.known_hash is not None)
            break
        query = sa.select(sa.func.count()).where(key.ts >= span.start, key.ts < span.end)
        number += connection.execute(query).scalar_one()
    for month in archives.missing:
        span = month_span(month)
        query = sa.select(sa.func.count()).where(event.ts >= span.start, event.ts < span.end, event.revision == 0)
        number += connection.execute(query).scalar_one()
    return number


def _aliases(connection: sa.Connection, scope: Scope) -> frozenset[str] | None:
    if scope.contract_id is None:
        return None
    alias = schema.customer_alias.c
    return frozenset(connection.execute(sa.select(alias.alias).where(alias.customer_id == scope.customer_id)).scalars())


def _belongs(row: dict[str, Any], scope: Scope) -> bool:
    return bool(row["customer_id"] == scope.customer_id)


def _with_keys(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> Iterator[Event]:
    hashes = [row["key_hash"].hex() for row in rows]
    keys = {row.key_hash.bytes: row for row in connection.execute(_KEYS, {"hashes": hashes})}
    corrections = {
        (row.key_hash.bytes, row.revision): row for row in connection.execute(_CORRECTIONS, {"hashes": hashes})
    }
    for row in rows:
        name = row["key_hash"]
        key = keys.get(name)
        known = corrections.get((name, row["revision"])) if row["revision"] else key
        payload = None if known is None or known.payload_hash is None else known.payload_hash.bytes
        yield Event(
            ts=row["ts"].astimezone(UTC),
            key_hash=name,
            source=row["source"],
            key=row["key"],
            customer_alias=row["customer_alias"],
            customer_id=row["customer_id"],
            type=row["type"],
            properties=row["properties"],
            received_at=row["received_at"].astimezone(UTC),
            batch_id=row["batch_id"],
            revision=row["revision"],
            begin=row["batch_id"] if row["attributed_batch_id"] is None else row["attributed_batch_id"],
            ended=row["ended_batch_id"],
            known_hash=None if key is None else name,
            known_payload=payload,
            known_ts=None if known is None else known.ts,
        )


_KEYS = sa.text("""
select key_hash, payload_hash, ts from usage_key where key_hash = any(cast(:hashes as uuid[]))
""")

_CORRECTIONS = sa.text("""
select key_hash, revision, payload_hash, ts from usage_correction where key_hash = any(cast(:hashes as uuid[]))
""")
