"""A small world for the verification: two entities, usage of every outcome, invoices, cash, a close; and its proof."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import psycopg
import sqlalchemy as sa

from ledger.accrual import accrue
from ledger.amendments import amend_contract, read_amendment
from ledger.closing import begin_close, finish_close
from ledger.contracts import create_contract
from ledger.customers import Customer, create_customer
from ledger.database import create_engine
from ledger.entities import Entity, create_entity
from ledger.files.contracts import parse_contract
from ledger.invoices import approve, draft_opening, draft_period, finalise, open_amount
from ledger.metrics import create_metric
from ledger.payments import (
    CardCash,
    mark_uncollectible,
    open_attempt,
    record_bank_payment,
    settle_declined,
    settle_succeeded,
)
from ledger.verification import Check, verify
from tests.ledger.books import FOURTH_OF_FEBRUARY, JANUARY, JANUARY_STARTS, MID_JANUARY, NEW_YEAR
from tests.ledger.usage import event, open_shop, send, tokens
from tests.metrics import metric

TENTH_OF_FEBRUARY = datetime(2026, 2, 10, 12, tzinfo=UTC)
INDIAN_JANUARY = datetime(2025, 12, 31, 18, 30, tzinfo=UTC)

LATE = "late usage is billed once"
CORRECTED = "corrections of invoices name what they correct"
UNBILLED = "unbilled receivable is what no issued invoice holds"
ROUNDING = "rounding is what lines were rounded by"
CREDIT = "customer credit is what credit notes were asked for"

PLAN = """\
contract: plan
customer: acme
entity: northwind
currency: EUR
time_zone: Europe/Berlin
start: 2026-01-01
invoicing: {grace: 3d, due_days: 14}
collection: {method: card, retry_after: [1d]}
products:
  - {id: tokens, name: Tokens, metric: tokens, unit: token, price: {model: per_unit, unit_price: "0.0003"}}
  - {id: support, name: Support, price: {model: fixed_fee, amount: "49.00"}}
commits:
  - {id: prepaid, name: Prepaid usage, amount: "10.00", start: 2026-01-01, end: 2027-01-01}
"""
DEARER = PLAN.replace("0.0003", "0.0004")
TIERED = """\
contract: tiered
customer: globex
entity: northwind
currency: EUR
time_zone: America/New_York
start: 2026-01-01
invoicing: {grace: 3d, due_days: 14, review_above: "0.10"}
collection: {method: bank_transfer}
products:
  - id: tokens
    name: Tokens
    metric: tokens
    price: {model: graduated, tiers: [{up_to: 1000, unit_price: "0.00125"}, {unit_price: "0.0007"}]}
  - {id: requests, name: Requests, metric: requests, price: {model: package, size: 2, package_price: "0.333"}}
"""
QUARTERS = """\
contract: quarters
customer: initech
entity: bharat
currency: USD
time_zone: Asia/Kolkata
start: 2026-01-01
invoicing: {grace: 3d, due_days: 30}
collection: {method: card, retry_after: [1d]}
products:
  - id: jobs
    name: Jobs
    metric: jobs
    price: {model: volume, tiers: [{up_to: 2, unit_price: "3"}, {unit_price: "2"}]}
  - {id: base, name: Base, price: {model: fixed_fee, amount: "10.00"}}
"""


@dataclass(frozen=True, slots=True)
class World:
    """The database's URL, and what Stripe tells of its charges."""

    database_url: str
    charges: Mapping[str, CardCash]


def build(connection: sa.Connection) -> dict[str, CardCash]:
    """Build the world up to 10 February, January being closed for northwind; return Stripe's charges."""
    open_shop(connection)
    create_entity(connection, Entity("bharat", "Bharat Ltd", "USD", "Asia/Kolkata", "BH"))
    create_metric(connection, metric("jobs", "job.done", "count", None, ("size",)))
    create_customer(connection, Customer("globex", "Globex", aliases=("globex-eu", "globex-us")))
    create_customer(connection, Customer("initech", "Initech"))
    for text in (PLAN, TIERED, QUARTERS):
        create_contract(connection, parse_contract(text), by="ada")
    charges = _open(connection)
    _use(connection)
    _bill(connection, charges)
    _go_on(connection)
    return charges


def proof(world: World, charges: Mapping[str, CardCash] | None = None) -> dict[str, Check]:
    """Return all checks of a world by name, with what Stripe tells in place of its own charges where that is given."""
    engine = create_engine(world.database_url)
    with engine.connect() as connection:
        checks = verify(connection, stripe_charges=world.charges if charges is None else charges)
    engine.dispose()
    assert len({check.name for check in checks}) == len(checks)
    return {check.name: check for check in checks}


def wrong(checks: Mapping[str, Check]) -> dict[str, str]:
    """Return the checks that fail, with what differs."""
    return {name: check.detail for name, check in checks.items() if not check.ok}


def falsify(world: World, *statements: str) -> None:
    """Change what no part of the product can: as superuser, with triggers and foreign keys off."""
    with psycopg.connect(world.database_url) as connection:
        connection.execute("set session_replication_role = replica")
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement


def change(world: World, do: Callable[[sa.Connection], object]) -> None:
    """Change a world by what the product itself can do."""
    engine = create_engine(world.database_url)
    with engine.begin() as connection:
        do(connection)
    engine.dispose()


def charge(connection: sa.Connection, invoice_id: str, charge_id: str, fee: str) -> CardCash:
    """Charge an invoice's card for what is open."""
    attempt = open_attempt(connection, invoice_id, at=MID_JANUARY)
    cash = CardCash(
        charge_id,
        f"pi_{charge_id}",
        f"txn_{charge_id}",
        attempt.amount,
        Decimal(fee),
        attempt.currency,
        date(2026, 2, 5),
    )
    settle_succeeded(connection, attempt.attempt_id, cash, at=MID_JANUARY)
    return cash


def _open(connection: sa.Connection) -> dict[str, CardCash]:
    for contract_id in ("plan", "quarters"):
        draft = draft_opening(connection, contract_id, at=NEW_YEAR)
        assert draft is not None
        finalise(connection, draft.invoice_id, at=NEW_YEAR)
    declined = open_attempt(connection, "plan.opening", at=NEW_YEAR)
    settle_declined(
        connection, declined.attempt_id, decline_code="insufficient_funds", advice_code=None, at=MID_JANUARY
    )
    mark_uncollectible(connection, "quarters.opening")
    return {"ch_1": charge(connection, "plan.opening", "ch_1", "1.11")}


def _use(connection: sa.Connection) -> None:
    at = "2026-01-20T10:07:00Z"
    received = datetime(2026, 1, 20, 11, tzinfo=UTC)
    send(
        connection,
        tokens("a1", 41_350, timestamp=at),
        tokens("a1", 41_350, timestamp=at),  # a duplicate
        tokens("a1", 7, timestamp=at),  # a conflict
        tokens("a2", "many", timestamp=at),  # rejected: not a number
        tokens("a3", Decimal("0.5"), timestamp="2026-01-31T22:59:59.999999Z"),
        tokens("a4", 10, timestamp="2025-11-01T00:00:00Z"),  # before the contract
        tokens("a5", 10, customer="nobody", timestamp=at),
        event("a6", type="unheard.of", timestamp=at),
        received_at=received + timedelta(days=12),
    )
    accrue(connection, "plan", as_of=MID_JANUARY)
    send(
        connection,
        tokens("b1", 900, customer="globex-eu", timestamp=at),
        tokens("b2", 300, customer="globex-us", timestamp="2026-01-20T10:59:00Z"),
        tokens("b3", 1, customer="globex-us", timestamp="2026-02-01T04:59:59Z"),  # still January in New York
        *(
            event(f"c{n}", customer="initech", type="job.done", timestamp=f"2026-01-0{n}T18:45:00Z", properties=size)
            for n, size in ((1, {"size": 1}), (2, {"size": "1"}), (3, {"size": True}), (4, {}))
        ),
        received_at=received + timedelta(days=12),
    )


def _bill(connection: sa.Connection, charges: dict[str, CardCash]) -> None:
    at = FOURTH_OF_FEBRUARY
    starts = {"plan": JANUARY_STARTS, "tiered": datetime(2026, 1, 1, 5, tzinfo=UTC), "quarters": INDIAN_JANUARY}
    for contract_id, start in starts.items():
        accrue(connection, contract_id, as_of=at)
        invoice = draft_period(connection, contract_id, start, at=at)
        if invoice.state == "in_review":
            approve(connection, invoice.invoice_id, by="ada", at=at)
        if contract_id != "quarters":  # this one stays a draft
            finalise(connection, invoice.invoice_id, at=at)
    charges["ch_2"] = charge(connection, "plan.2026-01-01", "ch_2", "1.02")
    record_bank_payment(
        connection,
        payment_id="bank-1",
        invoice_id="tiered.2026-01-01",
        amount=open_amount(connection, "tiered.2026-01-01") + Decimal("0.75"),
        currency="EUR",
        received_on=date(2026, 2, 6),
        by="ada",
    )
    begin_close(connection, "northwind", JANUARY, by="ada", at=at)
    finish_close(connection, "northwind", JANUARY, at=at)


def _go_on(connection: sa.Connection) -> None:
    later = TENTH_OF_FEBRUARY
    send(connection, tokens("d1", 5, timestamp="2026-01-25T10:00:00Z"), received_at=later)  # too late for January
    send(connection, tokens("d2", 2_000, timestamp="2026-02-08T10:00:00Z"), received_at=later)
    amendment = read_amendment(connection, "plan", DEARER)
    effective = datetime(2026, 2, 7, 23, tzinfo=UTC)
    amend_contract(connection, "plan", amendment, effective_from=effective, reason="new prices", by="ada")
    for contract_id in ("plan", "tiered", "quarters"):
        accrue(connection, contract_id, as_of=later)
    send(connection, tokens("d3", 3_000, timestamp="2026-02-09T10:00:00Z"), received_at=later)  # not accrued yet
