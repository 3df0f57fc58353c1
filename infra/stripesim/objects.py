"""Stripe's objects as the API sends them; amounts are integers in minor units, times Unix seconds."""

from typing import Any

from stripe import api_version

from infra.stripesim.cards import BRANDS, Decline
from infra.stripesim.errors import StripeJson

FEE_PER_THOUSAND = 29
FEE_FIXED = 30
AVAILABLE_AFTER_SECONDS = 2 * 24 * 3600


def fee_of(amount: int) -> int:
    """Return Stripe's fee of a charge: 2.9 % rounded half up, and 30 minor units."""
    return (amount * FEE_PER_THOUSAND + 500) // 1000 + FEE_FIXED


def customer(object_id: str, created: int, parameters: StripeJson) -> StripeJson:
    """Return a customer."""
    return {
        "id": object_id,
        "object": "customer",
        "balance": 0,
        "created": created,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": parameters.get("description"),
        "email": parameters.get("email"),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": merged_metadata({}, parameters),
        "name": parameters.get("name"),
        "phone": parameters.get("phone"),
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
    }


def payment_method(object_id: str, created: int, test_id: str) -> StripeJson:
    """Return a card that belongs to nobody yet."""
    brand, last4 = BRANDS.get(test_id, ("visa", "4242"))
    return {
        "id": object_id,
        "object": "payment_method",
        "billing_details": _billing_details(),
        "card": {"checks": {}, **_card(brand, last4), "three_d_secure_usage": {"supported": True}},
        "created": created,
        "customer": None,
        "livemode": False,
        "metadata": {},
        "type": "card",
    }


def payment_intent(object_id: str, created: int, parameters: StripeJson) -> StripeJson:
    """Return an unconfirmed PaymentIntent."""
    method = parameters.get("payment_method")
    return {
        "id": object_id,
        "object": "payment_intent",
        "amount": parameters["amount"],
        "amount_capturable": 0,
        "amount_received": 0,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": parameters.get("capture_method", "automatic_async"),
        "client_secret": f"{object_id}_secret_simulated",
        "confirmation_method": "automatic",
        "created": created,
        "currency": parameters["currency"].lower(),
        "customer": parameters.get("customer"),
        "description": parameters.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": merged_metadata({}, parameters),
        "next_action": None,
        "payment_method": method,
        "payment_method_types": parameters.get("payment_method_types", ["card"]),
        "processing": None,
        "receipt_email": parameters.get("receipt_email"),
        "setup_future_usage": parameters.get("setup_future_usage"),
        "statement_descriptor_suffix": parameters.get("statement_descriptor_suffix"),
        "status": "requires_confirmation" if method else "requires_payment_method",
    }


def charge(object_id: str, created: int, intent: StripeJson, method: StripeJson, decline: Decline | None) -> StripeJson:
    """Return one attempt to move the money of an intent, succeeded or declined."""
    paid = decline is None
    return {
        "id": object_id,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": intent["amount"] if paid else 0,
        "amount_refunded": 0,
        "balance_transaction": None,
        "billing_details": _billing_details(),
        "captured": paid,
        "created": created,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None if decline is None else decline.code,
        "failure_message": None if decline is None else decline.message,
        "fraud_details": {},
        "livemode": False,
        "metadata": intent["metadata"],
        "outcome": _outcome(decline),
        "paid": paid,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {
            "type": "card",
            "card": {**_card(method["card"]["brand"], method["card"]["last4"]), "amount_authorized": intent["amount"]},
        },
        "receipt_email": intent["receipt_email"],
        "refunded": False,
        "status": "succeeded" if paid else "failed",
    }


def balance_transaction(object_id: str, created: int, paid: StripeJson) -> StripeJson:
    """Return what a succeeded charge brought: amount, fee and net."""
    fee = fee_of(paid["amount"])
    return {
        "id": object_id,
        "object": "balance_transaction",
        "amount": paid["amount"],
        "available_on": created + AVAILABLE_AFTER_SECONDS,
        "balance_type": "payments",
        "created": created,
        "currency": paid["currency"],
        "description": paid["description"],
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [
            {
                "amount": fee,
                "application": None,
                "currency": paid["currency"],
                "description": "Stripe processing fees",
                "type": "stripe_fee",
            }
        ],
        "net": paid["amount"] - fee,
        "reporting_category": "charge",
        "source": paid["id"],
        "status": "pending",
        "type": "charge",
    }


def event(
    object_id: str, created: int, kind: str, thing: StripeJson, *, request: StripeJson, pending: int
) -> StripeJson:
    """Return the event that tells of a change of `thing`."""
    return {
        "id": object_id,
        "object": "event",
        "api_version": api_version,
        "created": created,
        "data": {"object": thing},
        "livemode": False,
        "pending_webhooks": pending,
        "request": request,
        "type": kind,
    }


def merged_metadata(existing: StripeJson, parameters: StripeJson) -> StripeJson:
    """Return the metadata after a request: given keys replace, empty values remove, an empty `metadata` clears."""
    given: Any = parameters.get("metadata", {})
    if given == "":
        return {}
    return {key: value for key, value in {**existing, **given}.items() if value != ""}


def _billing_details() -> StripeJson:
    address = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
    return {"address": address, "email": None, "name": None, "phone": None, "tax_id": None}


def _card(brand: str, last4: str) -> StripeJson:
    return {
        "brand": brand,
        "country": "US",
        "exp_month": 12,
        "exp_year": 2035,
        "fingerprint": f"simulated{brand}{last4}",
        "funding": "credit",
        "last4": last4,
        "wallet": None,
    }


def _outcome(decline: Decline | None) -> StripeJson:
    if decline is None:
        return {
            "network_status": "approved_by_network",
            "reason": None,
            "risk_level": "normal",
            "seller_message": "Payment complete.",
            "type": "authorized",
        }
    return {
        "advice_code": decline.advice_code,
        "network_status": "declined_by_network",
        "reason": decline.decline_code or decline.code,
        "risk_level": "normal",
        "seller_message": "The bank declined the payment.",
        "type": "issuer_declined",
    }
