"""Stripe's webhooks as they came in: stored once each, and the invoice that one hints at."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema


def record_stripe_event(
    connection: sa.Connection, *, event_id: str, event_type: str, object_id: str, body: Mapping[str, Any]
) -> bool:
    """Store a webhook and return whether it is new; it is a hint, and its object is fetched before anything follows."""
    row = insert(schema.stripe_event).values(event_id=event_id, type=event_type, object_id=object_id, body=dict(body))
    stored = connection.execute(row.on_conflict_do_nothing().returning(schema.stripe_event.c.event_id)).first()
    return stored is not None


def invoice_of_intent(connection: sa.Connection, payment_intent_id: str) -> str | None:
    """Return the invoice that a PaymentIntent collects; None when it is not one of ours."""
    attempt = schema.payment_attempt
    found = sa.select(attempt.c.invoice_id).where(attempt.c.payment_intent_id == payment_intent_id).limit(1)
    return connection.execute(found).scalar_one_or_none()
