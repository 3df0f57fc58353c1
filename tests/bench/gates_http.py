"""Gates over HTTP at a steady pace: how long an answer takes, against a call that does nothing at the same pace."""

import http.client
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from urllib.parse import urlsplit

from infra.stack import Stack
from ledger.api_keys import create_api_key
from tests.bench.figure import Figure, Tell, check_count, compare
from tests.bench.gates import FEATURE, prepare
from tests.bench.http import api_of, client_of, percentile
from tests.bench.world import own_database

CLIENTS = 4
PER_SECOND = 500


def measure(stack: Stack, tell: Tell, *, quick: bool) -> list[Figure]:
    """Ask gates of many customers at 500 a second from four clients, and call nothing at the same pace, in turn."""
    rounds, count = (2, 500) if quick else (5, 2_500)
    ours: list[list[float]] = []
    bare: list[list[float]] = []
    with own_database(stack, "gates_http") as engine:
        names = prepare(engine)
        with engine.begin() as connection:
            secret = create_api_key(connection, "bench")[1]
        bodies = [json.dumps({"customer_id": name, "feature_id": FEATURE, "units": "1000"}).encode() for name in names]
        with api_of(engine) as address, client_of(address, secret), ThreadPoolExecutor(CLIENTS) as threads:
            for number in range(rounds + 1):
                tell(f"gates over HTTP: round {number} of {rounds}")
                ours.append(_paced(threads, address, secret, count, bodies))
                bare.append(_paced(threads, address, secret, count, None))
    return [
        compare(
            f"gate-http-p{percent}",
            f"POST /v1/gate at {PER_SECOND} per second, p{percent}",
            f"GET /healthz at the same pace, p{percent}",
            seconds=[percentile(values, percent) for values in ours[1:]],  # the first only warms up
            yardstick_seconds=[percentile(values, percent) for values in bare[1:]],
            shown="milliseconds",
            operations=count,
            note=f"one server process, {CLIENTS} clients on the same cores, each answer timed from when it was due",
        )
        for percent in (50, 99)
    ]


def _paced(
    threads: ThreadPoolExecutor, address: str, secret: str, count: int, bodies: Sequence[bytes] | None
) -> list[float]:
    """Return the seconds from when each request was due to its answer; bodies None: a call that does nothing."""
    begin = perf_counter() + 0.1

    def one_client(first: int) -> list[float]:
        target = urlsplit(address)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        seconds = []
        for number in range(first, count, CLIENTS):
            due = begin + number / PER_SECOND
            time.sleep(max(0.0, due - perf_counter()))
            if bodies is None:
                connection.request("GET", "/healthz", headers=headers)
            else:
                connection.request("POST", "/v1/gate", bodies[number % len(bodies)], headers)
            answer = connection.getresponse()
            body = answer.read()
            seconds.append(perf_counter() - due)
            allowed = bodies is None or json.loads(body)["allowed"]
            check_count("answers that allow", expected=1, found=int(answer.status == http.client.OK and allowed))
        connection.close()
        return seconds

    return [seconds for own in threads.map(one_client, range(CLIENTS)) for seconds in own]
