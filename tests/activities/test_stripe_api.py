"""The adapter to Stripe, on the simulator through the real SDK."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.stripe_api import (
    HUNDREDTHS,
    HUNDREDTHS_OF_WHOLE_UNITS,
    THOUSANDTHS_IN_TENS,
    WHOLE_UNITS,
    RateLimitedError,
    StripeRefusedError,
    UnknownOutcomeError,
    attach_payment_method,
    cancel_intent,
    confirm_intent,
    create_intent,
    ensure_customer,
    fetch_intent,
    find_intents,
    from_minor_units,
    list_succeeded_charges,
    minor_units,
    stripe_client,
    verify_webhook,
)
from ledger.errors import InvalidError
from pricing.money import CURRENCY_EXPONENTS
from tests.simulator import TEST_KEY, RunningSimulator, running_simulator

CONFIRM = "^POST .*/confirm$"


@pytest.fixture(scope="module")
def shared_simulator() -> Iterator[RunningSimulator]:
    with running_simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(shared_simulator: RunningSimulator) -> RunningSimulator:
    shared_simulator.disarm()
    return shared_simulator


@pytest.fixture
def client(simulator: RunningSimulator) -> stripe.StripeClient:
    return simulator.client()


@pytest.fixture
def customer(client: stripe.StripeClient, request: pytest.FixtureRequest) -> str:
    """A Stripe customer of the test's own."""
    name = request.node.name
    return ensure_customer(client, customer_id=name, name="Acme", email="a@acme.example", idempotency_key=f"c/{name}")


def _intent(client: stripe.StripeClient, customer: str, *, attempt: str = "1", amount: int = 1000) -> str:
    parameters = {
        "amount": amount,
        "currency": "usd",
        "customer": customer,
        "metadata": {"invoice_id": "inv", "attempt_id": attempt},
    }
    return create_intent(client, parameters=parameters, idempotency_key=f"{customer}/{attempt}/create")


def _card(client: stripe.StripeClient, customer: str, test_id: str) -> str:
    return attach_payment_method(
        client, stripe_customer_id=customer, payment_method=test_id, idempotency_key=f"{customer}/{test_id}"
    )


def test_a_succeeded_confirmation_carries_the_cash_of_the_balance_transaction(
    client: stripe.StripeClient, customer: str
) -> None:
    intent = _intent(client, customer)
    assert fetch_intent(client, intent).state == "not_executed"
    outcome = confirm_intent(
        client, intent_id=intent, payment_method=_card(client, customer, "pm_card_visa"), idempotency_key=intent
    )
    assert outcome.state == "succeeded"
    assert outcome.cash is not None
    # 2.9 % of 10.00 is 0.29, and 0.30 make 0.59
    assert (outcome.cash.amount, outcome.cash.fee, outcome.cash.net) == (Decimal(10), Decimal("0.59"), Decimal("9.41"))
    assert (outcome.cash.currency, outcome.cash.payment_intent_id) == ("USD", intent)
    assert abs(outcome.cash.created - datetime.now(UTC)) < timedelta(minutes=1)
    assert fetch_intent(client, intent) == outcome
    assert [cash for cash in list_succeeded_charges(client) if cash.payment_intent_id == intent] == [outcome.cash]


@pytest.mark.parametrize(
    ("card", "state", "codes"),
    [
        ("pm_card_chargeDeclined", "declined", ("generic_decline", "try_again_later")),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "declined", ("insufficient_funds", "try_again_later")),
        ("pm_card_chargeDeclinedExpiredCard", "declined", ("expired_card", "confirm_card_data")),
        ("pm_card_visa_chargeDeclinedLostCard", "declined", ("lost_card", "do_not_try_again")),
        ("pm_card_authenticationRequired", "needs_customer", ("authentication_required", None)),
    ],
)
def test_a_decline_is_a_result_and_the_intent_says_the_same_later(
    client: stripe.StripeClient, customer: str, card: str, state: str, codes: tuple[str, str | None]
) -> None:
    intent = _intent(client, customer)
    outcome = confirm_intent(
        client, intent_id=intent, payment_method=_card(client, customer, card), idempotency_key=intent
    )
    assert (outcome.state, (outcome.decline_code, outcome.advice_code)) == (state, codes)
    assert outcome.cash is None
    assert outcome.message
    assert fetch_intent(client, intent) == outcome


def test_the_same_keys_return_the_same_objects(client: stripe.StripeClient, customer: str) -> None:
    name = "test_the_same_keys_return_the_same_objects"
    again = ensure_customer(client, customer_id=name, name="Acme", email="a@acme.example", idempotency_key=f"c/{name}")
    assert again == customer
    assert _intent(client, customer) == _intent(client, customer)
    assert _card(client, customer, "pm_card_visa") == _card(client, customer, "pm_card_visa")


@pytest.mark.parametrize("fault", ["drop_after", "hang_after", "500_after", "truncated", "200_html"])
def test_a_lost_answer_is_an_unknown_outcome_that_fetching_resolves(
    client: stripe.StripeClient, simulator: RunningSimulator, customer: str, fault: str
) -> None:
    intent = _intent(client, customer)
    simulator.arm(route=CONFIRM, fault=fault, customer=customer, seconds=0.3)
    with pytest.raises(UnknownOutcomeError) as raised:
        confirm_intent(client, intent_id=intent, payment_method="pm_card_visa", idempotency_key=intent)
    assert (raised.value.operation, raised.value.idempotency_key) == ("confirm intent", intent)
    assert fetch_intent(client, intent).state == "succeeded"
    assert len(simulator.succeeded_charges(customer=customer)) == 1


@pytest.mark.parametrize("fault", ["drop_before", "500_before", "502_html"])
def test_a_request_that_never_arrived_is_an_unknown_outcome_that_fetching_resolves(
    client: stripe.StripeClient, simulator: RunningSimulator, customer: str, fault: str
) -> None:
    intent = _intent(client, customer)
    simulator.arm(route=CONFIRM, fault=fault, customer=customer)
    with pytest.raises(UnknownOutcomeError):
        confirm_intent(client, intent_id=intent, payment_method="pm_card_visa", idempotency_key=intent)
    assert fetch_intent(client, intent).state == "not_executed"
    again = confirm_intent(client, intent_id=intent, payment_method="pm_card_visa", idempotency_key=intent)
    assert again.state == "succeeded"
    assert len(simulator.succeeded_charges(customer=customer)) == 1


def test_too_many_requests_tell_when_to_come_back(
    client: stripe.StripeClient, simulator: RunningSimulator, customer: str
) -> None:
    intent = _intent(client, customer)
    simulator.arm(route=CONFIRM, fault="429", customer=customer, retry_after=7)
    with pytest.raises(RateLimitedError) as raised:
        confirm_intent(client, intent_id=intent, payment_method="pm_card_visa", idempotency_key=intent)
    assert raised.value.retry_after == timedelta(seconds=7)


def test_a_wrong_request_is_refused_with_the_code_and_the_parameter(client: stripe.StripeClient, customer: str) -> None:
    with pytest.raises(StripeRefusedError) as unknown:
        create_intent(client, parameters={"amount": 1000, "currency": "usd", "amout": 1}, idempotency_key="wrong")
    assert (unknown.value.code, unknown.value.parameter, unknown.value.http_status) == (
        "parameter_unknown",
        "amout",
        400,
    )
    with pytest.raises(StripeRefusedError) as missing:
        fetch_intent(client, "pi_none")
    assert missing.value.code == "resource_missing"
    _intent(client, customer, amount=1000)
    with pytest.raises(StripeRefusedError) as reused:
        _intent(client, customer, amount=2000)
    assert reused.value.code == "idempotency_error"


def test_intents_are_found_by_customer_and_told_apart_by_their_metadata(
    client: stripe.StripeClient, customer: str
) -> None:
    made = {attempt: _intent(client, customer, attempt=attempt) for attempt in ("1", "2")}
    since = datetime.now(UTC) - timedelta(minutes=5)
    found = find_intents(client, stripe_customer_id=customer, since=since)
    assert {intent.metadata["attempt_id"]: intent.outcome.intent_id for intent in found} == made
    assert find_intents(client, stripe_customer_id=customer, since=since + timedelta(days=1)) == ()


def test_a_canceled_intent_never_charges_and_a_paid_one_is_not_canceled(
    client: stripe.StripeClient, customer: str
) -> None:
    open_intent, paid = _intent(client, customer, attempt="1"), _intent(client, customer, attempt="2")
    assert cancel_intent(client, intent_id=open_intent, idempotency_key=f"{open_intent}/cancel").state == "canceled"
    assert fetch_intent(client, open_intent).state == "canceled"
    confirm_intent(client, intent_id=paid, payment_method="pm_card_visa", idempotency_key=paid)
    with pytest.raises(StripeRefusedError) as raised:
        cancel_intent(client, intent_id=paid, idempotency_key=f"{paid}/cancel")
    assert raised.value.code == "payment_intent_unexpected_state"


def test_another_address_with_a_live_key_is_refused() -> None:
    for key in ("sk_live_x", "rk_live_x"):
        with pytest.raises(InvalidError, match="must not be set with a live key"):
            stripe_client(api_key=key, api_base="http://127.0.0.1:1")
    stripe_client(api_key="sk_live_x", api_base=None)


def test_a_server_that_is_away_is_an_unknown_outcome() -> None:
    client = stripe_client(api_key="sk_test_x", api_base="http://127.0.0.1:1")
    with pytest.raises(UnknownOutcomeError):
        fetch_intent(client, "pi_1")


def test_a_webhook_is_believed_only_with_the_right_signature() -> None:
    payload = (
        '{"id": "evt_1", "object": "event", "type": "payment_intent.succeeded", "data": {"object": {"id": "pi_1"}}}'
    )
    signature = stripe.WebhookSignature.generate_signature_header(payload, "whsec_right")
    event = verify_webhook(payload.encode(), signature, "whsec_right")
    assert (event.event_id, event.type, event.object_id) == ("evt_1", "payment_intent.succeeded", "pi_1")
    assert event.body["data"]["object"] == {"id": "pi_1"}
    old = stripe.WebhookSignature.generate_signature_header(payload, "whsec_right", timestamp=1_000_000_000)
    for wrong in (old, signature[:-1] + "x", "", "t=1"):
        with pytest.raises(InvalidError, match="does not fit the webhook"):
            verify_webhook(payload.encode(), wrong, "whsec_right")
    garbage = stripe.WebhookSignature.generate_signature_header("[]", "whsec_right")
    with pytest.raises(InvalidError, match="not an event"):
        verify_webhook(b"[]", garbage, "whsec_right")


@pytest.mark.parametrize(
    ("amount", "currency", "units"),
    [
        ("10.99", "USD", 1099),
        ("1099", "JPY", 1099),
        ("5", "UGX", 500),
        ("5.00", "ISK", 500),
        ("5.12", "KWD", 5120),
        ("9999999999.99", "EUR", 999_999_999_999),
        ("0", "USD", 0),
    ],
)
def test_amounts_become_the_integers_that_stripe_counts_in(amount: str, currency: str, units: int) -> None:
    assert minor_units(Decimal(amount), currency) == units
    assert from_minor_units(units, currency) == Decimal(amount)


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        ("10.999", "USD"),
        ("1.5", "JPY"),
        ("5.5", "ISK"),
        ("5.123", "KWD"),
        ("NaN", "USD"),
        ("Infinity", "USD"),
        ("1", "usd"),
        ("1", "XYZ"),
    ],
)
def test_an_amount_that_stripe_cannot_charge_exactly_is_refused(amount: str, currency: str) -> None:
    with pytest.raises(InvalidError):
        minor_units(Decimal(amount), currency)


def test_every_currency_of_the_price_lists_can_be_charged() -> None:
    for currency in CURRENCY_EXPONENTS:
        assert minor_units(Decimal(100), currency) > 0


@settings(max_examples=100, deadline=None)
@given(
    units=st.integers(min_value=0, max_value=10**15),
    currency=st.sampled_from(sorted(WHOLE_UNITS | HUNDREDTHS | HUNDREDTHS_OF_WHOLE_UNITS | THOUSANDTHS_IN_TENS)),
)
def test_minor_units_and_back_lose_nothing(units: int, currency: str) -> None:
    step = 100 if currency in HUNDREDTHS_OF_WHOLE_UNITS else 10 if currency in THOUSANDTHS_IN_TENS else 1
    assert minor_units(from_minor_units(units * step, currency), currency) == units * step


def test_speaking_to_stripe_writes_nothing_into_the_home_folder(simulator: RunningSimulator, tmp_path: Path) -> None:
    speak = (
        "from activities.stripe_api import ensure_customer, stripe_client\n"
        f"client = stripe_client(api_key={TEST_KEY!r}, api_base={simulator.url!r})\n"
        "ensure_customer(client, customer_id='home', name='Home', email=None, idempotency_key='customer/home')\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", speak], env=environment, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []
