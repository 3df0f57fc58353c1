"""The spool: what was kept is read back whole and in order, whatever became of the end or the middle of a file."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.intake.events import ParsedBatch, parse_lines, payload_hash
from ledger.intake.spool import Spool, SpoolError, SpoolFullError, SpoolTakenError, abandoned, claim, where
from ledger.intake.spool_records import Record, frame_of, record_of

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
ROOM = 1024 * 1024


def batch(*keys: str, text: str = "text") -> ParsedBatch:
    lines = [
        f'{{"source": "s", "key": "{key}", "customer": "acme", "type": "call", '
        f'"timestamp": "2026-10-05T12:30:00+02:00", '
        f'"properties": {{"note": "{text}", "tokens": 12.50, "large": 1e20, "first": true}}}}'.encode()
        for key in keys
    ]
    return parse_lines(lines, received_at=NOON)


def kept(spool: Spool, *keys: str, at: datetime = NOON) -> Record:
    return spool.append([(batch(*keys), at)], door="http")[0]


def everything(spool: Spool) -> list[Record]:
    """Read all that waits, run after run, and forget it."""
    found: list[Record] = []
    while run := spool.next_run():
        found += run.records
        spool.advance(run)
    return found


def segment(folder: Path) -> Path:
    return next(iter(sorted(folder.glob("*.seg"))))


def test_records_are_read_back_as_they_were_kept_and_in_their_order(tmp_path: Path) -> None:
    with Spool(tmp_path / "0", most_bytes=ROOM) as spool:
        written = [kept(spool, "1", "2"), kept(spool, "3")]
        assert spool.waiting == 2
    with Spool(tmp_path / "0", most_bytes=ROOM) as again:
        assert (again.waiting, again.damages) == (2, [])
        assert everything(again) == written
        assert (again.waiting, again.is_empty, again.size_bytes) == (0, True, 0)


def test_a_record_keeps_the_content_the_positions_and_the_refusals_of_its_request() -> None:
    lines = [b"not json", *(b'{"source": "s", "key": "%d"}' % n for n in range(2))]
    refused = parse_lines(lines, received_at=NOON)
    good = batch("a", text="€ and \\u0001 and \\n")
    mixed = ParsedBatch(((3, good.events[0][1]),), refused.rejections)
    record = Record("rcp_1", NOON, "http", mixed)
    read = record_of(frame_of(record))
    assert read == record
    assert payload_hash(read.batch.events[0][1]) == payload_hash(good.events[0][1])


@given(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4), cut=st.integers(1, 4000))
@settings(max_examples=60, deadline=None)
def test_any_cut_of_the_tail_leaves_the_whole_records_before_it(sizes: list[int], cut: int) -> None:
    with TemporaryDirectory() as folder:
        slot = Path(folder) / "0"
        with Spool(slot, most_bytes=ROOM) as spool:
            written = [kept(spool, *(f"{n}-{i}" for i in range(size))) for n, size in enumerate(sizes)]
        path = segment(slot)
        left = path.read_bytes()[:-cut]
        path.write_bytes(left)
        ends = [len(b"".join(frame_of(record) for record in written[: n + 1])) for n in range(len(written))]
        whole = [record for record, end in zip(written, ends, strict=True) if end <= len(left)]
        with Spool(slot, most_bytes=ROOM) as again:
            assert sum(damage.size_bytes for damage in again.damages) == len(left) - max([0, *ends[: len(whole)]])
            assert all(damage.is_torn for damage in again.damages)
            assert path.stat().st_size == ends[len(whole) - 1] if whole else not path.exists()
            assert everything(again) == whole


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_costs_the_record_it_is_in_no_other_and_its_bytes_are_kept_aside(place: int, bit: int) -> None:
    with TemporaryDirectory() as folder:
        slot = Path(folder) / "0"
        with Spool(slot, most_bytes=ROOM) as spool:
            written = [kept(spool, str(n)) for n in range(3)]
        path = segment(slot)
        content = bytearray(path.read_bytes())
        place %= len(content)
        content[place] ^= 1 << bit
        path.write_bytes(content)
        frames = [frame_of(record) for record in written]
        hit = next(n for n in range(3) if place < sum(len(frame) for frame in frames[: n + 1]))
        begin = sum(len(frame) for frame in frames[:hit])
        with Spool(slot, most_bytes=ROOM) as again:
            (damage,) = again.damages
            assert damage.kept_at.read_bytes() == bytes(content[begin : begin + len(frames[hit])])
            assert everything(again) == [record for n, record in enumerate(written) if n != hit]
            assert again.is_empty


def test_a_record_that_goes_bad_while_it_waits_is_kept_aside_and_the_others_are_read(tmp_path: Path) -> None:
    with Spool(tmp_path / "0", most_bytes=ROOM) as spool:
        first, second = kept(spool, "1"), kept(spool, "2")
        path = segment(tmp_path / "0")
        content = bytearray(path.read_bytes())
        content[len(frame_of(first)) - 1] ^= 1
        path.write_bytes(content)
        assert everything(spool) == [second]
        assert len(spool.damages) == 1
        assert (spool.waiting, spool.is_empty) == (0, True)


def test_two_damages_at_the_same_place_of_two_segments_of_one_number_are_both_kept(tmp_path: Path) -> None:
    for key in ("1", "2"):
        with Spool(tmp_path / "0", most_bytes=ROOM) as spool:
            kept(spool, key)
        path = segment(tmp_path / "0")
        path.write_bytes(path.read_bytes()[:-1] + b"\x00")
        with Spool(tmp_path / "0", most_bytes=ROOM) as spool:
            assert len(spool.damages) == 1
    assert len([*(tmp_path / "0" / "aside").iterdir()]) == 2


def test_nothing_a_sender_writes_can_pass_for_a_frame() -> None:
    forged = frame_of(Record("rcp_forged", NOON, "http", batch("forged")))
    text = forged.decode("latin-1").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\x00", "")
    carried = parse_lines([batch_line(text)], received_at=NOON)
    frame = frame_of(Record("rcp_1", NOON, "http", carried))
    assert frame.count(b"\xff") == 1  # the mark of its own frame


def batch_line(text: str) -> bytes:
    cleaned = "".join(character for character in text if character >= " ")
    return (
        '{"source": "s", "key": "k", "customer": "c", "type": "t", "timestamp": "2026-10-05T12:00:00Z", '
        f'"properties": {{"note": "{cleaned}"}}}}'
    ).encode()


def test_a_full_spool_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    with Spool(tmp_path / "0", most_bytes=600) as spool:
        first = kept(spool, "1")
        with pytest.raises(SpoolFullError, match="once the database is back"):
            kept(spool, *(str(n) for n in range(10)))
        assert spool.has_room
        assert everything(spool) == [first]
        assert kept(spool, "2").receipt_id != first.receipt_id


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let the system refuse to write beyond so many bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_in_the_middle_leaves_nothing_of_itself(tmp_path: Path) -> None:
    with Spool(tmp_path / "0", most_bytes=ROOM) as spool:
        first = kept(spool, "1")
        with files_end_at(spool.size_bytes + 10), pytest.raises(SpoolError, match="File too large"):
            kept(spool, "2")
        third = kept(spool, "3")
        assert everything(spool) == [first, third]
        assert spool.damages == []


def test_what_is_kept_while_others_are_entered_comes_after_them(tmp_path: Path) -> None:
    with Spool(tmp_path / "0", most_bytes=ROOM) as spool:
        first = kept(spool, "1")
        run = spool.next_run()
        assert run is not None
        second = kept(spool, "2")
        spool.advance(run)
        assert (list(run.records), everything(spool)) == ([first], [second])


def test_records_a_second_apart_at_most_are_entered_together(tmp_path: Path) -> None:
    seconds = (0.0, 0.4, 1.0, 1.1, 9.0)  # the third is 1.0 s after the first, the fourth is more
    with Spool(tmp_path / "0", most_bytes=ROOM) as spool:
        for n, second in enumerate(seconds):
            kept(spool, str(n), at=NOON + timedelta(seconds=second))
        lengths = []
        while run := spool.next_run():
            lengths.append(len(run.records))
            spool.advance(run)
        assert lengths == [3, 1, 1]


def test_segments_follow_one_another_and_are_deleted_when_they_are_entered(tmp_path: Path) -> None:
    with Spool(tmp_path / "0", most_bytes=ROOM, segment_bytes=500) as spool:
        written = [kept(spool, str(n)) for n in range(10)]
        assert len([*(tmp_path / "0").glob("*.seg")]) == 5  # a frame has over 250 bytes, and two reach 500
        assert everything(spool) == written
        assert [*(tmp_path / "0").glob("*.seg")] == []


def test_a_slot_has_one_owner_and_the_next_process_takes_the_next_slot(tmp_path: Path) -> None:
    with claim(tmp_path, most_bytes=ROOM) as first, claim(tmp_path, most_bytes=ROOM) as second:
        assert (first.folder.name, second.folder.name) == ("0", "1")
        with pytest.raises(SpoolTakenError, match="another process owns"):
            Spool(tmp_path / "0", most_bytes=ROOM)


def test_what_a_process_left_behind_is_found_by_another(tmp_path: Path) -> None:
    with claim(tmp_path, most_bytes=ROOM):
        with claim(tmp_path, most_bytes=ROOM) as leaving:
            record = kept(leaving, "1")
        (found,) = abandoned(tmp_path, most_bytes=ROOM)
        with found:
            assert everything(found) == [record]
        assert [*abandoned(tmp_path, most_bytes=ROOM)] == []


def test_a_receipt_tells_where_its_request_is(tmp_path: Path) -> None:
    with claim(tmp_path, most_bytes=ROOM) as spool:
        receipts = [kept(spool, str(n), at=NOON + timedelta(minutes=n)).receipt_id for n in range(2)]
        assert [where(tmp_path, receipt) for receipt in receipts] == ["waiting", "waiting"]
        run = spool.next_run()
        assert run is not None
        spool.set_aside(run)
        assert everything(spool) != []
        assert [where(tmp_path, receipt) for receipt in receipts] == ["set_aside", None]


@pytest.mark.parametrize("receipt", ["", "rcp_", "rcp_0-1-x", "rcp_../../0-1-" + "a" * 32, "rcp_0-1-" + "a" * 32])
def test_a_receipt_that_is_none_is_nowhere(tmp_path: Path, receipt: str) -> None:
    assert where(tmp_path, receipt) is None


@pytest.mark.parametrize("broken", [lambda frame: frame[:20], lambda frame: frame.replace(b"rcp_1", b"rcp_2")])
def test_a_frame_whose_bytes_changed_is_never_taken_for_a_record(
    tmp_path: Path, broken: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "000000000001.seg").write_bytes(broken(frame_of(Record("rcp_1", NOON, "http", batch("1")))))
    with Spool(tmp_path / "0", most_bytes=ROOM) as spool:
        assert (spool.waiting, len(spool.damages), spool.next_run()) == (0, 1, None)
