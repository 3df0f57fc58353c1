"""The doors for those who come from elsewhere, through their published clients: only the address is another."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import metronome
import pytest
import sqlalchemy as sa
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from lago_python_client.client import Client as LagoClient
from lago_python_client.exceptions import LagoApiError
from lago_python_client.models import BatchEvent, Event
from lago_python_client.services.json import to_json
from metronome.types.v1.usage_ingest_params import Usage

from activities.settings import Settings
from ledger import schema
from ledger.api_keys import create_api_key
from ledger.customers import Customer, create_customer
from ledger.intake.events import properties_of
from ledger.metrics import create_metric
from tests.admin.away import database_away
from tests.admin.conftest import serving
from tests.metrics import metric

AT = "2026-10-05T12:30:00Z"
AT_SECONDS = 1_791_203_400  # 20,731 days after 1970-01-01 at 86,400 s, and 12:30:00, which are 45,000 s


@pytest.fixture
def key(engine: sa.Engine) -> str:
    """The secret of an API key; there is a customer acme, and a metric that sums tokens."""
    with engine.begin() as connection:
        create_customer(connection, Customer("acme", "Acme"))
        create_metric(connection, metric("tokens", "llm.request", "sum", "tokens"))
        return create_api_key(connection, "test")[1]


@pytest.fixture
def usage_of_metronome(http: httpx.Client, key: str) -> Iterator[metronome.Metronome]:
    with metronome.Metronome(bearer_token=key, base_url=str(http.base_url), max_retries=0) as client:
        yield client


@pytest.fixture
def lago(http: httpx.Client, key: str) -> LagoClient:
    return LagoClient(api_key=key, api_url=str(http.base_url))


@pytest.fixture
def sent(http: httpx.Client, key: str) -> httpx.Client:
    """A plain client that sends the key."""
    http.headers["authorization"] = f"Bearer {key}"
    return http


def events(engine: sa.Engine) -> list[tuple[str, str, str, str, datetime, dict[str, Any]]]:
    """Return what is recorded, by key."""
    event = schema.usage_event.c
    chosen = (event.source, event.key, event.customer_alias, event.type, event.ts, sa.cast(event.properties, sa.Text))
    with engine.begin() as connection:
        rows = connection.execute(sa.select(*chosen).order_by(event.key)).all()
    return [(*row[:5], properties_of(row[5])) for row in rows]


def keys(engine: sa.Engine) -> list[str]:
    return [row[1] for row in events(engine)]


# --- Metronome ----------------------------------------------------------------------------------------------------


def usage(transaction_id: str, /, **properties: object) -> Usage:
    return {
        "transaction_id": transaction_id,
        "customer_id": "acme",
        "event_type": "llm.request",
        "timestamp": AT,
        "properties": properties or {"tokens": "100"},
    }


def test_metronomes_client_sends_usage_with_its_numbers_as_text(
    usage_of_metronome: metronome.Metronome, engine: sa.Engine
) -> None:
    usage_of_metronome.v1.usage.ingest(
        usage=[usage("1", tokens="1250.50", model="large", version="007", cached=True, at={"zone": "eu", "rack": 4})]
    )
    properties = {
        "tokens": Decimal("1250.5"), "model": "large", "version": "007", "cached": True, "at.zone": "eu", "at.rack": 4
    }  # fmt: skip
    at = datetime(2026, 10, 5, 12, 30, tzinfo=UTC)
    assert events(engine) == [("metronome", "1", "acme", "llm.request", at, properties)]


def test_metronomes_client_may_send_again_what_it_sent(
    usage_of_metronome: metronome.Metronome, engine: sa.Engine
) -> None:
    usage_of_metronome.v1.usage.ingest(usage=[usage("1"), usage("2")])
    usage_of_metronome.v1.usage.ingest(usage=[usage("1"), usage("2"), usage("3"), usage("3")])
    assert keys(engine) == ["1", "2", "3"]


def test_metronomes_client_is_told_what_is_wrong_and_nothing_is_recorded(
    usage_of_metronome: metronome.Metronome, engine: sa.Engine
) -> None:
    usage_of_metronome.v1.usage.ingest(usage=[usage("1")])
    with pytest.raises(metronome.BadRequestError, match="sent before from this source with other content") as refused:
        usage_of_metronome.v1.usage.ingest(usage=[usage("2"), usage("1", tokens="7")])
    assert isinstance(refused.value.body, dict)
    assert [(one["index"], one["transaction_id"]) for one in refused.value.body["errors"]] == [(1, "1")]
    with pytest.raises(metronome.BadRequestError, match="tokens"):
        usage_of_metronome.v1.usage.ingest(usage=[usage("2"), usage("3", tokens="many")])
    with pytest.raises(metronome.BadRequestError, match="1 to 100 events"):
        usage_of_metronome.v1.usage.ingest(usage=[usage(str(number)) for number in range(101)])
    with pytest.raises(metronome.BadRequestError, match="1 to 100 events"):
        usage_of_metronome.v1.usage.ingest(usage=[])
    assert keys(engine) == ["1"]
    with engine.begin() as connection:
        rejected = connection.execute(sa.select(schema.usage_rejected.c.key, schema.usage_rejected.c.field)).all()
    assert [tuple(one) for one in rejected] == [("3", "properties.tokens")]  # refused whole, but noted for people


def test_metronomes_client_needs_a_key_that_works(http: httpx.Client) -> None:
    client = metronome.Metronome(bearer_token="mbk_wrong", base_url=str(http.base_url), max_retries=0)  # noqa: S106
    with client, pytest.raises(metronome.AuthenticationError):
        client.v1.usage.ingest(usage=[usage("1")])


# --- Lago ---------------------------------------------------------------------------------------------------------


def lago_event(transaction_id: str, **changed: object) -> Event:
    named: dict[str, Any] = {
        "transaction_id": transaction_id,
        "external_subscription_id": "acme",
        "code": "llm.request",
        "timestamp": AT_SECONDS,
        "properties": {"tokens": 100},
    }
    return Event(**{**named, **changed})


def test_lagos_client_sends_an_event_and_gets_it_back(lago: LagoClient, engine: sa.Engine) -> None:
    answer = lago.events.create(
        lago_event("1", timestamp=f"{AT_SECONDS}.125", precise_total_amount_cents="1234.56", properties={"tokens": "7"})
    )
    assert answer is not None
    assert (answer.transaction_id, answer.external_subscription_id, answer.code) == ("1", "acme", "llm.request")
    assert (answer.timestamp, answer.precise_total_amount_cents) == ("2026-10-05T12:30:00.125Z", "1234.56")
    assert answer.properties == {"tokens": "7"}
    at = datetime(2026, 10, 5, 12, 30, 0, 125_000, tzinfo=UTC)
    properties = {"tokens": Decimal(7), "precise_total_amount_cents": Decimal("1234.56")}
    assert events(engine) == [("lago", "1", "acme", "llm.request", at, properties)]


def test_lagos_client_may_leave_time_and_properties_out(lago: LagoClient, engine: sa.Engine) -> None:
    before = datetime.now(UTC)
    assert lago.events.create(lago_event("1", code="login", timestamp=None, properties=None)) is not None
    ((_, _, _, _, at, properties),) = events(engine)
    assert before <= at <= datetime.now(UTC)
    assert properties == {}


def test_lagos_client_is_refused_an_event_that_came_before(lago: LagoClient, engine: sa.Engine) -> None:
    lago.events.create(lago_event("1"))
    with pytest.raises(LagoApiError) as again:
        lago.events.create(lago_event("1"))
    assert again.value.status_code == 422
    assert again.value.response["error_details"] == {"transaction_id": ["value_already_exist"]}
    with pytest.raises(LagoApiError) as changed:
        lago.events.create(lago_event("1", properties={"tokens": 7}))
    code, reason = changed.value.response["error_details"]["transaction_id"]
    assert code == "value_already_exist"
    assert "with other content" in reason
    assert keys(engine) == ["1"]


def test_lagos_batches_are_taken_whole_or_not_at_all(lago: LagoClient, engine: sa.Engine) -> None:
    lago.events.batch_create(BatchEvent(events=[lago_event("1"), lago_event("2")]))
    assert keys(engine) == ["1", "2"]
    wrong = [lago_event("3"), lago_event("2"), lago_event("4", properties={"tokens": "many"})]
    with pytest.raises(LagoApiError) as refused:
        lago.events.batch_create(BatchEvent(events=wrong))
    body = refused.value.response
    assert (body["status"], body["error"], body["code"]) == (422, "Unprocessable Entity", "validation_errors")
    assert body["error_details"]["1"] == {"transaction_id": ["value_already_exist"]}
    assert "many" in body["error_details"]["2"]["properties.tokens"][1]
    assert keys(engine) == ["1", "2"]
    lago.events.batch_create(BatchEvent(events=[lago_event("3")]))
    assert keys(engine) == ["1", "2", "3"]


def test_lagos_batches_hold_a_hundred_events(lago: LagoClient, engine: sa.Engine) -> None:
    lago.events.batch_create(BatchEvent(events=[lago_event(f"{number:03}") for number in range(100)]))
    assert len(keys(engine)) == 100
    with pytest.raises(LagoApiError) as many:
        lago.events.batch_create(BatchEvent(events=[lago_event(f"more-{number}") for number in range(101)]))
    assert many.value.response["error_details"]["events"][0] == "too_many_events"
    with pytest.raises(LagoApiError) as none:
        lago.events.batch_create(BatchEvent(events=[]))
    assert none.value.response["error_details"]["events"][0] == "no_events"
    assert len(keys(engine)) == 100


# --- CloudEvents and OpenMeter ------------------------------------------------------------------------------------


def cloud_event(event_id: str, /, *, data: dict[str, Any] | None = None, **changed: object) -> CloudEvent:
    attributes = {
        "id": event_id,
        "source": "gate",
        "type": "llm.request",
        "subject": "acme",
        "time": datetime(2026, 10, 5, 12, 30, tzinfo=UTC),
        "specversion": "1.0",
        **changed,
    }
    return CloudEvent(attributes=attributes, data={"tokens": 100} if data is None else data)


def posted(client: httpx.Client, path: str, message: HTTPMessage) -> httpx.Response:
    return client.post(path, content=message.body, headers={**message.headers})


def batch(*many: CloudEvent) -> HTTPMessage:
    """Return the batch form, which the package does not write: an array of the structured forms."""
    parts = [to_structured_event(one).body.decode() for one in many]
    return HTTPMessage({"content-type": "application/cloudevents-batch+json"}, f"[{','.join(parts)}]".encode())


DOOR = "/v1/usage/cloudevents"
OPENMETER = "/api/v1/events"


@pytest.mark.parametrize("write", [to_structured_event, to_binary_event, batch])
def test_cloudevents_come_in_structured_binary_and_batch_mode(
    sent: httpx.Client,
    engine: sa.Engine,
    write: Any,  # noqa: ANN401 - functions of the package with optional arguments
) -> None:
    event = cloud_event(
        "1", data={"tokens": 100, "model": "groß", "at": {"rack": 4}}, subject="acme", traceparent="00-1"
    )
    answer = posted(sent, DOOR, write(event))
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1), answer.text
    again = posted(sent, DOOR, write(event))
    assert (again.status_code, again.json()["duplicate"]) == (200, 1)
    at = datetime(2026, 10, 5, 12, 30, tzinfo=UTC)
    properties = {"tokens": Decimal(100), "model": "groß", "at.rack": Decimal(4)}
    assert events(engine) == [("gate", "1", "acme", "llm.request", at, properties)]


def test_headers_of_binary_mode_are_decoded(sent: httpx.Client, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        create_customer(connection, Customer("mueller", "Müller", aliases=("müller",)))
    answer = posted(sent, DOOR, to_binary_event(cloud_event("100 %", subject="müller")))
    assert answer.json()["accepted"] == 1
    assert [(row[1], row[2]) for row in events(engine)] == [("100 %", "müller")]


def test_a_batch_of_cloudevents_is_answered_event_by_event(sent: httpx.Client, engine: sa.Engine) -> None:
    wrong = json.loads(to_structured_event(cloud_event("2")).body) | {"specversion": "0.3"}
    body = json.dumps([json.loads(to_structured_event(cloud_event("1")).body), wrong])
    answer = posted(sent, DOOR, HTTPMessage({"content-type": "application/cloudevents-batch+json"}, body.encode()))
    assert answer.status_code == 200
    (refused,) = answer.json()["results"]
    assert (refused["index"], refused["outcome"], refused["field"]) == (1, "rejected", "specversion")
    assert keys(engine) == ["1"]


def test_a_broker_does_not_take_a_refused_event_for_delivered(sent: httpx.Client, engine: sa.Engine) -> None:
    assert posted(sent, DOOR, to_binary_event(cloud_event("1"))).status_code == 200
    conflict = posted(sent, DOOR, to_binary_event(cloud_event("1", data={"tokens": 7})))
    assert (conflict.status_code, conflict.json()["conflict"]) == (422, 1)
    rejected = posted(sent, DOOR, to_structured_event(cloud_event("2", data={"tokens": [1]})))
    assert (rejected.status_code, rejected.json()["results"][0]["field"]) == (422, "properties.tokens")
    assert keys(engine) == ["1"]


@pytest.mark.parametrize("write", [to_structured_event, batch])
def test_openmeters_call_is_answered_with_204_and_text_may_be_a_number(
    sent: httpx.Client,
    engine: sa.Engine,
    write: Any,  # noqa: ANN401 - functions of the package with optional arguments
) -> None:
    event = cloud_event("1", data={"tokens": "12.5", "route": "/hello"})
    for _ in range(2):
        answer = posted(sent, OPENMETER, write(event))
        assert (answer.status_code, answer.content) == (204, b"")
    at = datetime(2026, 10, 5, 12, 30, tzinfo=UTC)
    assert events(engine) == [("gate", "1", "acme", "llm.request", at, {"tokens": Decimal("12.5"), "route": "/hello"})]


def test_openmeters_call_takes_plain_json_and_events_without_time(sent: httpx.Client, engine: sa.Engine) -> None:
    event = {"id": "1", "source": "gate", "type": "login", "subject": "acme"}
    assert sent.post(OPENMETER, json=event).status_code == 204
    assert (
        sent.post(OPENMETER, json=[event, {**event, "id": "2"}]).status_code == 204
    )  # its time is not known to differ
    assert keys(engine) == ["1", "2"]


def test_openmeters_call_says_what_is_wrong_and_records_nothing(sent: httpx.Client, engine: sa.Engine) -> None:
    assert posted(sent, OPENMETER, to_structured_event(cloud_event("1"))).status_code == 204
    refused = posted(sent, OPENMETER, batch(cloud_event("2"), cloud_event("1", data={"tokens": 7}), cloud_event("3")))
    assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
    (error,) = refused.json()["extensions"]["validationErrors"]
    assert (error["index"], error["id"], error["field"]) == (1, "1", "id")
    missing = sent.post(OPENMETER, json={"id": "4", "source": "gate", "type": "login"})
    (error,) = missing.json()["extensions"]["validationErrors"]
    assert (error["field"], error["message"]) == ("subject", "is missing; every event needs it")
    assert keys(engine) == ["1"]


# --- while the database is away -----------------------------------------------------------------------------------


def test_while_the_database_is_away_every_door_keeps_usage_on_disk(
    server_settings: Settings, key: str, engine: sa.Engine, tmp_path: Path, postgres_url: str
) -> None:
    spooling = server_settings.model_copy(update={"meterbook_spool_dir": tmp_path / "spool"})
    with serving(spooling) as client:
        client.headers["authorization"] = f"Bearer {key}"
        assert client.post("/v1/ingest", json=[usage("0")]).status_code == 200  # the key is seen, and believed then
        with database_away(postgres_url, server_settings.database_url):
            metronome_answer = client.post("/v1/ingest", json=[usage("1"), usage("2")])
            batch_answer = client.post(
                "/api/v1/events/batch", content=to_json({"events": [lago_event("3").dict(), lago_event("4").dict()]})
            )
            openmeter_answer = posted(client, OPENMETER, batch(cloud_event("5"), cloud_event("6")))
            own_answer = posted(client, DOOR, to_binary_event(cloud_event("7")))
        answers = (metronome_answer, batch_answer, openmeter_answer, own_answer)
        assert [answer.status_code for answer in answers] == [200, 200, 204, 202]
        until = time.monotonic() + 20
        while len(keys(engine)) < 8 and time.monotonic() < until:
            time.sleep(0.1)
        for answer in answers:
            assert client.get(answer.headers["location"]).json()["outcome"] == "entered"
    assert keys(engine) == ["0", "1", "2", "3", "4", "5", "6", "7"]


def test_without_a_spool_the_clients_are_told_to_come_again(
    http: httpx.Client, key: str, engine: sa.Engine, postgres_url: str, database_url: str
) -> None:
    with metronome.Metronome(bearer_token=key, base_url=str(http.base_url), max_retries=5) as client:
        with database_away(postgres_url, database_url):
            once = client.with_options(max_retries=0)
            with pytest.raises(metronome.InternalServerError) as refused:
                once.v1.usage.ingest(usage=[usage("1")])
            assert (refused.value.status_code, refused.value.response.headers["retry-after"]) == (503, "2")
        client.v1.usage.ingest(usage=[usage("1")])
    assert keys(engine) == ["1"]
