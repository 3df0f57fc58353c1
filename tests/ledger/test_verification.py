"""The proof finds nothing where nothing is wrong, and exactly what is wrong where something is."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.accrual import accrue
from ledger.contracts import set_problem
from ledger.customers import Customer, create_customer
from ledger.database import create_engine
from ledger.metrics import create_metric
from ledger.transfers import Account, Transfer, post
from ledger.verification import verify
from tests.ledger.proven import (
    CREDIT,
    LATE,
    ROUNDING,
    TENTH_OF_FEBRUARY,
    UNBILLED,
    World,
    change,
    falsify,
    proof,
    wrong,
)
from tests.ledger.usage import event, send, tokens
from tests.metrics import metric

KEYS = "each event has one key"
PAYLOADS = "events are as they were sent"
ALIASES = "events belong to who has their alias"
ROLLUP_EVENTS = "rollups count the events"
ROLLUP_QUANTITIES = "rollups hold the quantities"
RECEIVED = "received = accepted + duplicate + conflict + rejected"
BATCHES = "batches hold what was stored"
CORRECTIONS = "corrections are accounted for"
SOURCES = "sources hold what was stored"
CONFLICTS = "conflicts are kept for a person"
ACCEPTED = "accepted = rated + unmatched + withdrawn"
PRICED = "rated usage has a price"
STATUS = "usage status tells what became of events"
TERMS = "terms are as they were agreed"
PROBLEMS = "every contract is rated"
QUANTITIES = "rated quantities are accrued"
AMOUNTS = "rated amounts are accrued"
FROZEN = "frozen periods stand as they were billed"
PERIODS = "every frozen period has its invoice"
USAGE_LINES = "invoices bill the usage that was rated"
ADVANCE_LINES = "fees and commits are billed once"
TOTALS = "invoices add up"
NUMBERS = "invoice numbers have no gap"
USAGE_REVENUE = "usage revenue is what was rated"
FIXED_REVENUE = "fixed revenue is the fees earned"
DEFERRED = "deferred revenue is billed and neither drawn nor earned"
RECEIVABLE = "accounts receivable are the open invoices"
OTHERS = "no other account holds anything"
PAID = "paid invoices are those with nothing open"
APPLIED = "payments = applications + unapplied cash"
LIMITS = "applications stay within payment and invoice"
CASH = "cash and fees are those of the payments"
ATTEMPTS = "attempts that succeeded have their payment"
STRIPE = "card payments are Stripe's charges"
ONCE = "an invoice is charged at most once"
BALANCES = "balances are the sums of transfers"
DIGESTS = "transfers are as they were posted"
SEALS = "seals of closed months hold"
CLOSED = "nothing is posted into a closed month"


def test_where_everything_is_right_the_proof_finds_nothing_and_shows_both_figures(world: World) -> None:
    checks = proof(world)
    assert wrong(checks) == {}
    figures = {name: (check.left, check.right) for name, check in checks.items()}
    # Accepted: a1, a3 to a6; b1 to b3; c1 to c4; d1 to d3. Received: also one duplicate, conflict and refusal.
    assert figures[KEYS] == figures[PAYLOADS] == ("15", "15")
    assert figures[RECEIVED] == ("18", "18")
    # Unmatched: a4 before the contract, a5 of nobody, a6 without a metric.
    assert figures[ACCEPTED] == ("15", "12 + 3 + 0")
    assert figures[STATUS] == ("15", "15")
    assert figures[STRIPE] == ("2", "2")
    assert figures[TOTALS][0] == figures[TOTALS][1]
    assert figures[SEALS] == ("2", "2")


def test_money_in_an_account_that_nothing_explains_is_found(world: World) -> None:
    fund = Account("customer_credit", "northwind", "EUR", "plan")
    owed = Account("refunds_payable", "northwind", "EUR", "plan")
    transfer = Transfer("stray", fund, owed, Decimal("2.50"), TENTH_OF_FEBRUARY.date(), "stray")
    change(world, lambda connection: post(connection, [transfer], source="a test"))
    assert wrong(proof(world)) == {
        CREDIT: "EUR customer_credit plan: 0 against -2.5",
        OTHERS: "EUR refunds_payable plan: 0 against -2.5",
    }


def test_an_empty_database_is_right(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        checks = verify(connection, stripe_charges={})
    assert [check for check in checks if not check.ok] == []


# plan.2026-01-01 bills 41,350.5 tokens at 0.0003 = 12.40515 less the commit of 10.00, and the fee for February.
FALSIFICATIONS: Mapping[str, tuple[str, set[str]]] = {
    "an event's quantity": (
        """update usage_event set properties = '{"model": "large", "input_tokens": 41351}' where key = 'a1'""",
        {PAYLOADS, ROLLUP_QUANTITIES, QUANTITIES, AMOUNTS, FROZEN, USAGE_LINES, USAGE_REVENUE, ROUNDING},
    ),
    "a price": (
        """update contract_terms set terms = jsonb_set(terms, '{prices,0,price,unit_price}', '"0.0005"')
        where contract_id = 'plan' and version = 2""",
        {TERMS, AMOUNTS, USAGE_REVENUE, UNBILLED},
    ),
    "an event that is gone": (
        "delete from usage_event where key = 'a4'",
        {KEYS, ROLLUP_EVENTS, ROLLUP_QUANTITIES, BATCHES, SOURCES, ACCEPTED, STATUS},
    ),
    "an event that stands twice": (
        "insert into usage_event select * from usage_event where key = 'a6'",
        {KEYS, BATCHES, SOURCES, ACCEPTED, STATUS},
    ),
    "an event of another customer": (
        "update usage_event set customer_id = 'globex' where key = 'a4'",
        {ALIASES, ROLLUP_EVENTS, ROLLUP_QUANTITIES},
    ),
    "an event's key": ("update usage_event set key = 'a7' where key = 'a6'", {KEYS}),
    "a key that is gone": (
        "delete from usage_key where key_hash = (select key_hash from usage_event where key = 'a6')",
        {KEYS},
    ),
    "a key's digest": (
        """update usage_key set payload_hash = key_hash
        where key_hash = (select key_hash from usage_event where key = 'a6')""",
        {PAYLOADS},
    ),
    "a rollup's quantity": (
        "update usage_rollup set quantity = quantity + 1 where quantity = 2000",
        {ROLLUP_QUANTITIES},
    ),
    "a rollup's events": ("update usage_rollup set events = events + 1 where quantity = 2000", {ROLLUP_EVENTS}),
    "a source's accepted events": (
        "update usage_outcome set accepted = accepted + 1 where received_hour = '2026-02-10 12:00Z'",
        {RECEIVED, SOURCES, ACCEPTED},
    ),
    "a batch's duplicates": ("update usage_batch set duplicate = duplicate + 1 where duplicate > 0", {RECEIVED}),
    "a refusal that is gone": ("delete from usage_rejected", {BATCHES, SOURCES}),
    "a conflict that is gone": ("delete from usage_conflict", {CONFLICTS}),
    "the intake's tally": ("update usage_tally set events = events + 1 where type = 'unheard.of'", {STATUS}),
    "an accrued amount": (
        """update accrued set amount = amount + 0.01
        where contract_id = 'tiered' and product_id = 'tokens' and amount > 1""",
        {AMOUNTS},
    ),
    "an accrued quantity": (
        "update accrued set quantity = quantity + 1 where contract_id = 'tiered' and product_id = 'requests'",
        {QUANTITIES},
    ),
    "a transfer of usage": (
        """update transfer set amount = amount + 0.5 where idempotency_key =
        (select max(idempotency_key) from transfer where source = 'contract/plan' and kind = 'usage_accrued')""",
        {USAGE_REVENUE, UNBILLED, BALANCES, DIGESTS},
    ),
    "a transfer of a closed month": (
        """update transfer set terms_version = 7 where idempotency_key =
        (select min(idempotency_key) from transfer where source = 'contract/plan' and effective_on < '2026-02-01')""",
        {DIGESTS, SEALS},
    ),
    "a day in a closed month": (
        "update transfer set effective_on = '2026-01-31' where idempotency_key = 'payment/ch_2/net'",
        {DIGESTS, SEALS, CLOSED},
    ),
    "a balance": (
        """update balance set debits = debits + 1
        where account_id = (select account_id from account where code = 'bank')""",
        {BALANCES},
    ),
    "a seal": ("update ledger_seal set sha256 = '\\x00' where contract_id = 'plan'", {SEALS}),
    "a seal that is gone": ("delete from ledger_seal where contract_id = 'plan'", {SEALS, CLOSED}),
    "a line of usage": (
        "update invoice_line set quantity = quantity + 1 where invoice_id = 'plan.2026-01-01' and kind = 'usage'",
        {USAGE_LINES},
    ),
    "an amount on a line": (
        "update invoice_line set amount = amount + 1 where invoice_id = 'plan.2026-01-01' and kind = 'fee'",
        {ADVANCE_LINES, TOTALS, ROUNDING},
    ),
    "a fee billed twice": (
        """insert into invoice_line select 'plan.opening', 9, kind, product_id, description, service_start, service_end,
        quantity, unit, exact, amount, steps from invoice_line where invoice_id = 'plan.2026-01-01' and kind = 'fee'""",
        {ADVANCE_LINES, TOTALS, DEFERRED},
    ),
    "a total": (
        "update invoice set total = total + 1 where invoice_id = 'quarters.opening'",
        {TOTALS, RECEIVABLE},
    ),
    "a number": ("update invoice set number = 'NW-000009' where number = 'NW-000001'", {NUMBERS}),
    "a state": ("update invoice set state = 'paid' where invoice_id = 'quarters.opening'", {PAID}),
    "an invoice's period": (
        "update contract_period set state = 'invoiced' where contract_id = 'quarters' and state = 'frozen'",
        {PERIODS},
    ),
    "a payment's amount": (
        "update payment set amount = amount + 1 where payment_id = 'bank-1'",
        {APPLIED, CASH},
    ),
    "a payment's fee": ("update payment set fee = fee + 1 where payment_id = 'ch_1'", {CASH, STRIPE}),
    "an application": (
        "update payment_application set amount = amount - 1 where payment_id = 'ch_2'",
        {APPLIED, RECEIVABLE, PAID},
    ),
    "an application above the invoice": (
        "update payment_application set amount = amount + 1 where payment_id = 'ch_2'",
        {APPLIED, RECEIVABLE, PAID, LIMITS},
    ),
    "an attempt": (
        "update payment_attempt set state = 'declined' where invoice_id = 'plan.2026-01-01'",
        {ATTEMPTS},
    ),
    "what was frozen": (
        "update accrued set frozen_amount = frozen_amount + 1 where contract_id = 'plan' and frozen_amount > 1",
        {FROZEN, LATE},
    ),
    "what is billed of a period": (
        "update accrued set billed_amount = billed_amount + 1 where contract_id = 'plan' and billed_amount > 1",
        {LATE},
    ),
    "the terms a period was billed with": (
        """update contract_period
        set billed_terms = jsonb_set(billed_terms, '{0,prices,0,price,unit_price}', '"0.0005"')
        where contract_id = 'plan' and state = 'invoiced'""",
        {AMOUNTS, FROZEN, USAGE_LINES, USAGE_REVENUE, UNBILLED, ROUNDING},
    ),
    "a cut-off": (
        "update contract_period set cutoff_batch_id = 1000 where contract_id = 'plan' and state = 'invoiced'",
        {FROZEN, USAGE_LINES, UNBILLED, ROUNDING},
    ),
}


@pytest.mark.parametrize("what", FALSIFICATIONS)
def test_what_was_falsified_is_found_and_nothing_else(world: World, what: str) -> None:
    statement, expected = FALSIFICATIONS[what]
    falsify(world, statement)
    found = wrong(proof(world))
    assert found.keys() == expected, found
    assert all(found.values())


def test_usage_of_a_stranger_that_became_a_customer_is_right(world: World) -> None:
    change(world, lambda connection: create_customer(connection, Customer("nobody", "Somebody")))
    assert wrong(proof(world)) == {}
    falsify(world, "update usage_change set amended = amended + 1 where kind = 'alias'")
    assert wrong(proof(world)).keys() == {CORRECTIONS}


def test_a_charge_that_the_books_do_not_know_is_found(world: World) -> None:
    extra = replace(world.charges["ch_1"], charge_id="ch_9", payment_intent_id="pi_9", balance_transaction_id="txn_9")
    found = wrong(proof(world, {**world.charges, "ch_9": extra}))
    assert found == {STRIPE: "ch_9: nothing against 59 1.11 EUR pi_9 txn_9"}


def test_a_payment_that_stripe_does_not_know_is_found(world: World) -> None:
    found = wrong(proof(world, {"ch_1": world.charges["ch_1"]}))
    assert [*found] == [STRIPE]
    assert found[STRIPE].startswith("ch_2: ")


def test_a_fee_that_stripe_tells_otherwise_is_found(world: World) -> None:
    other = replace(world.charges["ch_1"], fee=Decimal("1.12"))
    found = wrong(proof(world, {**world.charges, "ch_1": other}))
    assert found == {STRIPE: "ch_1: 59 1.11 EUR pi_ch_1 txn_ch_1 against 59 1.12 EUR pi_ch_1 txn_ch_1"}


def test_a_second_charge_of_one_invoice_is_found(world: World) -> None:
    second = replace(world.charges["ch_1"], charge_id="ch_9", balance_transaction_id="txn_9")
    found = wrong(proof(world, {**world.charges, "ch_9": second}))
    assert found.keys() == {STRIPE, ONCE}
    assert found[ONCE] == "invoice plan.opening was charged by ch_1, ch_9"


def test_without_stripe_the_check_says_that_it_was_not_asked(world: World) -> None:
    engine = create_engine(world.database_url)
    with engine.connect() as connection:
        checks = {check.name: check for check in verify(connection, stripe_charges=None)}
    engine.dispose()
    assert wrong(checks) == {}
    assert (checks[STRIPE].right, checks[STRIPE].detail[:20]) == ("not asked", "Stripe was not asked")


def test_a_contract_whose_rating_stopped_is_a_difference(world: World) -> None:
    change(world, lambda connection: set_problem(connection, "tiered", "no price for metric storage"))
    assert wrong(proof(world)) == {PROBLEMS: "contract tiered: no price for metric storage"}


def test_usage_that_cannot_be_rated_is_a_difference_by_itself(world: World) -> None:
    falsify(
        world,
        "update usage_event set type = 'job.done', ts = '2026-02-02 10:00Z' where key = 'b1'",
    )
    found = wrong(proof(world))
    assert found.keys() >= {PROBLEMS}
    assert "contract tiered: cannot be rated: " in found[PROBLEMS]


def test_usage_that_an_accrual_read_before_it_saw_the_mark_is_no_difference(world: World) -> None:
    change(world, lambda connection: accrue(connection, "plan", as_of=TENTH_OF_FEBRUARY))
    falsify(
        world,
        "insert into usage_dirty (contract_id, batch_id, received_at)"
        " select 'plan', batch_id, received_at from usage_event where key = 'd3'",
    )
    assert wrong(proof(world)) == {}


def test_terms_that_wait_for_their_accrual_leave_open_periods_out_and_say_so(world: World) -> None:
    falsify(
        world,
        "insert into usage_dirty (contract_id, batch_id, received_at) values ('plan', 0, now())",
        "update accrued set amount = amount + 1 where contract_id = 'tiered' and amount > 1",
    )
    checks = proof(world)
    assert wrong(checks).keys() == {AMOUNTS}
    falsify(world, "update accrued set amount = amount - 1 where contract_id = 'tiered' and amount > 2")
    detail = proof(world)[AMOUNTS].detail
    assert detail == "contract plan waits for its accrual, so its open periods are not compared"


def test_usage_that_gets_its_metric_after_the_invoice_is_unmatched_for_want_of_a_price(world: World) -> None:
    change(world, lambda connection: create_metric(connection, metric("unheard", "unheard.of", "count")))
    checks = proof(world)
    assert wrong(checks) == {}
    assert checks[ACCEPTED].right == "12 + 3 + 0"
    falsify(world, "update contract_period set billed_types = array['unheard.of', 'llm.request']")
    assert wrong(proof(world)) == {
        PRICED: "event gateway a6 of 2026-01-20T10:07:00+00:00 is in an invoiced period, and no contract bills it there"
    }


@pytest.fixture
def busy(world: World) -> Iterator[sa.Engine]:
    engine = create_engine(world.database_url)
    yield engine
    engine.dispose()


MOMENTS = st.datetimes(datetime(2025, 12, 30), datetime(2026, 2, 10), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants them bare
KINDS = [
    ("acme", "llm.request"),
    ("acme", "unheard.of"),
    ("globex-eu", "llm.request"),
    ("globex-us", "llm.request"),
    ("initech", "job.done"),
    ("nobody", "job.done"),
]
KEYS_OF_EVENTS = count()
EVENTS = st.tuples(
    st.sampled_from(KINDS),
    MOMENTS,
    st.decimals(0, 100_000, places=3),
)
STEPS = st.one_of(st.lists(EVENTS, min_size=1, max_size=6), st.sampled_from(["plan", "tiered", "quarters"]))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=1, max_size=6))
def test_whatever_arrives_and_whenever_it_is_accrued_the_books_stay_right(
    busy: sa.Engine, built: World, steps: list[list[tuple[tuple[str, str], datetime, Decimal]] | str]
) -> None:
    with busy.begin() as connection:
        for step in steps:
            if isinstance(step, str):
                accrue(connection, step, as_of=TENTH_OF_FEBRUARY)
                continue
            send(
                connection,
                *(
                    event(
                        f"p{next(KEYS_OF_EVENTS)}",
                        customer=who,
                        type=what,
                        timestamp=at.isoformat(),
                        properties={"input_tokens": n},
                    )
                    for (who, what), at, n in step
                ),
                received_at=TENTH_OF_FEBRUARY,
            )
    with busy.connect() as connection:
        checks = verify(connection, stripe_charges=built.charges)
    assert [check for check in checks if not check.ok] == []


def test_the_proof_reads_one_snapshot_and_cannot_write(busy: sa.Engine) -> None:
    with busy.connect() as connection:
        verify(connection, stripe_charges=None)
        assert connection.execute(sa.text("show transaction_isolation")).scalar_one() == "repeatable read"
        with pytest.raises(sa.exc.InternalError, match="read-only transaction"):
            send(connection, tokens("z1", 1), received_at=TENTH_OF_FEBRUARY)
