"""The client for programs that wait for their answers, and the sender that waits in a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
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

log = logging.getLogger("meterbook_client")


class Client:
    """Speaks to a Meterbook server. Use it as a context manager, or close it; threads may share it.

    A request that the server did not answer, or answered with 429 or 5xx, is repeated up to `attempts` times, after
    the pause that the server asks for or one that grows. Repeating is safe: an event keeps its key.
    """

    def __init__(
        self, url: str, *, api_key: str, attempts: int = ATTEMPTS, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._attempts = attempts
        self._http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {api_key}"}, timeout=timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, events: Iterable[Event], *, request_events: int = REQUEST_EVENTS) -> Answer:
        """Send events and return what became of them; many are sent in several requests, one after the other.

        Raises `UnavailableError` after the last attempt and `RefusedError`; what was answered before stays, and sending
        all of it again is safe.
        """
        lines = (event.as_json() for event in events)
        return joined(self.send_lines(portion) for portion in portions(lines, most_events=request_events))

    def send_lines(self, lines: Sequence[str], *, attempts: int | None = None) -> Answer:
        """Send events that are written as JSON in one request."""
        return answer_of(self.ask(usage_request(lines), attempts=attempts))

    def receipt(self, receipt: str) -> Receipt:
        """Return what became of events that the server spooled."""
        return receipt_of(self.ask(receipt_request(receipt)))

    def spend(self, contract_id: str) -> Spend:
        """Return what a contract has spent so far; raise `NotFoundError` when there is none of this id."""
        return spend_of(self.ask(spend_request(contract_id)))

    def hold(
        self,
        hold_id: str,
        customer_id: str,
        feature_id: str,
        *,
        units: Decimal | None = None,
        amount: Decimal | None = None,
        expires_at: datetime,
    ) -> Hold:
        """Reserve units or an amount, exactly one of them, until it is captured, released or expires.

        The id is your own: the same hold again is harmless, so a lost answer is asked for again. Raises `ConflictError`
        when less is left than that, no gate is open, or the id has other content.
        """
        question = Question(customer_id, feature_id, units, amount)
        return hold_of(self.ask(hold_request(hold_id, question, expires_at)))

    def capture(self, hold_id: str, event: Event, *, excess: Excess = "refuse") -> Capture:
        """Send the usage that was held for, and settle the hold with it; the event counts once.

        Raises `ConflictError` when the hold was captured with another event, was released or has expired, or when the
        event uses more than is held, unless `excess` is `take`.
        """
        return capture_of(self.ask(capture_request(hold_id, event, excess)))

    def release(self, hold_id: str) -> Hold:
        """Give back what is held; the same again is harmless. Raises `ConflictError` when it is captured."""
        return hold_of(self.ask(release_request(hold_id)))

    def held(self, hold_id: str) -> Hold:
        """Return how a hold stands; raise `NotFoundError` when there is none of this id."""
        return hold_of(self.ask(held_request(hold_id)))

    def ask(self, request: Request, *, attempts: int | None = None) -> Any:  # noqa: ANN401 - the server's shape
        """Ask for what has no method of its own; raise as `send` does."""
        most = self._attempts if attempts is None else attempts
        failures = 0
        while True:
            try:
                return self._ask_once(request)
            except UnavailableError as error:
                failures += 1
                if failures >= most:
                    raise
                time.sleep(pause_seconds(failures, error))

    def _ask_once(self, request: Request) -> Any:  # noqa: ANN401 - the server's shape
        try:
            response = self._http.request(
                request.method, request.path, content=request.content, headers=request.headers
            )
        except httpx.TransportError as error:
            raise UnavailableError(f"the server does not answer ({type(error).__name__}: {error})") from error
        return content_of(response)


class Sender:
    """Sends events in the background, many in a request, without holding their makers up.

    A request goes when `request_events` wait or the first of them has waited for `wait_seconds`. While the server is
    away everything waits, up to `most_waiting` events. With a `journal`, events are on the disk when `add` returns:
    after a crash the next sender with the same journal sends what was not answered. `on_answer` is called with every
    answer, in the sender's thread; without it, refused events are logged. Use it as a context manager, or close it.
    """

    def __init__(
        self,
        client: Client,
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
        self._changed = threading.Condition()
        self._is_hurried = False
        self._is_closed = False
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="meterbook sender", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def waiting(self) -> int:
        """How many events are not answered yet."""
        with self._changed:
            return len(self._backlog)

    def add(self, *events: Event) -> None:
        """Let events be sent; raise `FullError`, `ClosedError`, or what the server refused this sender's requests with.

        Many at once cost one write to the journal.
        """
        with self._changed:
            self._raise_failure()
            if self._is_closed:
                raise ClosedError("this sender is closed; make another one")
            self._backlog.add(events)
            self._changed.notify_all()

    def flush(self, *, timeout_seconds: float = 30.0) -> None:
        """Wait until everything is answered; raise `UnavailableError` when that takes too long."""
        with self._changed:
            self._is_hurried = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._failure is not None or not len(self._backlog), timeout_seconds)
            self._is_hurried = False
            self._raise_failure()
            if len(self._backlog):
                raise UnavailableError(self._backlog.left_behind())

    def close(self, *, timeout_seconds: float = 30.0) -> None:
        """Send what waits and stop; raise as `flush` does, when something is left."""
        with self._changed:
            self._is_closed = True
        try:
            self.flush(timeout_seconds=timeout_seconds)
        finally:
            with self._changed:
                self._stopped.set()
                self._changed.notify_all()
            self._thread.join()
            self._backlog.close()

    def _run(self) -> None:
        failures = 0
        while portion := self._next_portion():
            try:
                answer = self._client.send_lines(portion, attempts=1)
                self._on_answer(answer)
                self._note_answer(len(portion))
                failures = 0
            except UnavailableError as error:
                failures += 1
                self._stopped.wait(pause_seconds(failures, error))
            except BaseException as error:  # noqa: BLE001 - raised to whoever adds, flushes or closes
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
                return

    def _next_portion(self) -> Sequence[str]:
        """Wait for the next request that is due; return none when the sender stops."""
        with self._changed:
            while not self._stopped.is_set():
                wait = None if not len(self._backlog) else self._wait_seconds - self._backlog.age_seconds
                is_due = wait is not None and (
                    wait <= 0 or self._is_hurried or self._is_closed or len(self._backlog) >= self._request_events
                )
                if is_due:
                    return self._backlog.next_portion(self._request_events)
                self._changed.wait(wait)
        return ()

    def _note_answer(self, count: int) -> None:
        with self._changed:
            self._backlog.answered(count)
            self._changed.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def log_refused(answer: Answer) -> None:
    """Log the events that do not count."""
    for one in answer.refused:
        log.warning(
            "event %s of %s is %s: %s %s %s", one.key, one.source, one.outcome, one.field, one.value, one.reason
        )
