"""Our own processes: the Stripe simulator, the worker and the HTTP API, each started as `python -m ...`."""

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from infra.stack import temporal
from infra.stack.home import CLONE, LOCALHOST
from infra.stack.processes import Part

WEBHOOK_PATH = "/v1/stripe/webhook"
READY_SECONDS = 60.0
QUEUE = "contracts"
SETTLED = timedelta(seconds=3)


def simulator(folder: Path, *, port: int, webhook_url: str, webhook_secret: str) -> Part:
    """Describe the Stripe simulator, which keeps its state in `folder`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    arguments = ("--port", str(port), "--webhook-url", webhook_url, "--webhook-secret", webhook_secret)
    return Part(
        name="stripe",
        command=(sys.executable, "-m", "infra.stripesim", *arguments, "--state", str(folder / "stripe.json")),
        environment=_environment({}),
        folder=CLONE,
        ready=lambda: _answers(f"http://{LOCALHOST}:{port}/_sim/health"),
        ready_seconds=READY_SECONDS,
    )


def worker(*, temporal_http_port: int | None, settings: Mapping[str, str]) -> Part:
    """Describe the worker: ready when it asks Temporal for tasks or, where Temporal is yours, when it stays up."""
    begin = datetime.now(UTC)

    def works() -> bool:
        if temporal_http_port is None:
            return datetime.now(UTC) - begin > SETTLED
        return temporal.polled_since(temporal_http_port, queue=QUEUE, moment=begin)

    return Part(
        name="worker",
        command=(sys.executable, "-m", "workers"),
        environment=_environment(settings),
        settings=settings,
        folder=CLONE,
        ready=works,
        ready_seconds=READY_SECONDS,
    )


def http(*, port: int, settings: Mapping[str, str]) -> Part:
    """Describe the HTTP API."""
    return Part(
        name="http",
        command=(sys.executable, "-m", "admin.http", "--port", str(port)),
        environment=_environment(settings),
        settings=settings,
        folder=CLONE,
        ready=lambda: _answers(f"http://{LOCALHOST}:{port}/healthz"),
        ready_seconds=READY_SECONDS,
    )


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **settings, "PYTHONUNBUFFERED": "1"}


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0, trust_env=False).is_success
    except httpx.TransportError:
        return False
