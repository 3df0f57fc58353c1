"""Activities at Stripe: one call each. What to send is read from the database, so that payloads carry ids only."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
import stripe
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.stripe_api import (
    IntentOutcome,
    RateLimitedError,
    StripeRefusedError,
    attach_payment_method,
    cancel_intent,
    confirm_intent,
    create_intent,
    ensure_customer,
    fetch_intent,
    find_intents,
    minor_units,
)
from ledger.customers import get_customer
from ledger.errors import StateError
from ledger.payments import Attempt, open_attempt


@dataclass(frozen=True, slots=True)
class EnsureCustomer:
    """Make a customer known to Stripe."""

    customer_id: str


@dataclass(frozen=True, slots=True)
class StripeCustomer:
    """The customer's id at Stripe."""

    stripe_customer_id: str


@dataclass(frozen=True, slots=True)
class AttachCard:
    """Attach a customer's card to it at Stripe."""

    customer_id: str
    stripe_customer_id: str
    payment_method: str


@dataclass(frozen=True, slots=True)
class AttachedCard:
    """The card's id there."""

    payment_method: str


@dataclass(frozen=True, slots=True)
class CreateIntent:
    """Create the PaymentIntent of an open attempt, from the parameters stored with it."""

    invoice_id: str
    attempt_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CreatedIntent:
    """The unconfirmed PaymentIntent."""

    payment_intent_id: str


@dataclass(frozen=True, slots=True)
class FindIntent:
    """Look for the PaymentIntent of an attempt among those that its customer got since a moment (UTC)."""

    stripe_customer_id: str
    attempt_id: str
    since: datetime


@dataclass(frozen=True, slots=True)
class FoundIntent:
    """The attempt's PaymentIntent; None when Stripe has none."""

    payment_intent_id: str | None


@dataclass(frozen=True, slots=True)
class ConfirmIntent:
    """Charge a card: the call that moves money."""

    payment_intent_id: str
    payment_method: str
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class CancelIntent:
    """End an unpaid PaymentIntent whose amount is no longer what is open."""

    payment_intent_id: str


@dataclass(frozen=True, slots=True)
class FetchIntent:
    """Ask what became of a PaymentIntent."""

    payment_intent_id: str


class StripeActivities:
    """Calls to Stripe, one each."""

    def __init__(self, engine: sa.Engine, client: stripe.StripeClient) -> None:
        self._engine = engine
        self._client = client

    @activity.defn
    def ensure_customer(self, request: EnsureCustomer) -> StripeCustomer:
        """Create the customer at Stripe, once."""
        with self._engine.begin() as connection:
            customer = get_customer(connection, request.customer_id)
        with _told_to_temporal():
            found = ensure_customer(
                self._client,
                customer_id=customer.customer_id,
                name=customer.name,
                email=customer.email,
                idempotency_key=f"customer/{customer.customer_id}",
            )
        return StripeCustomer(found)

    @activity.defn
    def attach_card(self, request: AttachCard) -> AttachedCard:
        """Attach a card to its customer, once."""
        with _told_to_temporal():
            attached = attach_payment_method(
                self._client,
                stripe_customer_id=request.stripe_customer_id,
                payment_method=request.payment_method,
                idempotency_key=f"attach/{request.customer_id}/{request.payment_method}",
            )
        return AttachedCard(attached)

    @activity.defn
    def create_intent(self, request: CreateIntent) -> CreatedIntent:
        """Create the PaymentIntent of an attempt, once; a repetition sends the stored parameters again."""
        with self._engine.begin() as connection:
            attempt = open_attempt(connection, request.invoice_id, at=request.at)
        if attempt.attempt_id != request.attempt_id or attempt.state != "open":
            raise StateError(f"attempt {request.attempt_id} is overtaken: {attempt.attempt_id} is {attempt.state}")
        with _told_to_temporal():
            created = create_intent(
                self._client, parameters=_as_sent(attempt), idempotency_key=f"{attempt.attempt_id}/create"
            )
        return CreatedIntent(created)

    @activity.defn
    def find_intent(self, request: FindIntent) -> FoundIntent:
        """Find the PaymentIntent whose creation was not answered, by the attempt that its metadata names."""
        with _told_to_temporal():
            intents = find_intents(self._client, stripe_customer_id=request.stripe_customer_id, since=request.since)
        for intent in intents:
            if intent.metadata.get("attempt_id") == request.attempt_id:
                return FoundIntent(intent.outcome.intent_id)
        return FoundIntent(None)

    @activity.defn
    def confirm_intent(self, request: ConfirmIntent) -> IntentOutcome:
        """Charge a card; a decline is an answer, a lost answer is `UnknownOutcomeError`."""
        with _told_to_temporal():
            return confirm_intent(
                self._client,
                intent_id=request.payment_intent_id,
                payment_method=request.payment_method,
                idempotency_key=request.idempotency_key,
            )

    @activity.defn
    def cancel_intent(self, request: CancelIntent) -> IntentOutcome:
        """End a PaymentIntent, so that nothing still on its way can charge it; refused for one that is over."""
        with _told_to_temporal():
            return cancel_intent(
                self._client,
                intent_id=request.payment_intent_id,
                idempotency_key=f"{request.payment_intent_id}/cancel",
            )

    @activity.defn
    def fetch_intent(self, request: FetchIntent) -> IntentOutcome:
        """Ask what became of a PaymentIntent."""
        with _told_to_temporal():
            return fetch_intent(self._client, request.payment_intent_id)


def _as_sent(attempt: Attempt) -> dict[str, object]:
    """Return an attempt's parameters as Stripe reads them: the amount in minor units, the customer by Stripe's id.

    The card is left to the confirmation, which names it as it is attached to the customer.
    """
    parameters: dict[str, object] = {
        name: value for name, value in attempt.parameters.items() if name != "payment_method"
    }
    parameters["amount"] = minor_units(attempt.amount, attempt.currency)
    if attempt.stripe_customer_id is not None:
        parameters["customer"] = attempt.stripe_customer_id
    return parameters


@contextmanager
def _told_to_temporal() -> Iterator[None]:
    """Raise Stripe's answers with what Temporal should know: when to come back, and what not to repeat."""
    try:
        yield
    except RateLimitedError as error:
        seconds = None if error.retry_after is None else error.retry_after.total_seconds()
        raise ApplicationError(
            str(error),
            seconds,
            type=RateLimitedError.__name__,
            next_retry_delay=error.retry_after,
            category=ApplicationErrorCategory.BENIGN,
        ) from error
    except StripeRefusedError as error:
        raise ApplicationError(str(error), error.code, type=StripeRefusedError.__name__, non_retryable=True) from error
