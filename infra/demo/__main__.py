"""`python -m infra.demo [--usage FILE ...]`: the main job from events to closed books, on real servers.

Exit code 0 only if every check held. Everything that was started is stopped at the end, also after Ctrl-C.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from infra.demo import story
from infra.demo.commands import DemoError, Product
from infra.demo.months import Months
from infra.demo.screen import Screen
from infra.demo.traffic import Request, Traffic, deliver, events_of, generated, read_requests
from infra.stack import RunningStack, StackError, running_stack
from infra.stack.stack import InterruptedBySignal, default_home

EVENTS = 28_000
SEED = 2026
LOG_LINES = 20


def main() -> int:
    """Run the demo and return the process's exit code."""
    arguments = _arguments()
    screen = Screen()
    months = Months(datetime.now(UTC))
    try:
        requests = _requests(arguments.usage, arguments.events, months)
        return _run(screen, months, requests)
    except (DemoError, StackError, ValueError, OSError, httpx.HTTPError) as error:
        screen.console.print("\n[bold red]The demo stopped:[/]")
        screen.show(str(error))
        return 1
    except InterruptedBySignal as interruption:
        screen.console.print("\ninterrupted; everything that was started is stopped")
        return 128 + interruption.number


def _run(screen: Screen, months: Months, requests: Sequence[Request]) -> int:
    events = events_of(requests, ["acme", "bluebird", "cobalt", "dune"], seed=SEED)
    traffic = deliver(events, story.FIRST_CONTRACTS, seed=SEED, now=months.now)
    home = default_home(os.environ).parent / f".meterbook/demo-{os.getpid()}"
    screen.step("Real servers: PostgreSQL, Temporal, the Stripe simulator, a worker, the HTTP API")
    with running_stack(home, report=screen.say, remove_home=True) as stack:
        screen.say(f"Temporal's own UI: {stack.environment.get('TEMPORAL_UI', 'yours')}")
        with httpx.Client(base_url=stack.environment["METERBOOK_HTTP"], timeout=30) as client:
            try:
                _tell(Product({**stack.environment, **screen.columns()}, client), stack, screen, months, traffic)
            except DemoError:
                screen.step("The end of the worker's log")
                screen.show("\n".join((stack.home / "logs" / "worker.log").read_text().splitlines()[-LOG_LINES:]))
                raise
    return screen.finish()


def _tell(product: Product, stack: RunningStack, screen: Screen, months: Months, traffic: Traffic) -> None:
    story.set_up(product, screen, months)
    story.send_usage(product, stack, screen, traffic, months)
    story.close_month(product, screen, months.before_last)
    story.send_late(product, screen, months)
    story.close_month(product, screen, months.last, lose_answer_of=story.lost_answer_of(months))
    story.prove(product, screen, traffic, months)


def _requests(usage: Sequence[Path], events: int, months: Months) -> list[Request]:
    end = months.now - timedelta(minutes=5)
    if usage:
        return read_requests(usage, start=months.first_usage, end=end)
    return generated(events, start=months.first_usage, end=end, seed=SEED)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.demo", description=__doc__)
    parser.add_argument(
        "--usage",
        type=Path,
        nargs="+",
        default=[],
        help="CSV files (TIMESTAMP, ContextTokens, GeneratedTokens) instead of the built-in generator",
    )
    parser.add_argument("--events", type=int, default=EVENTS, help="how many events to generate")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
