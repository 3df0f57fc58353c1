"""A month of one customer, by commands only: usage, contract, review, close, payment, on a real Temporal server."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, DeleteNamespaceRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client

from admin.connections import settings
from tests.admin.conftest import CONTRACT, Meterbook, written

PATIENCE_SECONDS = 40
LAST = (datetime.now(UTC).replace(day=1) - timedelta(days=1)).replace(day=1)
MONTH = f"{LAST:%Y-%m}"
INVOICE = f"acme-payg.{MONTH}-01"
SEARCH_ATTRIBUTES = {
    "ContractStatus": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "EntityId": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "PeriodEnd": IndexedValueType.INDEXED_VALUE_TYPE_DATETIME,
    "DunningState": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
}


async def make_namespace(address: str, name: str) -> None:
    client = await Client.connect(address, namespace=name)
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=Duration(seconds=86400))
    )
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace=name, search_attributes=SEARCH_ATTRIBUTES)
    )


async def remove_namespace(address: str, name: str) -> None:
    """Take the namespace away with its schedule, which would go on starting sweeps on a server that tests share."""
    client = await Client.connect(address)
    await client.operator_service.delete_namespace(DeleteNamespaceRequest(namespace=name))


@pytest.fixture
def worker(environment: pytest.MonkeyPatch, temporal_address: str, tmp_path: Path) -> Iterator[None]:
    """A worker process in a namespace of the test's own, since the task queues have fixed names."""
    namespace = f"admin-{uuid4().hex[:12]}"
    asyncio.run(make_namespace(temporal_address, namespace))
    environment.setenv("TEMPORAL_ADDRESS", temporal_address)
    environment.setenv("TEMPORAL_NAMESPACE", namespace)
    settings.cache_clear()
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers", "--queues", "contracts,ledger"], env={**os.environ}, stderr=log
        )
        yield
        process.kill()  # nothing that it does matters any more
        process.wait()
    asyncio.run(remove_namespace(temporal_address, namespace))


def wait_for(look: Callable[[], Any], wanted: object) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := look()) != wanted:
        assert time.monotonic() < deadline, f"still {found!r}, not {wanted!r}"
        time.sleep(0.2)


def usage(path: Path, *, tokens: int, count: int, at: str, name: str) -> Path:
    lines = (
        f'{{"source":"{name}","key":"{n}","customer":"acme","type":"llm.request","timestamp":"{at}",'
        f'"properties":{{"tokens":{tokens}}}}}\n'
        for n in range(count)
    )
    return written(path, "".join(lines))


@pytest.mark.usefixtures("worker")
def test_a_month_is_used_reviewed_closed_and_paid_by_commands(parties: Meterbook, tmp_path: Path) -> None:
    contract = written(tmp_path / "contract.yaml", CONTRACT)
    # 10 events of 100 tokens at 0.01 are 10.00, above the 5.00 that a person looks at
    past = usage(tmp_path / "past.jsonl", tokens=100, count=10, at=f"{MONTH}-10T12:00:00Z", name="past")
    assert parties("usage", "send", past, "--json").content["accepted"] == 10
    assert "is started" in parties("contract", "start", contract, "--start", f"{MONTH}-01").out
    again = parties("contract", "start", contract, "--start", f"{MONTH}-01")
    assert (again.code, "was started already" in again.out) == (0, True)

    wait_for(lambda: [i["state"] for i in parties("invoice", "list", "--json").content], ["in_review"])
    assert parties("close", "start", "nordlicht", MONTH, "--by", "finance").code == 0
    wait_for(lambda: parties("close", "show", "nordlicht", MONTH, "--json").content["waiting_review"], [INVOICE])
    assert "meterbook invoice approve" in parties("close", "show", "nordlicht", MONTH).err
    assert "is approved by finance" in parties("invoice", "approve", INVOICE, "--by", "finance").out
    twice = parties("invoice", "approve", INVOICE, "--by", "somebody")
    assert (twice.code, "already, by finance" in twice.out) == (1, True)
    closed = parties("close", "start", "nordlicht", MONTH, "--by", "finance", "--wait")
    assert closed.code == 0 or "is closed already" in closed.err
    wait_for(lambda: parties("close", "show", "nordlicht", MONTH, "--json").content["state"], "closed")
    refused = parties("close", "start", "nordlicht", MONTH, "--by", "finance")
    assert (refused.code, "is closed already" in refused.err) == (1, True)

    invoice = parties("invoice", "show", INVOICE, "--json").content
    assert (invoice["number"], invoice["total"], invoice["open_amount"]) == ("NL-000001", "10", "10")
    pay = ("payment", "record", "--invoice", INVOICE, "--amount", "10.00", "--currency", "EUR", "--reference", "BANK-1",
           "--received-on", invoice["issue_date"], "--by", "treasury")  # fmt: skip
    assert "is recorded; 0.00 EUR stay open" in parties(*pay).out
    assert "was recorded already; nothing was changed" in parties(*pay).out
    assert [one["state"] for one in parties("invoice", "list", "--json").content] == ["paid"]
    assert "paid 10.00 EUR" in parties("invoice", "show", INVOICE).out
    totals = parties("ledger", "trial-balance", "nordlicht", "--json").content["totals"]
    assert [(total["currency"], total["balance"]) for total in totals] == [("EUR", "0")]


@pytest.mark.usefixtures("worker")
def test_a_contract_hears_signals_new_prices_and_its_end(parties: Meterbook, tmp_path: Path) -> None:
    today = datetime.now(UTC)
    first = f"{today:%Y-%m}-01"
    contract = written(tmp_path / "contract.yaml", CONTRACT)
    assert parties("contract", "start", contract, "--start", first).code == 0
    now = usage(tmp_path / "now.jsonl", tokens=2, count=150, at=f"{first}T12:00:00Z", name="now")
    assert "150 events are signalled" in parties("usage", "signal", "acme-payg", now).out

    def total() -> str:
        return str(parties("contract", "show", "acme-payg", "--json").content["spend"]["total"])

    wait_for(total, "3")  # 150 events of 2 tokens at 0.01
    dearer = written(tmp_path / "dearer.yaml", CONTRACT.replace('"0.01"', '"0.05"'))
    amend = ("contract", "amend", dearer, "--from", first, "--reason", "dearer", "--by", "sales")
    assert "has version 2 of its terms" in parties(*amend).out
    assert "has version 2 of its terms" in parties(*amend).out
    assert total() == "15"  # the same 300 tokens at 0.05
    ended = parties("contract", "end", "acme-payg", f"{today.year + 1}-01-01", "moved")
    assert "contract acme-payg ends at" in ended.out
    state = parties("contract", "show", "acme-payg", "--workflow", "--json").content["workflow"]
    assert (state["state"], state["accepted"]) == ("active", 150)
    assert "has no running workflow" in parties("usage", "signal", "nobody", now).err
