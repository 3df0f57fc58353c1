"""Usage in Parquet files: exact values, times with zones, and columns that cannot be read."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from ledger.errors import InvalidError
from ledger.intake.events import ParsedBatch, parse_json
from ledger.intake.files import count_events, read_usage_file

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
ZONED = pa.timestamp("us", tz="UTC")


def columns(**changed: Any) -> dict[str, Any]:  # noqa: ANN401 - pyarrow has no types
    """Two events as columns; a changed column is given as an array, or as None to leave it out."""
    base: dict[str, Any] = {
        "source": pa.array(["gate", "gate"]),
        "key": pa.array(["1", "2"]),
        "customer": pa.array(["acme", "acme"]),
        "type": pa.array(["llm.request", "llm.request"]),
        "timestamp": pa.array([NOON - timedelta(hours=1), NOON], ZONED),
    }
    return {name: column for name, column in {**base, **changed}.items() if column is not None}


def written(tmp_path: Path, named: Mapping[str, Any], *, row_group_size: int | None = None) -> Path:
    path = tmp_path / "usage.parquet"
    pq.write_table(pa.table(dict(named)), path, row_group_size=row_group_size)
    return path


def read(path: Path, *, batch_size: int = 5000, skip: int = 0) -> list[ParsedBatch]:
    return list(read_usage_file(path, batch_size=batch_size, received_at=NOON, skip=skip))


def test_a_parquet_file_says_the_same_as_json(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        columns(
            model=pa.array(["large", None]).dictionary_encode(),
            tokens=pa.array([1250, 7]),
            cost=pa.array([Decimal("0.10"), Decimal("12345678901234567890.25")], pa.decimal128(38, 2)),
            cached=pa.array([None, True]),
        ),
    )
    (batch,) = read(path)
    as_json = (
        b'[{"source":"gate","key":"1","customer":"acme","type":"llm.request","timestamp":"2026-10-05T11:00:00Z",'
        b'"properties":{"model":"large","tokens":1250,"cost":0.1}},'
        b'{"source":"gate","key":"2","customer":"acme","type":"llm.request","timestamp":"2026-10-05T14:00:00+02:00",'
        b'"properties":{"tokens":7,"cost":12345678901234567890.25,"cached":true}}]'
    )
    assert batch == parse_json(as_json, received_at=NOON)


@pytest.mark.parametrize(
    "properties",
    [
        pa.array([{"tokens": Decimal("1.5")}, {"tokens": None}], pa.struct([("tokens", pa.decimal128(10, 2))])),
        pa.array([[("tokens", Decimal("1.5"))], None], pa.map_(pa.string(), pa.decimal128(10, 2))),
        pa.array(['{"tokens": 1.50}', "{}"]),
    ],
    ids=["struct", "map", "JSON text"],
)
def test_properties_may_be_one_column(tmp_path: Path, properties: object) -> None:
    (batch,) = read(written(tmp_path, columns(properties=properties)))
    assert [event.properties for _, event in batch.events] == [{"tokens": Decimal("1.5")}, {}]


def test_whole_numbers_of_64_bits_stay_exact(tmp_path: Path) -> None:
    (batch,) = read(written(tmp_path, columns(tokens=pa.array([2**63 - 1, -(2**63)], pa.int64()))))
    assert [event.properties["tokens"] for _, event in batch.events] == [9223372036854775807, -9223372036854775808]


def test_a_float_counts_only_while_its_digits_are_surely_those_that_were_meant(tmp_path: Path) -> None:
    (batch,) = read(written(tmp_path, columns(cost=pa.array([0.1, 0.1 + 0.2], pa.float64()))))
    assert [event.properties for _, event in batch.events] == [{"cost": Decimal("0.1")}]
    assert [(one.index, one.field, one.value) for one in batch.rejections] == [
        (1, "properties.cost", "0.30000000000000004")
    ]


def test_a_time_of_another_zone_is_the_same_moment_and_finer_digits_are_cut(tmp_path: Path) -> None:
    nanoseconds = pa.array([1_791_201_600_123_456_789, None], pa.timestamp("ns", tz="Europe/Berlin"))
    (batch,) = read(written(tmp_path, columns(timestamp=nanoseconds)))
    # 1,791,201,600 s after 1970-01-01 is 2026-10-05T12:00:00 UTC: 20,731 days and 12 hours
    assert batch.events[0][1].timestamp == datetime(2026, 10, 5, 12, 0, 0, 123456, tzinfo=UTC)
    assert [(one.index, one.field) for one in batch.rejections] == [(1, "timestamp")]


@pytest.mark.parametrize("skip", range(8))
@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_reading_may_begin_after_any_event(tmp_path: Path, skip: int, batch_size: int) -> None:
    whole = pa.concat_tables([pa.table(columns())] * 4).drop_columns(["key"])  # 8 events
    whole = whole.append_column("key", pa.array([str(number) for number in range(8)]))
    path = tmp_path / "usage.parquet"
    pq.write_table(whole, path, row_group_size=3)
    found = [
        (index, event.key) for batch in read(path, batch_size=batch_size, skip=skip) for index, event in batch.events
    ]
    assert found == [(number, str(number)) for number in range(skip, 8)]
    assert count_events(path) == 8


@pytest.mark.parametrize("name", ["usage.csv", "usage.jsonl"])
def test_reading_text_may_begin_after_any_event(tmp_path: Path, name: str) -> None:
    if name.endswith("csv"):
        lines = ["source,key,customer,type,timestamp", *(f"g,{n},acme,t,2026-10-05T11:00:00Z" for n in range(5))]
    else:
        lines = [
            f'{{"source":"g","key":"{n}","customer":"acme","type":"t","timestamp":"2026-10-05T11:00:00Z"}}'
            for n in range(5)
        ]
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = [(index, event.key) for batch in read(path, batch_size=2, skip=2) for index, event in batch.events]
    assert found == [(2, "2"), (3, "3"), (4, "4")]


BAD = [
    ("a naive time", columns(timestamp=pa.array([NOON, NOON], pa.timestamp("us"))), "without a time zone; write it"),
    ("a day for a time", columns(timestamp=pa.array([1, 2], pa.date32())), "must be a time with a zone"),
    ("a column that is not there", columns(source=None), "lacks the columns source"),
    ("a number for a text", columns(key=pa.array([1, 2])), "column key of usage.parquet is int64; it must be text"),
    ("a list", columns(tags=pa.array([["a"], ["b"]])), "property tags of usage.parquet is list"),
    ("a struct in a struct", columns(properties=pa.array([{"a": {"b": 1}}] * 2)), "property a of usage.parquet"),
    ("both forms", columns(properties=pa.array(["{}", "{}"]), tokens=pa.array([1, 2])), "besides it tokens"),
    ("properties that are none", columns(properties=pa.array([1, 2])), "must be a struct, a map"),
]


@pytest.mark.parametrize(("named", "remedy"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_columns_that_cannot_be_read_say_what_to_do(tmp_path: Path, named: Mapping[str, Any], remedy: str) -> None:
    with pytest.raises(InvalidError, match=remedy):
        read(written(tmp_path, named))


def test_a_file_that_is_no_parquet_says_so(tmp_path: Path) -> None:
    path = tmp_path / "usage.parquet"
    path.write_bytes(b"PAR1 but broken")
    with pytest.raises(InvalidError, match="cannot be read as Parquet"):
        read(path)
    assert count_events(path) == 0


def test_properties_that_are_no_json_are_refused_event_by_event(tmp_path: Path) -> None:
    (batch,) = read(written(tmp_path, columns(properties=pa.array(["{broken", '{"tokens": 1}']))))
    assert [(one.index, one.field, one.value) for one in batch.rejections] == [(0, "properties", "{broken")]
    assert [index for index, _ in batch.events] == [1]
