"""Seeded faults: whatever is sent, corrected and killed, everything counts once, and the books are right.

METERBOOK_SEEDS names other seeds than the usual fifty: a range, as in 100-199, or one that failed.
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from ledger.contracts import create_contract
from ledger.customers import Customer, create_customer
from ledger.entities import Entity, create_entity
from ledger.files.contracts import parse_contract
from ledger.intake.corrections import amend, withdraw
from ledger.intake.events import parse_objects
from ledger.reports import trial_balance
from tests.chaos.seeds import Corrected, Fault, Plan, plan_of
from tests.chaos.world import World, assert_books_are_right, eventually, month, start_contracts, whole_world
from workflows import starting

pytestmark = pytest.mark.chaos

USUAL = "1-50"
TOGETHER = 10
"""So many seeds share a round, and with it what is killed."""
AT_ONCE = 5
"""So many of them send at a time."""
AGAIN_AFTER_SECONDS = 0.2
PATIENCE_SECONDS = 60.0
SETTLE_SECONDS = 90.0
TAKEN = (httpx.codes.OK, httpx.codes.ACCEPTED)
"""Answered, or on the intake's disk until the database is back."""


def seeds() -> list[int]:
    first, _, last = os.environ.get("METERBOOK_SEEDS", USUAL).partition("-")
    return [*range(int(first), int(last or first) + 1)]


def rounds() -> list[tuple[int, ...]]:
    return [tuple(own) for _, own in groupby(seeds(), key=lambda seed: (seed - 1) // TOGETHER)]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with whole_world("seeds") as world:
        yield world


def sell(world: World, name: str) -> None:
    """A contract from the month before on, which is invoiced at once, so that its usage comes late."""
    text = "\n".join(
        (
            f"contract: {name}",
            f"customer: {name}",
            f"entity: {name}",
            "currency: EUR",
            "time_zone: UTC",
            f"start: {month(1):%Y-%m-%d}",
            "products:",
            '  - {id: tokens, name: Tokens, metric: tokens, unit: token, price: {model: per_unit, unit_price: "0.01"}}',
            "commits:",
            f'  - {{id: prepaid, name: Prepaid, amount: "100.00", start: {month(1):%Y-%m-%d}}}',
            "invoicing: {grace: 0s, due_days: 14}",
            "collection: {method: bank_transfer}",
        )
    )
    with world.engine.begin() as connection:
        create_entity(connection, Entity(name, f"{name} GmbH", "EUR", "UTC", name.upper()))
        create_customer(connection, Customer(name, f"Buyer of {name}", "billing@buyer.test"))
        create_contract(connection, parse_contract(text + "\n"), by="test")


def insist(world: World, body: list[dict[str, object]]) -> None:
    """Send until it is answered; the address may belong to a process that is dead."""
    headers = {"authorization": f"Bearer {world.api_key}", "content-type": "application/json"}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            url = f"{world.stack.environment['METERBOOK_HTTP']}/v1/usage"
            answer = httpx.post(url, content=json.dumps(body), headers=headers, timeout=10, trust_env=False)
        except httpx.TransportError as error:
            told = repr(error)
        else:
            if answer.status_code in TAKEN:
                return
            told = answer.text
        assert time.monotonic() < deadline, f"a batch was not taken: {told}"
        time.sleep(AGAIN_AFTER_SECONDS)


def send(world: World, plan: Plan) -> None:
    for batch in plan.batches:
        insist(world, [event.body(plan.name) for event in batch])


def inflict(world: World, faults: Sequence[Fault]) -> None:
    """Kill and start again what the plans name, in the order of their times."""
    begin = time.monotonic()
    for fault in sorted(faults, key=lambda fault: fault.after):
        time.sleep(max(0.0, begin + fault.after - time.monotonic()))
        world.stack.kill(fault.part)
        time.sleep(fault.away)
        world.stack.start(fault.part)


def correct(world: World, plan: Plan) -> None:
    """Correct one after the other, each until it is committed: the database may be gone."""
    for correction in plan.corrections:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not corrected(world, plan, correction):
            assert time.monotonic() < deadline, f"{correction} was not committed"
            time.sleep(AGAIN_AFTER_SECONDS)


def corrected(world: World, plan: Plan, correction: Corrected) -> bool:
    now = datetime.now(UTC)
    try:
        with world.engine.begin() as connection:
            if correction.event is None:
                withdraw(connection, [(plan.name, correction.key)], reason="a test", by="ada", at=now)
            else:
                [(_, event)] = parse_objects([correction.event.body(plan.name)], received_at=now).events
                amend(connection, [event], reason="a test", by="ada", at=now)
    except DBAPIError:
        return False
    return True


def entered(world: World, plans: Sequence[Plan]) -> bool:
    """Whether every key is in the database: what was on the intake's disk has entered."""
    keys = {name: set[str]() for name in (plan.name for plan in plans)}
    with world.engine.begin() as connection:
        for row in connection.execute(_KEYS, {"sources": [*keys]}):
            keys[row.source].add(row.key)
    return all(keys[plan.name] == plan.keys for plan in plans)


def settled(world: World, plans: Sequence[Plan]) -> bool:
    """Tell the contracts what the sweep would tell them later, and say whether nothing waits any more."""
    names = [plan.name for plan in plans]
    with world.engine.begin() as connection:
        waiting = connection.execute(_WAITING, {"names": names}).scalars().all()
    if waiting:
        world.ask_temporal(lambda client: starting.nudge(client, waiting))
    return not waiting


def revenue(world: World, name: str) -> Decimal:
    with world.engine.begin() as connection:
        rows = trial_balance(connection, name).rows
    return sum((row.credits - row.debits for row in rows if row.code == "usage_revenue"), start=Decimal(0))


@pytest.mark.parametrize("own", rounds(), ids=lambda own: f"seeds {own[0]} to {own[-1]}")
@pytest.mark.timeout(300)
def test_whatever_is_sent_corrected_and_killed_everything_counts_once(world: World, own: tuple[int, ...]) -> None:
    plans = [plan_of(seed) for seed in own]
    print(f"to repeat: METERBOOK_SEEDS={own[0]}-{own[-1]}")  # noqa: T201 - shown when it fails
    for plan in plans:
        sell(world, plan.name)
    start_contracts(world, [plan.name for plan in plans])
    killer = threading.Thread(target=inflict, args=(world, [fault for plan in plans for fault in plan.faults]))
    killer.start()
    with ThreadPoolExecutor(AT_ONCE) as senders:
        [*senders.map(lambda plan: send(world, plan), plans)]
    killer.join()
    eventually(lambda: entered(world, plans), bool, seconds=SETTLE_SECONDS)
    with ThreadPoolExecutor(AT_ONCE) as correctors:
        [*correctors.map(lambda plan: correct(world, plan), plans)]
    for plan in plans:
        insist(world, [event.body(plan.name) for event in plan.conflicts])
        send(world, plan)  # once more, all of it
    eventually(lambda: settled(world, plans), bool, seconds=SETTLE_SECONDS)
    assert {plan.seed: revenue(world, plan.name) for plan in plans} == {plan.seed: plan.expected for plan in plans}
    with world.engine.begin() as connection:
        counts = {row.source: row[1:] for row in connection.execute(_OUTCOMES, {"sources": [p.name for p in plans]})}
    assert counts == {plan.name: (len(plan.keys), len(plan.conflicts), 0) for plan in plans}
    assert_books_are_right(world, stripe_charges=None)


_KEYS = sa.text("select source, key from usage_event where source = any(:sources)")

_WAITING = sa.text("select distinct contract_id from usage_dirty where contract_id = any(:names) order by contract_id")

_OUTCOMES = sa.text("""
select source, sum(accepted)::int as accepted, sum(conflict)::int as conflict, sum(rejected)::int as rejected
from usage_outcome where source = any(:sources) group by source
""")
