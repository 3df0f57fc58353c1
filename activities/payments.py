"""Activities on payments in the books: what is open, an attempt and what became of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa
from temporalio import activity

from activities.stripe_api import IntentOutcome, StripeCash
from ledger.customers import get_customer, set_stripe_customer
from ledger.entities import get_entity
from ledger.invoices import get_invoice
from ledger.payments import (
    CardCash,
    collection_state,
    mark_uncollectible,
    mark_unknown,
    open_attempt,
    remember_intent,
    settle_declined,
    settle_not_executed,
    settle_succeeded,
)
from pricing.calendar import local_date


@dataclass(frozen=True, slots=True)
class LookAtInvoice:
    """Ask how far the collection of an invoice is."""

    invoice_id: str


@dataclass(frozen=True, slots=True)
class InvoiceInBooks:
    """What the books say: the invoice's state, how it is collected and from whom; amounts in `currency`."""

    invoice_id: str
    state: str
    method: str
    retry_after: tuple[timedelta, ...]
    open_amount: Decimal
    currency: str
    customer_id: str
    stripe_customer_id: str | None
    payment_method: str | None


@dataclass(frozen=True, slots=True)
class RememberCustomer:
    """Keep under which id Stripe knows a customer."""

    customer_id: str
    stripe_customer_id: str


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """Write down, before it is sent, what will be charged at `at` (UTC)."""

    invoice_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class OpenedAttempt:
    """The open attempt; its parameters stay in the database and are sent from there.

    `idempotency_key` is for the confirmation, `payment_method` the card that this attempt charges.
    """

    attempt_id: str
    n: int
    state: str
    idempotency_key: str
    payment_intent_id: str | None
    payment_method: str | None


@dataclass(frozen=True, slots=True)
class RememberIntent:
    """Keep which PaymentIntent an attempt has."""

    attempt_id: str
    payment_intent_id: str


@dataclass(frozen=True, slots=True)
class MarkUnknown:
    """Keep that nobody knows what became of an attempt."""

    attempt_id: str


@dataclass(frozen=True, slots=True)
class SettleAttempt:
    """Record what Stripe says of an attempt, at `at` (UTC)."""

    invoice_id: str
    attempt_id: str
    outcome: IntentOutcome
    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop collecting an invoice."""

    invoice_id: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """The database holds it."""


class PaymentActivities:
    """Activities on payments, one database transaction each."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @activity.defn
    def look_at_invoice(self, request: LookAtInvoice) -> InvoiceInBooks:
        """Read how far the collection of an invoice is."""
        with self._engine.begin() as connection:
            state = collection_state(connection, request.invoice_id)
            customer = get_customer(connection, get_invoice(connection, request.invoice_id).customer_id)
        return InvoiceInBooks(
            invoice_id=request.invoice_id,
            state=state.state,
            method=state.method,
            retry_after=tuple(state.retry_after),
            open_amount=state.open_amount,
            currency=state.currency,
            customer_id=customer.customer_id,
            stripe_customer_id=customer.stripe_customer_id,
            payment_method=customer.payment_method,
        )

    @activity.defn
    def remember_customer(self, request: RememberCustomer) -> Recorded:
        """Keep under which id Stripe knows a customer."""
        with self._engine.begin() as connection:
            set_stripe_customer(connection, request.customer_id, request.stripe_customer_id)
        return Recorded()

    @activity.defn
    def open_attempt(self, request: OpenAttempt) -> OpenedAttempt:
        """Write down the next attempt, or find the open one."""
        with self._engine.begin() as connection:
            attempt = open_attempt(connection, request.invoice_id, at=request.at)
        return OpenedAttempt(
            attempt_id=attempt.attempt_id,
            n=attempt.n,
            state=attempt.state,
            idempotency_key=attempt.idempotency_key,
            payment_intent_id=attempt.payment_intent_id,
            payment_method=attempt.payment_method,
        )

    @activity.defn
    def remember_intent(self, request: RememberIntent) -> Recorded:
        """Keep which PaymentIntent an attempt has."""
        with self._engine.begin() as connection:
            remember_intent(connection, request.attempt_id, request.payment_intent_id)
        return Recorded()

    @activity.defn
    def mark_unknown(self, request: MarkUnknown) -> Recorded:
        """Keep that nobody knows what became of an attempt."""
        with self._engine.begin() as connection:
            mark_unknown(connection, request.attempt_id)
        return Recorded()

    @activity.defn
    def settle_attempt(self, request: SettleAttempt) -> Recorded:
        """Record what became of an attempt: the money, the decline, or that nothing happened."""
        outcome = request.outcome
        with self._engine.begin() as connection:
            match outcome.state:
                case "succeeded" if outcome.cash is not None:
                    cash = _card_cash(connection, request.invoice_id, outcome.cash)
                    settle_succeeded(connection, request.attempt_id, cash, at=request.at)
                case "not_executed":
                    settle_not_executed(connection, request.attempt_id, at=request.at)
                case "declined" | "needs_customer" | "canceled":
                    settle_declined(
                        connection,
                        request.attempt_id,
                        decline_code=outcome.decline_code or outcome.state,
                        advice_code=outcome.advice_code,
                        at=request.at,
                    )
                case _:
                    raise ValueError(f"attempt {request.attempt_id} cannot be settled as {outcome.state}")
        return Recorded()

    @activity.defn
    def give_up(self, request: GiveUp) -> Recorded:
        """Mark an invoice as uncollectible."""
        with self._engine.begin() as connection:
            mark_uncollectible(connection, request.invoice_id)
        return Recorded()


def _card_cash(connection: sa.Connection, invoice_id: str, cash: StripeCash) -> CardCash:
    """Return the cash with the day it was received on, in the entity's time zone."""
    entity = get_entity(connection, get_invoice(connection, invoice_id).entity_id)
    return CardCash(
        charge_id=cash.charge_id,
        payment_intent_id=cash.payment_intent_id,
        balance_transaction_id=cash.balance_transaction_id,
        amount=cash.amount,
        fee=cash.fee,
        currency=cash.currency,
        received_on=local_date(cash.created, entity.time_zone),
    )
