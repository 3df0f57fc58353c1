"""Intake: events per second from the JSON body to the commit, against a staged COPY into a bare keyed table."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import psycopg
import sqlalchemy as sa

from infra.demo.traffic import events_of
from infra.stack import Stack
from ledger.intake.events import parse_json
from ledger.intake.store import BatchResult, take_in
from tests.bench.figure import Figure, Tell, check_count, compare
from tests.bench.world import body_of, own_database, requests, set_up

CUSTOMERS = 10
SPAN = timedelta(days=7)


@dataclass(slots=True)
class _Size:
    """Batches of one size: how many a round holds, and the seconds per event of each round."""

    events: int
    batches: int
    bare: list[float] = field(default_factory=list)
    fresh: list[float] = field(default_factory=list)
    replayed: list[float] = field(default_factory=list)

    @property
    def round_events(self) -> int:
        return self.events * self.batches


def measure(stack: Stack, tell: Tell, *, quick: bool, usage: Path | None = None) -> list[Figure]:
    """Take in new batches and the same again, and copy the same rows bare, in every round; the first only warms up."""
    rounds = 2 if quick else 5
    sizes = [_Size(1_000, 2 if quick else 4), _Size(10_000, 1 if quick else 2)]
    with own_database(stack, "intake") as engine:
        end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        with engine.begin() as connection:
            customers = set_up(connection, "intake", CUSTOMERS, start=end - timedelta(days=31))
        tell("intake: making usage")
        count = (rounds + 1) * sum(size.round_events for size in sizes)
        made = requests(count, usage, start=end - SPAN, end=end)
        check_count("requests made", expected=count, found=len(made))
        events = iter(events_of(made, customers, seed=count))
        for number in range(rounds + 1):
            tell(f"intake: round {number} of {rounds}")
            for size in sizes:
                bodies = [body_of([next(events) for _ in range(size.events)]) for _ in range(size.batches)]
                _measure_round(engine, size, bodies, bare_first=number % 2 == 0)
    return [figure for size in sizes for figure in _figures(size, usage)]


def _measure_round(engine: sa.Engine, size: _Size, bodies: Sequence[bytes], *, bare_first: bool) -> None:
    copied = [_copy_text(body) for body in bodies]
    order: list[Callable[[], None]] = [
        lambda: size.bare.append(_copy_keyed(engine, copied, size) / size.round_events),
        lambda: size.fresh.append(_take(engine, bodies, "accepted", size) / size.round_events),
    ]
    for step in order if bare_first else reversed(order):
        step()
    size.replayed.append(_take(engine, bodies, "duplicate", size) / size.round_events)


def _take(engine: sa.Engine, bodies: Sequence[bytes], outcome: str, size: _Size) -> float:
    """Take batches in as the HTTP API does, check that all had this outcome, and return the seconds it took."""
    results: list[BatchResult] = []
    begin = perf_counter()
    for body in bodies:
        received_at = datetime.now(UTC)
        batch = parse_json(body, received_at=received_at)
        with engine.begin() as connection:
            results.append(take_in(connection, batch, door="http", received_at=received_at))
    seconds = perf_counter() - begin
    check_count(f"events {outcome}", expected=size.round_events, found=sum(getattr(r, outcome) for r in results))
    return seconds


def _copy_keyed(engine: sa.Engine, batches: Sequence[bytes], size: _Size) -> float:
    """Stage each batch and insert it by key in a transaction of its own, and return the seconds it took."""
    begin = perf_counter()
    inserted = 0
    for text in batches:
        with engine.begin() as connection:
            connection.execute(_STAGED)
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            with driver.cursor() as cursor, cursor.copy("copy staged from stdin") as copy:
                copy.write(text)
            inserted += connection.execute(_INSERT).rowcount
    seconds = perf_counter() - begin
    check_count("rows inserted by key", expected=size.round_events, found=inserted)
    return seconds


def _copy_text(body: bytes) -> bytes:
    rows = [
        (
            event["timestamp"],
            event["source"],
            event["key"],
            event["customer"],
            event["type"],
            json.dumps(event["properties"]),
        )
        for event in json.loads(body)
    ]
    escaped = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
    return "".join("\t".join(text.translate(escaped) for text in row) + "\n" for row in rows).encode()


def _figures(size: _Size, usage: Path | None) -> list[Figure]:
    origin = "generated usage" if usage is None else f"usage of {usage.name}"
    return [
        compare(
            f"intake-{kind}-{size.events}",
            f"{what}, batches of {size.events:,}",
            "rows: staged COPY of prepared text, INSERT ON CONFLICT DO NOTHING by key; no counting",
            seconds=seconds[1:],
            yardstick_seconds=size.bare[1:],
            shown="rate",
            operations=size.round_events,
            note=f"one sender; {origin} of {CUSTOMERS} customers, {SPAN.days} days in time order, 3 metrics by model",
        )
        for kind, what, seconds in (
            ("new", "events: intake of new ones", size.fresh),
            ("replay", "events: replay of the same, all duplicates", size.replayed),
        )
    ]


_STAGED = sa.text(
    "create temporary table if not exists staged (like bare_keyed including defaults) on commit delete rows"
)

_INSERT = sa.text("insert into bare_keyed select * from staged on conflict do nothing")
