"""Ledger: transfers per second in journals of 1,000, on random and on hot accounts, against single posts."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from time import perf_counter

import sqlalchemy as sa

from infra.stack import Stack
from ledger.transfers import Account, Transfer, post
from tests.bench.figure import Figure, Tell, check_count, compare
from tests.bench.world import SEED, own_database, set_up

ENTITY = "posting"
CONTRACTS = 20
PRODUCTS = 50
JOURNAL = 1_000
Pick = Callable[[int], tuple[Account, Account]]


def measure(stack: Stack, tell: Tell, *, quick: bool) -> list[Figure]:
    """Post journals on random and hot accounts, and transfers one by one, in every round; the first only warms up."""
    rounds, journals, singles = (2, 2, 100) if quick else (5, 5, 300)
    random = Random(SEED)  # noqa: S311 - accounts are to be spread, not to be secret
    seconds: dict[str, list[float]] = {"random": [], "hot": [], "single": []}
    with own_database(stack, ENTITY) as engine:
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        with engine.begin() as connection:
            contracts = set_up(connection, ENTITY, CONTRACTS, start=hour - timedelta(days=31))
        pairs = [_pair(contract, number) for contract in contracts for number in range(PRODUCTS)]
        for number in range(rounds + 1):
            tell(f"posting: round {number} of {rounds}")
            spread = _journals(f"random-{number}", journals, JOURNAL, lambda _: random.choice(pairs))
            hot = _journals(f"hot-{number}", journals, JOURNAL, lambda _: pairs[0])
            single = _journals(f"single-{number}", singles, 1, lambda _: random.choice(pairs))
            for name, made in (("random", spread), ("hot", hot), ("single", single)):
                seconds[name].append(_post(engine, made))
    note = f"one poster; {len(pairs):,} pairs of accounts of {CONTRACTS} contracts; a commit per journal"
    return [
        compare(
            f"posting-{name}-{JOURNAL}",
            f"transfers posted {JOURNAL:,} at a time, {what}",
            "transfers posted one by one, on random accounts",
            seconds=seconds[name][1:],
            yardstick_seconds=seconds["single"][1:],
            shown="rate",
            operations=journals * JOURNAL,
            note=note,
        )
        for name, what in (("random", "on random accounts"), ("hot", "all on the same two accounts"))
    ]


def _pair(contract: str, number: int) -> tuple[Account, Account]:
    dimensions = (("product", f"product-{number}"),)
    return (
        Account("unbilled_receivable", ENTITY, "EUR", contract),
        Account("usage_revenue", ENTITY, "EUR", contract, dimensions),
    )


def _journals(key: str, count: int, size: int, pick: Pick) -> list[list[Transfer]]:
    today = datetime.now(UTC).date()
    return [
        [
            Transfer(f"bench/{key}/{journal}/{number}", *pick(number), Decimal("0.01"), today, "bench")
            for number in range(size)
        ]
        for journal in range(count)
    ]


def _post(engine: sa.Engine, journals: Sequence[Sequence[Transfer]]) -> float:
    """Post each journal in a transaction of its own, and return the seconds per transfer."""
    inserted = 0
    begin = perf_counter()
    for journal in journals:
        with engine.begin() as connection:
            inserted += post(connection, journal, source="bench").inserted
    seconds = perf_counter() - begin
    check_count("transfers posted", expected=sum(len(journal) for journal in journals), found=inserted)
    return seconds / inserted
