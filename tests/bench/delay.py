"""From an event's acceptance by HTTP to its place in the balance, against a call that does nothing."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import quantiles
from time import perf_counter

import httpx
import sqlalchemy as sa

from activities.settings import Settings
from infra.stack import Stack
from ledger.api_keys import create_api_key
from ledger.database import create_engine
from ledger.intake.status import usage_status
from tests.bench.figure import Figure, Tell, check_count, compare
from tests.bench.load import measure_load
from tests.bench.world import body_of, event, set_up
from workflows.starting import connect, start_contract

CONTRACTS = 10
PER_SECOND = 20
BATCH = 5
WARM_UP = 10
PATIENCE_SECONDS = 60


@dataclass(slots=True)
class _Round:
    """The batches of one round, and the seconds that each call took."""

    batches: list[int] = field(default_factory=list)
    posted: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)


def measure(stack: Stack, tell: Tell, *, quick: bool) -> list[Figure]:
    """Post small batches at a steady pace with calls of nothing between them, then wait until all are in a balance."""
    rounds, ticks = (2, 2 * PER_SECOND) if quick else (5, 2 * PER_SECOND)
    engine = create_engine(stack.environment["DATABASE_URL"])
    try:
        tell("delay: starting contracts")
        start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
        with engine.begin() as connection:
            names = set_up(connection, "delay", CONTRACTS, start=start)
            secret = create_api_key(connection, "bench")[1]
        asyncio.run(start_all(stack, names))
        wait_until(engine, _ACCRUED, {"entity": "delay"}, what="the first accrual of each contract")
        headers = {"authorization": f"Bearer {secret}"}
        with httpx.Client(base_url=stack.environment["METERBOOK_HTTP"], headers=headers, trust_env=False) as client:
            for number in range(WARM_UP):
                _post(client, "a-stranger", f"warm-{number}", 1)
                client.get("/healthz").raise_for_status()
            begin = perf_counter()
            measured = [
                _measure_round(client, names, number, ticks, tell=lambda text: tell(f"{text} of {rounds}"))
                for number in range(rounds)
            ]
            took = perf_counter() - begin
        tell("delay: waiting for the last balance")
        wait_until(engine, _SETTLED, {}, what="every batch to reach its balance")
        figures = _figures(engine, measured, took=took)
        return [*figures, *_measure_load(stack, engine, secret, tell, start=start, quick=quick)]
    finally:
        engine.dispose()


def _measure_load(
    stack: Stack, engine: sa.Engine, secret: str, tell: Tell, *, start: datetime, quick: bool
) -> list[Figure]:
    contracts, per_second, seconds = (20, 100, 5) if quick else (200, 1_000, 30)
    tell(f"delay: starting {contracts} contracts")
    with engine.begin() as connection:
        names = set_up(connection, "load", contracts, start=start)
    asyncio.run(start_all(stack, names))
    wait_until(engine, _ACCRUED, {"entity": "load"}, what="the first accrual of each contract")
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=stack.environment["METERBOOK_HTTP"], headers=headers, trust_env=False) as client:
        return measure_load(engine, client, names, tell, per_second=per_second, seconds=seconds)


async def start_all(stack: Stack, names: Sequence[str]) -> None:
    """Start the workflows of contracts, some at a time."""
    client = await connect(settings_of(stack))
    for begin in range(0, len(names), 10):
        await asyncio.gather(*(start_contract(client, name) for name in names[begin : begin + 10]))


def settings_of(stack: Stack) -> Settings:
    """Return the settings of a process that uses the stack."""
    environment = stack.environment
    return Settings(database_url=environment["DATABASE_URL"], temporal_address=environment["TEMPORAL_ADDRESS"])


def wait_until(engine: sa.Engine, question: sa.TextClause, parameters: dict[str, str], *, what: str) -> None:
    """Ask the database until it says true; raise `TimeoutError` after a minute."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with engine.begin() as connection:
            if connection.execute(question, parameters).scalar_one():
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_SECONDS} s in vain for {what}")
        time.sleep(0.2)


def _measure_round(client: httpx.Client, names: Sequence[str], number: int, ticks: int, *, tell: Tell) -> _Round:
    tell(f"delay: round {number + 1}")
    measured = _Round()
    begin = perf_counter()
    for tick in range(ticks):
        time.sleep(max(0.0, begin + tick / PER_SECOND - perf_counter()))
        sent = perf_counter()
        measured.batches.append(_post(client, names[tick % len(names)], f"{number}-{tick}", BATCH))
        answered = perf_counter()
        client.get("/healthz").raise_for_status()
        measured.posted.append(answered - sent)
        measured.bare.append(perf_counter() - answered)
    return measured


def _post(client: httpx.Client, customer: str, key: str, count: int) -> int:
    now = datetime.now(UTC)
    events = [event(customer, f"{key}-{number}", now) for number in range(count)]
    response = client.post("/v1/usage", content=body_of(events), headers={"content-type": "application/json"})
    answer = response.raise_for_status().json()
    check_count("events accepted by a request", expected=count, found=answer["accepted"])
    return int(answer["batch_id"])


def _figures(engine: sa.Engine, rounds: Sequence[_Round], *, took: float) -> list[Figure]:
    with engine.begin() as connection:
        status = usage_status(connection)
        delays: dict[int, float] = dict(connection.execute(_DELAYS).all())
    calls = sum(len(each.batches) for each in rounds)
    check_count("events accepted", expected=calls * BATCH + WARM_UP, found=status.accepted)
    check_count("events in a balance", expected=calls * BATCH, found=status.matched)
    check_count("batches in a balance", expected=calls, found=len(delays))
    p50, p99 = status.delay_p50_seconds or 0.0, status.delay_p99_seconds or 0.0
    pace = f"{calls / took:.1f} batches/s of {BATCH} events over {CONTRACTS} contracts"
    ours = [[delays[batch] for batch in each.batches] for each in rounds]
    bare = [each.bare for each in rounds]
    noted = f"{pace}; nudges go out at most once a second; usage status over all rounds: p50 {1000 * p50:.0f} ms, "
    noted += f"p99 {1000 * p99:.0f} ms"

    def figure(name: str, what: str, values: Sequence[Sequence[float]], percent: int, note: str) -> Figure:
        return compare(
            name,
            what,
            f"GET /healthz, p{percent}",
            seconds=[_percentile(each, percent) for each in values],
            yardstick_seconds=[_percentile(each, percent) for each in bare],
            shown="milliseconds",
            operations=len(values[0]),
            note=note,
        )

    return [
        figure("delay-p50", "event accepted to balance, p50", ours, 50, noted),
        figure("delay-p99", "event accepted to balance, p99", ours, 99, noted),
        figure("answer-p50", "POST /v1/usage until its answer, p50", [each.posted for each in rounds], 50, pace),
    ]


def _percentile(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]


_ACCRUED = sa.text("select bool_and(accrued_at is not null) from contract where entity_id = :entity")
_SETTLED = sa.text("select not exists (select from usage_dirty)")
_DELAYS = sa.text("select batch_id, extract(epoch from accrued_at - received_at)::float8 from usage_accrual")
