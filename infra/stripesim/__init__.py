"""A stand-in for Stripe on this machine: a process of its own that the real SDK talks to.

It keeps Stripe's promises that collection relies on (idempotency keys, the states of a PaymentIntent, fees in balance
transactions, signed webhooks at least once), checks every request against the SDK's own parameter types and breaks on
demand. It refuses live keys and listens on the loopback address only. Nobody imports it.

Where it is kinder than Stripe: a card that will decline can be attached; Stripe refuses some of them at that point.
What it does not know it refuses (404, or 400 `simulator_unsupported`); it never ignores a parameter.
"""
