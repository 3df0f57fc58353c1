"""Usage files: CSV, JSON lines and Parquet, read in batches, so that their size does not matter."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from ledger.errors import InvalidError
from ledger.intake.events import MAX_BATCH_EVENTS, TEXT_FIELDS, ParsedBatch, parse_lines, parse_objects

MAX_LINE_BYTES = 1024 * 1024
COLUMNS = (*TEXT_FIELDS, "timestamp")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")

Item = TypeVar("Item")


def read_usage_file(
    path: Path, *, batch_size: int = 5000, received_at: datetime, skip: int = 0
) -> Iterator[ParsedBatch]:
    """Read a .csv, .jsonl, .ndjson or .parquet file in batches; positions count the file's events from 0.

    The first `skip` events are left out. A CSV has the columns source, key, customer, type and timestamp; every other
    column is a property: a number, true or false where the cell looks like one, none where it is empty, else text.
    Parquet is read as `read_parquet` says. Raises `InvalidError` for another extension and for a file that cannot be
    read on.
    """
    if not 0 < batch_size <= MAX_BATCH_EVENTS:
        raise InvalidError(f"batch_size {batch_size} must be 1 to {MAX_BATCH_EVENTS}")
    match _kind(path):
        case "csv":
            return _parsed(_read_csv(path, batch_size, skip), received_at, skip)
        case "lines":
            return _read_lines(path, batch_size, received_at, skip)
        case "parquet":
            return _parsed(_read_parquet(path, batch_size, skip), received_at, skip)


def count_events(path: Path) -> int:
    """Return about how many events a file holds, without reading them: its lines, or the rows of a Parquet file."""
    if _kind(path) == "parquet":
        from ledger.intake.parquet import count_rows  # noqa: PLC0415 - pyarrow takes long to load

        return count_rows(path)
    with path.open("rb") as content:
        return sum(block.count(b"\n") for block in iter(lambda: content.read(MAX_LINE_BYTES), b""))


def _kind(path: Path) -> Literal["csv", "lines", "parquet"]:
    match path.suffix.lower():
        case ".csv":
            return "csv"
        case ".jsonl" | ".ndjson":
            return "lines"
        case ".parquet":
            return "parquet"
        case suffix:
            raise InvalidError(
                f"file {path.name} ends in {suffix!r}; use .csv, .jsonl with one JSON event a line, or .parquet"
            )


def _parsed(batches: Iterable[Sequence[object]], received_at: datetime, first: int) -> Iterator[ParsedBatch]:
    for objects in batches:
        yield parse_objects(objects, received_at=received_at, first=first)
        first += len(objects)


def _read_parquet(path: Path, batch_size: int, skip: int) -> Iterator[list[object]]:
    from ledger.intake.parquet import read_parquet  # noqa: PLC0415 - pyarrow takes long to load

    return read_parquet(path, batch_size=batch_size, skip=skip)


def _read_lines(path: Path, batch_size: int, received_at: datetime, skip: int) -> Iterator[ParsedBatch]:
    first = skip
    for lines in _batched(islice(_lines(path), skip, None), batch_size):
        yield parse_lines(lines, received_at=received_at, first=first)
        first += len(lines)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise InvalidError(
                    f"line {number} of {path.name} is over {MAX_LINE_BYTES} bytes; write one event a line"
                )
            if line.strip():
                yield line


def _read_csv(path: Path, batch_size: int, skip: int) -> Iterator[list[dict[str, object]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, strict=True)
        try:
            header = _header(path, next(rows, []))
            for batch in _batched(islice((row for row in rows if row), skip, None), batch_size):
                yield [_object(header, row) for row in batch]
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidError(
                f"{path.name} cannot be read after line {rows.line_num} ({error}); save it as CSV in UTF-8"
            ) from error


def _header(path: Path, names: list[str]) -> list[str]:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise InvalidError(f"{path.name} lacks the columns {', '.join(missing)}; its first line must name them")
    if len({*names}) < len(names):
        raise InvalidError(f"{path.name} names a column twice in its first line; rename one")
    return names


def _object(header: list[str], row: list[str]) -> dict[str, object]:
    cells = dict(zip(header, row, strict=False))
    event: dict[str, object] = {name: cells[name] for name in COLUMNS if cells.get(name)}
    event |= {f"cell {n}": cell for n, cell in enumerate(row[len(header) :], start=len(header) + 1)}
    event["properties"] = {name: _value(cell) for name, cell in cells.items() if name not in COLUMNS and cell}
    return event


def _value(cell: str) -> str | bool | Decimal:
    if cell in ("true", "false"):
        return cell == "true"
    return Decimal(cell) if NUMBER.fullmatch(cell) else cell


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
