"""Senders that never give up: whatever is not answered with success is sent again, unchanged."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx

from tests.chaos.world import World, event, month
from workflows import starting

SENDERS = 3
BATCH = 20
EVERY_SECONDS = 0.1
AGAIN_AFTER_SECONDS = 0.3
PATIENCE_SECONDS = 60.0
SIGNALLED_TOGETHER = 5


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One answer of the HTTP API: when it was asked (`time.monotonic`), how long that took; None without an answer.

    `receipt` is there when the request waits in the spool.
    """

    asked: float
    seconds: float
    status: int | None
    retry_after: str | None
    receipt: str | None = None


@dataclass
class Stream:
    """What was sent so far, by all senders of one customer; `sent` counts what must be in the books at the end."""

    world: World
    customer: str
    sent: int = 0
    answers: list[HttpAnswer] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    @property
    def statuses(self) -> set[int | None]:
        """Every status that was answered."""
        return {answer.status for answer in self.answers}

    def since(self, moment: float) -> list[HttpAnswer]:
        """The answers to what was asked after a moment."""
        return [answer for answer in list(self.answers) if answer.asked >= moment]

    def stop(self) -> None:
        """Let each sender get its last batch through and end."""
        self._stopped.set()

    def send_over_http(self, sender: int) -> None:
        """Send batch after batch; each third is sent again although it was answered."""
        with httpx.Client(trust_env=False, timeout=10) as client:
            number = 0
            while not self._stopped.is_set():
                first = number * BATCH
                keys = [f"http-{sender}-{n}" for n in range(first, first + BATCH)]
                body = json.dumps(_events(self.customer, keys, first))
                self._insist(client, body)
                if number % 3 == 0:
                    self._insist(client, body)
                self._count(BATCH)
                number += 1
                self._stopped.wait(EVERY_SECONDS)

    def signal(self) -> None:
        """Send signal after signal; each third is sent twice."""
        asyncio.run(self._signal())

    async def _signal(self) -> None:
        client = await starting.connect(self.world.settings)
        number = 0
        while not self._stopped.is_set():
            first = number * SIGNALLED_TOGETHER
            events = _events(self.customer, [f"signal-{n}" for n in range(first, first + SIGNALLED_TOGETHER)], first)
            for _ in range(2 if number % 3 == 0 else 1):
                await starting.signal_usage(client, self.customer, events)
            self._count(SIGNALLED_TOGETHER)
            number += 1
            await asyncio.sleep(2 * EVERY_SECONDS)

    def _insist(self, client: httpx.Client, body: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._post(client, body) not in (httpx.codes.OK, httpx.codes.ACCEPTED):
            assert time.monotonic() < deadline, "the HTTP API did not take a batch"
            time.sleep(AGAIN_AFTER_SECONDS)

    def _post(self, client: httpx.Client, body: str) -> int | None:
        url = f"{self.world.stack.environment['METERBOOK_HTTP']}/v1/usage"
        headers = {"authorization": f"Bearer {self.world.api_key}", "content-type": "application/json"}
        asked = time.monotonic()
        try:
            response = client.post(url, content=body, headers=headers)
        except httpx.TransportError:
            answer = HttpAnswer(asked, time.monotonic() - asked, None, None)
        else:
            after = response.headers.get("retry-after")
            receipt = response.json()["receipt"] if response.status_code == httpx.codes.ACCEPTED else None
            answer = HttpAnswer(asked, time.monotonic() - asked, response.status_code, after, receipt)
        self.answers.append(answer)
        return answer.status

    def _count(self, events: int) -> None:
        with self._counting:
            self.sent += events


@contextmanager
def streaming(world: World, customer: str, *, signals: bool = False) -> Iterator[Stream]:
    """Send usage while the block runs; afterwards everything that was begun has been taken."""
    stream = Stream(world, customer)
    with ThreadPoolExecutor(SENDERS + 1) as threads:
        senders = [threads.submit(stream.send_over_http, sender) for sender in range(SENDERS)]
        if signals:
            senders.append(threads.submit(stream.signal))
        try:
            yield stream
        finally:
            stream.stop()
    for sender in senders:
        sender.result()


async def signalled(world: World, customer: str, *, count: int) -> None:
    """Send so many events by signal, five at a time, and return when Temporal has acknowledged each."""
    client = await starting.connect(world.settings)
    for first in range(0, count, SIGNALLED_TOGETHER):
        keys = [f"signal-{n}" for n in range(first, first + SIGNALLED_TOGETHER)]
        await starting.signal_usage(client, customer, _events(customer, keys, first))


def _events(customer: str, keys: list[str], first: int) -> list[dict[str, object]]:
    """Events a second apart from the beginning of the month on, from a source named like the customer."""
    begin: datetime = month(0) + timedelta(seconds=first)
    return [event(customer, customer, key, begin + timedelta(seconds=n)) for n, key in enumerate(keys)]
