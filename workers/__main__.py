"""`python -m workers [--queues ledger,delivery]`: work on all task queues, or on these, until SIGTERM or SIGINT."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from activities.settings import load_settings
from workers.logs import configure_logs
from workers.worker import QUEUES, run_workers


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the queues and the settings, and work."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("--queues", default=",".join(QUEUES), help="task queues, separated by commas")
    queues = tuple(parser.parse_args(arguments).queues.split(","))
    unknown = [queue for queue in queues if queue not in QUEUES]
    if unknown:
        parser.error(f"--queues {unknown[0]!r} is none of {', '.join(QUEUES)}")
    configure_logs(pretty=sys.stderr.isatty())
    asyncio.run(_run(queues))


async def _run(queues: Sequence[str]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run_workers(load_settings(), queues=queues, stop=stop)


if __name__ == "__main__":
    main()
