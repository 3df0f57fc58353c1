"""What the simulator refuses, and how it treats idempotency keys."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
import stripe

from tests.infra.stripe_calls import charges_of, confirm, new_customer, new_intent
from tests.simulator import RunningSimulator, running_simulator


@pytest.mark.parametrize(
    ("parameters", "code", "param"),
    [
        ({"amount": 1000}, "parameter_missing", "currency"),
        ({"amount": "10.5", "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ({"amount": 1000, "currency": "usd", "amout": 1}, "parameter_unknown", "amout"),
        ({"amount": 1000, "currency": "usd", "shipping": {"nam": "x"}}, "parameter_unknown", "shipping[nam]"),
        ({"amount": 1000, "currency": ""}, "parameter_invalid_empty", "currency"),
        ({"amount": 49, "currency": "usd"}, "amount_too_small", "amount"),
        ({"amount": 1000, "currency": "usd", "transfer_group": "x"}, "simulator_unsupported", "transfer_group"),
        ({"amount": 1000, "currency": "usd", "customer": "cus_none"}, "resource_missing", "customer"),
    ],
)
def test_wrong_parameters_are_refused_by_name(
    client: stripe.StripeClient, parameters: dict[str, Any], code: str, param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as raised:
        client.v1.payment_intents.create(cast("Any", parameters))
    assert (raised.value.http_status, raised.value.code, raised.value.param) == (400, code, param)
    assert raised.value.request_id


def test_an_unknown_address_is_answered_with_404_and_stripes_error_body(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as raised:
        client.v1.payouts.list()
    assert raised.value.http_status == 404
    with pytest.raises(stripe.InvalidRequestError) as missing:
        client.v1.payment_intents.retrieve("pi_none")
    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")


@pytest.mark.parametrize("key", ["sk_live_1", "rk_live_1", "nonsense"])
def test_live_and_unknown_keys_are_refused(simulator: RunningSimulator, key: str) -> None:
    client = stripe.StripeClient(key, base_addresses={"api": simulator.url}, max_network_retries=0)
    with pytest.raises(stripe.AuthenticationError):
        client.v1.customers.create({"name": "Acme"})
    assert httpx.get(f"{simulator.url}/v1/customers/cus_1", trust_env=False).status_code == 401


def test_the_same_key_is_answered_with_the_same_answer(
    client: stripe.StripeClient, simulator: RunningSimulator
) -> None:
    customer = new_customer(client)
    intent = new_intent(client, customer)
    key = uuid4().hex
    first, second = confirm(client, intent, key=key), confirm(client, intent, key=key)
    assert first.to_dict() == second.to_dict()
    assert second.last_response is not None
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    assert len(charges_of(simulator, customer)) == 1


def test_a_decline_is_replayed_under_its_key(client: stripe.StripeClient) -> None:
    customer = new_customer(client)
    intent = new_intent(client, customer)
    card = client.v1.payment_methods.attach("pm_sim_declines_then_succeeds_1", {"customer": customer}).id
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            confirm(client, intent, card=card, key=f"{intent}-first")
    assert confirm(client, intent, card=card, key=f"{intent}-second").status == "succeeded"


def test_the_same_key_with_other_content_is_refused(client: stripe.StripeClient) -> None:
    key = uuid4().hex
    client.v1.customers.create({"name": "Acme"}, {"idempotency_key": key})
    with pytest.raises(stripe.IdempotencyError):
        client.v1.customers.create({"name": "Other"}, {"idempotency_key": key})


def test_a_refused_parameter_does_not_use_up_the_key(client: stripe.StripeClient) -> None:
    key = uuid4().hex
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.create(cast("Any", {"nam": "Acme"}), {"idempotency_key": key})
    assert client.v1.customers.create({"name": "Acme"}, {"idempotency_key": key}).name == "Acme"


def test_a_key_in_use_is_refused_with_409(client: stripe.StripeClient, simulator: RunningSimulator) -> None:
    customer = new_customer(client)
    intent = new_intent(client, customer)
    simulator.arm(route="POST .*/confirm$", fault="slow", customer=customer, seconds=0.7)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(confirm, client, intent, key=f"{intent}-same") for _ in range(2)]
        errors = [future.exception() for future in both]
    refused = [error for error in errors if isinstance(error, stripe.StripeError)]
    assert [error.http_status for error in refused] == [409]
    assert len(charges_of(simulator, customer)) == 1


def test_a_key_is_free_again_after_24_hours_of_the_simulators_time() -> None:
    with running_simulator() as simulator:
        client = simulator.client()
        first = client.v1.customers.create({"name": "Acme"}, {"idempotency_key": "k"})
        simulator.advance(seconds=24 * 3600 - 60)
        assert client.v1.customers.create({"name": "Acme"}, {"idempotency_key": "k"}).id == first.id
        simulator.advance(seconds=61)
        assert client.v1.customers.create({"name": "Acme"}, {"idempotency_key": "k"}).id != first.id
