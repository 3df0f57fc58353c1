"""The test cards: which payment method id behaves how when it is charged."""

import re
from dataclasses import dataclass

from infra.stripesim.errors import StripeJson, no_such

DECLINES_THEN_SUCCEEDS = re.compile(r"pm_sim_declines_then_succeeds_([1-9][0-9]?)")
"""The simulator's own id: insufficient funds as many times as it says, then success."""


@dataclass(frozen=True, slots=True)
class Decline:
    """What the bank says no with; where Stripe sends no `decline_code`, the error's `code` says it all."""

    code: str
    decline_code: str | None
    advice_code: str | None
    message: str


GENERIC = Decline("card_declined", "generic_decline", "try_again_later", "Your card was declined.")
INSUFFICIENT_FUNDS = Decline(
    "card_declined", "insufficient_funds", "try_again_later", "Your card has insufficient funds."
)
AUTHENTICATION_REQUIRED = Decline(
    "authentication_required",
    "authentication_required",
    None,
    "Your card was declined. This transaction requires authentication.",
)

CARDS: dict[str, Decline | None] = {
    "pm_card_visa": None,
    "pm_card_mastercard": None,
    "pm_card_amex": None,
    "pm_card_chargeDeclined": GENERIC,
    "pm_card_visa_chargeDeclined": GENERIC,
    "pm_card_chargeCustomerFail": GENERIC,
    "pm_card_visa_chargeDeclinedInsufficientFunds": INSUFFICIENT_FUNDS,
    "pm_card_chargeDeclinedInsufficientFunds": INSUFFICIENT_FUNDS,
    "pm_card_chargeDeclinedExpiredCard": Decline("expired_card", None, "confirm_card_data", "Your card has expired."),
    "pm_card_chargeDeclinedProcessingError": Decline(
        "processing_error", None, "try_again_later", "An error occurred while processing your card."
    ),
    "pm_card_chargeDeclinedIncorrectCvc": Decline(
        "incorrect_cvc", None, "confirm_card_data", "Your card's security code is incorrect."
    ),
    "pm_card_visa_chargeDeclinedLostCard": Decline(
        "card_declined", "lost_card", "do_not_try_again", "Your card was declined."
    ),
    "pm_card_visa_chargeDeclinedStolenCard": Decline(
        "card_declined", "stolen_card", "do_not_try_again", "Your card was declined."
    ),
    "pm_card_visa_chargeDeclinedVelocityLimitExceeded": Decline(
        "card_declined", "card_velocity_exceeded", "try_again_later", "Your card was declined."
    ),
    "pm_card_authenticationRequired": AUTHENTICATION_REQUIRED,
}

BRANDS = {"pm_card_mastercard": ("mastercard", "4444"), "pm_card_amex": ("amex", "8431")}


def is_test_id(payment_method: str) -> bool:
    """Say whether an id names a kind of card rather than one attached card."""
    return payment_method in CARDS or DECLINES_THEN_SUCCEEDS.fullmatch(payment_method) is not None


def new_card(test_id: str) -> StripeJson:
    """Return the behaviour of a fresh card of that kind."""
    if counted := DECLINES_THEN_SUCCEEDS.fullmatch(test_id):
        return {"test_id": test_id, "declines_left": int(counted[1])}
    if test_id not in CARDS:
        raise no_such("PaymentMethod", test_id, "payment_method")
    return {"test_id": test_id, "declines_left": 0}


def charge_card(card: StripeJson) -> tuple[Decline | None, StripeJson]:
    """Return what the bank says to one charge (None: yes) and the card's behaviour after it."""
    if card["declines_left"] > 0:
        return INSUFFICIENT_FUNDS, {**card, "declines_left": card["declines_left"] - 1}
    return CARDS.get(card["test_id"]), card
