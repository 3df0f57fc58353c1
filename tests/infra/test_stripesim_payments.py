"""Payments at the simulator, driven by the real SDK."""

import pytest
import stripe

from tests.infra.stripe_calls import attached_card, charges_of, confirm, new_customer, new_intent
from tests.simulator import RunningSimulator


def test_a_confirmed_intent_has_one_charge_and_a_balance_transaction_with_the_fee(client: stripe.StripeClient) -> None:
    customer = new_customer(client)
    intent = new_intent(client, customer, invoice_id="inv_1")
    assert client.v1.payment_intents.retrieve(intent).status == "requires_payment_method"
    confirm(client, intent)
    paid = client.v1.payment_intents.retrieve(intent, {"expand": ["latest_charge.balance_transaction"]})
    charge = paid.latest_charge
    assert isinstance(charge, stripe.Charge)
    movement = charge.balance_transaction
    assert isinstance(movement, stripe.BalanceTransaction)
    assert (paid.status, paid.amount_received, charge.paid) == ("succeeded", 1000, True)
    # 2.9 % of 1000 is 29, and 30 make 59; 1000 - 59 = 941
    assert (movement.amount, movement.fee, movement.net, movement.currency) == (1000, 59, 941, "usd")
    assert client.v1.balance_transactions.retrieve(movement.id).source == charge.id
    assert [found.id for found in client.v1.charges.list({"payment_intent": intent}).data] == [charge.id]


@pytest.mark.parametrize(
    ("amount", "fee"),
    [
        (50, 31),  # 1.45 -> 1, and 30
        (500, 45),  # 14.5 -> 15 half up, and 30
        (123457, 3610),  # 3580.253 -> 3580, and 30
    ],
)
def test_the_fee_is_rounded_half_up(client: stripe.StripeClient, amount: int, fee: int) -> None:
    intent = new_intent(client, new_customer(client), amount=amount)
    confirm(client, intent)
    charges = client.v1.charges.list({"payment_intent": intent, "expand": ["data.balance_transaction"]})
    movement = charges.data[0].balance_transaction
    assert isinstance(movement, stripe.BalanceTransaction)
    assert movement.fee == fee


@pytest.mark.parametrize(
    ("card", "codes"),
    [
        ("pm_card_chargeDeclined", ("card_declined", "generic_decline", "try_again_later")),
        (
            "pm_card_visa_chargeDeclinedInsufficientFunds",
            ("card_declined", "insufficient_funds", "try_again_later"),
        ),
        ("pm_card_chargeDeclinedExpiredCard", ("expired_card", None, "confirm_card_data")),
        ("pm_card_visa_chargeDeclinedStolenCard", ("card_declined", "stolen_card", "do_not_try_again")),
        ("pm_card_authenticationRequired", ("authentication_required", "authentication_required", None)),
    ],
)
def test_a_declined_card_leaves_the_intent_waiting_for_another(
    client: stripe.StripeClient, simulator: RunningSimulator, card: str, codes: tuple[str, str | None, str | None]
) -> None:
    customer = new_customer(client)
    intent = new_intent(client, customer)
    method = attached_card(client, customer, card)
    with pytest.raises(stripe.CardError) as raised:
        confirm(client, intent, card=method)
    body = raised.value.json_body
    assert isinstance(body, dict)
    error = body["error"]
    assert (raised.value.http_status, error["type"]) == (402, "card_error")
    assert (error["code"], error.get("decline_code"), error.get("advice_code")) == codes
    assert error["payment_intent"]["id"] == intent
    waiting = client.v1.payment_intents.retrieve(intent)
    assert waiting.status == "requires_payment_method"
    assert waiting.last_payment_error is not None
    assert waiting.last_payment_error.code == codes[0]
    assert not charges_of(simulator, customer)
    assert confirm(client, intent).status == "succeeded"
    assert len(charges_of(simulator, customer)) == 1


def test_a_card_that_declines_twice_succeeds_the_third_time(client: stripe.StripeClient) -> None:
    customer = new_customer(client)
    intent = new_intent(client, customer)
    method = attached_card(client, customer, "pm_sim_declines_then_succeeds_2")
    for _ in range(2):
        with pytest.raises(stripe.CardError, match="insufficient funds"):
            confirm(client, intent, card=method)
    assert confirm(client, intent, card=method).status == "succeeded"


def test_a_paid_intent_is_neither_confirmed_again_nor_canceled(
    client: stripe.StripeClient, simulator: RunningSimulator
) -> None:
    customer = new_customer(client)
    intent = new_intent(client, customer)
    confirm(client, intent)
    with pytest.raises(stripe.InvalidRequestError) as again:
        confirm(client, intent)
    assert again.value.code == "payment_intent_unexpected_state"
    with pytest.raises(stripe.InvalidRequestError) as canceled:
        client.v1.payment_intents.cancel(intent)
    assert canceled.value.code == "payment_intent_unexpected_state"
    assert len(charges_of(simulator, customer)) == 1


def test_a_canceled_intent_can_never_charge(client: stripe.StripeClient) -> None:
    intent = new_intent(client, new_customer(client))
    assert client.v1.payment_intents.cancel(intent).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError, match="status of canceled"):
        confirm(client, intent)


def test_the_amount_of_an_unpaid_intent_can_be_changed(client: stripe.StripeClient) -> None:
    intent = new_intent(client, new_customer(client), amount=1000)
    client.v1.payment_intents.update(intent, {"amount": 700, "metadata": {"invoice_id": "inv_2"}})
    confirm(client, intent)
    paid = client.v1.payment_intents.retrieve(intent)
    assert (paid.amount_received, paid.metadata.to_dict()) == (700, {"invoice_id": "inv_2"})


def test_a_card_of_another_customer_is_refused(client: stripe.StripeClient) -> None:
    method = attached_card(client, new_customer(client), "pm_card_visa")
    with pytest.raises(stripe.InvalidRequestError, match="does not have a payment method"):
        confirm(client, new_intent(client, new_customer(client)), card=method)


def test_cards_are_listed_and_made_the_default_of_their_customer(client: stripe.StripeClient) -> None:
    customer = new_customer(client)
    first, second = (attached_card(client, customer, "pm_card_visa") for _ in range(2))
    assert [method.id for method in client.v1.payment_methods.list({"customer": customer}).data] == [second, first]
    changed = client.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": first}})
    assert changed.invoice_settings is not None
    assert changed.invoice_settings.default_payment_method == first
    assert client.v1.payment_methods.retrieve(first).customer == customer


def test_pages_give_every_object_once_the_newest_first(client: stripe.StripeClient) -> None:
    customer = new_customer(client)
    made = [new_intent(client, customer) for _ in range(7)]
    pages = client.v1.payment_intents.list({"customer": customer, "limit": 3})
    assert [intent.id for intent in pages.auto_paging_iter()] == made[::-1]
    back = client.v1.payment_intents.list({"customer": customer, "limit": 3, "ending_before": made[0]})
    assert [intent.id for intent in back.data] == made[3:0:-1]
    later = client.v1.payment_intents.retrieve(made[0]).created + 3600
    assert not client.v1.payment_intents.list({"customer": customer, "created": {"gte": later}}).data
