"""Events per second over HTTP with clients on the same cores, and how long an answer takes at half of that load."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from statistics import quantiles
from time import perf_counter

import httpx
import sqlalchemy as sa

from infra.demo.traffic import events_of
from infra.stack import Stack
from infra.stack.home import CLONE, LOCALHOST, PORTS, is_free
from ledger.api_keys import create_api_key
from ledger.intake.events import parse_json
from ledger.intake.store import take_in
from tests.bench.figure import Figure, Tell, check_count, compare
from tests.bench.world import body_of, own_database, requests, set_up

BATCH = 1_000
CLIENTS = 4
CUSTOMERS = 10
SPAN = timedelta(days=7)
PATIENCE_SECONDS = 30
NO_TEMPORAL = f"{LOCALHOST}:1"


def measure(stack: Stack, tell: Tell, *, quick: bool) -> list[Figure]:
    """Send new batches as fast as four clients can, then at half of that pace; the first round only warms up."""
    rounds, batches, ticks = (2, 8, 20) if quick else (5, 20, 60)
    with own_database(stack, "http") as engine:
        end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        with engine.begin() as connection:
            customers = set_up(connection, "http", CUSTOMERS, start=end - timedelta(days=31))
            secret = create_api_key(connection, "bench")[1]
        tell("http: making usage")
        count = BATCH * ((rounds + 1) * 2 * batches + rounds * ticks)
        made = requests(count, None, start=end - SPAN, end=end)
        events = iter(events_of(made, customers, seed=count))

        def bodies(number: int) -> list[bytes]:
            return [body_of([next(events) for _ in range(BATCH)]) for _ in range(number)]

        with api_of(engine) as address, client_of(address, secret) as client, ThreadPoolExecutor(CLIENTS) as threads:
            rates: list[tuple[float, float]] = []
            for number in range(rounds + 1):
                tell(f"http: round {number} of {rounds}")
                sent = bodies(batches), bodies(batches)
                rates.append(_round(engine, client, threads, *sent, bare_first=number % 2 == 0))
            seconds, bare = zip(*rates[1:], strict=True)
            pace = 2 * BATCH * sorted(seconds)[len(seconds) // 2]
            measured = []
            for number in range(rounds):
                tell(f"http: half of the load, round {number + 1} of {rounds}")
                measured.append(_paced(client, threads, bodies(ticks), every=pace))
    return [_rate(seconds, bare, batches), *_answers(measured, pace, ticks)]


def _round(
    engine: sa.Engine,
    client: httpx.Client,
    threads: ThreadPoolExecutor,
    over_http: Sequence[bytes],
    by_library: Sequence[bytes],
    *,
    bare_first: bool,
) -> tuple[float, float]:
    """Return the seconds per event over HTTP and by the library."""
    taken: dict[str, float] = {}

    def send() -> None:
        begin = perf_counter()
        list(threads.map(lambda body: _post(client, body), over_http))
        taken["http"] = (perf_counter() - begin) / (BATCH * len(over_http))

    def take() -> None:
        begin = perf_counter()
        for body in by_library:
            now = datetime.now(UTC)
            with engine.begin() as connection:
                result = take_in(connection, parse_json(body, received_at=now), door="http", received_at=now)
            check_count("events accepted by the library", expected=BATCH, found=result.accepted)
        taken["library"] = (perf_counter() - begin) / (BATCH * len(by_library))

    order: list[Callable[[], None]] = [take, send] if bare_first else [send, take]
    for step in order:
        step()
    return taken["http"], taken["library"]


def _paced(
    client: httpx.Client, threads: ThreadPoolExecutor, bodies: Sequence[bytes], *, every: float
) -> tuple[list[float], list[float]]:
    """Send a batch every so many seconds; return the seconds from when each was due to its answer, and of a bare call.

    A batch that must wait for the one before it is late: that counts, as it does for a sender.
    """
    begin = perf_counter() + every

    def one(number: int) -> tuple[float, float]:
        due = begin + number * every
        time.sleep(max(0.0, due - perf_counter()))
        _post(client, bodies[number])
        answered = perf_counter()
        client.get("/healthz").raise_for_status()
        return answered - due, perf_counter() - answered

    posted, bare = zip(*threads.map(one, range(len(bodies))), strict=True)
    return list(posted), list(bare)


def _post(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v1/usage", content=body, headers={"content-type": "application/json"})
    check_count("events accepted by a request", expected=BATCH, found=answer.raise_for_status().json()["accepted"])


def _rate(seconds: Sequence[float], bare: Sequence[float], batches: int) -> Figure:
    return compare(
        f"http-{BATCH}",
        f"events over HTTP, batches of {BATCH:,}",
        "events: the same by the library, one sender",
        seconds=seconds,
        yardstick_seconds=bare,
        shown="rate",
        operations=BATCH * batches,
        note=f"one server process, {CLIENTS} clients on the same cores, Temporal away",
    )


def _answers(measured: Sequence[tuple[list[float], list[float]]], every: float, ticks: int) -> list[Figure]:
    return [
        compare(
            f"http-answer-p{percent}",
            f"POST /v1/usage of {BATCH:,} events at half of that load, p{percent}",
            f"GET /healthz, p{percent}",
            seconds=[percentile(posted, percent) for posted, _ in measured],
            yardstick_seconds=[percentile(bare, percent) for _, bare in measured],
            shown="milliseconds",
            operations=ticks,
            note=f"{BATCH / every:,.0f} events/s, each answer timed from when its batch was due",
        )
        for percent in (50, 99)
    ]


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that so many per cent of the values do not exceed."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


@contextmanager
def client_of(address: str, secret: str) -> Iterator[httpx.Client]:
    """Give a client of an API once that answers."""
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=60) as client:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                client.get("/healthz").raise_for_status()
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                break
        yield client


@contextmanager
def api_of(engine: sa.Engine) -> Iterator[str]:
    """Run the HTTP API on the engine's database as a process of its own, and give its address."""
    port = next(candidate for candidate in reversed(PORTS) if is_free(candidate))
    url = engine.url.render_as_string(hide_password=False)
    environment = {**os.environ, "DATABASE_URL": url, "TEMPORAL_ADDRESS": NO_TEMPORAL}
    command = (sys.executable, "-m", "admin.http", "--port", str(port))
    server = subprocess.Popen(command, cwd=CLONE, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield f"http://{LOCALHOST}:{port}"
    finally:
        server.terminate()
        server.wait(PATIENCE_SECONDS)
