"""The open connections, and the answers that break them."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

TRANSPORTS: MutableMapping[tuple[str, int], asyncio.Transport] = {}
"""By the client's address; uvicorn gives an application no other way to its connection."""


class RememberedProtocol(H11Protocol):
    """HTTP/1.1 that can be found by the client's address."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the connection."""
        super().connection_made(transport)
        if self.client is not None:
            TRANSPORTS[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        if self.client is not None:
            TRANSPORTS.pop(self.client, None)


class BrokenAnswer(Response):
    """Half of an answer, or none of it, after a wait; then the connection is gone."""

    def __init__(self, whole: Response, *, sent: int, after_seconds: float = 0.0) -> None:
        super().__init__()
        self._whole = whole
        self._sent = sent
        self._after_seconds = after_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what is to arrive, then break the connection."""
        if self._after_seconds:
            await _wait_for_disconnect(receive, self._after_seconds)
        transport = TRANSPORTS.get(tuple(scope["client"]))
        if transport is None:
            return
        if self._sent:
            await send({"type": "http.response.start", "status": 200, "headers": self._whole.raw_headers})
            part = bytes(self._whole.body)[: self._sent]
            await send({"type": "http.response.body", "body": part, "more_body": True})
            transport.close()
        else:
            transport.abort()
        await _wait_for_disconnect(receive, 5.0)


async def _wait_for_disconnect(receive: Receive, seconds: float) -> None:
    async def disconnected() -> None:
        message: MutableMapping[str, Any] = {}
        while message.get("type") != "http.disconnect":
            message = await receive()

    try:
        await asyncio.wait_for(disconnected(), seconds)
    except TimeoutError:
        return
