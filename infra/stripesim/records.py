"""What can only be read: charges, balance transactions and events."""

from infra.stripesim import lists
from infra.stripesim.call import Call
from infra.stripesim.errors import StripeJson

CHARGE_LIST_FIELDS = lists.PAGING | {"payment_intent", "customer"}
BALANCE_LIST_FIELDS = lists.PAGING | {"type", "source", "currency"}
EVENT_LIST_FIELDS = lists.PAGING | {"type", "types", "delivery_success"}


def retrieve_charge(call: Call) -> StripeJson:
    """Return a charge."""
    return call.state.get("charge", call.ids[0])


def list_charges(call: Call) -> StripeJson:
    """List charges, of one PaymentIntent or customer if asked."""
    wanted: StripeJson = {
        name: call.parameters[name] for name in ("payment_intent", "customer") if name in call.parameters
    }
    return lists.page(call, "charge", "/v1/charges", lambda charge: _has(charge, wanted))


def retrieve_balance_transaction(call: Call) -> StripeJson:
    """Return a balance transaction, available once the simulator's clock has passed its date."""
    return _as_of_now(call, call.state.get("balance_transaction", call.ids[0]))


def list_balance_transactions(call: Call) -> StripeJson:
    """List balance transactions."""
    wanted: StripeJson = {
        name: call.parameters[name] for name in ("type", "source", "currency") if name in call.parameters
    }
    found = lists.page(call, "balance_transaction", "/v1/balance_transactions", lambda movement: _has(movement, wanted))
    return {**found, "data": [_as_of_now(call, movement) for movement in found["data"]]}


def retrieve_event(call: Call) -> StripeJson:
    """Return an event."""
    return call.state.get("event", call.ids[0])


def list_events(call: Call) -> StripeJson:
    """List events, by type and by whether the webhook has them."""
    kinds = {*call.parameters.get("types", []), *([call.parameters["type"]] if "type" in call.parameters else [])}
    delivered = call.parameters.get("delivery_success")
    return lists.page(
        call,
        "event",
        "/v1/events",
        lambda event: (
            (not kinds or event["type"] in kinds)
            and (delivered is None or delivered == (event["pending_webhooks"] == 0))
        ),
    )


def _has(thing: StripeJson, wanted: StripeJson) -> bool:
    return all(thing[name] == value for name, value in wanted.items())


def _as_of_now(call: Call, movement: StripeJson) -> StripeJson:
    return {**movement, "status": "available" if call.state.now() >= movement["available_on"] else "pending"}
