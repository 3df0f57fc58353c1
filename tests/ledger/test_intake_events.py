"""What an event must look like, and what its sender is told when it does not."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import InvalidError
from ledger.intake.events import (
    MAX_BATCH_BYTES,
    ParsedBatch,
    UsageEvent,
    event_json,
    key_hash,
    keyed,
    parse_json,
    parse_ndjson,
    parse_objects,
    payload_hash,
    properties_json,
)
from ledger.intake.files import read_usage_file
from tests.ledger.usage import NOON, event


def read(value: object) -> UsageEvent:
    batch = parse_objects([value], received_at=NOON)
    assert batch.rejections == ()
    return batch.events[0][1]


def read_text(**changes: str) -> ParsedBatch:
    """One event as JSON text in which the named fields are replaced by raw text."""
    fields = {name: json.dumps(value) for name, value in event().items()} | changes
    body = "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"
    return parse_json(f"[{body}]".encode(), received_at=NOON)


@pytest.mark.parametrize(
    ("changes", "field", "remedy"),
    [
        ({"source": None}, "source", "is missing"),
        ({"source": ""}, "source", "1 to 256 characters"),
        ({"source": "   "}, "source", "not only spaces"),
        ({"source": 7}, "source", "put it in quotes"),
        ({"key": None}, "key", "is missing"),
        ({"key": "k" * 257}, "key", "1 to 256 characters"),
        ({"key": "a\x00b"}, "key", "remove it"),
        ({"key": "half \ud800"}, "key", "remove it"),
        ({"customer": None}, "customer", "is missing"),
        ({"customer": ["acme"]}, "customer", "must be text"),
        ({"type": None}, "type", "is missing"),
        ({"type": True}, "type", "must be text"),
        ({"timestamp": None}, "timestamp", "is missing"),
        ({"timestamp": "yesterday"}, "timestamp", "such as 2026-10-05T12:30:00Z"),
        ({"timestamp": "2026-02-30T00:00:00Z"}, "timestamp", "such as 2026-10-05T12:30:00Z"),
        ({"timestamp": 1791201600}, "timestamp", "must be text"),
        ({"timestamp": "2026-10-05T12:30:00"}, "timestamp", "end it with Z"),
        ({"timestamp": "2026-10-05"}, "timestamp", "end it with Z"),
        ({"timestamp": datetime(2026, 10, 5)}, "timestamp", "end it with Z"),  # noqa: DTZ001 -- naive on purpose
        ({"timestamp": "1999-12-31T23:59:59.999999Z"}, "timestamp", "before 2000"),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "timestamp", "before 2000"),
        ({"timestamp": "2026-10-06T12:00:00.000001Z"}, "timestamp", "24 hours ahead"),
        ({"timestamp": "9999-12-31T23:59:59-14:00"}, "timestamp", "24 hours ahead"),
        ({"colour": "red"}, "colour", "put it into properties"),
        ({"properties": []}, "properties", "flat object"),
        ({"properties": {f"p{n}": n for n in range(65)}}, "properties", "more than 64"),
        ({"properties": {"": 1}}, "properties", "rename it"),
        ({"properties": {"p" * 257: 1}}, "properties", "rename it"),
        ({"properties": {"p\x00": 1}}, "properties", "remove it"),
        ({"properties": {"p": None}}, "properties.p", "leave it out"),
        ({"properties": {"p": [1]}}, "properties.p", "must be text, a number, true or false"),
        ({"properties": {"p": {"q": 1}}}, "properties.p", "must be text, a number, true or false"),
        ({"properties": {"p": "x" * 1025}}, "properties.p", "shorten it"),
        ({"properties": {"p": "a\x00"}}, "properties.p", "remove it"),
        ({"properties": {"p": float("nan")}}, "properties.p", "must be a finite number"),
        ({"properties": {"p": float("-inf")}}, "properties.p", "must be a finite number"),
        ({"properties": {"p": Decimal("NaN")}}, "properties.p", "must be a finite number"),
        ({"properties": {"p": Decimal("sNaN")}}, "properties.p", "must be a finite number"),
        ({"properties": {"p": 10**26}}, "properties.p", "26 whole digits"),  # 27 digits
        ({"properties": {"p": Decimal("1e400")}}, "properties.p", "26 whole digits"),
        ({"properties": {"p": Decimal("1e-13")}}, "properties.p", "12 places"),
        ({"properties": {"p": Decimal("1." + "0" * 200 + "1")}}, "properties.p", "endless digits"),
        ({"properties": {"p": 0.1 + 0.2}}, "properties.p", "may have lost digits"),  # 0.30000000000000004
    ],
    ids=str,
)
def test_a_bad_event_is_refused_with_its_field_and_a_remedy(
    changes: dict[str, object], field: str, remedy: str
) -> None:
    bad = event("bad")
    bad |= changes
    bad = {name: value for name, value in bad.items() if value is not None}
    batch = parse_objects([event("before"), bad, event("after")], received_at=NOON)
    assert [(index, one.key) for index, one in batch.events] == [(0, "before"), (2, "after")]
    (rejection,) = batch.rejections
    assert (rejection.index, rejection.field) == (1, field)
    assert remedy in rejection.reason
    assert len(rejection.value) <= 100
    assert "\x00" not in rejection.value + rejection.raw
    (rejection.value + rejection.raw).encode()


def test_the_latest_and_the_earliest_moment_are_taken() -> None:
    assert read(event(timestamp="2026-10-06T12:00:00Z")).timestamp == NOON + timedelta(hours=24)
    assert read(event(timestamp="2000-01-01T00:00:00Z")).timestamp == datetime(2000, 1, 1, tzinfo=UTC)


def test_the_longest_numbers_are_kept_to_the_last_digit() -> None:
    longest = "99999999999999999999999999.999999999999"  # 26 whole digits, 12 places
    batch = read_text(properties=f'{{"p": {longest}, "q": -{longest}, "r": 0.10}}')
    assert batch.rejections == ()
    assert batch.events[0][1].properties == {"p": Decimal(longest), "q": Decimal("-" + longest), "r": Decimal("0.1")}


def test_a_rejection_knows_source_and_key_where_they_can_be_read() -> None:
    batch = parse_objects([event("k7", type=None), event(source=3), "text"], received_at=NOON)
    known = [(one.source, one.key, one.field) for one in batch.rejections]
    assert known == [("gateway", "k7", "type"), (None, "k1", "source"), (None, None, "event")]


def test_a_json_body_keeps_its_good_events_beside_one_that_is_no_number() -> None:
    good, huge = json.dumps(event("good")), json.dumps(event("huge")).replace("1250", "9" * 5000)
    batch = parse_json(f"[{good}, {huge}]".encode(), received_at=NOON)
    assert [one.key for _, one in batch.events] == ["good"]
    assert [(one.index, one.field) for one in batch.rejections] == [(1, "event")]


@pytest.mark.parametrize(
    ("body", "remedy"),
    [
        (b"", "array of events"),
        (b"{}", "must be a JSON array"),
        (b"[{]", "is not a JSON array"),
        (b'[{"properties": {"p": NaN}}]', "NaN is not JSON"),
        (b"[" * 100_000, "is not a JSON array"),
        (b"[" + b"0," * 10_000 + b"0]", "over 10000"),
        (b" " * (MAX_BATCH_BYTES + 1), "over 16777216"),
    ],
)
def test_a_body_that_is_no_batch_is_refused_whole(body: bytes, remedy: str) -> None:
    with pytest.raises(InvalidError, match=remedy):
        parse_json(body, received_at=NOON)


def test_ndjson_answers_line_by_line() -> None:
    lines = [json.dumps(event("a")), "", '{"properties": {"p": Infinity}}', "{", json.dumps(event("b")), "\xff"]
    batch = parse_ndjson("\n".join(lines).encode("latin-1"), received_at=NOON)
    assert [(index, one.key) for index, one in batch.events] == [(0, "a"), (3, "b")]
    assert [(one.index, one.field) for one in batch.rejections] == [(1, "event"), (2, "event"), (4, "event")]
    assert "not JSON" in batch.rejections[0].reason


@pytest.mark.parametrize(
    "changes",
    [
        {"timestamp": "2026-10-05T13:30:00+02:00"},
        {"timestamp": "2026-10-05T11:30:00.000Z"},
        {"timestamp": datetime(2026, 10, 5, 11, 30, tzinfo=UTC)},
        {"properties": {"input_tokens": 1250, "model": "large"}},
        {"properties": {"model": "large", "input_tokens": Decimal("1250.00")}},
        {"properties": {"model": "large", "input_tokens": Decimal("1.25e3")}},
        {"properties": {"model": "large", "input_tokens": 1250.0}},
    ],
    ids=str,
)
def test_the_same_event_written_differently_is_the_same(changes: dict[str, object]) -> None:
    assert payload_hash(read(event() | changes)) == payload_hash(read(event()))


@pytest.mark.parametrize(
    "changes",
    [
        {"customer": "other"},
        {"type": "llm.answer"},
        {"timestamp": "2026-10-05T11:30:00.000001Z"},
        {"properties": {"model": "large", "input_tokens": "1250"}},
        {"properties": {"model": "large", "input_tokens": 1251}},
        {"properties": {"model": "large", "input_tokens": True}},
        {"properties": {"model": "large"}},
    ],
    ids=str,
)
def test_an_event_that_says_something_else_is_another(changes: dict[str, object]) -> None:
    assert payload_hash(read(event() | changes)) != payload_hash(read(event()))


def test_the_border_between_source_and_key_counts() -> None:
    assert key_hash("ab", "c") != key_hash("a", "bc")


values = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20),
    st.booleans(),
    st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12), max_value=10**12),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text("abcäß \n", min_size=1).filter(str.strip), values, max_size=5))
def test_an_event_survives_its_own_json(properties: dict[str, object]) -> None:
    one = read(event(properties=properties))
    again = parse_json(f"[{event_json(one)}]".encode(), received_at=NOON)
    assert again.events == ((0, one),)
    assert payload_hash(again.events[0][1]) == payload_hash(one)
    both = keyed(0, one)
    assert (both.key, both.payload) == (key_hash(one.source, one.key).hex, payload_hash(one).hex)
    assert both.properties == properties_json(one)


@settings(max_examples=60, deadline=None)
@given(st.text('"Z,{}[] \\', min_size=1).filter(str.strip), st.text('"Z,{}[] \\', min_size=1).filter(str.strip))
def test_no_text_is_taken_for_the_end_of_another(customer: str, event_type: str) -> None:
    one = read(event(customer=customer, type=event_type))
    assert keyed(0, one).properties == properties_json(one)


def test_the_digests_of_events_never_change() -> None:
    # sha256 of ["gateway","k1"], and of ["acme","llm.request","2026-10-05T11:30:00Z",{"input_tokens":1.25E+3,"model":
    # "large"}]: what is recorded under them would be counted again if they did
    assert str(key_hash("gateway", "k1")) == "e31160b7-bc60-55a4-2428-0b4163bf8d71"
    assert str(payload_hash(read(event()))) == "0c568f21-d043-fea5-0992-369f05d767fe"


def test_a_csv_file_says_the_same_as_json(tmp_path: Path) -> None:
    file = tmp_path / "usage.csv"
    file.write_text(
        "source,key,customer,type,timestamp,model,input_tokens,cached,note\n"
        "gateway,k1,acme,llm.request,2026-10-05T11:30:00Z,large,1250.0,,\n"
        'gateway,k2,acme,llm.request,2026-10-05T11:30:00Z,"a, b",7,true,007\n'
        "gateway,,acme,llm.request,2026-10-05T11:30:00Z,large,1,,\n"
        "gateway,k4,acme,llm.request,2026-10-05T11:30:00Z,large,1,,,surplus\n",
        encoding="utf-8-sig",
    )
    first, second = read_usage_file(file, batch_size=2, received_at=NOON)
    assert first.events[0] == (0, read(event()))
    assert first.events[1][1].properties == {"model": "a, b", "input_tokens": 7, "cached": True, "note": "007"}
    assert [(one.index, one.field) for one in second.rejections] == [(2, "key"), (3, "cell 10")]


def test_a_file_of_json_lines_is_read_in_batches(tmp_path: Path) -> None:
    file = tmp_path / "usage.jsonl"
    file.write_text("\n\n".join(json.dumps(event(f"k{n}")) for n in range(5)) + "\nnonsense\n")
    batches = list(read_usage_file(file, batch_size=2, received_at=NOON))
    assert [index for batch in batches for index, _ in batch.events] == [0, 1, 2, 3, 4]
    assert [one.index for one in batches[2].rejections] == [5]


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("usage.xlsx", b"", "use .csv"),
        ("usage.csv", b"", "lacks the columns source, key"),
        ("usage.csv", b"source,key,customer,type\n", "lacks the columns timestamp"),
        ("usage.csv", b"source,key,customer,type,timestamp,a,a\n", "names a column twice"),
        ("usage.csv", b"source,key,customer,type,timestamp\n\xff\n", "save it as CSV in UTF-8"),
        ("usage.csv", b'source,key,customer,type,timestamp\n"open,\n', "save it as CSV in UTF-8"),
        ("usage.jsonl", b"x" * (1024 * 1024 + 1), "line 1 of usage.jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path: Path, name: str, content: bytes, remedy: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidError, match=remedy):
        list(read_usage_file(tmp_path / name, received_at=NOON))
