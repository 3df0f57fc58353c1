"""One hot contract that takes 90 % of the load, against the same load spread evenly, in the same rounds."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from time import perf_counter

import httpx
import sqlalchemy as sa

from infra.demo.traffic import Event
from infra.stack import Stack
from ledger.api_keys import create_api_key
from ledger.database import create_engine
from tests.bench.delay import start_all, wait_until
from tests.bench.figure import Figure, Tell, check_count, compare
from tests.bench.world import SEED, body_of, event, set_up

ENTITY = "hot"
CONTRACTS = 20
SENDERS = 4
BATCH = 1_000
HOT_SHARE = 0.9
AGAIN_AFTER_SECONDS = 0.05


@dataclass(slots=True)
class _Load:
    """What each round of a load took: seconds per event, and p99 in seconds to the hot and to the other balances."""

    intake: list[float] = field(default_factory=list)
    hot: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)


def measure(stack: Stack, tell: Tell, *, quick: bool) -> list[Figure]:
    """Send batches by several senders, in turn evenly and to a hot contract; the first round only warms up."""
    rounds, batches = (2, 2) if quick else (5, 5)
    engine = create_engine(stack.environment["DATABASE_URL"])
    even, skewed = _Load(), _Load()
    try:
        tell("hot: starting contracts")
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        with engine.begin() as connection:
            names = set_up(connection, ENTITY, CONTRACTS, start=midnight - timedelta(days=2))
            secret = create_api_key(connection, "bench-hot")[1]
        asyncio.run(start_all(stack, names))
        wait_until(engine, _ACCRUED, {"entity": ENTITY}, what="the first accrual of each contract")
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        address = stack.environment["METERBOOK_HTTP"]
        with httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=60) as client:
            for number in range(rounds + 1):
                tell(f"hot: round {number} of {rounds}")
                for load, share in ((even, 1 / CONTRACTS), (skewed, HOT_SHARE)):
                    bodies = _bodies(names, f"{number}-{share:.2f}", SENDERS * batches, share)
                    _measure_round(engine, client, load, names[0], bodies)
    finally:
        engine.dispose()
    return _figures(even, skewed, batches)


def _bodies(names: Sequence[str], key: str, count: int, share: float) -> list[bytes]:
    """Make batches whose events go to the first contract by that share, and evenly to the others."""
    random = Random(f"{SEED}-{key}")  # noqa: S311 - usage is to be repeated, not to be secret
    now = datetime.now(UTC)

    def one(batch: int, number: int) -> Event:
        who = names[0] if random.random() < share else random.choice(names[1:])
        return event(who, f"hot-{key}-{batch}-{number}", now)

    return [body_of([one(batch, number) for number in range(BATCH)]) for batch in range(count)]


def _measure_round(engine: sa.Engine, client: httpx.Client, load: _Load, hot: str, bodies: Sequence[bytes]) -> None:
    since = datetime.now(UTC)
    begin = perf_counter()
    with ThreadPoolExecutor(SENDERS) as senders:
        accepted = sum(senders.map(lambda body: _post(client, body), bodies))
    load.intake.append((perf_counter() - begin) / accepted)
    check_count("events accepted", expected=len(bodies) * BATCH, found=accepted)
    wait_until(engine, _SETTLED, {}, what="every batch to reach its balance")
    with engine.begin() as connection:
        rows = connection.execute(_DELAYS, {"since": since}).all()
    load.hot.append(_p99([seconds for name, seconds in rows if name == hot]))
    load.others.append(_p99([seconds for name, seconds in rows if name != hot]))


def _post(client: httpx.Client, body: bytes) -> int:
    while True:
        answer = client.post("/v1/usage", content=body)
        if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
            return int(answer.raise_for_status().json()["accepted"])
        time.sleep(AGAIN_AFTER_SECONDS)


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]


def _figures(even: _Load, skewed: _Load, batches: int) -> list[Figure]:
    operations = SENDERS * batches * BATCH
    note = (
        f"{SENDERS} senders of batches of {BATCH:,} over HTTP, as fast as they are answered, over {CONTRACTS} "
        f"contracts, of which one takes {HOT_SHARE:.0%}; servers and senders share the machine"
    )
    wanted = (
        ("hot-intake", "events: intake with a hot contract", "events: intake, evenly", skewed.intake, even.intake),
        ("hot-delay-p99", "hot contract, event to balance, p99", "one of an even load", skewed.hot, even.hot),
        ("hot-others-p99", "others beside it, event to balance, p99", "of an even load", skewed.others, even.others),
    )
    return [
        compare(
            name,
            what,
            yardstick_what,
            seconds=ours[1:],
            yardstick_seconds=bare[1:],
            shown="rate" if name == "hot-intake" else "milliseconds",
            operations=operations,
            note=note,
        )
        for name, what, yardstick_what, ours, bare in wanted
    ]


_ACCRUED = sa.text("select bool_and(accrued_at is not null) from contract where entity_id = :entity")
_SETTLED = sa.text("select not exists (select from usage_dirty)")
_DELAYS = sa.text("""
select contract_id, extract(epoch from accrued_at - received_at)::float8
from usage_accrual where received_at >= :since
""")
