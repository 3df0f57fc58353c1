"""The Stripe simulator as a process of its own, for tests of every room.

with running_simulator() as simulator:
    client = simulator.client()
    simulator.arm(route="POST .*/confirm$", fault="drop_after")
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import stripe

from activities.stripe_api import stripe_client

TEST_KEY = "sk_test_simulated"
WEBHOOK_SECRET = "whsec_simulated"  # noqa: S105  the simulator's, nothing to protect
CLONE = Path(__file__).resolve().parent.parent
READY_SECONDS = 20.0


@dataclass
class RunningSimulator:
    """A simulator that listens on `url`; `kill` and `start` again keep port, webhook and state file."""

    port: int
    webhook_url: str | None = None
    state: Path | None = None
    process: subprocess.Popen[str] | None = None
    _controls: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=10.0))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> stripe.StripeClient:
        """A client of the real SDK, as the product makes it."""
        return stripe_client(api_key=TEST_KEY, api_base=self.url)

    def start(self) -> None:
        """Start the process and wait until it answers."""
        command = [sys.executable, "-m", "infra.stripesim", "--port", str(self.port)]
        if self.webhook_url is not None:
            command += ["--webhook-url", self.webhook_url, "--webhook-secret", WEBHOOK_SECRET]
        if self.state is not None:
            command += ["--state", str(self.state)]
        self.process = subprocess.Popen(command, cwd=CLONE, stdout=subprocess.DEVNULL, text=True)
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                self._controls.get(f"{self.url}/_sim/health").raise_for_status()
            except httpx.TransportError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """End the process with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        """End the process and the connection to its controls."""
        self.kill()
        self._controls.close()

    def arm(self, **fault: object) -> None:
        """Arm a fault: route, fault, and optionally nth, times, customer, metadata, seconds, retry_after."""
        self._controls.post(f"{self.url}/_sim/faults", json=fault).raise_for_status()

    def disarm(self) -> None:
        """Remove every fault."""
        self._controls.delete(f"{self.url}/_sim/faults").raise_for_status()

    def advance(self, *, seconds: int) -> None:
        """Move the simulator's clock."""
        self._controls.post(f"{self.url}/_sim/clock/advance", json={"seconds": seconds}).raise_for_status()

    def replay_events(self) -> None:
        """Send every event once more, the latest first."""
        self._controls.post(f"{self.url}/_sim/events/replay").raise_for_status()

    def requests(self) -> list[dict[str, Any]]:
        """The log of requests, the first one first."""
        return list(self._controls.get(f"{self.url}/_sim/requests").json())

    def objects(self) -> dict[str, list[dict[str, Any]]]:
        """Every object by kind, and `succeeded_charges`."""
        return dict(self._controls.get(f"{self.url}/_sim/objects").json())

    def succeeded_charges(self, *, customer: str | None = None) -> list[dict[str, Any]]:
        """The charges that took money, of one Stripe customer if named."""
        return [paid for paid in self.objects()["succeeded_charges"] if customer in (None, paid["customer"])]


@contextmanager
def running_simulator(*, webhook_url: str | None = None, state: Path | None = None) -> Iterator[RunningSimulator]:
    """Run a simulator on a free port of the loopback address; its webhook secret is `WEBHOOK_SECRET`."""
    simulator = RunningSimulator(free_port(), webhook_url, state)
    try:
        simulator.start()
        yield simulator
    finally:
        simulator.close()


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
