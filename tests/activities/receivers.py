"""Receivers on the loopback address: HTTP servers that answer, hang, close, or send elsewhere, and an SMTP server."""

import asyncio
import base64
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Message:
    """What came in; names of headers are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float


@dataclass
class Receiver:
    """What a receiver took; `answer` is asked at each message, and may be changed."""

    answer: Callable[[BaseHTTPRequestHandler], None]
    port: int = 0
    scheme: str = "http"
    taken: list[Message] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        return [message.headers["webhook-id"] for message in self.taken]

    def wait_for(self, count: int, *, seconds: float = 20.0) -> list[Message]:
        """Return what was taken once it is at least `count`."""
        with self.changed:
            enough = self.changed.wait_for(lambda: len(self.taken) >= count, seconds)
            assert enough, f"{len(self.taken)} messages arrived, expected {count}"
            return list(self.taken)


def status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer with a status."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def hang(seconds: float) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer only after a while."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return answer


def slowly(seconds: float) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer with success, after a while."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        status(200)(handler)

    return answer


def close(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


@contextmanager
def receiving(
    answer: Callable[[BaseHTTPRequestHandler], None], *, certificate: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """Run a receiver on a free port, with TLS where it has a certificate."""
    receiver = Receiver(answer, scheme="http" if certificate is None else "https")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with receiver.changed:
                receiver.taken.append(Message(self.path, headers, body, time.monotonic()))
                receiver.changed.notify_all()
            receiver.answer(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say nothing of clients that went away, or did not like the certificate."""

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        server.socket = certificate.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Mailbox:
    """A mail server for one test: what it took, and what it answers to the end of a message."""

    port: int = 0
    answer: str = "250 queued"
    taken: list[EmailMessage] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)


@asynccontextmanager
async def mailbox(*, certificate: ssl.SSLContext | None = None, from_the_start: bool = False) -> AsyncIterator[Mailbox]:
    """Run an SMTP server (RFC 5321) on a free port; with a certificate it offers STARTTLS, or is TLS from the start."""
    box = Mailbox()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _converse(box, reader, writer, None if from_the_start else certificate, is_tls=from_the_start)
        finally:
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=certificate if from_the_start else None)
    box.port = server.sockets[0].getsockname()[1]
    async with server:
        yield box


async def _converse(
    box: Mailbox,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    certificate: ssl.SSLContext | None,
    *,
    is_tls: bool,
) -> None:
    def say(line: str) -> None:
        writer.write(f"{line}\r\n".encode())

    say("220 mail.test ESMTP")
    while line := (await reader.readline()).decode().strip():
        match line.split()[0].upper():
            case "EHLO":
                offers = ["AUTH PLAIN"] if certificate is None else ["STARTTLS"]
                for text in ("mail.test", *offers[:-1]):
                    say(f"250-{text}")
                say(f"250 {offers[-1]}")
            case "STARTTLS" if certificate is not None:
                say("220 go on")
                await writer.start_tls(certificate)
                certificate, is_tls = None, True
            case "AUTH":
                box.logins.append(base64.b64decode(line.split()[2]).decode())
                say("235 welcome")
            case "RCPT" if "nobody@" in line:
                say("550 no such mailbox")
            case "DATA":
                say("354 go on")
                raw = await reader.readuntil(b"\r\n.\r\n")
                box.taken.append(message_from_bytes(raw.removesuffix(b".\r\n"), policy=policy.default))
                box.encrypted.append(is_tls)
                say(box.answer)
            case _:
                say("250 good")
