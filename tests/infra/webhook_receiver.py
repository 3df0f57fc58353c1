"""A receiver of webhooks that can refuse them first."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    """What came in: payload and Stripe-Signature; the first `refuse` deliveries are answered with 500."""

    url: str = ""
    refuse: int = 0
    refused: list[tuple[bytes, str]] = field(default_factory=list)
    taken: list[tuple[bytes, str]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int, *, seconds: float = 10.0) -> list[tuple[bytes, str]]:
        """Return what was taken once it is at least `count`; fail after `seconds`."""
        deadline = time.monotonic() + seconds
        with self.changed:
            enough = self.changed.wait_for(lambda: len(self.taken) >= count, deadline - time.monotonic())
            assert enough, f"{len(self.taken)} webhooks arrived, expected {count}"
            return list(self.taken)


@contextmanager
def receiving(*, refuse: int = 0) -> Iterator[Receiver]:
    """Run a receiver on a free port of the loopback address."""
    receiver = Receiver(refuse=refuse)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            payload = self.rfile.read(int(self.headers["Content-Length"]))
            delivery = (payload, self.headers["Stripe-Signature"])
            with receiver.changed:
                refused = len(receiver.refused) < receiver.refuse
                (receiver.refused if refused else receiver.taken).append(delivery)
                receiver.changed.notify_all()
            self.send_response(500 if refused else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/webhook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
