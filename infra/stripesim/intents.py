"""PaymentIntents and what they bring about: charges, balance transactions, events.

requires_payment_method -> requires_confirmation -> succeeded
         ^                        | decline            (or requires_action: on session, authentication asked)
         +------------------------+
every state but succeeded -> canceled
"""

from infra.stripesim import lists, objects
from infra.stripesim.call import Call
from infra.stripesim.cards import AUTHENTICATION_REQUIRED, Decline, charge_card
from infra.stripesim.errors import RefusedError, StripeJson, unsupported
from infra.stripesim.parties import make_card

CREATE_FIELDS = frozenset(
    {
        "amount",
        "capture_method",
        "confirm",
        "currency",
        "customer",
        "description",
        "expand",
        "metadata",
        "off_session",
        "payment_method",
        "payment_method_types",
        "receipt_email",
        "setup_future_usage",
        "statement_descriptor_suffix",
    }
)
CONFIRM_FIELDS = frozenset({"payment_method", "off_session", "expand"})
UPDATE_FIELDS = frozenset({"amount", "currency", "description", "metadata", "payment_method", "customer", "expand"})
CANCEL_FIELDS = frozenset({"cancellation_reason", "expand"})
LIST_FIELDS = lists.PAGING | {"customer"}

MINIMUM_AMOUNT = 50
CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")


def create(call: Call) -> StripeJson:
    """Make a PaymentIntent, confirmed at once if asked."""
    parameters = dict(call.parameters)
    _check_amount(parameters["amount"])
    if parameters.get("capture_method") == "manual":
        raise unsupported("capture_method", "manual")
    if parameters.get("payment_method_types", ["card"]) != ["card"]:
        raise unsupported("payment_method_types", parameters["payment_method_types"])
    if parameters.get("off_session") and not parameters.get("confirm"):
        raise RefusedError(400, "You can only set `off_session` when `confirm` is true.", param="off_session")
    if "customer" in parameters:
        call.state.get("customer", parameters["customer"], param="customer")
    if "payment_method" in parameters:
        parameters["payment_method"] = _usable_card(call, parameters["payment_method"], parameters.get("customer"))[
            "id"
        ]
    created = objects.payment_intent(call.state.new_id("pi"), call.state.now(), parameters)
    call.state.put(created)
    call.tell("payment_intent.created", created)
    return _confirm(call, created) if parameters.get("confirm") else created


def retrieve(call: Call) -> StripeJson:
    """Return a PaymentIntent."""
    return call.state.get("payment_intent", call.ids[0])


def list_all(call: Call) -> StripeJson:
    """List PaymentIntents, of one customer if asked."""
    wanted = call.parameters.get("customer")
    return lists.page(
        call, "payment_intent", "/v1/payment_intents", lambda intent: wanted in (None, intent["customer"])
    )


def update(call: Call) -> StripeJson:
    """Change an unpaid PaymentIntent."""
    intent = call.state.get("payment_intent", call.ids[0])
    if intent["status"] not in CONFIRMABLE and set(call.parameters) - {"metadata", "description", "expand"}:
        raise _unexpected_state(intent, "be updated")
    if "amount" in call.parameters:
        _check_amount(call.parameters["amount"])
    for name in ("amount", "description", "customer"):
        intent[name] = call.parameters.get(name, intent[name])
    if "currency" in call.parameters:
        intent["currency"] = call.parameters["currency"].lower()
    if "payment_method" in call.parameters:
        intent["payment_method"] = _usable_card(call, call.parameters["payment_method"], intent["customer"])["id"]
        intent["status"] = "requires_confirmation"
    intent["metadata"] = objects.merged_metadata(intent["metadata"], call.parameters)
    call.state.put(intent)
    return intent


def confirm(call: Call) -> StripeJson:
    """Charge the card of a PaymentIntent; a decline is refused with 402 and leaves it waiting for another card."""
    return _confirm(call, call.state.get("payment_intent", call.ids[0]))


def cancel(call: Call) -> StripeJson:
    """End an unpaid PaymentIntent, so that it can never charge."""
    intent = call.state.get("payment_intent", call.ids[0])
    if intent["status"] not in CONFIRMABLE:
        raise _unexpected_state(intent, "be canceled")
    intent |= {
        "status": "canceled",
        "canceled_at": call.state.now(),
        "cancellation_reason": call.parameters.get("cancellation_reason"),
        "next_action": None,
    }
    call.state.put(intent)
    call.tell("payment_intent.canceled", intent)
    return intent


def _confirm(call: Call, intent: StripeJson) -> StripeJson:
    if intent["status"] not in CONFIRMABLE:
        raise _unexpected_state(intent, "be confirmed")
    named = call.parameters.get("payment_method") or intent["payment_method"]
    if named is None:
        message = "You cannot confirm this PaymentIntent because it's missing a payment method."
        raise RefusedError(400, message, code="payment_intent_unexpected_state", executed=True)
    method = _usable_card(call, named, intent["customer"])
    decline, card = charge_card(call.state.card(method["id"]))
    call.state.put_card(method["id"], card)
    intent["payment_method"] = method["id"]
    if decline is AUTHENTICATION_REQUIRED and not call.parameters.get("off_session"):
        intent |= {"status": "requires_action", "next_action": {"type": "use_stripe_sdk", "use_stripe_sdk": {}}}
        call.state.put(intent)
        call.tell("payment_intent.requires_action", intent)
        return intent
    attempt = objects.charge(call.state.new_id("ch"), call.state.now(), intent, method, decline)
    intent |= {"latest_charge": attempt["id"], "next_action": None}
    if decline is not None:
        raise _declined(call, intent, attempt, method, decline)
    return _paid(call, intent, attempt)


def _paid(call: Call, intent: StripeJson, paid: StripeJson) -> StripeJson:
    movement = objects.balance_transaction(call.state.new_id("txn"), call.state.now(), paid)
    paid["balance_transaction"] = movement["id"]
    intent |= {"status": "succeeded", "amount_received": intent["amount"], "last_payment_error": None}
    for thing in (movement, paid, intent):
        call.state.put(thing)
    call.tell("charge.succeeded", paid)
    call.tell("payment_intent.succeeded", intent)
    return intent


def _declined(call: Call, intent: StripeJson, failed: StripeJson, method: StripeJson, decline: Decline) -> RefusedError:
    details: StripeJson = {"charge": failed["id"], "payment_method": method}
    if decline.decline_code is not None:
        details["decline_code"] = decline.decline_code
    if decline.advice_code is not None:
        details["advice_code"] = decline.advice_code
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "last_payment_error": {"type": "card_error", "code": decline.code, "message": decline.message, **details},
    }
    call.state.put(failed)
    call.state.put(intent)
    call.tell("charge.failed", failed)
    call.tell("payment_intent.payment_failed", intent)
    return RefusedError(
        402,
        decline.message,
        type="card_error",
        code=decline.code,
        executed=True,
        details={**details, "payment_intent": intent},
    )


def _usable_card(call: Call, payment_method: str, customer: str | None) -> StripeJson:
    method = make_card(call, payment_method)
    if method["customer"] not in (None, customer):
        message = "The customer does not have a payment method with the ID " + payment_method
        raise RefusedError(400, message, code="resource_missing", param="payment_method")
    return method


def _check_amount(amount: int) -> None:
    if amount < 1:
        raise RefusedError(400, "Amount must be positive.", code="parameter_invalid_integer", param="amount")
    if amount < MINIMUM_AMOUNT:
        message = f"Amount must be at least {MINIMUM_AMOUNT} in the smallest currency unit."
        raise RefusedError(400, message, code="amount_too_small", param="amount")


def _unexpected_state(intent: StripeJson, verb: str) -> RefusedError:
    message = f"This PaymentIntent could not {verb} because it has a status of {intent['status']}."
    return RefusedError(
        400, message, code="payment_intent_unexpected_state", executed=True, details={"payment_intent": intent}
    )
