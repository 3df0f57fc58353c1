"""Usage in Parquet files: rows in batches, their values exactly as the columns hold them."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, DecimalException
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from ledger.errors import InvalidError
from ledger.intake.events import TEXT_FIELDS

TIMESTAMP: Final = "timestamp"
PROPERTIES: Final = "properties"
COLUMNS = (*TEXT_FIELDS, TIMESTAMP)
PRECISION = pa.timestamp("us", tz="UTC")
"""What the database keeps; finer times are cut, as they are in JSON."""
_DECODE: Final = msgspec.json.Decoder(float_hook=Decimal).decode


def read_parquet(path: Path, *, batch_size: int, skip: int) -> Iterator[list[object]]:
    """Read the rows of a file, without the first `skip`, as the objects that `parse_objects` reads.

    The columns source, key, customer and type are text; timestamp is a time with a zone, or text with one. The
    properties are one column `properties` (a struct, a map, or JSON text), or all the other columns. Nulls are values
    that are not there. Integers and decimals stay exact; a float is the number its shortest text says, as long as that
    has 15 digits. Raises `InvalidError` for a file that is no Parquet, and for columns that cannot be read so.
    """
    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow)
            for rows in _record_batches(file, batch_size, skip):
                yield _objects(rows)
    except (pa.ArrowException, OSError) as error:
        raise InvalidError(f"{path.name} cannot be read as Parquet ({_first_line(error)}); write it again") from error


def count_rows(path: Path) -> int:
    """Return how many rows a file has, as its footer says; 0 when it has none that can be read."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError):
        return 0


def _record_batches(file: Any, batch_size: int, skip: int) -> Iterator[Any]:  # noqa: ANN401 - pyarrow has no types
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    first = 0
    while first < len(groups) and skip >= groups[first]:
        skip -= groups[first]
        first += 1
    for rows in file.iter_batches(batch_size=batch_size, row_groups=range(first, len(groups))):
        left = rows.slice(skip) if skip < rows.num_rows else rows.slice(rows.num_rows)
        skip -= rows.num_rows - left.num_rows
        if left.num_rows:
            yield left


def _check_columns(path: Path, schema: Any) -> None:  # noqa: ANN401 - pyarrow has no types
    names: list[str] = schema.names
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise InvalidError(f"{path.name} lacks the columns {', '.join(missing)}; rename the ones that hold them")
    if len({*names}) < len(names):
        raise InvalidError(f"{path.name} names a column twice; rename one")
    others = [name for name in names if name not in COLUMNS and name != PROPERTIES]
    if PROPERTIES in names and others:
        raise InvalidError(
            f"{path.name} has a column properties and besides it {', '.join(others)}; "
            "put all properties into one column, or each into its own"
        )
    for name in TEXT_FIELDS:
        if not _is_text(schema.field(name).type):
            raise InvalidError(f"column {name} of {path.name} is {schema.field(name).type}; it must be text (string)")
    _check_timestamp(path, schema.field(TIMESTAMP).type)
    for field in _property_fields(path, schema, others):
        if not _is_value(field.type):
            raise InvalidError(
                f"property {field.name} of {path.name} is {field.type}; it must be text, a number or a boolean: "
                "convert it, or leave it out"
            )


def _check_timestamp(path: Path, kind: Any) -> None:  # noqa: ANN401 - pyarrow has no types
    if pa.types.is_timestamp(kind) and kind.tz is None:
        raise InvalidError(
            f"column timestamp of {path.name} is {kind}, without a time zone; write it with one, "
            'for example as timestamp("us", tz="UTC")'
        )
    if not (pa.types.is_timestamp(kind) or _is_text(kind)):
        raise InvalidError(
            f'column timestamp of {path.name} is {kind}; it must be a time with a zone, such as timestamp("us", '
            'tz="UTC"), or text such as 2026-10-05T12:30:00Z'
        )


def _property_fields(path: Path, schema: Any, others: Sequence[str]) -> list[Any]:  # noqa: ANN401 - pyarrow has no types
    if PROPERTIES not in schema.names:
        return [schema.field(name) for name in others]
    kind = schema.field(PROPERTIES).type
    if pa.types.is_struct(kind):
        return [*kind]
    if pa.types.is_map(kind) and _is_text(kind.key_type):
        return [pa.field(PROPERTIES, kind.item_type)]
    if _is_text(kind) or pa.types.is_null(kind):
        return []
    raise InvalidError(
        f"column properties of {path.name} is {kind}; it must be a struct, a map with text as keys, or JSON text"
    )


def _is_text(kind: Any) -> bool:  # noqa: ANN401 - pyarrow has no types
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_value(kind: Any) -> bool:  # noqa: ANN401 - pyarrow has no types
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.types
    tests = (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_null)
    return _is_text(kind) or any(test(kind) for test in tests)


def _objects(rows: Any) -> list[object]:  # noqa: ANN401 - pyarrow has no types
    position = rows.schema.get_field_index(TIMESTAMP)
    moments = rows.column(position)
    if pa.types.is_timestamp(moments.type):
        rows = rows.set_column(position, TIMESTAMP, moments.cast(PRECISION, safe=False))
    return [_object(row) for row in rows.to_pylist()]


def _object(row: Mapping[str, Any]) -> dict[str, object]:
    event: dict[str, object] = {name: row[name] for name in COLUMNS if row[name] is not None}
    if PROPERTIES not in row:
        named = [(name, value) for name, value in row.items() if name not in COLUMNS]
    elif isinstance(row[PROPERTIES], str):
        event[PROPERTIES] = _decoded(row[PROPERTIES])
        return event
    else:
        properties = row[PROPERTIES] or {}
        named = [*properties.items()] if isinstance(properties, Mapping) else properties
    event[PROPERTIES] = {name: value for name, value in named if value is not None}
    return event


def _decoded(text: str) -> object:
    try:
        return _DECODE(text)
    except (ValueError, DecimalException, RecursionError):
        return text


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".: ")
