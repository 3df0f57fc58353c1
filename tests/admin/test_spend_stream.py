"""Live spend: by product, group and day, with the moment before which everything is in it, and as a stream of news."""

import asyncio
import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
import sqlalchemy as sa

from admin.http.backpressure import BusyError
from admin.http.spend_streams import SpendStreams
from ledger.accrual import accrue
from ledger.api_keys import create_api_key
from ledger.contracts import create_contract
from ledger.customers import Customer, create_customer
from ledger.entities import Entity, create_entity
from ledger.errors import NotFoundError
from ledger.files.contracts import parse_contract
from ledger.intake.events import parse_objects
from ledger.intake.store import take_in
from ledger.metrics import create_metric
from ledger.spend import spend, spend_by_day
from ledger.spend_groups import spend_by_group
from tests.admin.conftest import CONTRACT, Meterbook
from tests.metrics import metric

NOW = datetime(2026, 10, 6, 9, tzinfo=UTC)
GROUPED = CONTRACT.replace("    unit: token\n", "    unit: token\n    group_by: [model]\n")


@pytest.fixture
def contract(engine: sa.Engine) -> sa.Engine:
    """An engine on books with a contract whose tokens cost 0.01 each, by model."""
    with engine.begin() as connection:
        create_entity(connection, Entity("nordlicht", "Nordlicht", "EUR", "Europe/Berlin", "NL"))
        create_customer(connection, Customer("acme", "Acme"))
        create_metric(connection, metric("tokens", "llm.request", "sum", "tokens", ("model",)))
        create_contract(connection, parse_contract(GROUPED, start="2026-10-01"), by="test")
    return engine


def use(engine: sa.Engine, key: str, tokens: int, day: int = 5, model: str = "large") -> None:
    event = {
        "source": "test", "key": key, "customer": "acme", "type": "llm.request",
        "timestamp": f"2026-10-{day:02d}T12:30:00Z", "properties": {"tokens": tokens, "model": model},
    }  # fmt: skip
    with engine.begin() as connection:
        take_in(connection, parse_objects([event], received_at=NOW), door="http", received_at=NOW)


def accrued(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        accrue(connection, "acme-payg", as_of=NOW)


def test_the_watermark_is_the_arrival_of_the_oldest_usage_that_is_not_accrued(contract: sa.Engine) -> None:
    accrued(contract)
    use(contract, "a", 100)
    with contract.begin() as connection:
        waiting = spend(connection, "acme-payg")
    assert (waiting.watermark, waiting.total) == (NOW, Decimal(0))
    accrued(contract)
    with contract.begin() as connection:
        followed = spend(connection, "acme-payg")
    assert followed.total == Decimal(1)  # 100 x 0.01
    assert abs(followed.watermark - datetime.now(UTC)) < timedelta(minutes=1)


def test_days_and_groups_add_up_to_the_products(contract: sa.Engine) -> None:
    use(contract, "a", 100)
    use(contract, "b", 20, day=4)
    use(contract, "c", 3, day=4, model="small")
    accrued(contract)
    with contract.begin() as connection:
        whole = spend(connection, "acme-payg")
        by_day = spend_by_day(connection, "acme-payg")
        by_group = spend_by_group(connection, "acme-payg")
    assert [(day.day.day, day.amount.normalize()) for day in by_day.days] == [
        (4, Decimal("0.23")),
        (5, Decimal(1)),
    ]  # 23 x 0.01, 100 x 0.01
    assert [(one.groups, one.quantity, one.amount.normalize()) for one in by_group.groups] == [
        ((("model", "large"),), Decimal(120), Decimal("1.2")),
        ((("model", "small"),), Decimal(3), Decimal("0.03")),
    ]
    assert whole.total == by_day.total == by_group.total == Decimal("1.23")


def test_spend_is_shown_by_command_with_a_bar_for_each_day(contract: sa.Engine, meterbook: Meterbook) -> None:
    use(contract, "a", 100)
    use(contract, "b", 50, day=4)
    accrued(contract)
    answer = meterbook("usage", "spend", "acme-payg")
    assert answer.code == 0, answer.err
    for told in ("total 1.50 EUR", "2026-10-05", "1.00", "includes all usage accepted before"):
        assert told in answer.out
    assert "█" * 40 in answer.out
    assert "█" * 20 in answer.out
    groups = meterbook("usage", "spend", "acme-payg", "--by", "group")
    assert "model large" in groups.out
    assert meterbook("usage", "spend", "acme-payg", "--by", "day", "--json").content["total"] == "1.5"


def test_programs_ask_for_each_view_over_http(contract: sa.Engine, http: httpx.Client) -> None:
    use(contract, "a", 100)
    accrued(contract)
    with contract.begin() as connection:
        headers = {"authorization": f"Bearer {create_api_key(connection, 'test')[1]}"}
    path = "/v1/contracts/acme-payg/spend"
    for by in ("product", "group", "day"):
        assert http.get(path, params={"by": by}, headers=headers).json()["total"] == "1"
    assert http.get(path, params={"by": "moon"}, headers=headers).status_code == 422
    assert http.get("/v1/contracts/none/spend/stream", headers=headers).status_code == 404
    assert http.get(f"{path}/stream").status_code == 401
    with http.stream("GET", f"{path}/stream", headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert next(lines) == "event: spend"
        assert json.loads(next(lines).removeprefix("data: "))["total"] == "1"
        use(contract, "b", 11)
        accrued(contract)
        news = next(line for line in lines if line.startswith("data: "))
        assert json.loads(news.removeprefix("data: "))["total"] == "1.11"


async def test_all_listeners_of_a_contract_share_one_question_a_while_and_hear_only_of_changes(
    contract: sa.Engine,
) -> None:
    asked = 0

    def counting(connection: sa.Connection, contract_id: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
        nonlocal asked
        asked += 1
        return spend(connection, contract_id)

    async with SpendStreams(contract, most_listeners=2, interval_seconds=0.05, read=counting) as streams:
        async with aclosing(streams.listen("acme-payg")) as one, aclosing(streams.listen("acme-payg")) as other:
            assert json.loads(await anext(one))["total"] == json.loads(await anext(other))["total"] == "0"
            assert streams.listeners == 2
            with pytest.raises(BusyError, match="the most of one server"):
                streams.check_room()
            waiting = asyncio.ensure_future(anext(one))
            before = asked
            await asyncio.sleep(0.5)
            assert not waiting.done()  # nothing changed, whatever the time is
            assert 1 <= asked - before <= 11  # ten times at most, for both together
            await asyncio.to_thread(use, contract, "a", 100)
            await asyncio.to_thread(accrued, contract)
            assert json.loads(await asyncio.wait_for(waiting, 5))["total"] == "1"
        assert streams.listeners == 0


async def test_a_stream_ends_when_the_server_ends(contract: sa.Engine) -> None:
    streams = SpendStreams(contract, interval_seconds=0.05)
    listening = streams.listen("acme-payg")
    async with streams:
        assert json.loads(await anext(listening))["total"] == "0"
        more = asyncio.ensure_future(anext(listening, None))
        await asyncio.sleep(0.1)
    assert await asyncio.wait_for(more, 5) is None


async def test_listening_to_a_contract_that_is_none_is_an_error(engine: sa.Engine) -> None:
    async with SpendStreams(engine, interval_seconds=0.05) as streams:
        with pytest.raises(NotFoundError):
            await asyncio.wait_for(anext(streams.listen("none")), 5)
