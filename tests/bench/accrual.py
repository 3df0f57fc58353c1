"""Accruals per second, each in its own transaction, against single-row inserts committed one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter

import sqlalchemy as sa

from infra.stack import Stack
from ledger.accrual import accrue
from tests.bench.figure import Figure, Tell, check_count, compare
from tests.bench.groups import measure_groups
from tests.bench.world import event, own_database, set_up, take_all

AS_OF = datetime(2026, 1, 31, 12, tzinfo=UTC)
"""Fixed, so that the open periods are as long on any day the run is made."""
HOUR = timedelta(hours=1)


@dataclass(slots=True)
class _Length:
    """Contracts that are open for so long, and the seconds per accrual of each round."""

    months: int
    start: datetime
    contracts: int
    names: tuple[str, ...] = ()
    buckets: int = 0
    first: float = 0.0
    seconds: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)


def measure(stack: Stack, tell: Tell, *, quick: bool) -> list[Figure]:
    """Add one event to each contract, accrue each, and commit single rows, in every round; the first only warms up."""
    rounds, inserts = (3, 20) if quick else (10, 50)
    lengths = [
        _Length(1, datetime(2026, 1, 1, tzinfo=UTC), 4 if quick else 10),
        _Length(12, datetime(2025, 2, 1, tzinfo=UTC), 2 if quick else 4),
    ]
    with own_database(stack, "accrual") as engine:
        for length in lengths:
            tell(f"accrual: making {length.months} months of hourly usage")
            _prepare(engine, length)
        for number in range(rounds + 1):
            tell(f"accrual: round {number} of {rounds}")
            for length in lengths:
                added = [event(name, f"{name}-added-{number}", AS_OF - HOUR / 2) for name in length.names]
                take_all(engine, added, received_at=AS_OF)
                length.bare.append(_insert(engine, inserts) / inserts)
                length.seconds.append(_accrue(engine, length.names) / length.contracts)
        tell("accrual: making the usage of many groups")
        return [*(_figure(length) for length in lengths), *measure_groups(engine, quick=quick)]


def _prepare(engine: sa.Engine, length: _Length) -> None:
    with engine.begin() as connection:
        length.names = set_up(connection, f"accrual-{length.months}", length.contracts, start=length.start)
    hours = (AS_OF - length.start) // HOUR
    usage = [
        event(name, f"{name}-{hour}", length.start + hour * HOUR, input_tokens=500 + hour % 700)
        for hour in range(hours)
        for name in length.names
    ]
    take_all(engine, usage, received_at=AS_OF)
    length.first = _accrue(engine, length.names, new_batches=None) / length.contracts
    with engine.begin() as connection:
        length.buckets = connection.execute(
            sa.text("select count(*) from usage_rollup where customer_id = :name and metric_id <> 'requests'"),
            {"name": length.names[0]},
        ).scalar_one()
    check_count("buckets of a contract: hours for 2 priced metrics", expected=2 * hours, found=length.buckets)


def _accrue(engine: sa.Engine, names: Sequence[str], *, new_batches: int | None = 1) -> float:
    """Accrue each contract, check that the new batches reached its balance, and return the seconds it took."""
    accruals = []
    begin = perf_counter()
    for name in names:
        with engine.begin() as connection:
            accruals.append(accrue(connection, name, as_of=AS_OF))
    seconds = perf_counter() - begin
    if new_batches is not None:
        check_count("batches accrued", expected=new_batches * len(names), found=sum(a.batches for a in accruals))
    check_count("accruals that posted", expected=len(names), found=sum(a.transfers_posted > 0 for a in accruals))
    return seconds


def _insert(engine: sa.Engine, count: int) -> float:
    """Commit single rows one by one, and return the seconds it took."""
    statement = sa.text("insert into bare_row (number, word) values (:number, 'one row')")
    begin = perf_counter()
    for number in range(count):
        with engine.begin() as connection:
            connection.execute(statement, {"number": number})
    return perf_counter() - begin


def _figure(length: _Length) -> Figure:
    return compare(
        f"accrual-{length.months}",
        f"accruals, {length.months} month{'s' * (length.months > 1)} open",
        "inserts of one row, one commit each",
        seconds=length.seconds[1:],
        yardstick_seconds=length.bare[1:],
        shown="rate",
        operations=length.contracts,
        note=(
            f"one event new, {length.buckets:,} hourly buckets; one sender; "
            f"the first accrual, which posts every day, took {1000 * length.first:.0f} ms"
        ),
    )
