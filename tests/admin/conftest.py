"""The command and the HTTP API as their callers meet them, on a real database."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from activities.settings import Settings
from admin.cli import run
from admin.connections import settings
from admin.http import create_app

NOWHERE = "127.0.0.1:1"
"""An address where nobody listens."""

ENTITY = """
entity: nordlicht
name: Nordlicht Inference GmbH
currency: EUR
time_zone: Europe/Berlin
invoice_prefix: NL
"""
CUSTOMERS = """
- customer: acme
  name: Acme Robotics
  aliases: [acme, acme-staging]
- customer: cobalt
  name: Cobalt Legal LLP
  email: finance@cobalt.example
"""
METRICS = """
metric: tokens
event_type: llm.request
aggregation: sum
property: tokens
---
metric: requests
event_type: llm.request
aggregation: count
"""
CONTRACT = """
contract: acme-payg
customer: acme
entity: nordlicht
currency: EUR
time_zone: Europe/Berlin
products:
  - id: tokens
    name: Tokens
    metric: tokens
    unit: token
    price: {model: per_unit, unit_price: "0.01"}
invoicing: {grace: 0s, due_days: 14, review_above: "5.00"}
collection: {method: bank_transfer}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def content(self) -> Any:  # noqa: ANN401 - the shape is the command's
        return json.loads(self.out)


Meterbook = Callable[..., Answer]


@pytest.fixture
def environment(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The settings of a process with its own database, and with Temporal away."""
    for name, value in {
        "METERBOOK_HOME": str(tmp_path / "home"),
        "DATABASE_URL": database_url,
        "TEMPORAL_ADDRESS": NOWHERE,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("STRIPE_API_KEY", raising=False)
    settings.cache_clear()
    yield monkeypatch
    settings.cache_clear()


@pytest.fixture
def meterbook(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Meterbook:
    """Run `meterbook ARGUMENTS` and return what it answered."""
    assert environment is not None

    def command(*arguments: str | Path) -> Answer:
        code = run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return command


@pytest.fixture
def parties(meterbook: Meterbook, tmp_path: Path) -> Meterbook:
    """The command, with an entity, two customers and two metrics created through it."""
    for noun, text in (("entity", ENTITY), ("customer", CUSTOMERS), ("metric", METRICS)):
        answer = meterbook(noun, "create", written(tmp_path / f"{noun}.yaml", text))
        assert answer.code == 0, answer.err
    return meterbook


@pytest.fixture
def server_settings(database_url: str) -> Settings:
    """The settings of an HTTP server with its own database, and with Temporal away."""
    return Settings(database_url=database_url, temporal_address=NOWHERE, stripe_webhook_secret="whsec_test")  # noqa: S106


@pytest.fixture
def http(server_settings: Settings) -> Iterator[httpx.Client]:
    """A client of a running HTTP server."""
    with serving(server_settings) as client:
        yield client


class Prompt(uvicorn.Server):
    """uvicorn without its rests of a tenth of a second: it ends as soon as it may."""

    async def main_loop(self) -> None:
        """Serve until the end is asked for."""
        await self.on_tick(0)
        while not self.should_exit:  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.005)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close what listens, let requests come to their end, and then the application."""
        assert sockets is None
        for server in self.servers:
            server.close()
        for connection in [*self.server_state.connections]:
            connection.shutdown()
        async with asyncio.timeout(self.config.timeout_graceful_shutdown):
            while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - uvicorn has no event
                await asyncio.sleep(0.002)
        for server in self.servers:
            await server.wait_closed()
        await self.lifespan.shutdown()


@contextmanager
def serving(chosen: Settings) -> Iterator[httpx.Client]:
    """Serve the API on a free port, as `python -m admin.http` does, and speak to it."""
    config = uvicorn.Config(create_app(chosen), port=0, ws="none", log_level="warning", timeout_graceful_shutdown=5)
    server = Prompt(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(15)


def written(path: Path, text: str) -> Path:
    """Write a file and return its path."""
    path.write_text(text, encoding="utf-8")
    return path
