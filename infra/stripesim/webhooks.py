"""Webhooks: every event is sent, signed, until the receiver answers 2xx; at least once, in no promised order."""

import asyncio
import json
import time
from dataclasses import dataclass, field

import httpx
from stripe import WebhookSignature

from infra.stripesim.errors import StripeJson
from infra.stripesim.state import State

FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 5.0
ATTEMPTS = 60
TIMEOUT_SECONDS = 10.0
PARALLEL = 4


@dataclass
class Webhooks:
    """The sender to one address; without an address the events wait in /v1/events only."""

    state: State
    url: str | None
    secret: str
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _sending: set[str] = field(default_factory=set)
    _client: httpx.AsyncClient | None = None
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PARALLEL))

    def open(self) -> None:
        """Begin to send, first what an earlier process did not get through."""
        if self.url is not None:
            self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)
        self.send_pending()

    async def close(self) -> None:
        """Stop sending; what is pending is sent by the next process that has the same state."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    def send_pending(self) -> None:
        """Send every event that no receiver has acknowledged and that is not on its way."""
        pending = [event for event in self.state.newest_first("event") if event["pending_webhooks"]]
        for event in reversed(pending):
            self.send(event)

    def send(self, event: StripeJson, *, again: bool = False) -> None:
        """Send an event in the background; `again` sends a copy even when one is on its way."""
        if self._client is None or (event["id"] in self._sending and not again):
            return
        self._sending.add(event["id"])
        task = asyncio.get_running_loop().create_task(self._deliver(self._client, event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, client: httpx.AsyncClient, event: StripeJson) -> None:
        wait = FIRST_RETRY_SECONDS
        for _ in range(ATTEMPTS):
            async with self._slots:
                taken = await self._post(client, event)
            if taken:
                self.state.put({**event, "pending_webhooks": 0})
                self.state.commit()
                break
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_RETRY_SECONDS)
        self._sending.discard(event["id"])

    async def _post(self, client: httpx.AsyncClient, event: StripeJson) -> bool:
        payload = json.dumps(event)
        # The receiver compares the signature's time with the clock of this machine, not with the simulator's.
        signature = WebhookSignature.generate_signature_header(payload, self.secret, int(time.time()))
        headers = {"Stripe-Signature": signature, "Content-Type": "application/json; charset=utf-8"}
        try:
            response = await client.post(self.url or "", content=payload, headers=headers)
        except httpx.HTTPError:
            return False
        return response.is_success
