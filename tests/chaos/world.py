"""What the chaos tests act in: a whole stack of their own, sellers with one buyer and one contract each."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar

import sqlalchemy as sa
from temporalio.client import Client

from activities.settings import Settings
from activities.stripe_api import StripeCash
from infra.stack import Stack, running_stack
from infra.stack.home import CLONE
from infra.stack.stack import PARTS
from ledger.api_keys import create_api_key
from ledger.contracts import create_contract
from ledger.customers import Customer, create_customer
from ledger.database import create_engine
from ledger.entities import Entity, create_entity
from ledger.files.contracts import parse_contract
from ledger.metrics import create_metric
from ledger.reports import trial_balance
from ledger.spend import spend
from ledger.verification import verify
from tests.metrics import metric
from workflows import starting

Answer = TypeVar("Answer")

TOKENS = 3
"""Each event carries so many."""
PRICE_OF_AN_EVENT = Decimal("0.03")
"""3 tokens at 0.01."""
ASK_EVERY_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class World:
    """A running stack, its database, and a key for its HTTP API."""

    stack: Stack
    engine: sa.Engine
    api_key: str

    @property
    def settings(self) -> Settings:
        """The settings of a process of this stack."""
        environment = self.stack.environment
        return Settings(database_url=environment["DATABASE_URL"], temporal_address=environment["TEMPORAL_ADDRESS"])

    def ask_temporal(self, question: Callable[[Client], Awaitable[Answer]]) -> Answer:
        """Connect, ask, and return the answer."""

        async def ask() -> Answer:
            return await question(await starting.connect(self.settings))

        return asyncio.run(ask())


@contextmanager
def whole_world(name: str, *, environment: Mapping[str, str] | None = None) -> Iterator[World]:
    """Run a whole stack in a folder of its own; `environment` names the parts that are not its own."""
    home = CLONE / ".meterbook" / f"chaos-{name}-{os.getpid()}"
    with running_stack(home, parts=PARTS, environment=environment or {}, remove_home=True) as stack:
        engine = create_engine(stack.environment["DATABASE_URL"])
        try:
            with engine.begin() as connection:
                create_metric(connection, metric("tokens", "llm.request", "sum", "tokens"))
                _, secret = create_api_key(connection, "chaos")
            yield World(stack, engine, secret)
        finally:
            engine.dispose()


def sell(world: World, name: str, *, start: str, end: str | None = None, card: str = "pm_card_visa") -> str:
    """Record an entity, its customer and a contract, all of this name; return the contract's first invoice id."""
    contract = parse_contract(_contract_file(name, start=start, end=end))
    with world.engine.begin() as connection:
        create_entity(connection, Entity(name, f"{name} GmbH", "EUR", "UTC", name.upper()[:16]))
        create_customer(connection, Customer(name, f"Buyer of {name}", "billing@buyer.test", payment_method=card))
        create_contract(connection, contract, by="test")
    return f"{name}.{start}"


def start_contracts(world: World, names: Sequence[str]) -> None:
    """Start the workflows of these contracts."""

    async def start(client: Client) -> None:
        for name in names:
            await starting.start_contract(client, name)

    world.ask_temporal(start)


def event(source: str, customer: str, key: str, at: datetime) -> dict[str, object]:
    """An event as a program sends it."""
    return {
        "source": source,
        "key": key,
        "customer": customer,
        "type": "llm.request",
        "timestamp": at.isoformat(),
        "properties": {"tokens": TOKENS},
    }


def month(back: int) -> datetime:
    """The first moment (UTC) of the month so many months before the present one."""
    now = datetime.now(UTC)
    years, index = divmod(now.year * 12 + now.month - 1 - back, 12)
    return datetime(years, index + 1, 1, tzinfo=UTC)


def eventually(ask: Callable[[], Answer], true: Callable[[Answer], bool], *, seconds: float) -> Answer:
    """Ask until it is true; fail with the last answer."""
    deadline = time.monotonic() + seconds
    while not true(answer := ask()):
        assert time.monotonic() < deadline, f"not in {seconds} s: {answer}"
        time.sleep(ASK_EVERY_SECONDS)
    return answer


def posted(world: World, name: str) -> Decimal:
    """What the contract's current period has cost so far, as posted."""
    with world.engine.begin() as connection:
        return spend(connection, name).total


def assert_counted_once(world: World, name: str, *, sent: int, within_seconds: float) -> None:
    """Wait until the balance is what was sent, then see that nothing is counted twice, anywhere."""
    expected = PRICE_OF_AN_EVENT * sent
    eventually(lambda: posted(world, name), lambda found: found >= expected, seconds=within_seconds)
    with world.engine.begin() as connection:
        stored = connection.execute(_STORED, {"customer_id": name}).scalar_one()
        accepted, conflict, rejected = connection.execute(_OUTCOMES, {"source": name}).one()
        revenue = {row.code: row.credits - row.debits for row in trial_balance(connection, name).rows}
    assert (stored, accepted, conflict, rejected) == (sent, sent, 0, 0)
    assert posted(world, name) == expected
    assert revenue["usage_revenue"] == expected
    assert_books_are_right(world, stripe_charges=None)


def assert_books_are_right(world: World, *, stripe_charges: Mapping[str, StripeCash] | None) -> None:
    """Recompute everything from the raw events and compare."""
    with world.engine.connect() as connection:
        checks = verify(connection, stripe_charges=stripe_charges)
    assert [check for check in checks if not check.ok] == []


def _contract_file(name: str, *, start: str, end: str | None) -> str:
    lines = [
        f"contract: {name}",
        f"customer: {name}",
        f"entity: {name}",
        "currency: EUR",
        "time_zone: UTC",
        f"start: {start}",
        *([f"end: {end}"] if end else []),
        "products:",
        '  - {id: tokens, name: Tokens, metric: tokens, unit: token, price: {model: per_unit, unit_price: "0.01"}}',
        "invoicing: {grace: 0s, due_days: 14}",
        "collection: {method: card, retry_after: [1s, 2s]}",
    ]
    return "\n".join(lines) + "\n"


_STORED = sa.text("select count(*) from usage_event where customer_id = :customer_id")

_OUTCOMES = sa.text(
    "select sum(accepted)::int, sum(conflict)::int, sum(rejected)::int from usage_outcome where source = :source"
)
