"""One side effect each, safe to run twice: load, call pricing, save in one transaction; or one call to Stripe.

May import `ledger` and `pricing`. Every activity takes one request and returns one result dataclass.
"""
