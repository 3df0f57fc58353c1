"""The HTTP API: usage in, live spend out, Stripe's webhooks, health. `create_app(settings)` is its only entrance."""

from admin.http.application import create_app

__all__ = ["create_app"]
