"""`python -m infra.stripesim --port P [--webhook-url URL --webhook-secret S] [--state FILE]`."""

import argparse
import logging
import socket
from pathlib import Path

import uvicorn

from infra.stripesim.app import Simulator, create_app
from infra.stripesim.connections import RememberedProtocol
from infra.stripesim.state import State
from infra.stripesim.webhooks import Webhooks

LOOPBACK = "127.0.0.1"


def main() -> None:
    """Serve on the loopback address until told to stop; one line on standard output says when it is ready."""
    parser = argparse.ArgumentParser(prog="python -m infra.stripesim", description="A stand-in for Stripe.")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--webhook-url", help="where events are sent")
    parser.add_argument("--webhook-secret", help="signs them; whsec_...")
    parser.add_argument("--state", type=Path, help="the file in which the state survives a restart")
    given = parser.parse_args()
    if (given.webhook_url is None) != (given.webhook_secret is None):
        parser.error("--webhook-url and --webhook-secret belong together; give both or neither")

    state = State(given.state)
    simulator = Simulator(state, Webhooks(state, given.webhook_url, given.webhook_secret or ""))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = uvicorn.Config(
        create_app(simulator),
        http=RememberedProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    # asyncio switches Nagle's delay off (40 ms a request) only on sockets that name their protocol.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((LOOPBACK, given.port))
        listening.listen(128)
        print(f"stripesim listens on http://{LOOPBACK}:{listening.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
