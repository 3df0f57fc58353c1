"""A local receiver of webhooks, for those who build one: checks each signature and hands over what came."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

from admin.errors import DoorError
from ledger.errors import InvalidError
from ledger.webhook_signatures import ID_HEADER, verify

LOCALHOST = "127.0.0.1"
MAX_BODY_BYTES = 1024 * 1024
PATIENCE_SECONDS = 10
"""How long a sender may take for a message."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A message as it came; `problem` says why it was refused with 400."""

    message_id: str
    received_at: datetime
    body: str
    problem: str | None


@contextmanager
def listening(port: int, secret: str, hear: Callable[[Heard], None]) -> Iterator[HTTPServer]:
    """Listen on the loopback address; port 0 takes a free one. Raises `DoorError` when the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_SECONDS

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY_BYTES:
                self._answer(413)
                return
            heard = _heard(dict(self.headers.items()), self.rfile.read(int(length)), secret)
            self._answer(204 if heard.problem is None else 400)
            hear(heard)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the signature is the library's
            """Say nothing: what is heard is shown by whoever listens."""

    try:
        server = HTTPServer((LOCALHOST, port), Handler)
    except OSError as error:
        raise DoorError(f"port {port} cannot be listened on ({error}); choose another with --port") from error
    with server:
        yield server


def _heard(headers: Mapping[str, str], body: bytes, secret: str) -> Heard:
    now = datetime.now(UTC)
    names = {name.lower(): value for name, value in headers.items()}
    problem: str | None = None
    try:
        verify(names, body, secret, at=now)
    except InvalidError as error:
        problem = str(error)
    return Heard(names.get(ID_HEADER, ""), now, body.decode("utf-8", errors="replace"), problem)
