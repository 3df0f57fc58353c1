"""Bad input by every door: a clear answer with field, value and remedy, and nothing that is half applied."""

import base64
import dataclasses
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy as sa

from ledger import schema
from ledger.api_keys import create_api_key
from ledger.customers import Customer, create_customer
from ledger.intake.files import read_usage_file
from ledger.metrics import create_metric
from tests.metrics import metric

Json = dict[str, Any]
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
JSON: Final = "application/json"
GOOD: Final[Json] = {
    "source": "gate",
    "key": "good",
    "customer": "acme",
    "type": "llm.request",
    "timestamp": "2026-10-05T12:30:00Z",
    "properties": {"tokens": 100},
}


@dataclasses.dataclass(frozen=True, slots=True)
class Wrong:
    """What an answer says of one event."""

    field: str
    value: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Door:
    """How a door takes events, and how its answer names what is wrong; `names` are our fields by its own."""

    path: str
    kind: str
    write: Callable[[Sequence[Json]], bytes]
    read: Callable[[httpx.Response], list[Wrong]]
    status: int = 200
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    is_whole: bool = False
    is_single: bool = False


def ours(response: httpx.Response) -> list[Wrong]:
    return [Wrong(one["field"], one["value"], one["reason"]) for one in response.json()["results"]]


def of_metronome(response: httpx.Response) -> list[Wrong]:
    return [Wrong(one["field"], one["value"], one["message"]) for one in response.json()["errors"]]


def of_openmeter(response: httpx.Response) -> list[Wrong]:
    errors = response.json()["extensions"]["validationErrors"]
    return [Wrong(one["field"], one["value"], one["message"]) for one in errors]


def of_lago(response: httpx.Response) -> list[Wrong]:
    return [Wrong(field, said[1], said[1]) for field, said in response.json()["error_details"].items()]


def of_lagos_batch(response: httpx.Response) -> list[Wrong]:
    details = response.json()["error_details"].values()
    return [Wrong(field, said[1], said[1]) for one in details for field, said in one.items()]


def renamed(event: Json, names: Mapping[str, str], **more: object) -> Json:
    return {**more, **{names.get(name, name): value for name, value in event.items()}}


def seconds(event: Json) -> Json:
    """Write a time as Lago does; what is none stays as it is."""
    try:
        moment = datetime.fromisoformat(event["timestamp"])
        return {**event, "timestamp": (moment - EPOCH).total_seconds()}
    except (KeyError, TypeError, ValueError):
        return event


CLOUD: Final = {"key": "id", "customer": "subject", "timestamp": "time", "properties": "data"}
METRONOME: Final = {"key": "transaction_id", "customer": "customer_id", "type": "event_type"}
LAGO: Final = {"key": "transaction_id", "customer": "external_subscription_id", "type": "code"}


def cloud(event: Json) -> Json:
    return renamed(event, CLOUD, specversion="1.0")


def metronome(event: Json) -> Json:
    return renamed({name: value for name, value in event.items() if name != "source"}, METRONOME)


def lago(event: Json) -> Json:
    return renamed({name: value for name, value in seconds(event).items() if name != "source"}, LAGO)


def array(translate: Callable[[Json], Json]) -> Callable[[Sequence[Json]], bytes]:
    return lambda events: json.dumps([translate(event) for event in events]).encode()


def lines(events: Sequence[Json]) -> bytes:
    return "\n".join(map(json.dumps, events)).encode()


def first(translate: Callable[[Json], Json]) -> Callable[[Sequence[Json]], bytes]:
    return lambda events: json.dumps(translate(events[0])).encode()


DOORS: Final = {
    "JSON": Door("/v1/usage", JSON, array(dict), ours),
    "NDJSON": Door("/v1/usage", "application/x-ndjson", lines, ours),
    "CloudEvents in a batch": Door(
        "/v1/usage/cloudevents", "application/cloudevents-batch+json", array(cloud), ours
    ),
    "a structured CloudEvent": Door(
        "/v1/usage/cloudevents", "application/cloudevents+json", first(cloud), ours, status=422, is_single=True
    ),
    "OpenMeter": Door(
        "/api/v1/events", "application/cloudevents-batch+json", array(cloud), of_openmeter, 400, CLOUD, is_whole=True
    ),
    "Metronome": Door("/v1/ingest", JSON, array(metronome), of_metronome, 400, METRONOME, is_whole=True),
    "Lago": Door(
        "/api/v1/events", JSON, first(lambda event: {"event": lago(event)}), of_lago, 422, LAGO, is_single=True
    ),
    "Lago in a batch": Door(
        "/api/v1/events/batch",
        JSON,
        lambda events: json.dumps({"events": [lago(event) for event in events]}).encode(),
        of_lagos_batch,
        422,
        LAGO,
        is_whole=True,
    ),
}  # fmt: skip

AHEAD: Final = (datetime.now(UTC) + timedelta(hours=25)).replace(microsecond=0)
FAULTS: Final[list[tuple[str, Json, str, str, str]]] = [
    # what, what is changed, the field, a part of its value, a part of the remedy
    ("no key", {"key": None}, "key", "", "is missing; every event needs it"),
    ("a blank key", {"key": "  "}, "key", "", "not only spaces"),
    ("an over-long key", {"key": "k" * 300}, "key", "kkk", "must be 1 to 256 characters"),
    ("half a character", {"key": "k\0"}, "key", "k", "remove it"),
    ("no customer", {"customer": None}, "customer", "", "is missing; every event needs it"),
    ("a number for a text", {"customer": 7}, "customer", "7", "put it in quotes"),
    ("no type", {"type": None}, "type", "", "is missing; every event needs it"),
    ("a time that is none", {"timestamp": "yesterday"}, "timestamp", "yesterday", "must be"),
    ("a time far ahead", {"timestamp": AHEAD.isoformat()}, "timestamp", str(AHEAD.year), "more than 24 hours ahead"),
    ("a time long ago", {"timestamp": "1999-12-31T00:00:00Z"}, "timestamp", "1999", "is before 2000"),
    ("no number where one is summed", {"properties": {"tokens": "many"}}, "properties.tokens", "many", ""),
    ("nothing where a number is summed", {"properties": {}}, "properties.tokens", "", ""),
    ("a list", {"properties": {"tokens": [1]}}, "properties.tokens", "[1]", "must be text, a number"),
    ("too many digits", {"properties": {"tokens": 10**30}}, "properties.tokens", "1", "round it first"),
    ("no object", {"properties": 7}, "properties", "7", "must be a"),
    ("too much text", {"properties": {"tokens": 1, "note": "x" * 2000}}, "properties.note", "xxx", "shorten it"),
]  # fmt: skip


def bad(number: int, changed: Json) -> Json:
    event = {**GOOD, "key": f"bad-{number}", **changed}
    return {name: value for name, value in event.items() if value is not None}


@pytest.fixture
def sent(http: httpx.Client, engine: sa.Engine) -> httpx.Client:
    """A client with a key; there is a customer acme, and a metric that sums tokens."""
    with engine.begin() as connection:
        create_customer(connection, Customer("acme", "Acme"))
        create_metric(connection, metric("tokens", "llm.request", "sum", "tokens"))
        http.headers["authorization"] = f"Bearer {create_api_key(connection, 'test')[1]}"
    return http


def recorded(engine: sa.Engine) -> tuple[list[str], int]:
    """Return the keys of the events that are recorded, and how many totals there are."""
    with engine.begin() as connection:
        keys = sorted(connection.execute(sa.select(schema.usage_event.c.key)).scalars())
        known = connection.execute(sa.select(sa.func.count()).select_from(schema.usage_key)).scalar_one()
        totals = connection.execute(sa.select(sa.func.count()).select_from(schema.usage_rollup)).scalar_one()
    assert known == len(keys)
    return keys, totals


def named(field: str, names: Mapping[str, str]) -> str:
    head, dot, rest = field.partition(".")
    return names.get(head, head) + dot + rest


@pytest.mark.parametrize("name", DOORS)
def test_every_fault_is_told_by_field_value_and_remedy(name: str, sent: httpx.Client, engine: sa.Engine) -> None:
    door = DOORS[name]
    for number, (what, changed, field, value, remedy) in enumerate(FAULTS):
        events = [bad(number, changed)] if door.is_single else [bad(number, changed), GOOD]
        answer = sent.post(door.path, content=door.write(events), headers={"content-type": door.kind})
        assert answer.status_code == door.status, (what, answer.text)
        (wrong,) = [one for one in door.read(answer) if one.reason]
        assert wrong.field == named(field, door.names), (what, wrong)
        is_time_in_seconds = door.names is LAGO and field == "timestamp"
        assert value in wrong.value or is_time_in_seconds, (what, wrong)
        assert remedy in wrong.reason, (what, wrong)
    counted = [] if door.is_whole or door.is_single else ["good"]
    assert recorded(engine) == (counted, len(counted))


BROKEN = b'{"source": "gate", "key": '
NOT_JSON: Final = [
    ("broken JSON", BROKEN),
    ("NaN", b'[{"a": NaN}]'),
    ("not UTF-8", b'["\xff"]'),
    ("nothing", b""),
    ("endless nesting", b"[" * 5000 + b"]" * 5000),
    ("a number", b"7"),
    ("text", b'"events"'),
    ("null", b"null"),
]


@pytest.mark.parametrize("name", DOORS)
def test_a_body_that_is_no_request_is_refused_with_a_reason(name: str, sent: httpx.Client, engine: sa.Engine) -> None:
    door = DOORS[name]
    for what, body in NOT_JSON:
        answer = sent.post(door.path, content=body, headers={"content-type": door.kind})
        if name in ("JSON", "NDJSON") and answer.status_code == 200:  # each line, or each element, is told by itself
            assert all(one.reason for one in ours(answer)), what
            continue
        assert answer.status_code in (400, 422), (what, answer.text)
        assert len(answer.text) > 40, (what, answer.text)
    assert recorded(engine) == ([], 0)


@pytest.mark.parametrize("name", DOORS)
def test_an_exponent_beyond_all_numbers_is_refused(name: str, sent: httpx.Client, engine: sa.Engine) -> None:
    door = DOORS[name]
    body = door.write([bad(1, {"properties": {"tokens": 123321}})]).replace(b"123321", b"1e99999999999999999999")
    answer = sent.post(door.path, content=body, headers={"content-type": door.kind})
    assert answer.status_code in (200, 400, 422)
    assert recorded(engine) == ([], 0)


@pytest.mark.parametrize("name", DOORS)
def test_another_type_or_a_torn_encoding_is_refused(name: str, sent: httpx.Client, engine: sa.Engine) -> None:
    door = DOORS[name]
    body = door.write([GOOD])
    other = sent.post(door.path, content=body, headers={"content-type": "text/csv"})
    assert (other.status_code, other.headers["content-type"]) == (415, "application/problem+json")
    assert "text/csv" in other.json()["detail"]
    packed = gzip.compress(body)
    torn = sent.post(door.path, content=packed[:-9], headers={"content-type": door.kind, "content-encoding": "gzip"})
    assert (torn.status_code, "gzip" in torn.text) == (400, True)
    strange = sent.post(door.path, content=body, headers={"content-type": door.kind, "content-encoding": "br"})
    assert (strange.status_code, "gzip" in strange.text) == (415, True)
    assert recorded(engine) == ([], 0)
    whole = sent.post(door.path, content=packed, headers={"content-type": door.kind, "content-encoding": "gzip"})
    assert whole.is_success, whole.text
    assert recorded(engine) == (["good"], 1)


@pytest.mark.parametrize("name", DOORS)
def test_without_a_key_that_works_nothing_is_read(name: str, sent: httpx.Client, engine: sa.Engine) -> None:
    door = DOORS[name]
    headers = {"content-type": door.kind, "authorization": "Bearer mbk_wrong"}
    refused = sent.post(door.path, content=door.write([GOOD]), headers=headers)
    assert (refused.status_code, "meterbook apikey create" in refused.text) == (401, True)
    assert recorded(engine) == ([], 0)


@pytest.mark.parametrize(
    ("changed", "field", "remedy"),
    [
        ({"specversion": "0.3"}, "specversion", "must be '1.0'"),
        ({"specversion": None}, "specversion", "must be '1.0'"),
        ({"data": None, "data_base64": base64.b64encode(b"x").decode()}, "data_base64", "send a JSON object as data"),
        ({"datacontenttype": "text/xml"}, "datacontenttype", "send a JSON object as data"),
        ({"data": {"a": {"b": 1}, "a.b": 2, "tokens": 1}}, "properties.a.b", "is there twice"),
        ({"data": json.loads('{"a":' * 20 + "1" + "}" * 20)}, "properties.a.a", "is nested deeper than 8"),
    ],
)
def test_a_cloudevent_of_another_form_is_refused(
    sent: httpx.Client, engine: sa.Engine, changed: Json, field: str, remedy: str
) -> None:
    content = json.dumps({**cloud(GOOD), **changed}).encode()
    answer = sent.post(
        "/v1/usage/cloudevents", content=content, headers={"content-type": "application/cloudevents+json"}
    )
    (wrong,) = ours(answer)
    assert (answer.status_code, wrong.field.startswith(field), remedy in wrong.reason) == (422, True, True), wrong
    assert recorded(engine) == ([], 0)


def test_binary_mode_names_the_header_that_is_wrong(sent: httpx.Client, engine: sa.Engine) -> None:
    attributes = {f"ce-{name}": quote(str(value)) for name, value in cloud(GOOD).items() if name != "data"}
    for name, field in {"ce-id": "key", "ce-subject": "customer", "ce-type": "type", "ce-time": "timestamp"}.items():
        headers = {"content-type": JSON, **attributes}
        del headers[name]
        answer = sent.post("/v1/usage/cloudevents", content=b'{"tokens": 1}', headers=headers)
        assert (answer.status_code, [one.field for one in ours(answer)]) == (422, [field])
    del attributes["ce-specversion"]
    other = sent.post("/v1/usage/cloudevents", content=b"{}", headers={"content-type": JSON, **attributes})
    assert (other.status_code, "ce-specversion" in other.text) == (415, True)
    assert recorded(engine) == ([], 0)


@pytest.mark.parametrize(
    ("changed", "field", "remedy"),
    [
        ({"precise_total_amount_cents": "many"}, "precise_total_amount_cents", "must be a decimal number"),
        (
            {"precise_total_amount_cents": "1", "properties": {"precise_total_amount_cents": 1, "tokens": 1}},
            "precise_total_amount_cents",
            "is there twice",
        ),
        ({"timestamp": True}, "timestamp", "must be in seconds since 1970"),
        ({"timestamp": "9" * 30}, "timestamp", "must be in seconds since 1970"),
        ({"timestamp": "NaN"}, "timestamp", "must be in seconds since 1970"),
    ],
)
def test_a_lago_event_of_another_form_is_refused(
    sent: httpx.Client, engine: sa.Engine, changed: Json, field: str, remedy: str
) -> None:
    answer = sent.post("/api/v1/events", json={"event": {**lago(GOOD), **changed}})
    assert answer.status_code == 422
    (wrong,) = of_lago(answer)
    assert (wrong.field, remedy in wrong.reason) == (field, True), wrong
    assert recorded(engine) == ([], 0)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_files_name_what_is_wrong_as_the_other_doors_do(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"usage.{suffix}"
    faults = [fault for fault in FAULTS if fault[0] in ("no key", "an over-long key", "no customer", "a time long ago")]
    events = [bad(number, fault[1]) for number, fault in enumerate(faults)]
    if suffix == "jsonl":
        path.write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
    else:
        columns = [name for name in GOOD if name != "properties"]
        rows = [",".join(str(event.get(column, "")) for column in columns) for event in events]
        path.write_text("\n".join([",".join(columns), *rows]), encoding="utf-8")
    (batch,) = read_usage_file(path, received_at=datetime.now(UTC))
    assert batch.events == ()
    found = [(one.index, one.field) for one in batch.rejections]
    assert found == [(number, fault[2]) for number, fault in enumerate(faults)]
    assert all(fault[4] in one.reason for fault, one in zip(faults, batch.rejections, strict=True))
