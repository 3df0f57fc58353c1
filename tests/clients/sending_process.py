"""A process that sends events with a journal until it is killed: `python sending_process.py URL KEY JOURNAL COUNT`.

It prints the key of each event once `add` has returned.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from meterbook_client import Client, Event, Sender


def main(url: str, api_key: str, journal: str, count: str) -> None:
    with (
        Client(url, api_key=api_key) as client,
        Sender(client, journal=Path(journal), request_events=7, wait_seconds=0.01) as sender,
    ):
        for number in range(int(count)):
            at = datetime(2026, 10, 5, 12, tzinfo=UTC)
            event = Event("gate", "acme", "llm.request", at, {"tokens": number}, key=f"{number:05}")
            sender.add(event)
            sys.stdout.write(f"{event.key}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
