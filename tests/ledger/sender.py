"""A sender in a process of its own that stops before or after the commit of a batch, so that a test can kill it."""

import sys

from ledger.database import create_engine
from tests.ledger.usage import send, tokens

BATCHES = [[tokens(f"{batch}-{n}", n) for n in range(100)] for batch in range(5)]
STOPS_AT = 2


def main(database_url: str, stop: str) -> None:
    """Send the batches before the one to stop at, take that one in, and wait for the end in the given state."""
    engine = create_engine(database_url)
    for batch in BATCHES[:STOPS_AT]:
        with engine.begin() as connection:
            send(connection, *batch)
    with engine.connect() as connection:
        send(connection, *BATCHES[STOPS_AT])
        if stop == "after":
            connection.commit()
        sys.stdout.write("taken\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
