"""A poster in a process of its own that posts one fact and waits, so that a test can kill it at that moment."""

import sys
from datetime import date
from decimal import Decimal

from ledger.database import create_engine
from ledger.transfers import Account, Transfer, post

BANK = Account("bank", "northwind", "EUR")
STRIPE = Account("stripe_balance", "northwind", "EUR")
FACT = [
    Transfer(f"payout/{n:02}", BANK, STRIPE, Decimal(n + 1), date(2026, 1, 20), "payout") for n in range(50)
]  # 1 + 2 + ... + 50 = 1275


def main(database_url: str, stop: str) -> None:
    """Post the fact and wait for the end, with or without having committed."""
    engine = create_engine(database_url)
    with engine.connect() as connection:
        post(connection, FACT, source="poster")
        if stop == "after":
            connection.commit()
        sys.stdout.write("posted\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
