"""Faults on demand, and what survives SIGKILL."""

from pathlib import Path

import pytest
import stripe

from tests.infra.stripe_calls import attached_card, charges_of, confirm, new_customer, new_intent
from tests.infra.webhook_receiver import receiving
from tests.simulator import RunningSimulator, running_simulator

CONFIRM = "^POST /v1/payment_intents/[^/]+/confirm$"


@pytest.mark.parametrize(
    ("fault", "executed"),
    [
        ("drop_before", False),
        ("500_before", False),
        ("429", False),
        ("502_html", False),
        ("drop_after", True),
        ("hang_after", True),
        ("500_after", True),
        ("truncated", True),
        ("200_html", True),
    ],
)
def test_after_a_fault_the_intent_tells_the_truth_and_the_same_key_charges_at_most_once(
    client: stripe.StripeClient, simulator: RunningSimulator, fault: str, executed: bool
) -> None:
    customer = new_customer(client)
    intent = new_intent(client, customer)
    simulator.arm(route=CONFIRM, fault=fault, customer=customer, seconds=0.3)
    with pytest.raises((stripe.APIConnectionError, stripe.APIError, stripe.RateLimitError)):
        confirm(client, intent, key=intent)
    status = client.v1.payment_intents.retrieve(intent).status
    assert status == ("succeeded" if executed else "requires_payment_method")
    if fault == "500_after":
        with pytest.raises(stripe.APIError):  # the kept answer is the 500
            confirm(client, intent, key=intent)
    else:
        assert confirm(client, intent, key=intent).status == "succeeded"
    assert len(charges_of(simulator, customer)) == 1


def test_a_fault_hits_only_the_nth_request_of_the_named_invoice(
    client: stripe.StripeClient, simulator: RunningSimulator
) -> None:
    customer = new_customer(client)
    spared = new_intent(client, customer, invoice_id="inv_spared")
    hit = new_intent(client, customer, invoice_id="inv_hit")
    simulator.arm(route=CONFIRM, fault="500_before", nth=2, metadata={"invoice_id": "inv_hit"})
    method = attached_card(client, customer, "pm_sim_declines_then_succeeds_1")
    assert confirm(client, spared).status == "succeeded"
    with pytest.raises(stripe.CardError):
        confirm(client, hit, card=method)
    with pytest.raises(stripe.APIError):
        confirm(client, hit, card=method)
    assert confirm(client, hit, card=method).status == "succeeded"
    faults = [entry["fault"] for entry in simulator.requests() if entry["path"].endswith(f"{hit}/confirm")]
    assert faults == [None, "500_before", None]


def test_disarmed_faults_hit_nobody(client: stripe.StripeClient, simulator: RunningSimulator) -> None:
    simulator.arm(route=".*", fault="500_before", times=1000)
    with pytest.raises(stripe.APIError):
        new_customer(client)
    simulator.disarm()
    assert new_customer(client).startswith("cus_")


def test_an_answered_charge_and_its_key_survive_sigkill(tmp_path: Path) -> None:
    with running_simulator(state=tmp_path / "stripe.json") as simulator:
        client = simulator.client()
        customer = new_customer(client)
        intent = new_intent(client, customer)
        card = attached_card(client, customer, "pm_sim_declines_then_succeeds_2")
        with pytest.raises(stripe.CardError):
            confirm(client, intent, card=card, key="first")
        simulator.advance(seconds=3600)
        before = client.v1.payment_intents.retrieve(intent).to_dict()
        simulator.kill()
        simulator.start()
        client = simulator.client()
        assert client.v1.payment_intents.retrieve(intent).to_dict() == before
        with pytest.raises(stripe.CardError):
            confirm(client, intent, card=card, key="second")
        paid = confirm(client, intent, card=card, key="third")
        simulator.kill()
        simulator.start()
        client = simulator.client()
        assert confirm(client, intent, card=card, key="third").to_dict() == paid.to_dict()
        assert len(charges_of(simulator, customer)) == 1
        assert paid.created + 3600 <= client.v1.customers.create({"name": "Later"}).created


def test_a_half_written_line_is_forgotten_because_nobody_was_answered(tmp_path: Path) -> None:
    file = tmp_path / "stripe.json"
    with running_simulator(state=file) as simulator:
        customer = new_customer(simulator.client())
        simulator.kill()
        with file.open("a") as journal:
            journal.write('{"objects":[{"id":"ch_torn","obj')
        simulator.start()
        assert simulator.client().v1.customers.retrieve(customer).id == customer


def test_webhooks_are_signed_and_sent_again_until_they_are_taken() -> None:
    with receiving(refuse=3) as receiver, running_simulator(webhook_url=receiver.url) as simulator:
        client = simulator.client()
        confirm(client, new_intent(client, new_customer(client)))
        # customer.created, payment_intent.created, charge.succeeded, payment_intent.succeeded
        taken = receiver.wait_for(4)
        kinds = sorted(
            stripe.Webhook.construct_event(payload, signature, "whsec_simulated").type for payload, signature in taken
        )
        assert kinds == ["charge.succeeded", "customer.created", "payment_intent.created", "payment_intent.succeeded"]
        assert len(receiver.refused) == 3
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(*taken[0], "whsec_other")


def test_every_event_of_a_webhook_is_listed_and_can_be_sent_twice() -> None:
    with receiving() as receiver, running_simulator(webhook_url=receiver.url) as simulator:
        client = simulator.client()
        confirm(client, new_intent(client, new_customer(client)))
        receiver.wait_for(4)
        simulator.replay_events()
        identities = [
            stripe.Webhook.construct_event(payload, signature, "whsec_simulated").id
            for payload, signature in receiver.wait_for(8)
        ]
        assert all(identities.count(identity) == 2 for identity in identities)
        assert {event.id for event in client.v1.events.list().auto_paging_iter()} == set(identities)
        only = client.v1.events.list({"types": ["charge.succeeded"]}).data
        assert [event.type for event in only] == ["charge.succeeded"]
        assert client.v1.events.retrieve(only[0].id).data.object["amount"] == 1000


def test_a_webhook_that_nobody_took_is_sent_after_a_restart(tmp_path: Path) -> None:
    with (
        receiving(refuse=10_000) as receiver,
        running_simulator(webhook_url=receiver.url, state=tmp_path / "stripe.json") as simulator,
    ):
        new_customer(simulator.client())
        simulator.kill()
        receiver.refuse = 0
        simulator.start()
        assert len(receiver.wait_for(1)) == 1
