"""The simulator's objects against the SDK's own classes: what they require, integers, closed sets of values."""

from typing import Any

import pytest
import stripe

from tests.infra.sdk_annotations import deviations
from tests.infra.stripe_calls import attached_card, confirm, new_customer, new_intent
from tests.simulator import RunningSimulator

CLASSES: dict[str, type[stripe.StripeObject]] = {
    "customer": stripe.Customer,
    "payment_method": stripe.PaymentMethod,
    "payment_intent": stripe.PaymentIntent,
    "charge": stripe.Charge,
    "balance_transaction": stripe.BalanceTransaction,
    "event": stripe.Event,
}


def _everything(client: stripe.StripeClient, simulator: RunningSimulator) -> dict[str, list[dict[str, Any]]]:
    """Bring objects into every state that the simulator knows, and return all of them."""
    customer = new_customer(client)
    confirm(client, new_intent(client, customer))
    client.v1.payment_intents.cancel(new_intent(client, customer))
    for card in ("pm_card_chargeDeclined", "pm_card_chargeDeclinedExpiredCard", "pm_card_authenticationRequired"):
        with pytest.raises(stripe.CardError):
            confirm(client, new_intent(client, customer), card=attached_card(client, customer, card))
    asked = client.v1.payment_intents.confirm(
        new_intent(client, customer), {"payment_method": "pm_card_authenticationRequired"}
    )
    assert asked.status == "requires_action"
    return simulator.objects()


def test_every_object_satisfies_the_annotations_of_the_sdk(
    client: stripe.StripeClient, simulator: RunningSimulator
) -> None:
    objects = _everything(client, simulator)
    found = [
        text
        for kind, of_kind in CLASSES.items()
        for thing in objects[kind]
        for text in deviations(thing, of_kind, kind)
    ]
    inside = [
        text
        for event in objects["event"]
        for text in deviations(event["data"]["object"], CLASSES[event["data"]["object"]["object"]], event["type"])
    ]
    assert all(objects[kind] for kind in CLASSES)
    assert sorted(set(found + inside)) == []


def test_the_check_itself_finds_missing_fields_wrong_types_and_unknown_fields(
    client: stripe.StripeClient, simulator: RunningSimulator
) -> None:
    charge = _everything(client, simulator)["succeeded_charges"][0]
    spoilt = {**{name: value for name, value in charge.items() if name != "disputed"}, "amount": "1000", "colour": 1}
    assert deviations(spoilt, stripe.Charge, "charge") == [
        "charge.colour is not known to Charge",
        "charge.amount '1000' is not <class 'int'>",
        "charge.disputed is missing",
    ]
    assert deviations({**charge, "object": "refund"}, stripe.Charge)
