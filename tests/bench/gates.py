"""Gates: what asking one takes against a bare read by a prepared key, and holds per second against bare inserts."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import perf_counter

import sqlalchemy as sa

from infra.stack import Stack
from ledger.contracts import insert_lots
from ledger.database import driver_of
from ledger.features import Feature, create_feature, grant_feature
from ledger.gates import check_gate
from ledger.holds import hold
from pricing.terms import Commit
from tests.bench.figure import Figure, Tell, check_count, compare
from tests.bench.world import BY, own_database, set_up

CUSTOMERS = 50
CLIENTS = 4
FEATURE = "writing"
START = datetime(2026, 1, 1, tzinfo=UTC)
AT = datetime(2026, 1, 15, tzinfo=UTC)
"""Fixed, so that the gates hold on any day the run is made."""
HOUR = timedelta(hours=1)
PLENTY = Decimal(1_000_000)


@dataclass(slots=True)
class _Rounds:
    """Seconds by name, a value for each round."""

    of: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, seconds: float) -> None:
        self.of.setdefault(name, []).append(seconds)

    def after_first(self, name: str) -> list[float]:
        """Return all but the first, which only warms up."""
        return self.of[name][1:]


def measure(stack: Stack, tell: Tell, *, quick: bool) -> list[Figure]:
    """Ask gates one by one, and make holds from some clients at once, on one customer and on many, in every round."""
    rounds, checks, holds = (3, 1_000, 200) if quick else (10, 5_000, 1_000)
    found = _Rounds()
    with own_database(stack, "gates") as engine:
        tell("gates: granting a feature to each customer")
        names = prepare(engine)
        for number in range(rounds + 1):
            tell(f"gates: round {number} of {rounds}")
            _ask(engine, names, checks, found)
            _measure_holds(engine, names, number, holds, found)
    return [*_checks(found, checks), *_holds(found, holds)]


def prepare(engine: sa.Engine) -> tuple[str, ...]:
    """Give each customer a feature and plenty of money to use it with; return the customers."""
    with engine.begin() as connection:
        names = set_up(connection, "gates", CUSTOMERS, start=START)
        create_feature(connection, Feature(FEATURE, "Writing", "balance", ("input-tokens",)))
        for name in names:
            insert_lots(connection, name, [Commit("prepaid", "Prepaid", PLENTY, START, None)])
            grant_feature(connection, name, FEATURE, by=BY, at=AT)
        connection.execute(_FILL, [{"key": name} for name in names])
    return names


def _ask(engine: sa.Engine, names: Sequence[str], count: int, found: _Rounds) -> None:
    """Ask gates and read bare rows in turn, each by itself, so that both meet the same moments of the machine."""
    ours, bare = [], []
    with engine.begin() as connection:
        driver = driver_of(connection)
        for number in range(count):
            name = names[number % len(names)]
            begin = perf_counter()
            answer = check_gate(connection, name, FEATURE, units=Decimal(1000), at=AT)
            middle = perf_counter()
            row = driver.execute(_BARE, ("bench", name), prepare=True).fetchone()
            bare.append(perf_counter() - middle)
            ours.append(middle - begin)
            check_count("gates that are open, and rows", expected=2, found=answer.allowed + (row is not None))
    for name, seconds in (("ours", sorted(ours)), ("bare", sorted(bare))):
        found.add(f"{name}-p50", seconds[len(seconds) // 2])
        found.add(f"{name}-p99", seconds[len(seconds) * 99 // 100])


def _measure_holds(engine: sa.Engine, names: Sequence[str], round_: int, count: int, found: _Rounds) -> None:
    def make(customers: Sequence[str], key: str) -> Callable[[int], None]:
        def one(number: int) -> None:
            with engine.begin() as connection:
                hold(
                    connection,
                    f"{key}-{number}",
                    customers[number % len(customers)],
                    FEATURE,
                    units=Decimal(1000),
                    expires_at=AT + HOUR,
                    at=AT,
                )

        return one

    def insert(number: int) -> None:
        with engine.begin() as connection:
            connection.execute(_INSERT, {"number": number})

    found.add("one", _at_once(make(names[:1], f"one-{round_}"), count))
    found.add("many", _at_once(make(names, f"many-{round_}"), count))
    found.add("inserts", _at_once(insert, count))
    with engine.begin() as connection:
        held = connection.execute(_HELD).scalar_one()
    check_count("units held at the gates, in thousands", expected=2 * count * (round_ + 1), found=held)


def _at_once(work: Callable[[int], None], count: int) -> float:
    """Do a piece of work `count` times from all clients, and return the seconds for each."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        begin = perf_counter()
        for done in [clients.submit(work, number) for number in range(count)]:
            done.result()
        return (perf_counter() - begin) / count


def _checks(found: _Rounds, checks: int) -> list[Figure]:
    return [
        compare(
            f"gate-check-{part}",
            f"asking a gate, {part}",
            f"reading one row by a prepared key, {part}",
            seconds=found.after_first(f"ours-{part}"),
            yardstick_seconds=found.after_first(f"bare-{part}"),
            shown="milliseconds",
            operations=checks,
            note=f"in the library, {CUSTOMERS} customers one after the other, within one transaction",
        )
        for part in ("p50", "p99")
    ]


def _holds(found: _Rounds, holds: int) -> list[Figure]:
    return [
        compare(
            f"holds-{name}",
            f"holds made, {what}",
            "inserts of one row, one commit each",
            seconds=found.after_first(name),
            yardstick_seconds=found.after_first("inserts"),
            shown="rate",
            operations=holds,
            note=f"{CLIENTS} clients at once in one process, for both",
        )
        for name, what in (("one", "all on one customer"), ("many", f"spread over {CUSTOMERS} customers"))
    ]


_FILL = sa.text("""
insert into bare_keyed (ts, source, key, customer, type, properties)
values (clock_timestamp(), 'bench', :key, :key, 'gate', '{"left": "1000000.000000000000"}')
""")
_BARE = "select ts, customer, type, properties from bare_keyed where source = %s and key = %s"
_INSERT = sa.text("insert into bare_row (number, word) values (:number, 'one row')")
_HELD = sa.text("select (sum(held_amount) / 0.03)::bigint from gate")
