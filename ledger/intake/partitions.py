"""Months of usage events: their partitions made ahead, and old ones exported to Parquet and taken out of the table.

Keys, totals and members of a month stay for ever: what is sent again is known, and balances do not change. Months leave
oldest first, so that one moment (`archived_until`) says where the events begin.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import UUID

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import sqlalchemy as sa

from ledger import schema
from ledger.checks import check_aware
from ledger.errors import InvalidError, NotFoundError, StateError
from ledger.intake.archived import month_span
from ledger.intake.batches import make_partitions_of

MONTHS_AHEAD = 2
"""How many months after the current one have their partition ready."""

ROWS_AT_ONCE = 10_000
BYTES_AT_ONCE = 1024 * 1024

ARCHIVE = schema.usage_archive
MOMENTS = pa.timestamp("us", tz="UTC")
COLUMNS = pa.schema(
    [
        pa.field("ts", MOMENTS, nullable=False),
        pa.field("key_hash", pa.binary(16), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("customer_alias", pa.string(), nullable=False),
        pa.field("customer_id", pa.string()),
        pa.field("type", pa.string(), nullable=False),
        pa.field("properties", pa.string(), nullable=False),
        pa.field("received_at", MOMENTS, nullable=False),
        pa.field("batch_id", pa.int64(), nullable=False),
        pa.field("revision", pa.int16(), nullable=False),
        pa.field("attributed_batch_id", pa.int64()),
        pa.field("ended_batch_id", pa.int64()),
    ]
)
"""All columns of an event as an archive holds them; properties are JSON text, so that numbers stay exact."""

MonthState = Literal["ahead", "kept", "exported", "detached"]


@dataclass(frozen=True, slots=True)
class UsageMonth:
    """A month (UTC) of usage: the events in the table and their bytes; of a detached one, the events in its file."""

    month: date
    state: MonthState
    events: int
    size: int
    path: str | None


@dataclass(frozen=True, slots=True)
class Archive:
    """An exported month: the number of event rows, and the file with its sha256."""

    month: date
    events: int
    path: Path
    sha256: bytes
    detached_at: datetime | None


class RowsDigest(NamedTuple):
    """The number of rows, and a sum over them that any other set of rows (by key and revision) misses."""

    rows: int
    digest: int


def make_partitions(connection: sa.Connection, *, at: datetime) -> tuple[date, ...]:
    """Make the partitions of the month of `at` and of the next two where they are missing; return the three months."""
    check_aware("at", at)
    months = [at.astimezone(UTC).date().replace(day=1)]
    for _ in range(MONTHS_AHEAD):
        months.append(month_span(months[-1]).end.date())
    make_partitions_of(connection, months)
    return tuple(months)


def list_archives(connection: sa.Connection) -> tuple[Archive, ...]:
    """Return the exported months in order of time."""
    rows = connection.execute(sa.select(ARCHIVE).order_by(ARCHIVE.c.month)).all()
    return tuple(Archive(row.month, row.events, Path(row.path), bytes(row.sha256), row.detached_at) for row in rows)


def list_months(connection: sa.Connection, *, at: datetime) -> tuple[UsageMonth, ...]:
    """Return all months that have a partition or were exported, in order of time."""
    archives = {one.month: one for one in list_archives(connection)}
    sizes = {_month_in(row.name): row.size for row in connection.execute(_PARTITIONS)}
    found = []
    for month in sorted({*archives, *sizes}):
        archive = archives.get(month)
        path = None if archive is None else str(archive.path)
        if archive is not None and archive.detached_at is not None:
            found.append(UsageMonth(month, "detached", archive.events, sizes.get(month, 0), path))
            continue
        state: MonthState = "ahead" if month_span(month).start > at else "kept" if archive is None else "exported"
        found.append(UsageMonth(month, state, _count(connection, month), sizes[month], path))
    return tuple(found)


def months_to_archive(connection: sa.Connection, *, keep: int, at: datetime) -> tuple[date, ...]:
    """Return the months that leave by a policy of keeping `keep` whole months before the current one, oldest first."""
    if keep < 1:
        raise InvalidError(f"keep {keep} months: at least 1 month must be kept; correct the setting")
    kept = at.astimezone(UTC).year * 12 + at.astimezone(UTC).month - 1 - keep
    return tuple(
        one.month
        for one in list_months(connection, at=at)
        if one.state in ("kept", "exported") and one.month.year * 12 + one.month.month - 1 < kept
    )


def archive(connection: sa.Connection, month: date, directory: Path, *, at: datetime) -> Archive:
    """Export a month's events to a Parquet file in `directory`, read it back, and record it.

    Exporting again replaces the file of a month that is not detached. Raises `StateError` for a month that is not over
    at `at`, that is detached, or whose usage may still change, and for a file that does not hold what was written.
    """
    month = month.replace(day=1)
    _check_may_leave(connection, month, at)
    make_partitions_of(connection, [month])  # what lies in the default partition moves to where it belongs
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"usage_event_{month:%Y_%m}.parquet"
    unfinished = path.with_suffix(".unfinished")
    written = _write(connection, month, unfinished)
    if digest_of_file(unfinished) != written:
        raise StateError(f"the export of {month:%Y-%m} does not hold what was written; check the disk and repeat")
    unfinished.replace(path)
    found = Archive(month, written.rows, path.resolve(), sha256_of_file(path), None)
    connection.execute(_RECORD, _recorded(found, at))
    return found


def detach(connection: sa.Connection, month: date, *, at: datetime) -> None:
    """Take an exported month out of the table, after comparing the file with the rows once more.

    Raises `NotFoundError` for a month that is not exported; `StateError` when an older month is in the table, when the
    month's usage may still change, or when file and rows differ.
    """
    month = month.replace(day=1)
    found = next((one for one in list_archives(connection) if one.month == month), None)
    if found is None:
        raise NotFoundError(f"month {month:%Y-%m} is not exported; archive it first")
    _check_may_leave(connection, month, at)
    older = [one.month for one in list_months(connection, at=at) if one.month < month and one.state != "detached"]
    if older:
        raise StateError(f"month {older[0]:%Y-%m} is older than {month:%Y-%m} and still in the table; detach it first")
    if not found.path.is_file() or sha256_of_file(found.path) != found.sha256:
        raise StateError(f"the file {found.path} of {month:%Y-%m} is missing or was changed; archive the month again")
    digest = digest_of_file(found.path)
    if digest != _digest(_rows(connection, month)):
        raise StateError(f"events of {month:%Y-%m} came or changed after its export; archive the month again")
    connection.execute(_DETACH, {"month": month, "rows": digest.rows, "digest": digest.digest})
    connection.execute(ARCHIVE.update().where(ARCHIVE.c.month == month).values(detached_at=at))


def read_archive(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the events of an exported month as rows by column, some thousand at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
            yield batch.to_pylist()


def digest_of_file(path: Path) -> RowsDigest:
    """Return the digest of the rows of an exported month."""
    return _digest(read_archive(path))


def sha256_of_file(path: Path) -> bytes:
    """Return the sha256 of a file's bytes."""
    digest = sha256()
    with path.open("rb") as file:
        while part := file.read(BYTES_AT_ONCE):
            digest.update(part)
    return digest.digest()


def _write(connection: sa.Connection, month: date, path: Path) -> RowsDigest:
    with pq.ParquetWriter(path, COLUMNS, compression="zstd") as writer:

        def written() -> Iterator[list[dict[str, Any]]]:
            for rows in _rows(connection, month):
                writer.write_table(pa.Table.from_pylist(rows, schema=COLUMNS))
                yield rows

        return _digest(written())


def _rows(connection: sa.Connection, month: date) -> Iterator[list[dict[str, Any]]]:
    event = schema.usage_event.c
    columns = [
        sa.cast(event[name], sa.Text).label(name) if name == "properties" else event[name] for name in COLUMNS.names
    ]
    span = month_span(month)
    query = sa.select(*columns).where(event.ts >= span.start, event.ts < span.end).order_by(event.batch_id, event.ts)
    streamed = connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE})
    for rows in streamed.mappings().partitions():
        yield [{**row, "key_hash": row["key_hash"].bytes} for row in rows]


def _digest(pages: Iterator[list[dict[str, Any]]]) -> RowsDigest:
    """Return the digest of rows as the function `usage_detach` computes it."""
    number, digest = 0, 0
    for rows in pages:
        for row in rows:
            marks = (row["customer_id"], row["attributed_batch_id"], row["ended_batch_id"])
            texts = (str(UUID(bytes=row["key_hash"])), row["revision"], *("" if one is None else one for one in marks))
            content = "|".join(map(str, texts)).encode()
            digest += int.from_bytes(sha256(content).digest()[:8], "big", signed=True)
        number += len(rows)
    return RowsDigest(number, digest)


# --- when a month may leave ---------------------------------------------------------------------------------------


def _check_may_leave(connection: sa.Connection, month: date, at: datetime) -> None:
    check_aware("at", at)
    span = month_span(month)
    if span.end > at:
        raise StateError(f"month {month:%Y-%m} is not over before {span.end.isoformat()}; wait until then")
    is_detached = sa.select(ARCHIVE.c.month).where(ARCHIVE.c.month == month, ARCHIVE.c.detached_at.is_not(None))
    if connection.execute(is_detached).first() is not None:
        raise StateError(f"month {month:%Y-%m} is detached already; its events are in its file")
    for statement, sentence in _OBSTACLES:
        names: Sequence[str] = (
            connection.execute(sa.text(statement), {"since": span.start, "until": span.end}).scalars().all()
        )
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise StateError(f"month {month:%Y-%m} stays: {sentence.format(name=names[0] + more)}")


def _month_in(name: str) -> date:
    year, month = name.removeprefix("usage_event_").split("_")
    return date(int(year), int(month), 1)


def _count(connection: sa.Connection, month: date) -> int:
    event, span = schema.usage_event.c, month_span(month)
    query = sa.select(sa.func.count()).where(event.ts >= span.start, event.ts < span.end)
    number: int = connection.execute(query).scalar_one()
    return number


def _recorded(found: Archive, at: datetime) -> dict[str, object]:
    return {
        "month": found.month,
        "events": found.events,
        "path": str(found.path),
        "sha256": found.sha256,
        "at": at,
    }


_DETACH = sa.text("select usage_detach(cast(:month as date), cast(:rows as bigint), cast(:digest as numeric))")

_RECORD = sa.text("""
insert into usage_archive (month, events, path, sha256, exported_at) values (:month, :events, :path, :sha256, :at)
on conflict (month) do update set
    events = excluded.events, path = excluded.path, sha256 = excluded.sha256, exported_at = excluded.exported_at
where usage_archive.detached_at is null
""")

_PARTITIONS = sa.text("""
select c.relname as name, pg_total_relation_size(c.oid) as size
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = to_regclass('public.usage_event') and c.relname <> 'usage_event_default'
""")

_OBSTACLES = (
    (
        """
        select k.contract_id from contract k
        where k.start_at < :until and (k.end_at is null or k.end_at > :since)
            and coalesce((
                select max(p.end_at) from contract_period p
                where p.contract_id = k.contract_id and p.state = 'invoiced'
            ), k.start_at) < least(:until, coalesce(k.end_at, :until))
        order by k.contract_id
        """,
        "a period in it is not invoiced yet (contract {name}); invoice it first",
    ),
    (
        """
        select distinct d.contract_id from usage_dirty d join contract k on k.contract_id = d.contract_id
        where k.start_at < :until and (k.end_at is null or k.end_at > :since)
        order by d.contract_id
        """,
        "usage of contract {name} waits for its accrual; it is taken within a minute while the workers run",
    ),
    (
        """
        select distinct a.contract_id from accrued a
        join contract_period p on p.contract_id = a.contract_id and p.start_at = a.period_start
        where a.kind = 'usage' and p.state <> 'open' and p.start_at < :until and p.end_at > :since
            and a.amount <> coalesce(a.billed_amount, 0)
        order by a.contract_id
        """,
        "late usage of contract {name} is on no invoice yet; the next invoice bills it",
    ),
    (
        """
        select b.backfill_id from backfill b
        where b.state = 'open' and b.start_at < :until and b.end_at > :since order by b.backfill_id
        """,
        "backfill {name} is open; commit or revert it first",
    ),
)
"""What keeps a month in the table: a query for names, and the sentence with its remedy."""
