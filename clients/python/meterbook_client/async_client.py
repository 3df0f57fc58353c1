"""The client for programs of asyncio, and the sender that waits in a task of its own."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from meterbook_client.answers import (
    Answer,
    Capture,
    Hold,
    Receipt,
    Spend,
    answer_of,
    capture_of,
    content_of,
    hold_of,
    joined,
    pause_seconds,
    receipt_of,
    spend_of,
)
from meterbook_client.backlog import Backlog
from meterbook_client.client import log_refused
from meterbook_client.errors import ClosedError, UnavailableError
from meterbook_client.events import Event, portions
from meterbook_client.gate_memory import Question
from meterbook_client.requests import (
    ATTEMPTS,
    REQUEST_EVENTS,
    TIMEOUT_SECONDS,
    Excess,
    Request,
    capture_request,
    held_request,
    hold_request,
    receipt_request,
    release_request,
    spend_request,
    usage_request,
)


class AsyncClient:
    """Speaks to a Meterbook server as `Client` does. Use it as an async context manager, or close it."""

    def __init__(
        self, url: str, *, api_key: str, attempts: int = ATTEMPTS, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._attempts = attempts
        self._http = httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {api_key}"}, timeout=timeout_seconds
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, events: Iterable[Event], *, request_events: int = REQUEST_EVENTS) -> Answer:
        """Send events and return what became of them, as `Client.send` does."""
        lines = (event.as_json() for event in events)
        answers = [await self.send_lines(portion) for portion in portions(lines, most_events=request_events)]
        return joined(answers)

    async def send_lines(self, lines: Sequence[str], *, attempts: int | None = None) -> Answer:
        """Send events that are written as JSON in one request."""
        return answer_of(await self.ask(usage_request(lines), attempts=attempts))

    async def receipt(self, receipt: str) -> Receipt:
        """Return what became of events that the server spooled."""
        return receipt_of(await self.ask(receipt_request(receipt)))

    async def spend(self, contract_id: str) -> Spend:
        """Return what a contract has spent so far; raise `NotFoundError` when there is none of this id."""
        return spend_of(await self.ask(spend_request(contract_id)))

    async def hold(
        self,
        hold_id: str,
        customer_id: str,
        feature_id: str,
        *,
        units: Decimal | None = None,
        amount: Decimal | None = None,
        expires_at: datetime,
    ) -> Hold:
        """Reserve units or an amount until it is captured, released or expires, as `Client.hold` does."""
        question = Question(customer_id, feature_id, units, amount)
        return hold_of(await self.ask(hold_request(hold_id, question, expires_at)))

    async def capture(self, hold_id: str, event: Event, *, excess: Excess = "refuse") -> Capture:
        """Send the usage that was held for, as `Client.capture` does."""
        return capture_of(await self.ask(capture_request(hold_id, event, excess)))

    async def release(self, hold_id: str) -> Hold:
        """Give back what is held, as `Client.release` does."""
        return hold_of(await self.ask(release_request(hold_id)))

    async def held(self, hold_id: str) -> Hold:
        """Return how a hold stands; raise `NotFoundError` when there is none of this id."""
        return hold_of(await self.ask(held_request(hold_id)))

    async def ask(self, request: Request, *, attempts: int | None = None) -> Any:  # noqa: ANN401 - the server's shape
        """Ask for what has no method of its own, as `Client.ask` does."""
        most = self._attempts if attempts is None else attempts
        failures = 0
        while True:
            try:
                return await self._ask_once(request)
            except UnavailableError as error:
                failures += 1
                if failures >= most:
                    raise
                await asyncio.sleep(pause_seconds(failures, error))

    async def _ask_once(self, request: Request) -> Any:  # noqa: ANN401 - the server's shape
        try:
            response = await self._http.request(
                request.method, request.path, content=request.content, headers=request.headers
            )
        except httpx.TransportError as error:
            raise UnavailableError(f"the server does not answer ({type(error).__name__}: {error})") from error
        return content_of(response)


class AsyncSender:
    """Sends events in the background as `Sender` does, in a task. Use it as an async context manager.

    `on_answer` is called with every answer in the event loop; without it, refused events are logged.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        journal: Path | None = None,
        request_events: int = REQUEST_EVENTS,
        wait_seconds: float = 0.5,
        most_waiting: int = 100_000,
        on_answer: Callable[[Answer], None] | None = None,
    ) -> None:
        self._client = client
        self._request_events = request_events
        self._wait_seconds = wait_seconds
        self._on_answer = log_refused if on_answer is None else on_answer
        self._backlog = Backlog(journal, most_waiting=most_waiting)
        self._writing = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._progress = asyncio.Event()
        self._is_hurried = False
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="meterbook sender")
        self._task.add_done_callback(lambda _: self._progress.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def waiting(self) -> int:
        """How many events are not answered yet."""
        return len(self._backlog)

    async def add(self, *events: Event) -> None:
        """Let events be sent; raise `FullError`, `ClosedError`, or what the server refused this sender's requests with.

        Many at once cost one write to the journal.
        """
        async with self._writing:
            self._raise_failure()
            if self._is_closed or self._task is None:
                raise ClosedError("this sender is closed, or not open yet; use it as an async context manager")
            await asyncio.to_thread(self._backlog.add, events)
            self._wanted.set()

    async def flush(self, *, timeout_seconds: float = 30.0) -> None:
        """Wait until everything is answered; raise `UnavailableError` when that takes too long."""
        self._is_hurried = True
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout_seconds):
                while len(self._backlog) and not self._has_failed():
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError as error:
            raise UnavailableError(self._backlog.left_behind()) from error
        finally:
            self._is_hurried = False
        self._raise_failure()

    async def close(self, *, timeout_seconds: float = 30.0) -> None:
        """Send what waits and stop; raise as `flush` does, when something is left."""
        async with self._writing:
            self._is_closed = True
        try:
            await self.flush(timeout_seconds=timeout_seconds)
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])
            self._backlog.close()

    async def _run(self) -> None:
        failures = 0
        while True:
            portion = await self._next_portion()
            try:
                answer = await self._client.send_lines(portion, attempts=1)
            except UnavailableError as error:
                failures += 1
                await asyncio.sleep(pause_seconds(failures, error))
                continue
            failures = 0
            self._on_answer(answer)
            async with self._writing:
                self._backlog.answered(len(portion))
            self._progress.set()

    async def _next_portion(self) -> Sequence[str]:
        """Wait for the next request that is due."""
        while not self._is_due():
            self._wanted.clear()
            wait = self._wait_seconds - self._backlog.age_seconds if len(self._backlog) else None
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wanted.wait()
        async with self._writing:
            return self._backlog.next_portion(self._request_events)

    def _is_due(self) -> bool:
        count = len(self._backlog)
        is_hurried = self._is_hurried or self._is_closed or count >= self._request_events
        return count > 0 and (is_hurried or self._backlog.age_seconds >= self._wait_seconds)

    def _has_failed(self) -> bool:
        return self._task is not None and self._task.done() and not self._task.cancelled()

    def _raise_failure(self) -> None:
        if self._task is not None and self._has_failed():
            failure = self._task.exception()
            if failure is not None:
                raise failure
