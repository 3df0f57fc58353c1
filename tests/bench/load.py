"""From an event's acceptance to its place in the balance while many contracts are used at once."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from time import perf_counter

import httpx
import sqlalchemy as sa

from tests.bench.figure import Figure, Tell, check_count, compare
from tests.bench.world import body_of, event


def measure_load(
    engine: sa.Engine, client: httpx.Client, names: Sequence[str], tell: Tell, *, per_second: int, seconds: int
) -> list[Figure]:
    """Post batches at a steady pace, each with events of every second contract in turn, and wait for the balances."""
    batch = max(per_second // 10, 1)
    since = datetime.now(UTC)
    bare: list[float] = []
    begin = perf_counter()
    for tick in range(10 * seconds):
        tell(f"delay: {per_second:,} events/s, second {tick // 10 + 1} of {seconds}")
        time.sleep(max(0.0, begin + tick / 10 - perf_counter()))
        now = datetime.now(UTC)
        who = [names[(tick + 2 * n) % len(names)] for n in range(batch)]
        events = [event(name, f"load-{tick}-{n}", now) for n, name in enumerate(who)]
        answer = client.post("/v1/usage", content=body_of(events), headers={"content-type": "application/json"})
        check_count("events accepted by a request", expected=batch, found=answer.raise_for_status().json()["accepted"])
        asked = perf_counter()
        client.get("/healthz").raise_for_status()
        bare.append(perf_counter() - asked)
    took = perf_counter() - begin
    tell("delay: waiting for the last balance")
    delays = _delays(engine, since)
    accruals = len(delays)
    pace = f"{10 * seconds * batch / took:,.0f} events/s over {len(names)} contracts, {seconds} s"
    note = f"{pace}; {accruals:,} balances reached by a batch each; a contract waits in proportion to its accrual"
    return [
        compare(
            f"load-p{percent}",
            f"event accepted to balance at {per_second:,} events/s, p{percent}",
            f"GET /healthz, p{percent}",
            seconds=[_percentile(delays, percent)],
            yardstick_seconds=[_percentile(bare, percent)],
            shown="milliseconds",
            operations=accruals,
            note=note,
        )
        for percent in (50, 99)
    ]


def _delays(engine: sa.Engine, since: datetime) -> list[float]:
    """Wait until nothing is marked, and return the seconds from each batch to each of its balances."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with engine.begin() as connection:
            if not connection.execute(_MARKED).scalar_one():
                return [*connection.execute(_DELAYS, {"since": since}).scalars()]
        time.sleep(0.2)
    raise TimeoutError("waited 120 s in vain for every batch to reach its balance")


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) * percent // 100, len(values) - 1)]


_MARKED = sa.text("select exists (select from usage_dirty)")
_DELAYS = sa.text("""
select extract(epoch from accrued_at - received_at)::float8 from usage_accrual where received_at >= :since
""")
