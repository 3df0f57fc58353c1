"""`POST /v1/stripe/webhook`: hints from Stripe, checked by their signature and stored once."""

from http import HTTPStatus
from typing import Annotated

import structlog
from fastapi import APIRouter, BackgroundTasks, Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from activities.stripe_api import WebhookEvent, verify_webhook
from admin.errors import AwayError
from admin.http.answers import Problem, json_answer, problem_answer
from admin.http.encodings import read_body
from admin.http.parts import Parts, PartsOf
from ledger.errors import InvalidError
from ledger.stripe_events import invoice_of_intent, record_stripe_event

LARGEST = 1024 * 1024
INTENT_PREFIX = "pi_"

log = structlog.get_logger(__name__)
router = APIRouter(tags=["stripe"])

Signature = Annotated[str | None, Header(alias="stripe-signature")]


@router.post(
    "/v1/stripe/webhook",
    summary="Take a webhook of Stripe",
    responses={400: {"model": Problem, "description": "Not signed with our secret, or no event at all."}},
)
async def take_webhook(
    request: Request, parts: PartsOf, background: BackgroundTasks, stripe_signature: Signature = None
) -> Response:
    """Store the event once and hint its invoice's collection to ask Stripe; nothing in the event itself is believed."""
    secret = parts.settings.stripe_webhook_secret
    if secret is None:
        return problem_answer(HTTPStatus.SERVICE_UNAVAILABLE, "STRIPE_WEBHOOK_SECRET is not set; set it and restart")
    if stripe_signature is None:
        raise InvalidError("the header Stripe-Signature is missing; only Stripe sends here")
    body = await read_body(request, LARGEST)
    event = verify_webhook(body, stripe_signature, secret.get_secret_value())
    is_new, invoice_id = await run_in_threadpool(_store, parts, event)
    if invoice_id is not None:
        background.add_task(_hint, parts, invoice_id)
    answer = json_answer({"event": event.event_id, "new": is_new, "invoice": invoice_id})
    answer.background = background
    return answer


def _store(parts: Parts, event: WebhookEvent) -> tuple[bool, str | None]:
    with parts.engine.begin() as connection:
        is_new = record_stripe_event(
            connection,
            event_id=event.event_id,
            event_type=event.type,
            object_id=event.object_id or "",
            body=event.body,
        )
        intent_id = _intent_of(event)
        return is_new, None if intent_id is None else invoice_of_intent(connection, intent_id)


def _intent_of(event: WebhookEvent) -> str | None:
    """Return the PaymentIntent that an event is about: its object, or the one its object belongs to."""
    if event.object_id is not None and event.object_id.startswith(INTENT_PREFIX):
        return event.object_id
    found = event.body["data"]["object"].get("payment_intent")
    return found if isinstance(found, str) else None


async def _hint(parts: Parts, invoice_id: str) -> None:
    """Tell the collection; when Temporal is away, its own timer asks Stripe later."""
    try:
        await parts.durable.stripe_event(invoice_id)
    except AwayError as error:
        log.warning(
            "a hint was not delivered; the collection asks Stripe by itself", invoice=invoice_id, why=error.what
        )
