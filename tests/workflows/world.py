"""What the workflow tests act in: a real Temporal server and database, a seller, a buyer and a contract."""

import asyncio
import sysconfig
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
import stripe
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from ledger.contracts import create_contract
from ledger.customers import Customer, create_customer
from ledger.entities import Entity, create_entity
from ledger.errors import NotFoundError
from ledger.files.contracts import parse_contract
from ledger.intake.events import parse_objects
from ledger.intake.store import take_in
from ledger.invoices import Invoice, list_invoices
from ledger.metrics import create_metric
from tests.metrics import metric
from workers.worker import build_workers
from workflows.names import CONTRACT_STATUS, DUNNING_STATE, ENTITY_ID, PERIOD_END

Answer = TypeVar("Answer")
BINARIES = Path(sysconfig.get_path("scripts"))
FAST = [
    word
    for key in ("transfer", "timer", "visibility")
    for word in ("--dynamic-config-value", f"history.{key}ProcessorMaxPollRPS=1000")
]


@asynccontextmanager
async def dev_server() -> AsyncIterator[Client]:
    """A Temporal server of the test's own: the task queues have fixed names, so that tests must not share one."""
    environment = await WorkflowEnvironment.start_local(
        data_converter=pydantic_data_converter,
        dev_server_existing_path=str(BINARIES / "temporal"),
        dev_server_log_level="error",
        search_attributes=[CONTRACT_STATUS, ENTITY_ID, PERIOD_END, DUNNING_STATE],
        dev_server_extra_args=FAST,
    )
    async with environment:
        yield environment.client


@asynccontextmanager
async def working(
    client: Client, engine: sa.Engine, stripe_connection: stripe.StripeClient | None = None
) -> AsyncIterator[None]:
    """Workers on all queues; webhooks go to this machine too."""
    async with AsyncExitStack() as running:
        for worker in build_workers(client, engine, stripe_connection, private_webhooks=True):
            await running.enter_async_context(worker)
        yield


@dataclass(frozen=True, slots=True)
class Sold:
    """A contract to write: tokens at 0.01 each, and a fee of 10.00 a month where asked for."""

    contract_id: str = "acme-1"
    start: str = "2026-01-01"
    end: str | None = None
    method: str = "card"
    payment_method: str | None = "pm_card_visa"
    retry_after: str = "[1s, 1s]"
    grace: str = "0s"
    review_above: str | None = None
    unit_price: str = "0.01"
    fee: str | None = None

    def text(self) -> str:
        """The contract file."""
        lines = [
            f"contract: {self.contract_id}",
            "customer: acme",
            "entity: seller",
            "currency: EUR",
            "time_zone: UTC",
            f"start: {self.start}",
            *([f"end: {self.end}"] if self.end else []),
            "products:",
            "  - id: tokens",
            "    name: Tokens",
            "    metric: tokens",
            "    unit: token",
            f'    price: {{model: per_unit, unit_price: "{self.unit_price}"}}',
            *(
                ["  - id: seat", "    name: Platform fee", f'    price: {{model: fixed_fee, amount: "{self.fee}"}}']
                if self.fee
                else []
            ),
            "invoicing:",
            f"  grace: {self.grace}",
            "  due_days: 14",
            *([f'  review_above: "{self.review_above}"'] if self.review_above else []),
            f"collection: {{method: card, retry_after: {self.retry_after}}}"
            if self.method == "card"
            else f"collection: {{method: {self.method}}}",
        ]
        return "\n".join(lines) + "\n"


def sell(engine: sa.Engine, sold: Sold) -> None:
    """Record the seller, the buyer, the metric and the contract."""
    with engine.begin() as connection:
        create_entity(connection, Entity("seller", "Seller GmbH", "EUR", "UTC", "SELL"))
        create_customer(connection, Customer("acme", "Acme", "billing@acme.test", payment_method=sold.payment_method))
        create_metric(connection, metric("tokens", "llm.request", "sum", "tokens"))
        create_contract(connection, parse_contract(sold.text()), by="test")


def usage(key: str, at: datetime, tokens: int | Decimal) -> dict[str, object]:
    """An event as a program sends it."""
    return {
        "source": "gateway",
        "key": key,
        "customer": "acme",
        "type": "llm.request",
        "timestamp": at.isoformat(),
        "properties": {"tokens": tokens},
    }


def invoices(engine: sa.Engine) -> tuple[Invoice, ...]:
    """All invoices."""
    with engine.begin() as connection:
        return list_invoices(connection)


async def eventually(
    ask: Callable[[], Awaitable[Answer]], true: Callable[[Answer], bool], *, within: timedelta = timedelta(seconds=20)
) -> Answer:
    """Ask until it is true; fail with the last answer."""
    deadline = asyncio.get_running_loop().time() + within.total_seconds()
    while True:
        try:
            answer = await ask()
        except NotFoundError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError("nothing was found in time") from error
        else:
            if true(answer):
                return answer
            assert asyncio.get_running_loop().time() < deadline, answer
        await asyncio.sleep(0.1)


def month(back: int) -> datetime:
    """The first moment (UTC) of the month so many months before the present one."""
    now = datetime.now(UTC)
    years, index = divmod(now.year * 12 + now.month - 1 - back, 12)
    return datetime(years, index + 1, 1, tzinfo=UTC)


def first_day(back: int) -> str:
    """The same as a contract file writes it."""
    return f"{month(back):%Y-%m-%d}"


def sent(engine: sa.Engine, *events: Mapping[str, object]) -> None:
    """Usage that came in through another door, without a nudge, a minute ago."""
    received_at = datetime.now(UTC) - timedelta(minutes=1)
    with engine.begin() as connection:
        batch = parse_objects(events, received_at=received_at)
        assert take_in(connection, batch, door="file", received_at=received_at).accepted == len(events)


def totals(found: Sequence[Invoice]) -> list[tuple[str, Decimal, str]]:
    """What tests compare of invoices."""
    return [(invoice.invoice_id, invoice.total, invoice.state) for invoice in found]
