"""Encoded bodies: gzip and zstd are read within the bounds of plain ones, everything else is refused by its name."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import httpx
import pytest
import sqlalchemy as sa
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from admin.http.answers import TooLargeError
from admin.http.encodings import decode
from ledger.api_keys import create_api_key
from ledger.errors import InvalidError
from ledger.intake.events import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from tests.admin.sending import counts, lines, post

ENCODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstandard.compress}


@pytest.fixture
def key(engine: sa.Engine) -> str:
    with engine.begin() as connection:
        return create_api_key(connection, "test")[1]


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "zstd", "identity"])
def test_encoded_events_are_counted_like_plain_ones(http: httpx.Client, key: str, encoding: str) -> None:
    plain = lines("1", "2")
    encoder = ENCODERS.get(encoding.lower().removeprefix("x-"), bytes)
    assert counts(post(http, key, encoder(plain), encoding=encoding).json()) == (2, 0, 0, 0)
    assert counts(post(http, key, plain).json()) == (0, 2, 0, 0)


BROKEN = [
    ("gzip", b"no gzip at all", 400),
    ("gzip", gzip.compress(lines("1"))[:-9], 400),
    ("gzip", gzip.compress(lines("1"))[:12], 400),
    ("gzip", gzip.compress(lines("1"))[:-8] + bytes(8), 400),  # another checksum and length
    ("gzip", gzip.compress(lines("1")) + b"more", 400),
    ("gzip", zlib.compress(lines("1")), 400),
    ("zstd", b"no zstd at all", 400),
    ("zstd", zstandard.compress(lines("1"))[:-3], 400),
    ("zstd", zstandard.compress(lines("1")) + b"more", 400),
    ("zstd", zstandard.compress(lines("1"))[:2], 400),
    ("br", lines("1"), 415),
    ("deflate", zlib.compress(lines("1")), 415),
    ("gzip, gzip", gzip.compress(gzip.compress(lines("1"))), 415),
    ("gzip", gzip.compress(bytes(MAX_BATCH_BYTES + 1)), 413),
    ("zstd", zstandard.compress(bytes(MAX_BATCH_BYTES + 1)), 413),
]


@pytest.mark.parametrize(("encoding", "body", "status"), BROKEN)
def test_what_cannot_be_decoded_is_refused_with_the_name_of_the_header(
    http: httpx.Client, key: str, encoding: str, body: bytes, status: int
) -> None:
    answer = post(http, key, body, encoding=encoding)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert ("Content-Encoding" if status != 413 else str(MAX_BATCH_BYTES)) in answer.json()["detail"]


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_is_refused_before_it_takes_memory(encoding: str) -> None:
    bomb = ENCODERS[encoding](bytes(512 * 1024 * 1024))
    tracemalloc.start()
    with pytest.raises(TooLargeError):
        decode(bomb, encoding, largest=MAX_BATCH_BYTES)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # twice while it grows, and what 512 bytes of zstd can mean at most: 128 blocks of 128 KB
    assert most < 2 * MAX_BATCH_BYTES + 128 * 128 * 1024


def test_a_zstd_frame_that_asks_for_a_window_over_8_mb_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    streamed = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = streamed.compress(bytes(20 * 1024 * 1024)) + streamed.flush()
    with pytest.raises(InvalidError, match="Content-Encoding"):
        decode(body, "zstd", largest=MAX_BATCH_BYTES)


@given(parts=st.lists(st.binary(max_size=3000), max_size=4), encoding=st.sampled_from(["gzip", "zstd"]))
@settings(max_examples=50, deadline=None)
def test_several_members_one_after_the_other_say_what_they_say_together(parts: list[bytes], encoding: str) -> None:
    body = b"".join(ENCODERS[encoding](part) for part in parts)
    assert decode(body, encoding, largest=100_000) == b"".join(parts)


@given(content=st.binary(min_size=1, max_size=5000), encoding=st.sampled_from(["gzip", "zstd"]), cut=st.integers(1, 60))
@settings(max_examples=80, deadline=None)
def test_a_stream_that_ends_too_early_is_never_taken_for_a_whole_one(content: bytes, encoding: str, cut: int) -> None:
    body = ENCODERS[encoding](content)
    left = body[: max(1, len(body) - cut)]
    with pytest.raises(InvalidError):
        decode(left, encoding, largest=100_000)


def test_more_events_than_one_request_may_hold_are_too_many(http: httpx.Client, key: str) -> None:
    many = b"\n".join([b"{}"] * (MAX_BATCH_EVENTS + 1))
    as_array = b"[" + b",".join([b"{}"] * (MAX_BATCH_EVENTS + 1)) + b"]"
    assert post(http, key, many).status_code == 413
    assert post(http, key, as_array, kind="application/json").status_code == 413
    assert post(http, key, gzip.compress(many), encoding="gzip").status_code == 413
