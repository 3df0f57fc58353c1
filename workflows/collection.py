"""The collection: charges a card by policy, or waits for a bank transfer, until the invoice is paid or given up.

The books decide what is paid. What Stripe did with a charge is believed only when Stripe says so; a call whose answer
was lost is never repeated but asked about.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities.charging import (
        AttachCard,
        CancelIntent,
        ConfirmIntent,
        CreateIntent,
        EnsureCustomer,
        FetchIntent,
        FindIntent,
        StripeActivities,
    )
    from activities.payments import (
        GiveUp,
        InvoiceInBooks,
        LookAtInvoice,
        MarkUnknown,
        OpenAttempt,
        OpenedAttempt,
        PaymentActivities,
        RememberCustomer,
        RememberIntent,
        SettleAttempt,
    )
    from activities.stripe_api import IntentOutcome, RateLimitedError, UnknownOutcomeError
    from workflows.names import DUNNING_STATE
    from workflows.policies import (
        LEDGER,
        LEDGER_INSISTENT,
        STRIPE_CHARGE,
        STRIPE_CREATE,
        STRIPE_READ,
        STRIPE_WRITE,
        growing_wait,
        refusal_in,
        refused,
    )

CLOCKS_APART = timedelta(hours=1)
"""How far Stripe's clock may be behind ours when its objects are looked for by time."""
LOOK_FOR_TRANSFER = timedelta(hours=6)
LOOK_AGAIN_WHEN_BLOCKED = timedelta(days=1)
UNEXPECTED_STATE = "payment_intent_unexpected_state"
DO_NOT_TRY_AGAIN = "do_not_try_again"
HARD_DECLINES = frozenset(
    {
        "card_not_supported",
        "currency_not_supported",
        "fraudulent",
        "invalid_account",
        "invalid_number",
        "lost_card",
        "merchant_blacklist",
        "pickup_card",
        "restricted_card",
        "revocation_of_all_authorizations",
        "revocation_of_authorization",
        "stolen_card",
        "stop_payment_order",
    }
)
"""Declines after which the same card will never pay: card networks fine who tries again."""


@dataclass(frozen=True, slots=True)
class CollectionRequest:
    """One invoice to collect; the other fields are carried when the workflow continues as new.

    `declines` counts the attempts that the card's bank refused, `retry_at` (UTC) is when the next one may be made.
    """

    invoice_id: str
    declines: int = 0
    vain_tries: int = 0
    retry_at: datetime | None = None
    payment_intent_id: str | None = None


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """How a collection stands.

    `state` is `collecting`, `retrying` after a decline, `asking` what became of a charge, `waiting_for_transfer`,
    `blocked` by a problem, or final: `paid`, `uncollectible`.
    """

    invoice_id: str
    state: str
    declines: int
    retry_at: datetime | None
    last_decline: str | None
    problem: str | None


@workflow.defn(name="Collection")
class CollectionWorkflow:
    """One invoice's way to its money."""

    @workflow.init
    def __init__(self, request: CollectionRequest) -> None:
        self._carried = request
        self._state = "collecting"
        self._shown: str | None = None
        self._problem: str | None = None
        self._last_decline: str | None = None
        self._hinted = False
        self._stripe_has_news = False

    @workflow.run
    async def run(self, request: CollectionRequest) -> CollectionStatus:
        """Look into the books, then wait or charge; again until the invoice is paid or given up."""
        while True:
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(self._carried)
            self._hinted = False
            books = await workflow.execute_activity_method(
                PaymentActivities.look_at_invoice, LookAtInvoice(request.invoice_id), **LEDGER_INSISTENT
            )
            if books.state != "finalised":
                self._show(books.state)
                return self.status()
            await self._collect(books)

    @workflow.signal
    def payment_recorded(self) -> None:
        """Hear that a payment came in: look into the books."""
        self._hinted = True

    @workflow.signal
    def stripe_event(self) -> None:
        """Hear that Stripe has news of this invoice: ask it."""
        self._hinted = self._stripe_has_news = True

    @workflow.query
    def status(self) -> CollectionStatus:
        """Tell how the collection stands."""
        return CollectionStatus(
            invoice_id=self._carried.invoice_id,
            state=self._state,
            declines=self._carried.declines,
            retry_at=self._carried.retry_at,
            last_decline=self._last_decline,
            problem=self._problem,
        )

    async def _collect(self, books: InvoiceInBooks) -> None:
        """Do the next thing, or wait for it."""
        if books.method == "bank_transfer":
            self._show("waiting_for_transfer")
            await self._wait(LOOK_FOR_TRANSFER)
            return
        try:
            if self._carried.retry_at is not None and self._carried.retry_at > workflow.now():
                await self._wait_for_retry(self._carried.retry_at)
            else:
                await self._charge(books)
        except ActivityError as error:
            await self._block(refused(error).message)

    async def _wait_for_retry(self, retry_at: datetime) -> None:
        """Wait for the next attempt; what Stripe has to say before is asked for."""
        self._show("retrying")
        if self._stripe_has_news:
            self._stripe_has_news = False
            await self._settle_if_succeeded()
        else:
            await self._wait(retry_at - workflow.now())

    async def _charge(self, books: InvoiceInBooks) -> None:
        """Make one attempt and record what became of it."""
        self._show("collecting")
        if books.payment_method is None:
            await self._block(f"customer {books.customer_id} has no payment_method; give it one")
            return
        stripe_customer_id = books.stripe_customer_id or await self._make_known(books.customer_id)
        attempt = await self._open_attempt()
        if attempt.state == "unknown":
            outcome = await self._ask_after(attempt)
        else:
            try:
                before = await self._end_former(attempt)
                if before is not None and before.state == "succeeded":
                    await self._settle(attempt, before)
                    return
                card = await self._attach(books.customer_id, stripe_customer_id, attempt.payment_method)
                attempt = replace(attempt, payment_intent_id=await self._intent_of(attempt, stripe_customer_id))
            except FailureError as error:  # nothing was charged, and the next attempt may have another card
                await self._settle(attempt, IntentOutcome(attempt.payment_intent_id or "", "not_executed"))
                await self._block(refused(error).message)
                return
            if attempt.payment_intent_id is None:
                outcome = IntentOutcome("", "not_executed")
            else:
                outcome = await self._confirm(attempt, card)
        await self._settle(attempt, outcome)
        await self._after(outcome, books)

    async def _make_known(self, customer_id: str) -> str:
        """Make a customer known to Stripe and remember its id there."""
        known = await workflow.execute_activity_method(
            StripeActivities.ensure_customer, EnsureCustomer(customer_id), **STRIPE_WRITE
        )
        await workflow.execute_activity_method(
            PaymentActivities.remember_customer, RememberCustomer(customer_id, known.stripe_customer_id), **LEDGER
        )
        return known.stripe_customer_id

    async def _attach(self, customer_id: str, stripe_customer_id: str, payment_method: str | None) -> str:
        """Attach the attempt's card to the customer and return the card's id there."""
        if payment_method is None:
            raise ApplicationError("the attempt was opened without a card", type="StateError", non_retryable=True)
        attached = await workflow.execute_activity_method(
            StripeActivities.attach_card, AttachCard(customer_id, stripe_customer_id, payment_method), **STRIPE_WRITE
        )
        return attached.payment_method

    async def _open_attempt(self) -> OpenedAttempt:
        return await workflow.execute_activity_method(
            PaymentActivities.open_attempt, OpenAttempt(self._carried.invoice_id, workflow.now()), **LEDGER
        )

    async def _intent_of(self, attempt: OpenedAttempt, stripe_customer_id: str) -> str | None:
        """Return the invoice's PaymentIntent, created unconfirmed and remembered before anything is charged.

        None when Stripe does not say that it made one.
        """
        intent_id = attempt.payment_intent_id
        if intent_id is None:
            intent_id = await self._created(attempt, stripe_customer_id)
            if intent_id is None:
                return None
            await workflow.execute_activity_method(
                PaymentActivities.remember_intent, RememberIntent(attempt.attempt_id, intent_id), **LEDGER
            )
        self._carried = replace(self._carried, payment_intent_id=intent_id)
        return intent_id

    async def _end_former(self, attempt: OpenedAttempt) -> IntentOutcome | None:
        """End the PaymentIntent of another amount before a new one is made, and return what became of it.

        A confirmation of it that is still on its way would charge the card beside the new one.
        """
        former = self._carried.payment_intent_id
        if former is None or attempt.payment_intent_id is not None:
            return None
        try:
            ended = await workflow.execute_activity_method(
                StripeActivities.cancel_intent, CancelIntent(former), **STRIPE_WRITE
            )
        except ActivityError as error:
            refusal = refusal_in(error)
            if refusal is None or refusal.details != (UNEXPECTED_STATE,):
                raise
            return await self._ask(former)
        self._carried = replace(self._carried, payment_intent_id=None)
        return ended

    async def _created(self, attempt: OpenedAttempt, stripe_customer_id: str) -> str | None:
        """Create the attempt's PaymentIntent; where no answer comes, look whether it was made."""
        began = workflow.now()
        try:
            created = await workflow.execute_activity_method(
                StripeActivities.create_intent,
                CreateIntent(self._carried.invoice_id, attempt.attempt_id, began),
                **STRIPE_CREATE,
            )
        except ActivityError as error:
            refusal = refusal_in(error)
            if refusal is not None and refusal.type != UnknownOutcomeError.__name__:
                raise
            found = await workflow.execute_activity_method(
                StripeActivities.find_intent,
                FindIntent(stripe_customer_id, attempt.attempt_id, began - CLOCKS_APART),
                **STRIPE_READ,
            )
            return found.payment_intent_id
        return created.payment_intent_id

    async def _confirm(self, attempt: OpenedAttempt, card: str) -> IntentOutcome:
        """Charge once; when it is not known what came of it, ask."""
        intent_id, tries = attempt.payment_intent_id or "", 0
        while True:
            try:
                outcome = await workflow.execute_activity_method(
                    StripeActivities.confirm_intent,
                    ConfirmIntent(intent_id, card, attempt.idempotency_key),
                    **STRIPE_CHARGE,
                )
            except ActivityError as error:
                refusal = refusal_in(error)
                if (
                    refusal is not None and refusal.type == RateLimitedError.__name__
                ):  # Stripe did nothing: the same call again
                    seconds = refusal.details[0] if refusal.details else None
                    await workflow.sleep(growing_wait(tries) if seconds is None else timedelta(seconds=seconds))
                    tries += 1
                    continue
                await workflow.execute_activity_method(
                    PaymentActivities.mark_unknown, MarkUnknown(attempt.attempt_id), **LEDGER_INSISTENT
                )
                return await self._ask(intent_id)
            if outcome.state == "processing":
                return await self._ask(intent_id)
            return outcome

    async def _ask_after(self, attempt: OpenedAttempt) -> IntentOutcome:
        """Ask what became of an attempt that was interrupted; without a PaymentIntent it cannot have charged."""
        if attempt.payment_intent_id is None:
            return IntentOutcome("", "not_executed")
        self._carried = replace(self._carried, payment_intent_id=attempt.payment_intent_id)
        return await self._ask(attempt.payment_intent_id)

    async def _ask(self, intent_id: str) -> IntentOutcome:
        """Ask Stripe what became of a charge until it knows; a hint shortens the wait."""
        tries = 0
        while True:
            self._show("asking")
            outcome = await self._fetch(intent_id)
            if outcome.state != "processing":
                return outcome
            await self._wait(growing_wait(tries))
            self._hinted = False
            tries += 1

    async def _fetch(self, intent_id: str) -> IntentOutcome:
        return await workflow.execute_activity_method(
            StripeActivities.fetch_intent, FetchIntent(intent_id), **STRIPE_READ
        )

    async def _settle(self, attempt: OpenedAttempt, outcome: IntentOutcome) -> None:
        await workflow.execute_activity_method(
            PaymentActivities.settle_attempt,
            SettleAttempt(self._carried.invoice_id, attempt.attempt_id, outcome, workflow.now()),
            **LEDGER_INSISTENT,
        )

    async def _settle_if_succeeded(self) -> bool:
        """Record a charge that succeeded after its attempt was taken for declined."""
        intent_id = self._carried.payment_intent_id
        outcome = None if intent_id is None else await self._fetch(intent_id)
        if outcome is None or outcome.state != "succeeded":
            return False
        await self._settle(await self._open_attempt(), outcome)
        return True

    async def _after(self, outcome: IntentOutcome, books: InvoiceInBooks) -> None:
        """Decide what follows an attempt."""
        if outcome.state == "not_executed":
            tries = self._carried.vain_tries
            self._carried = replace(self._carried, vain_tries=tries + 1)
            await self._wait(growing_wait(tries))
        elif outcome.state != "succeeded":
            self._last_decline = outcome.decline_code or outcome.state
            declines = self._carried.declines + 1
            self._carried = replace(self._carried, declines=declines, vain_tries=0)
            hard = outcome.advice_code == DO_NOT_TRY_AGAIN or outcome.decline_code in HARD_DECLINES
            if hard or outcome.state == "canceled" or declines > len(books.retry_after):
                await self._give_up()
            else:
                retry_at = workflow.now() + books.retry_after[declines - 1]
                self._carried = replace(self._carried, retry_at=retry_at)

    async def _give_up(self) -> None:
        if not await self._settle_if_succeeded():
            await workflow.execute_activity_method(
                PaymentActivities.give_up, GiveUp(self._carried.invoice_id), **LEDGER
            )

    async def _block(self, problem: str) -> None:
        """Show what a person must mend, and look again after a hint or a day."""
        self._problem = problem
        self._show("blocked")
        await self._wait(LOOK_AGAIN_WHEN_BLOCKED)
        self._problem = None

    async def _wait(self, longest: timedelta) -> None:
        """Wait until there is a hint, or as long as this."""
        try:
            await workflow.wait_condition(lambda: self._hinted, timeout=longest)
        except TimeoutError:
            workflow.logger.debug("no hint for %s in %s", self._carried.invoice_id, longest)

    def _show(self, state: str) -> None:
        self._state = state
        if state != self._shown:
            workflow.upsert_search_attributes([DUNNING_STATE.value_set(state)])
            self._shown = state
