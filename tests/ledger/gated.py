"""Building gates for tests: acme's contract with features, its accruals with their gates, and what the books leave."""

from datetime import UTC, datetime
from decimal import Decimal

import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.features import Feature, create_feature, grant_feature
from ledger.gates import GateAnswer, check_gate
from ledger.intake.events import UsageEvent, parse_objects
from tests.ledger.books import PREPAID, REQUESTS, TOKENS, start
from tests.ledger.usage import tokens

AT = datetime(2026, 1, 20, 12, tzinfo=UTC)
WRITING = Feature("writing", "Writing", "balance", ("tokens",))
CALLS = Feature("calls", "Calls", "metered", ("requests",))
EXPORT = Feature("export", "Export", "boolean")


def open_gates(
    connection: sa.Connection, *, products: tuple[str, ...] = (TOKENS, REQUESTS), lot: str = PREPAID
) -> None:
    """Contract plan of January with a lot of 10.00: writing by its balance, at most 5 calls a month, export."""
    start(connection, products=products, commits=[lot])
    for feature in (WRITING, CALLS, EXPORT):
        create_feature(connection, feature)
    grant_feature(connection, "plan", "writing", by="ada", at=AT)
    grant_feature(connection, "plan", "calls", by="ada", at=AT, most_units=Decimal(5))
    grant_feature(connection, "plan", "export", by="ada", at=AT)


def bring(connection: sa.Connection, *, at: datetime = AT) -> None:
    """Accrue the contract, and with it what stands at its gates."""
    accrue(connection, "plan", as_of=at)


def ask(connection: sa.Connection, feature_id: str = "writing", *, at: datetime = AT, **estimate: str) -> GateAnswer:
    figures = {name: Decimal(value) for name, value in estimate.items()}
    return check_gate(connection, "acme", feature_id, at=at, **figures)


def left(connection: sa.Connection, feature_id: str = "writing", *, at: datetime = AT) -> str:
    """What is left at a gate, in money or else in units."""
    answer = ask(connection, feature_id, at=at)
    value = answer.left_units if answer.left_amount is None else answer.left_amount
    assert value is not None
    return f"{value.normalize():f}"


def usage(key: str, number: object, *, at: str = "2026-01-20T10:00:00Z", customer: str = "acme") -> UsageEvent:
    """An event as intake reads it."""
    batch = parse_objects([tokens(key, number, timestamp=at, customer=customer)], received_at=AT)
    return batch.events[0][1]
