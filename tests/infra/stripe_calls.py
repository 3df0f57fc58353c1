"""Shorthand for calls through the real SDK, each with a key of its own unless one is given."""

from typing import Any
from uuid import uuid4

import stripe

from tests.simulator import RunningSimulator


def new_customer(client: stripe.StripeClient) -> str:
    return client.v1.customers.create({"name": "Acme", "email": "billing@acme.example"}).id


def new_intent(client: stripe.StripeClient, customer: str, *, amount: int = 1000, **metadata: str) -> str:
    return client.v1.payment_intents.create(
        {"amount": amount, "currency": "usd", "customer": customer, "metadata": metadata}
    ).id


def confirm(
    client: stripe.StripeClient, intent: str, *, card: str = "pm_card_visa", key: str | None = None
) -> stripe.PaymentIntent:
    return client.v1.payment_intents.confirm(
        intent, {"payment_method": card, "off_session": True}, {"idempotency_key": key or uuid4().hex}
    )


def attached_card(client: stripe.StripeClient, customer: str, test_id: str) -> str:
    return client.v1.payment_methods.attach(test_id, {"customer": customer}).id


def charges_of(simulator: RunningSimulator, customer: str) -> list[dict[str, Any]]:
    return simulator.succeeded_charges(customer=customer)
