"""The form of what waits on disk: records framed so that a torn or a damaged one is known from a whole one.

    frame = mark (4 bytes), length of the payload (4), crc32 of length and payload (4), payload
    payload = one line of JSON about the request, then its readable events, one canonical line each

The mark holds a byte that no UTF-8 text has, so that nothing a sender writes can look like the begin of a frame.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ledger.intake.events import ParsedBatch, Rejection, event_json, parse_lines

MARK = b"\xffMBS"
NUMBER_BYTES = 4
HEAD_BYTES = len(MARK) + 2 * NUMBER_BYTES


class RecordError(Exception):
    """A frame is whole, but what it holds cannot be read."""


@dataclass(frozen=True, slots=True)
class Record:
    """A request that waits: when it came (UTC), by which door, and its batch exactly as it was read then."""

    receipt_id: str
    received_at: datetime
    door: str
    batch: ParsedBatch


@dataclass(frozen=True, slots=True)
class Stretch:
    """The bytes [begin, end) of a segment: one whole frame, or what is none."""

    begin: int
    end: int
    is_whole: bool


class _Header(msgspec.Struct):
    receipt: str
    received_at: datetime
    door: str
    rejections: list[Rejection]
    positions: list[int] | None
    """Where the events stand in the request; None: one after the other from 0 on."""


def frame_of(record: Record) -> bytes:
    """Return a record as it is written."""
    positions = [index for index, _ in record.batch.events]
    header = _Header(
        record.receipt_id,
        record.received_at,
        record.door,
        list(record.batch.rejections),
        None if positions == [*range(len(positions))] else positions,
    )
    lines = [msgspec.json.encode(header), *(event_json(event).encode() for _, event in record.batch.events)]
    payload = b"\n".join(lines)
    length = len(payload).to_bytes(NUMBER_BYTES, "big")
    return MARK + length + _checksum(length, payload) + payload


def record_of(frame: bytes) -> Record:
    """Read a whole frame; raise `RecordError` when its payload is not one that `frame_of` wrote."""
    head, *lines = frame[HEAD_BYTES:].split(b"\n")
    try:
        header = _HEADER.decode(head)
    except msgspec.MsgspecError as error:
        raise RecordError(f"its first line cannot be read ({error})") from error
    read = parse_lines(lines, received_at=header.received_at)
    positions: Sequence[int] = range(len(lines)) if header.positions is None else header.positions
    if read.rejections or len(read.events) != len(positions):
        raise RecordError(f"{len(read.events)} of its {len(positions)} events can be read")
    events = tuple((position, event) for position, (_, event) in zip(positions, read.events, strict=True))
    return Record(header.receipt, header.received_at, header.door, ParsedBatch(events, tuple(header.rejections)))


def receipt_of(frame: bytes) -> str:
    """Return the receipt of a whole frame; raise `RecordError` when it has none."""
    try:
        return _HEADER.decode(frame[HEAD_BYTES:].partition(b"\n")[0]).receipt
    except msgspec.MsgspecError as error:
        raise RecordError(f"its first line cannot be read ({error})") from error


def stretches(content: bytes, *, begin: int = 0) -> Iterator[Stretch]:
    """Walk through a segment from `begin` on: each whole frame, and between them whatever is none."""
    while begin < len(content):
        end = _end_of_frame(content, begin)
        if end is not None:
            yield Stretch(begin, end, is_whole=True)
        else:
            end = _next_frame(content, begin + 1)
            yield Stretch(begin, end, is_whole=False)
        begin = end


def is_torn(content: bytes, stretch: Stretch) -> bool:
    """Tell whether a broken stretch is the begin of a frame within which the segment ends."""
    if stretch.is_whole or stretch.end != len(content):
        return False
    head = content[stretch.begin : stretch.begin + HEAD_BYTES]
    if not MARK.startswith(head[: len(MARK)]):
        return False
    return len(head) < HEAD_BYTES or stretch.begin + HEAD_BYTES + _length(head) > len(content)


def _next_frame(content: bytes, begin: int) -> int:
    """Return where the next whole frame begins, or the end of the content."""
    while (begin := content.find(MARK, begin)) >= 0:
        if _end_of_frame(content, begin) is not None:
            return begin
        begin += 1
    return len(content)


def _end_of_frame(content: bytes, begin: int) -> int | None:
    payload = begin + HEAD_BYTES
    head = content[begin:payload]
    if len(head) < HEAD_BYTES or not head.startswith(MARK):
        return None
    end = payload + _length(head)
    length = head[len(MARK) : len(MARK) + NUMBER_BYTES]
    if end > len(content) or head[-NUMBER_BYTES:] != _checksum(length, memoryview(content)[payload:end]):
        return None
    return end


def _length(head: bytes) -> int:
    return int.from_bytes(head[len(MARK) : len(MARK) + NUMBER_BYTES], "big")


def _checksum(length: bytes, payload: bytes | memoryview) -> bytes:
    return zlib.crc32(payload, zlib.crc32(length)).to_bytes(NUMBER_BYTES, "big")


_HEADER = msgspec.json.Decoder(_Header)
