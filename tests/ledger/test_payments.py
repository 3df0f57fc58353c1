"""Payments: attempts that never charge twice, cash that is recorded once, and what it is applied to."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.customers import Customer, create_customer, set_stripe_customer
from ledger.database import undone
from ledger.errors import ConflictError, InvalidError, NotFoundError, StateError
from ledger.invoices import draft_opening, finalise, get_invoice, open_amount
from ledger.payments import (
    CardCash,
    Payment,
    collection_state,
    get_payment,
    list_payments,
    mark_uncollectible,
    mark_unknown,
    open_attempt,
    record_bank_payment,
    remember_intent,
    settle_declined,
    settle_not_executed,
    settle_succeeded,
)
from tests.ledger.books import MID_JANUARY, NEW_YEAR, balances, expected, open_invoice, start
from tests.ledger.usage import open_shop

OPENING = "plan.opening"
CASH = CardCash("ch_1", "pi_1", "txn_1", Decimal("59.00"), Decimal("1.11"), "EUR", date(2026, 1, 15))


@pytest.fixture
def billed(shop: sa.Connection) -> sa.Connection:
    """Acme owes 59.00 on the opening invoice of its contract."""
    start(shop)
    open_invoice(shop)
    return shop


def pay(connection: sa.Connection, payment_id: str, amount: str, *, allow_unapplied: bool = False) -> Payment:
    return record_bank_payment(
        connection,
        payment_id=payment_id,
        invoice_id=OPENING,
        amount=Decimal(amount),
        currency="EUR",
        received_on=date(2026, 1, 15),
        by="ada",
        allow_unapplied=allow_unapplied,
    )


def test_an_attempt_holds_everything_that_is_sent_before_it_is_sent(billed: sa.Connection) -> None:
    attempt = open_attempt(billed, OPENING, at=MID_JANUARY)
    assert (attempt.attempt_id, attempt.n, attempt.amount) == ("plan.opening#1", 1, Decimal("59.00"))
    assert (attempt.idempotency_key, attempt.state) == ("plan.opening#1/confirm", "open")
    assert attempt.parameters == {
        "amount": "59.00",
        "currency": "eur",
        "description": "Invoice NW-000001",
        "metadata": {"invoice_id": "plan.opening", "attempt_id": "plan.opening#1"},
    }
    set_stripe_customer(billed, "acme", "cus_1")
    assert open_attempt(billed, OPENING, at=MID_JANUARY) == replace(attempt, stripe_customer_id="cus_1")


def test_the_card_of_an_attempt_is_fixed_when_it_is_opened(shop: sa.Connection) -> None:
    create_customer(shop, Customer("dune", "Dune", payment_method="pm_card_visa"))
    start(shop, customer="dune")
    open_invoice(shop)
    attempt = open_attempt(shop, OPENING, at=MID_JANUARY)
    assert (attempt.payment_method, attempt.parameters["payment_method"]) == ("pm_card_visa", "pm_card_visa")


def test_a_successful_charge_is_posted_net_and_fee_from_the_balance_transaction(billed: sa.Connection) -> None:
    attempt = open_attempt(billed, OPENING, at=MID_JANUARY)
    payment = settle_succeeded(billed, attempt.attempt_id, CASH, at=MID_JANUARY)
    assert (payment.payment_id, payment.unapplied) == ("ch_1", Decimal(0))
    assert payment.applied == ((OPENING, Decimal("59.00")),)
    assert (get_invoice(billed, OPENING).state, open_amount(billed, OPENING)) == ("paid", Decimal(0))
    assert [a.state for a in collection_state(billed, OPENING).attempts] == ["succeeded"]
    assert balances(billed) == expected(stripe_balance="57.89", processor_fees="1.11", deferred_revenue="-59")


def test_the_same_success_twice_is_harmless_and_another_one_is_a_conflict(billed: sa.Connection) -> None:
    attempt = open_attempt(billed, OPENING, at=MID_JANUARY)
    once = settle_succeeded(billed, attempt.attempt_id, CASH, at=MID_JANUARY)
    before = balances(billed)
    later = MID_JANUARY + timedelta(hours=1)
    assert settle_succeeded(billed, attempt.attempt_id, CASH, at=later) == replace(once, repeated=True)
    for other in (
        replace(CASH, amount=Decimal("58.00")),
        replace(CASH, payment_intent_id="pi_2"),
        replace(CASH, charge_id="ch_2"),
        replace(CASH, balance_transaction_id="txn_2"),
    ):
        with pytest.raises(ConflictError):
            settle_succeeded(billed, attempt.attempt_id, other, at=later)
    assert balances(billed) == before
    assert list_payments(billed, invoice_id=OPENING) == (once,)


def test_after_a_decline_the_next_attempt_confirms_the_same_payment_intent(billed: sa.Connection) -> None:
    first = open_attempt(billed, OPENING, at=NEW_YEAR)
    remember_intent(billed, first.attempt_id, "pi_1")
    declined, again = (
        settle_declined(billed, first.attempt_id, decline_code="insufficient_funds", advice_code="retry", at=at)
        for at in (NEW_YEAR, MID_JANUARY)
    )
    assert declined == again
    assert (declined.state, declined.decline_code, declined.settled_at) == ("declined", "insufficient_funds", NEW_YEAR)
    second = open_attempt(billed, OPENING, at=MID_JANUARY)
    assert (second.n, second.payment_intent_id, second.idempotency_key) == (2, "pi_1", "plan.opening#2/confirm")
    settle_succeeded(billed, second.attempt_id, CASH, at=MID_JANUARY)
    assert [a.state for a in collection_state(billed, OPENING).attempts] == ["declined", "succeeded"]
    assert get_invoice(billed, OPENING).state == "paid"


def test_a_new_amount_has_a_payment_intent_of_its_own(billed: sa.Connection) -> None:
    first = open_attempt(billed, OPENING, at=NEW_YEAR)
    remember_intent(billed, first.attempt_id, "pi_1")
    settle_declined(billed, first.attempt_id, decline_code="generic_decline", advice_code=None, at=NEW_YEAR)
    pay(billed, "bank-1", "9.00")
    second = open_attempt(billed, OPENING, at=MID_JANUARY)
    assert (second.amount, second.payment_intent_id) == (Decimal("50.00"), None)


def test_an_attempt_for_more_than_is_open_now_is_asked_about_before_anything_else(billed: sa.Connection) -> None:
    first = open_attempt(billed, OPENING, at=NEW_YEAR)
    pay(billed, "bank-1", "9.00")
    again = open_attempt(billed, OPENING, at=MID_JANUARY)
    assert (again.attempt_id, again.state) == (first.attempt_id, "unknown")
    settle_not_executed(billed, first.attempt_id, at=MID_JANUARY)
    assert open_attempt(billed, OPENING, at=MID_JANUARY).amount == Decimal("50.00")


def test_a_settled_attempt_is_not_settled_otherwise(billed: sa.Connection) -> None:
    attempt_id = open_attempt(billed, OPENING, at=NEW_YEAR).attempt_id
    mark_unknown(billed, attempt_id)
    mark_unknown(billed, attempt_id)
    settle_not_executed(billed, attempt_id, at=NEW_YEAR)
    assert settle_not_executed(billed, attempt_id, at=MID_JANUARY).settled_at == NEW_YEAR
    mark_unknown(billed, attempt_id)
    assert collection_state(billed, OPENING).attempts[0].state == "not_executed"
    with pytest.raises(ConflictError, match="is settled as not_executed, not as declined with lost_card"):
        settle_declined(billed, attempt_id, decline_code="lost_card", advice_code=None, at=MID_JANUARY)
    # Money that moved after all is recorded all the same.
    settle_succeeded(billed, attempt_id, CASH, at=MID_JANUARY)
    assert get_invoice(billed, OPENING).state == "paid"
    with pytest.raises(ConflictError, match="is settled as succeeded"):
        settle_not_executed(billed, attempt_id, at=MID_JANUARY)


def test_an_attempt_keeps_its_payment_intent(billed: sa.Connection) -> None:
    attempt_id = open_attempt(billed, OPENING, at=NEW_YEAR).attempt_id
    for _ in range(2):
        remember_intent(billed, attempt_id, "pi_1")
    with pytest.raises(ConflictError, match="has the PaymentIntent pi_1, not pi_2"):
        remember_intent(billed, attempt_id, "pi_2")
    with pytest.raises(NotFoundError, match="attempt nothing does not exist"):
        remember_intent(billed, "nothing", "pi_1")


def test_only_a_finalised_invoice_is_collected(shop: sa.Connection) -> None:
    start(shop)
    draft = draft_opening(shop, "plan", at=NEW_YEAR)
    assert draft is not None
    with pytest.raises(StateError, match=r"plan\.opening is draft; only a finalised invoice is collected"):
        open_attempt(shop, OPENING, at=NEW_YEAR)
    with pytest.raises(StateError, match="is draft; a payment is recorded once it is finalised"):
        pay(shop, "bank-1", "59.00")
    with pytest.raises(StateError, match="is draft; only a finalised invoice becomes uncollectible"):
        mark_uncollectible(shop, OPENING)
    finalise(shop, OPENING, at=NEW_YEAR)
    pay(shop, "bank-1", "59.00")
    with pytest.raises(StateError, match=r"plan\.opening is paid"):
        open_attempt(shop, OPENING, at=NEW_YEAR)


def test_a_bank_transfer_pays_the_invoice(billed: sa.Connection) -> None:
    assert pay(billed, "bank-1", "20.00").applied == ((OPENING, Decimal("20.00")),)
    assert (get_invoice(billed, OPENING).state, open_amount(billed, OPENING)) == ("finalised", Decimal(39))
    pay(billed, "bank-2", "39.00")
    assert get_invoice(billed, OPENING).state == "paid"
    assert balances(billed) == expected(bank="59", deferred_revenue="-59")


def test_the_same_bank_transfer_twice_is_harmless_and_says_so(billed: sa.Connection) -> None:
    once = pay(billed, "bank-1", "59.00")
    assert not once.repeated
    assert pay(billed, "bank-1", "59.00") == replace(once, repeated=True)
    with pytest.raises(ConflictError, match=r"bank-1 is recorded with other content: 59\.00 EUR on 2026-01-15"):
        pay(billed, "bank-1", "58.00")
    with pytest.raises(StateError, match=r"plan\.opening is paid; to keep payment bank-2"):
        pay(billed, "bank-2", "59.00")
    assert balances(billed) == expected(bank="59", deferred_revenue="-59")


def test_what_an_invoice_does_not_need_is_unapplied_cash(billed: sa.Connection) -> None:
    assert pay(billed, "bank-1", "60.50").unapplied == Decimal("1.50")
    assert pay(billed, "bank-2", "5.00", allow_unapplied=True).applied == ()
    assert balances(billed) == expected(bank="65.5", unapplied_cash="-6.5", deferred_revenue="-59")


def test_a_charge_that_meets_a_paid_invoice_is_kept_as_unapplied_cash(billed: sa.Connection) -> None:
    attempt = open_attempt(billed, OPENING, at=NEW_YEAR)
    pay(billed, "bank-1", "58.50")
    settle_succeeded(billed, attempt.attempt_id, CASH, at=MID_JANUARY)
    # 0.50 of the 59.00 pays the invoice, all of it from the fee of 1.11; 58.50 are too much, 0.61 of it fee.
    assert balances(billed) == expected(
        bank="58.5", stripe_balance="57.89", processor_fees="1.11", unapplied_cash="-58.5", deferred_revenue="-59"
    )


@pytest.mark.parametrize(
    "cash",
    [
        replace(CASH, currency="USD"),
        replace(CASH, amount=Decimal("59.001")),
        replace(CASH, amount=Decimal(0), fee=Decimal(0)),
        replace(CASH, fee=Decimal("-0.01")),
        replace(CASH, fee=Decimal("59.01")),
        replace(CASH, amount=Decimal("NaN")),
    ],
)
def test_cash_that_makes_no_sense_is_refused(billed: sa.Connection, cash: CardCash) -> None:
    attempt = open_attempt(billed, OPENING, at=NEW_YEAR)
    with pytest.raises(InvalidError, match="payment ch_1"):
        settle_succeeded(billed, attempt.attempt_id, cash, at=MID_JANUARY)


def test_an_uncollectible_invoice_stays_open_and_can_still_be_paid(billed: sa.Connection) -> None:
    for _ in range(2):
        assert mark_uncollectible(billed, OPENING).state == "uncollectible"
    state = collection_state(billed, OPENING)
    assert (state.open_amount, state.method) == (Decimal(59), "card")
    assert state.retry_after == (timedelta(days=1), timedelta(days=3))
    pay(billed, "bank-1", "59.00")
    assert get_invoice(billed, OPENING).state == "paid"
    with pytest.raises(StateError, match="is paid; only a finalised invoice becomes uncollectible"):
        mark_uncollectible(billed, OPENING)


def test_payments_are_found_by_what_they_belong_to(billed: sa.Connection) -> None:
    payment = pay(billed, "bank-1", "59.00")
    assert get_payment(billed, "bank-1") == payment
    assert list_payments(billed, entity_id="northwind", contract_id="plan", invoice_id=OPENING) == (payment,)
    assert list_payments(billed, contract_id="other") == ()
    with pytest.raises(NotFoundError, match="payment nothing does not exist"):
        get_payment(billed, "nothing")


def test_eight_callers_open_one_attempt_and_record_one_payment(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        open_shop(connection)
        start(connection)
        open_invoice(connection)

    def at_once(call: Callable[[sa.Connection], object]) -> list[object]:
        def run(_: int) -> object:
            with engine.begin() as connection:
                return call(connection)

        with ThreadPoolExecutor(8) as pool:
            return [*pool.map(run, range(8))]

    attempts = at_once(lambda connection: open_attempt(connection, OPENING, at=NEW_YEAR))
    assert attempts == [attempts[0]] * 8
    payments = at_once(lambda connection: settle_succeeded(connection, "plan.opening#1", CASH, at=NEW_YEAR).repeated)
    assert sorted(map(bool, payments)) == [False] + [True] * 7
    with engine.connect() as connection:
        assert balances(connection)["stripe_balance"] == Decimal("57.89")


cents = st.integers(1, 9000).map(lambda n: Decimal(n).scaleb(-2))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(amounts=st.lists(cents, min_size=1, max_size=5))
def test_whatever_arrives_receivable_less_unapplied_is_billed_less_paid(
    billed: sa.Connection, amounts: list[Decimal]
) -> None:
    with undone(billed):
        for n, amount in enumerate(amounts):
            pay(billed, f"bank-{n}", str(amount), allow_unapplied=True)
        found = balances(billed, "plan")
        owed = max(Decimal(59) - sum(amounts), Decimal(0))
        assert found.get("accounts_receivable", Decimal(0)) == open_amount(billed, OPENING) == owed
        assert found.get("unapplied_cash", Decimal(0)) == 59 - sum(amounts) - owed
        assert (get_invoice(billed, OPENING).state == "paid") == (owed == 0)
