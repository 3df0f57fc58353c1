"""The Temporal dev server of the wheel, on a file, with its UI, tuned for short chains and many updates."""

import os
import sysconfig
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from infra.stack.home import LOCALHOST
from infra.stack.processes import Part

NAMESPACE = "default"
SEARCH_ATTRIBUTES = {
    "ContractStatus": "Keyword",
    "EntityId": "Keyword",
    "PeriodEnd": "Datetime",
    "DunningState": "Keyword",
}
DYNAMIC_CONFIGURATION = {
    # 20 polls a second is the default: 50 ms for every hop of a chain of activities.
    "history.transferProcessorMaxPollRPS": 1000,
    "history.timerProcessorMaxPollRPS": 1000,
    "history.visibilityProcessorMaxPollRPS": 1000,
    "matching.numTaskqueueReadPartitions": 1,
    "matching.numTaskqueueWritePartitions": 1,
    # The default of 10 collapses into client back-off when more callers wait for one contract.
    "history.maxInFlightUpdates": 100,
}
PRAGMAS = ("journal_mode=wal", "synchronous=1")
READY_SECONDS = 60.0


def part(folder: Path, *, port: int, ui_port: int, http_port: int) -> Part:
    """Describe the server whose file is in `folder`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    options = [
        *("--ip", LOCALHOST, "--port", str(port), "--http-port", str(http_port)),
        *("--ui-ip", LOCALHOST, "--ui-port", str(ui_port), "--ui-disable-news-fetch"),
        *("--db-filename", str(folder / "temporal.db"), "--log-level", "error"),
        *(word for pragma in PRAGMAS for word in ("--sqlite-pragma", pragma)),
        *(word for name, kind in SEARCH_ATTRIBUTES.items() for word in ("--search-attribute", f"{name}={kind}")),
        *(
            word
            for name, value in DYNAMIC_CONFIGURATION.items()
            for word in ("--dynamic-config-value", f"{name}={value}")
        ),
    ]
    return Part(
        name="temporal",
        command=(str(Path(sysconfig.get_path("scripts")) / "temporal"), "server", "start-dev", *options),
        # It would read TEMPORAL_* variables and a file of the person's home folder, which are meant for clients.
        environment={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder)},
        folder=folder,
        ready=lambda: _has_search_attributes(http_port),
        ready_seconds=READY_SECONDS,
    )


def polled_since(http_port: int, *, queue: str, moment: datetime) -> bool:
    """Tell whether a worker asked for workflow tasks of this queue at or after a moment."""
    answer = _get(http_port, f"/task-queues/{queue}", {"taskQueueType": "TASK_QUEUE_TYPE_WORKFLOW"})
    pollers = answer.get("pollers", []) if answer else []
    return any(datetime.fromisoformat(poller["lastAccessTime"]) >= moment for poller in pollers)


def _has_search_attributes(http_port: int) -> bool:
    answer = _get(http_port, "/search-attributes", {})
    return answer is not None and SEARCH_ATTRIBUTES.keys() <= answer.get("customAttributes", {}).keys()


def _get(http_port: int, path: str, parameters: dict[str, str]) -> dict[str, Any] | None:
    """Return the answer of the namespace's HTTP API, or None while it does not answer."""
    url = f"http://{LOCALHOST}:{http_port}/api/v1/namespaces/{NAMESPACE}{path}"
    try:
        response = httpx.get(url, params=parameters, timeout=5.0, trust_env=False)
    except httpx.TransportError:
        return None
    return response.json() if response.is_success else None
