"""The adapter to Stripe: each function makes one call through the SDK and says what is known afterwards.

A decline is a result. What is not known to have happened is `UnknownOutcomeError`: repeat the call with the same
idempotency key and parameters, or ask with `fetch_intent`; never charge again under a new key. Amounts are decimals
in major units, currencies upper-case ISO 4217 codes, moments aware UTC datetimes.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Literal, TypeVar, cast

import stripe

from ledger.errors import InvalidError
from pricing.money import EXACT

HTTP_TIMEOUT_SECONDS = 20
PAGE_SIZE = 100
LIVE_KEYS = ("sk_live_", "rk_live_")
AUTHENTICATION_REQUIRED = "authentication_required"
CHARGE_EXPANDED = ["latest_charge.balance_transaction"]

WHOLE_UNITS = frozenset({
    "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF",
})  # fmt: skip
HUNDREDTHS = frozenset({
    "AED", "AUD", "BGN", "BRL", "CAD", "CHF", "CNY", "COP", "CZK", "DKK", "EGP", "EUR", "GBP", "HKD", "HUF", "IDR",
    "ILS", "INR", "KES", "MAD", "MXN", "MYR", "NGN", "NOK", "NZD", "PEN", "PHP", "PKR", "PLN", "QAR", "RON", "RSD",
    "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "UAH", "USD", "UYU", "ZAR",
})  # fmt: skip
HUNDREDTHS_OF_WHOLE_UNITS = frozenset({"ISK", "UGX"})
"""Sent in hundredths, but only whole units exist."""
THOUSANDTHS_IN_TENS = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
"""Sent in thousandths, of which the last digit must be 0."""

OUTCOME_OPEN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT)

Answer = TypeVar("Answer")


class UnknownOutcomeError(Exception):
    """No trustworthy answer arrived: the call may or may not have taken effect."""

    def __init__(
        self,
        operation: str,
        *,
        idempotency_key: str | None,
        http_status: int | None,
        request_id: str | None,
        cause: str,
    ) -> None:
        super().__init__(
            f"{operation}: the outcome is not known ({cause}; HTTP status {http_status}, request {request_id}, key "
            f"{idempotency_key}); repeat it with the same key or ask Stripe for the object"
        )
        self.operation = operation
        self.idempotency_key = idempotency_key
        self.http_status = http_status
        self.request_id = request_id


class RateLimitedError(Exception):
    """Stripe did nothing because of too many requests; repeat the call with the same key after `retry_after`."""

    def __init__(self, operation: str, *, retry_after: timedelta | None) -> None:
        super().__init__(f"{operation}: Stripe asks for fewer requests; retry after {retry_after or 'a while'}")
        self.operation = operation
        self.retry_after = retry_after


class StripeRefusedError(Exception):
    """Stripe refused the request as it stands; repeating it cannot help.

    `code` is Stripe's error code (`payment_intent_unexpected_state`: fetch the intent; `resource_missing`: the customer
    or card is gone) or, without one, the error's type (`idempotency_error`: the key was used for another request, so
    what the first one did must be fetched).
    """

    def __init__(
        self,
        operation: str,
        *,
        http_status: int | None,
        code: str | None,
        parameter: str | None,
        request_id: str | None,
        message: str,
    ) -> None:
        where = f" (parameter {parameter})" if parameter else ""
        super().__init__(f"{operation}: Stripe refused with {http_status} {code}{where}: {message} [{request_id}]")
        self.operation = operation
        self.http_status = http_status
        self.code = code
        self.parameter = parameter
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class StripeCash:
    """The money of one succeeded charge, from its balance transaction; net = amount - fee.

    `amount`, `fee` and `net` are in `currency`, that of the balance; `created` is when it was received (UTC).
    `payment_intent_id` is empty for a charge that was made without one.
    """

    charge_id: str
    payment_intent_id: str
    balance_transaction_id: str
    amount: Decimal
    fee: Decimal
    net: Decimal
    currency: str
    created: datetime


@dataclass(frozen=True, slots=True)
class IntentOutcome:
    """What is known of a PaymentIntent; `cash` is there exactly when it succeeded.

    `processing` includes a charge whose balance transaction Stripe has not written yet. The codes and the message are
    those of the last decline; a decline without a `decline_code` carries the error's code there.
    """

    intent_id: str
    state: Literal["succeeded", "declined", "needs_customer", "processing", "not_executed", "canceled"]
    decline_code: str | None = None
    advice_code: str | None = None
    message: str | None = None
    cash: StripeCash | None = None


@dataclass(frozen=True, slots=True)
class FoundIntent:
    """A PaymentIntent found in a list: its metadata tells which attempt made it."""

    metadata: Mapping[str, str]
    outcome: IntentOutcome


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """A webhook whose signature is right: a hint that `object_id` changed, not a state to take over."""

    event_id: str
    type: str
    object_id: str | None
    body: Mapping[str, Any]


def stripe_client(*, api_key: str, api_base: str | None) -> stripe.StripeClient:
    """Return a client that never retries by itself; raise `InvalidError` for another address with a live key."""
    if api_base is not None and api_key.startswith(LIVE_KEYS):
        raise InvalidError(f"stripe_api_base {api_base!r} must not be set with a live key; remove it or use a test key")
    stripe.enable_telemetry = False  # it would write an id of this machine into the home folder
    return stripe.StripeClient(
        api_key,
        base_addresses={"api": api_base} if api_base is not None else None,
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=HTTP_TIMEOUT_SECONDS),
    )


def ensure_customer(
    client: stripe.StripeClient, *, customer_id: str, name: str, email: str | None, idempotency_key: str
) -> str:
    """Create the Stripe customer of a customer and return its id; the same key returns the same one."""
    parameters: dict[str, Any] = {"name": name, "metadata": {"customer_id": customer_id}}
    if email is not None:
        parameters["email"] = email
    created = _ask(
        "create customer",
        lambda: client.v1.customers.create(cast("Any", parameters), {"idempotency_key": idempotency_key}),
        key=idempotency_key,
    )
    return _id_of(created, "create customer", idempotency_key)


def attach_payment_method(
    client: stripe.StripeClient, *, stripe_customer_id: str, payment_method: str, idempotency_key: str
) -> str:
    """Attach a card to a Stripe customer and return the id it has there; a refused card is `StripeRefusedError`."""
    attached = _ask(
        "attach payment method",
        lambda: client.v1.payment_methods.attach(
            payment_method, {"customer": stripe_customer_id}, {"idempotency_key": idempotency_key}
        ),
        key=idempotency_key,
    )
    return _id_of(attached, "attach payment method", idempotency_key)


def create_intent(client: stripe.StripeClient, *, parameters: Mapping[str, Any], idempotency_key: str) -> str:
    """Create an unconfirmed PaymentIntent with exactly these parameters (amount in minor units) and return its id."""
    created = _ask(
        "create intent",
        lambda: client.v1.payment_intents.create(
            cast("stripe.params.PaymentIntentCreateParams", dict(parameters)), {"idempotency_key": idempotency_key}
        ),
        key=idempotency_key,
    )
    return _id_of(created, "create intent", idempotency_key)


def confirm_intent(
    client: stripe.StripeClient, *, intent_id: str, payment_method: str, idempotency_key: str
) -> IntentOutcome:
    """Charge a card without its owner present and return the outcome, a decline included.

    A key whose first call was declined replays that decline: a new try needs a new key.
    """
    try:
        confirmed = _ask(
            "confirm intent",
            lambda: client.v1.payment_intents.confirm(
                intent_id,
                {"payment_method": payment_method, "off_session": True, "expand": CHARGE_EXPANDED},
                {"idempotency_key": idempotency_key},
            ),
            key=idempotency_key,
            let_through=stripe.CardError,
        )
    except stripe.CardError as declined:
        return _declined(intent_id, _error_of(declined))
    return _outcome(confirmed, "confirm intent", idempotency_key)


def fetch_intent(client: stripe.StripeClient, intent_id: str) -> IntentOutcome:
    """Return what became of a PaymentIntent; a decline told here is that of its last executed confirmation."""
    found = _ask("fetch intent", lambda: client.v1.payment_intents.retrieve(intent_id, {"expand": CHARGE_EXPANDED}))
    return _outcome(found, "fetch intent", None)


def cancel_intent(client: stripe.StripeClient, *, intent_id: str, idempotency_key: str) -> IntentOutcome:
    """End an unpaid PaymentIntent, so that no confirmation still under way can charge it.

    One that has succeeded is `StripeRefusedError` with the code `payment_intent_unexpected_state`: fetch it.
    """
    canceled = _ask(
        "cancel intent",
        lambda: client.v1.payment_intents.cancel(intent_id, {}, {"idempotency_key": idempotency_key}),
        key=idempotency_key,
    )
    return _outcome(canceled, "cancel intent", idempotency_key)


def find_intents(client: stripe.StripeClient, *, stripe_customer_id: str, since: datetime) -> tuple[FoundIntent, ...]:
    """Return the PaymentIntents that a customer got since a moment, the latest first (a call per page of 100)."""
    pages = _ask(
        "find intents",
        lambda: client.v1.payment_intents.list(
            {
                "customer": stripe_customer_id,
                "created": {"gte": int(since.timestamp())},
                "limit": PAGE_SIZE,
                "expand": ["data." + CHARGE_EXPANDED[0]],
            }
        ),
    )
    return tuple(
        FoundIntent(intent.metadata.to_dict(), _outcome(intent, "find intents", None))
        for intent in _walk("find intents", pages.auto_paging_iter())
    )


def list_succeeded_charges(client: stripe.StripeClient) -> Iterator[StripeCash]:
    """Yield the money of every succeeded charge, the latest first (a call per page of 100)."""
    operation = "list charges"
    pages = _ask(
        operation,
        lambda: client.v1.charges.list({"limit": PAGE_SIZE, "expand": ["data.balance_transaction"]}),
    )
    for charge in _walk(operation, pages.auto_paging_iter()):
        if charge.status == "succeeded":
            cash = _cash_of(charge)
            if cash is None:
                raise _unknown(operation, f"charge {charge.id} has no balance transaction yet")
            yield cash


def verify_webhook(payload: bytes, signature: str, secret: str) -> WebhookEvent:
    """Return the event of a webhook; raise `InvalidError` if it is not signed with the secret in the last 5 minutes."""
    try:
        stripe.WebhookSignature.verify_header(payload, signature, secret, stripe.Webhook.DEFAULT_TOLERANCE)
        body = json.loads(payload)
        thing = body["data"]["object"]
        return WebhookEvent(event_id=body["id"], type=body["type"], object_id=thing.get("id"), body=body)
    except stripe.SignatureVerificationError as error:
        raise InvalidError(f"Stripe-Signature {signature!r} does not fit the webhook; check the secret") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidError(f"the webhook's body is not an event of Stripe: {payload[:80]!r}") from error


def minor_units(amount: Decimal, currency: str) -> int:
    """Return an amount as the integer that Stripe counts in; raise `InvalidError` if it does not fit exactly."""
    exponent, step = _stripe_exponent(currency)
    scaled = amount.scaleb(exponent, context=EXACT) if amount.is_finite() else None
    if scaled is None or scaled != scaled.to_integral_value() or int(scaled) % step:
        raise InvalidError(f"amount {amount} {currency} has digits that Stripe cannot charge; round it to the currency")
    return int(scaled)


def from_minor_units(units: int, currency: str) -> Decimal:
    """Return the amount that an integer of Stripe's stands for."""
    exponent, _ = _stripe_exponent(currency)
    return Decimal(units).scaleb(-exponent, context=EXACT)


def _stripe_exponent(currency: str) -> tuple[int, int]:
    """Return the digits that Stripe counts in and the step that the integer must be a multiple of."""
    if currency in HUNDREDTHS:
        return 2, 1
    if currency in WHOLE_UNITS:
        return 0, 1
    if currency in HUNDREDTHS_OF_WHOLE_UNITS:
        return 2, 100
    if currency in THOUSANDTHS_IN_TENS:
        return 3, 10
    raise InvalidError(f"currency {currency!r} is not known; use an upper-case ISO 4217 code that Stripe charges")


def _outcome(intent: stripe.PaymentIntent, operation: str, key: str | None) -> IntentOutcome:
    intent_id = _id_of(intent, operation, key)
    error = getattr(intent, "last_payment_error", None)
    match getattr(intent, "status", None):
        case "succeeded":
            return _succeeded(intent)
        case "canceled":
            return IntentOutcome(intent_id, "canceled")
        case "processing" | "requires_capture":
            return IntentOutcome(intent_id, "processing")
        case "requires_action":
            return IntentOutcome(intent_id, "needs_customer", decline_code=AUTHENTICATION_REQUIRED)
        case "requires_payment_method" | "requires_confirmation":
            return IntentOutcome(intent_id, "not_executed") if error is None else _declined(intent_id, error.to_dict())
        case status:
            raise _unknown(operation, f"the answer has the status {status!r}", key=key)


def _succeeded(intent: stripe.PaymentIntent) -> IntentOutcome:
    charge = intent.latest_charge
    cash = _cash_of(charge) if isinstance(charge, stripe.Charge) else None
    if cash is None:
        return IntentOutcome(intent.id, "processing", message="Stripe has not written the balance transaction yet.")
    return IntentOutcome(intent.id, "succeeded", cash=cash)


def _declined(intent_id: str, error: Mapping[str, Any]) -> IntentOutcome:
    code = error.get("decline_code") or error.get("code")
    return IntentOutcome(
        intent_id,
        "needs_customer" if AUTHENTICATION_REQUIRED in (code, error.get("code")) else "declined",
        decline_code=code,
        advice_code=error.get("advice_code"),
        message=error.get("message"),
    )


def _cash_of(charge: stripe.Charge) -> StripeCash | None:
    movement = charge.balance_transaction
    if not isinstance(movement, stripe.BalanceTransaction):
        return None
    currency = movement.currency.upper()
    intent = charge.payment_intent
    return StripeCash(
        charge_id=charge.id,
        payment_intent_id=(intent if isinstance(intent, str) else intent.id) if intent is not None else "",
        balance_transaction_id=movement.id,
        amount=from_minor_units(movement.amount, currency),
        fee=from_minor_units(movement.fee, currency),
        net=from_minor_units(movement.net, currency),
        currency=currency,
        created=datetime.fromtimestamp(movement.created, UTC),
    )


def _id_of(answer: object, operation: str, key: str | None) -> str:
    found = getattr(answer, "id", None)
    if not isinstance(found, str):
        raise _unknown(operation, "the answer has no id", key=key)
    return found


def _walk(operation: str, answers: Iterator[Answer]) -> Iterator[Answer]:
    while True:
        answer = _ask(operation, lambda: next(answers, None))
        if answer is None:
            return
        yield answer


def _ask(
    operation: str,
    call: Callable[[], Answer],
    *,
    key: str | None = None,
    let_through: type[stripe.StripeError] | tuple[()] = (),
) -> Answer:
    """Make one call and turn the SDK's errors into the three that a caller can act on."""
    try:
        return call()
    except let_through:
        raise
    except stripe.RateLimitError as error:
        raise RateLimitedError(operation, retry_after=_retry_after(error)) from error
    except stripe.StripeError as error:
        if _is_refusal(error):
            details = _error_of(error)
            raise StripeRefusedError(
                operation,
                http_status=error.http_status,
                code=details.get("code") or details.get("type"),
                parameter=details.get("param"),
                request_id=error.request_id,
                message=details.get("message") or str(error),
            ) from error
        raise UnknownOutcomeError(
            operation,
            idempotency_key=key,
            http_status=error.http_status,
            request_id=error.request_id,
            cause=(error.user_message or type(error).__name__).splitlines()[0],
        ) from error


def _is_refusal(error: stripe.StripeError) -> bool:
    """Say whether Stripe itself answered that it did nothing and never will: 4xx, but no lock and no timeout."""
    status = error.http_status or HTTPStatus.INTERNAL_SERVER_ERROR
    return (
        HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        and status not in OUTCOME_OPEN
        and bool(_error_of(error))
    )


def _error_of(error: stripe.StripeError) -> Mapping[str, Any]:
    """Return the error object of the answer; the SDK's own attributes lack some of its codes."""
    body = error.json_body
    found = body.get("error") if isinstance(body, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _retry_after(error: stripe.StripeError) -> timedelta | None:
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    seconds = headers.get("retry-after", "")
    return timedelta(seconds=int(seconds)) if seconds.isdecimal() else None


def _unknown(operation: str, cause: str, *, key: str | None = None) -> UnknownOutcomeError:
    return UnknownOutcomeError(operation, idempotency_key=key, http_status=200, request_id=None, cause=cause)
