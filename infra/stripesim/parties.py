"""Customers and their cards."""

from infra.stripesim import lists, objects
from infra.stripesim.call import Call
from infra.stripesim.cards import is_test_id, new_card
from infra.stripesim.errors import RefusedError, StripeJson, unsupported

CUSTOMER_FIELDS = frozenset({"name", "email", "description", "phone", "metadata", "expand"})
CUSTOMER_UPDATE_FIELDS = CUSTOMER_FIELDS | {"invoice_settings"}
ATTACH_FIELDS = frozenset({"customer", "expand"})
METHOD_LIST_FIELDS = lists.PAGING - {"created"} | {"customer", "type"}


def create_customer(call: Call) -> StripeJson:
    """Make a customer."""
    created = objects.customer(call.state.new_id("cus"), call.state.now(), call.parameters)
    created["phone"] = call.parameters.get("phone")
    call.state.put(created)
    call.tell("customer.created", created)
    return created


def retrieve_customer(call: Call) -> StripeJson:
    """Return a customer."""
    return call.state.get("customer", call.ids[0])


def update_customer(call: Call) -> StripeJson:
    """Change the given fields of a customer."""
    changed = call.state.get("customer", call.ids[0])
    for name in ("name", "email", "description", "phone"):
        if name in call.parameters:
            changed[name] = call.parameters[name] or None
    changed["metadata"] = objects.merged_metadata(changed["metadata"], call.parameters)
    for name, value in call.parameters.get("invoice_settings", {}).items():
        if name != "default_payment_method":
            raise unsupported(f"invoice_settings[{name}]")
        method = call.state.get("payment_method", value, param="invoice_settings[default_payment_method]")
        if method["customer"] != changed["id"]:
            raise RefusedError(400, "The payment method is not attached to this customer.", param=name)
        changed["invoice_settings"]["default_payment_method"] = value
    call.state.put(changed)
    call.tell("customer.updated", changed)
    return changed


def attach_payment_method(call: Call) -> StripeJson:
    """Give a card to a customer; a test id makes a fresh card of its kind."""
    owner = call.state.get("customer", call.parameters.get("customer", ""), param="customer")
    method = make_card(call, call.ids[0])
    if method["customer"] not in (None, owner["id"]):
        message = "The payment method you provided has already been attached to a customer."
        raise RefusedError(400, message, param="payment_method")
    method["customer"] = owner["id"]
    call.state.put(method)
    call.tell("payment_method.attached", method)
    return method


def make_card(call: Call, payment_method: str) -> StripeJson:
    """Return the payment method with that id; a test id makes a fresh card of its kind, which nobody owns yet."""
    if not is_test_id(payment_method):
        return call.state.get("payment_method", payment_method, param="payment_method")
    method = objects.payment_method(call.state.new_id("pm"), call.state.now(), payment_method)
    call.state.put_card(method["id"], new_card(payment_method))
    call.state.put(method)
    return method


def retrieve_payment_method(call: Call) -> StripeJson:
    """Return a card."""
    return call.state.get("payment_method", call.ids[0])


def list_payment_methods(call: Call) -> StripeJson:
    """List the cards of a customer."""
    if "customer" not in call.parameters:
        raise RefusedError(400, "Missing required param: customer.", code="parameter_missing", param="customer")
    return _cards_of(call, call.parameters["customer"], "/v1/payment_methods")


def list_cards_of_customer(call: Call) -> StripeJson:
    """List the cards of the customer in the path."""
    return _cards_of(call, call.ids[0], f"/v1/customers/{call.ids[0]}/payment_methods")


def _cards_of(call: Call, owner: str, url: str) -> StripeJson:
    call.state.get("customer", owner, param="customer")
    wanted = call.parameters.get("type", "card")
    return lists.page(
        call, "payment_method", url, lambda method: method["customer"] == owner and method["type"] == wanted
    )
