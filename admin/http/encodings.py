"""Bodies of requests as they were meant: read within bounds, and decoded from gzip and zstd within the same bounds."""

import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import zstandard
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from admin.http.answers import TooLargeError, UnsupportedError
from admin.http.backpressure import Held
from admin.http.parts import PartsOf
from ledger.errors import InvalidError
from ledger.intake.events import MAX_BATCH_BYTES, MAX_BATCH_EVENTS

HEADER = "Content-Encoding"
PLAIN = ("", "identity")
GZIP = ("gzip", "x-gzip")
ZSTD = ("zstd",)
GZIP_FORMAT = 31
"""The largest window, with the header and trailer of gzip."""
PIECE = 64 * 1024
ZSTD_PIECE = 512
"""A few bytes of zstd can mean 128 KB, so that only small pieces keep what one step makes of them small."""
ZSTD_WINDOW = 8 * 1024 * 1024
"""What a sender may ask a receiver to hold (RFC 9659)."""


async def usage_body(request: Request, parts: PartsOf) -> AsyncIterator[bytes]:
    """Give the decoded body of a request for usage, and its memory back once it is answered.

    Raises `TooLargeError` (16 MB, encoded or decoded), `UnsupportedError` (another encoding than gzip and zstd),
    `InvalidError` (a broken stream) and `BusyError` (no memory for it now).
    """
    with parts.room.held() as held:
        body = await read_body(request, MAX_BATCH_BYTES, held=held)
        encoding = request.headers.get(HEADER, "").strip().lower()
        if encoding in PLAIN:
            yield body
        else:
            decoded = await run_in_threadpool(decode, body, encoding, largest=MAX_BATCH_BYTES)
            held.add(len(decoded))
            yield decoded


UsageBody = Annotated[bytes, Depends(usage_body)]
"""The parameter of every door that takes usage."""


async def read_body(request: Request, largest: int, *, held: Held | None = None) -> bytes:
    """Read a body as it was sent, and stop with `TooLargeError` as soon as it is too large."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > largest:
        raise _too_large(largest)
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > largest:
            raise _too_large(largest)
        if held is not None:
            held.add(len(chunk))
        body += chunk
    return bytes(body)


def decode(body: bytes, encoding: str, *, largest: int) -> bytes:
    """Return what an encoded body says; never hold much more than `largest` bytes of it.

    Raises `UnsupportedError`, `TooLargeError` and `InvalidError`, as `usage_body` does.
    """
    if encoding not in GZIP + ZSTD:
        raise UnsupportedError(f"{HEADER} {encoding!r} is not read here; send gzip, zstd or none")
    pieces = _gunzipped(body) if encoding in GZIP else _unzstandard(body)
    decoded = bytearray()
    try:
        for piece in pieces:
            decoded += piece
            if len(decoded) > largest:
                raise _too_large(largest)
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise InvalidError(
            f"the body is no whole {encoding} stream, as {HEADER} says it is ({error}); "
            "encode it again, or leave the header out"
        ) from error
    return bytes(decoded)


def _gunzipped(body: bytes) -> Iterator[bytes]:
    """Decode one gzip member after the other, as the format allows."""
    rest = body
    while rest:
        member = zlib.decompressobj(GZIP_FORMAT)
        while rest and not member.eof:
            yield member.decompress(rest, PIECE)
            rest = member.unconsumed_tail or member.unused_data
        if not member.eof:
            yield member.flush()
        if not member.eof:
            raise EOFError("it ends in the middle")


def _unzstandard(body: bytes) -> Iterator[bytes]:
    """Decode one zstd frame after the other, as the format allows."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    frame = None
    for begin in range(0, len(body), ZSTD_PIECE):
        rest = body[begin : begin + ZSTD_PIECE]
        while rest:
            frame = decompressor.decompressobj() if frame is None or frame.eof else frame
            yield frame.decompress(rest)
            rest = frame.unused_data if frame.eof else b""
    if frame is not None and not frame.eof:
        raise EOFError("it ends in the middle")


def _too_large(largest: int) -> TooLargeError:
    return TooLargeError(
        f"the body is over {largest} bytes; send at most {MAX_BATCH_EVENTS} events and {largest} bytes in one request"
    )
