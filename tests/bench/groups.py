"""A contract with a thousand groups: what an accrual takes when a few of them changed, and when all is computed."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter

import sqlalchemy as sa

from infra.demo.traffic import Event
from ledger.accrual import accrue
from ledger.contracts import create_contract
from ledger.customers import Customer, create_customer
from ledger.entities import Entity, create_entity
from ledger.files.contracts import parse_contract
from ledger.metrics import create_metric
from tests.bench.figure import Figure, check_count, compare
from tests.bench.world import BY, event, take_all
from tests.metrics import metric

START = datetime(2026, 1, 1, tzinfo=UTC)
AS_OF = datetime(2026, 1, 31, 12, tzinfo=UTC)
CHANGED = 10
NAME = "grouped"
CONTRACT = """
contract: grouped
customer: grouped
entity: grouped
currency: EUR
time_zone: UTC
products:
  - id: calls
    name: Calls
    metric: grouped_tokens
    unit: token
    group_by: [model]
    price:
      model: graduated
      tiers:
        - {up_to: 100000, unit_price: "0.00012"}
        - {unit_price: "0.0001"}
invoicing:
  grace: 90d
  due_days: 14
collection:
  method: bank_transfer
commits:
  - {id: prepaid, name: Prepaid usage, amount: "1000.00", start: 2026-01-01, end: 2027-01-01}
"""


def prepare(engine: sa.Engine, groups: int, hours: int) -> None:
    """Sell a product by model, and count its usage of every model in every hour as intake would have."""
    with engine.begin() as connection:
        create_entity(connection, Entity(NAME, "Grouped", "EUR", "UTC", "GROUPED"))
        create_metric(connection, metric("grouped_tokens", "llm.request", "sum", "input_tokens", ("model",)))
        create_customer(connection, Customer(NAME, NAME))
        create_contract(connection, parse_contract(CONTRACT, start=START.isoformat()), by=BY)
        connection.execute(_TOTALS, {"customer": NAME, "groups": groups, "hours": hours, "start": START})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("analyze usage_rollup"))


def measure_groups(engine: sa.Engine, *, quick: bool) -> list[Figure]:
    """Change ten groups in each round, accrue, and commit as many rows; the first rounds keep and warm up."""
    rounds, groups, hours = (3, 100, 72) if quick else (10, 1000, 720)
    prepare(engine, groups, hours)
    full = _accrue(engine)
    seconds: list[float] = []
    bare: list[float] = []
    for number in range(rounds + 2):
        take_all(engine, _changes(number), received_at=AS_OF)
        seconds.append(_accrue(engine))
        bare.append(_post_bare(engine, 2))
    note = (
        f"{CHANGED} of {groups:,} groups changed, {groups * hours:,} hourly buckets in the period; "
        f"computed in full it took {1000 * full:,.0f} ms"
    )
    return [
        compare(
            "accrual-groups",
            f"accruals of a contract with {groups:,} groups",
            "transactions of as many rows",
            seconds=seconds[2:],
            yardstick_seconds=bare[2:],
            shown="milliseconds",
            operations=1,
            note=note,
        )
    ]


def _changes(number: int) -> Sequence[Event]:
    at = AS_OF - timedelta(minutes=30)
    return [
        {
            **event(NAME, f"{number}-{n}", at),
            "properties": {"model": f"model-{n * 7}", "input_tokens": 700 + number, "output_tokens": 1},
        }
        for n in range(1, CHANGED + 1)
    ]


def _accrue(engine: sa.Engine) -> float:
    begin = perf_counter()
    with engine.begin() as connection:
        accrual = accrue(connection, NAME, as_of=AS_OF)
    seconds = perf_counter() - begin
    check_count("accruals that posted", expected=1, found=int(accrual.transfers_posted > 0))
    return seconds


def _post_bare(engine: sa.Engine, rows: int) -> float:
    """Commit rows in one transaction, and return the seconds it took."""
    begin = perf_counter()
    with engine.begin() as connection:
        for number in range(rows):
            connection.execute(
                sa.text("insert into bare_row (number, word) values (:number, 'one row')"), {"number": number}
            )
    return perf_counter() - begin


_TOTALS = sa.text("""
insert into usage_rollup
    (customer_id, metric_id, group_hash, bucket_start, groups, quantity, events, max_received_at)
select :customer, 'grouped_tokens', substr(encode(sha256(convert_to(g.groups::text, 'UTF8')), 'hex'), 1, 32)::uuid,
    :start + make_interval(hours => h), g.groups, 400 + (h + n) % 300, 1, :start + make_interval(hours => h)
from generate_series(1, :groups) n
cross join lateral (select jsonb_build_object('model', 'model-' || n) as groups) g
cross join generate_series(0, :hours - 1) h
""")
