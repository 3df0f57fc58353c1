"""Growth: whether intake and live spend stay as fast while the events in the database grow, against the first size."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter

import sqlalchemy as sa

from infra.demo.traffic import Event, events_of, generated
from infra.stack import Stack
from ledger.intake.events import parse_json
from ledger.intake.store import take_in
from ledger.spend import spend
from tests.bench.figure import Figure, Tell, check_count, compare
from tests.bench.world import SEED, body_of, own_database, set_up, take_all

CUSTOMERS = 50
SPAN = timedelta(days=28)
SIZES = (100_000, 1_000_000, 10_000_000)
QUICK_SIZES = (5_000, 20_000)
BATCH = 10_000
QUICK_BATCH = 1_000
ROUNDS = 5
CHUNK = 100_000


def measure(stack: Stack, tell: Tell, *, quick: bool) -> list[Figure]:
    """Fill the tables to each size, then take new batches in and read live spend a few times."""
    batch = QUICK_BATCH if quick else BATCH
    sizes = QUICK_SIZES if quick else SIZES
    intake: list[list[float]] = []
    reading: list[list[float]] = []
    with own_database(stack, "growth") as engine:
        end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        with engine.begin() as connection:
            customers = set_up(connection, "growth", CUSTOMERS, start=end - SPAN - timedelta(days=1))
        events = _events(customers, end)
        held = 0
        for size in sizes:
            while held < size:
                tell(f"growth: {held:,} of {size:,} events")
                part = [next(events) for _ in range(min(CHUNK, size - held))]
                take_all(engine, part, received_at=end, size=batch)
                held += len(part)
            bodies = [body_of([next(events) for _ in range(batch)]) for _ in range(ROUNDS)]
            intake.append([_take(engine, body, batch) / batch for body in bodies])
            reading.append([_read(engine, customers[0]) for _ in range(ROUNDS)])
            held += ROUNDS * batch
        _check_held(engine, held)
    note = f"usage of {CUSTOMERS} customers over {SPAN.days} days; new usage falls into the same days"
    return [
        compare(
            f"growth-{kind}-{size}",
            f"{what}, {size:,} events held",
            f"the same, {sizes[0]:,} events held",
            seconds=measured[n],
            yardstick_seconds=measured[0],
            shown="rate" if kind == "intake" else "milliseconds",
            operations=batch if kind == "intake" else 1,
            note=note,
        )
        for n, size in enumerate(sizes)
        for kind, what, measured in (
            ("intake", f"events: intake of new ones, batches of {batch:,}", intake),
            ("spend", "live spend of the busiest customer", reading),
        )
    ]


def _events(customers: Sequence[str], end: datetime) -> Iterator[Event]:
    """Yield usage without end, spread over the whole span again in each chunk, every key once."""
    chunk = 0
    while True:
        requests = generated(CHUNK, start=end - SPAN, end=end, seed=SEED + chunk)
        for event in events_of(requests, customers, seed=SEED + chunk):
            yield {**event, "key": f"{chunk}-{event['key']}"}
        chunk += 1


def _take(engine: sa.Engine, body: bytes, count: int) -> float:
    received_at = datetime.now(UTC)
    begin = perf_counter()
    parsed = parse_json(body, received_at=received_at)
    with engine.begin() as connection:
        result = take_in(connection, parsed, door="http", received_at=received_at)
    seconds = perf_counter() - begin
    check_count("events accepted", expected=count, found=result.accepted)
    return seconds


def _read(engine: sa.Engine, contract_id: str) -> float:
    begin = perf_counter()
    with engine.connect() as connection:
        spend(connection, contract_id)
    return perf_counter() - begin


def _check_held(engine: sa.Engine, held: int) -> None:
    with engine.connect() as connection:
        counted = connection.execute(sa.text("select sum(events) from usage_rollup where metric_id = 'requests'"))
        check_count("events in the totals", expected=held, found=counted.scalar_one())
