"""The journal of a sender: whole events only, whatever a crash leaves behind."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meterbook_client import JournalError
from meterbook_client.journal import SHRINK_BYTES, Journal

EVENTS = [f'{{"key":"{number}","note":"ü"}}' for number in range(4)]


def test_what_was_not_answered_waits_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal"
    with Journal(path) as journal:
        journal.append(EVENTS[:2])
        journal.append(EVENTS[2:])
        journal.answered(3, left=EVENTS[3:])
    with Journal(path) as journal:
        assert journal.waiting == EVENTS[3:]
        journal.answered(1, left=[])
    with Journal(path) as journal:
        assert journal.waiting == []


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(min_value=0, max_value=10**4), noise=st.binary(max_size=12))
def test_a_torn_tail_is_cut_to_the_last_whole_event(
    tmp_path_factory: pytest.TempPathFactory, cut: int, noise: bytes
) -> None:
    path = tmp_path_factory.mktemp("torn") / "journal"
    with Journal(path) as journal:
        journal.append(EVENTS)
    whole = path.read_bytes()
    kept = whole[: cut % (len(whole) + 1)]
    path.write_bytes(kept + noise.replace(b"\n", b""))
    with Journal(path) as journal:
        waiting = journal.waiting
        assert waiting == EVENTS[: kept.count(b"\n")]
        journal.append(["{}"])
    with Journal(path) as journal:
        assert journal.waiting == [*waiting, "{}"]


def test_a_journal_belongs_to_one_process(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal"), pytest.raises(JournalError, match="in use by another process"):
        Journal(tmp_path / "journal")


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("one line\nand another\n")
    with pytest.raises(JournalError, match="is no journal"):
        Journal(path)
    assert path.read_text() == "one line\nand another\n"


def test_a_journal_that_never_runs_empty_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    large = [f'{{"note":"{"x" * 1_000_000}"}}'] * (SHRINK_BYTES // 1_000_000 + 1)
    with Journal(path) as journal:
        journal.append(large)
        journal.append(EVENTS)
        journal.answered(len(large), left=EVENTS)
        assert path.stat().st_size < 1000
        with pytest.raises(JournalError):
            Journal(path)
        journal.append(["{}"])
    with Journal(path) as journal:
        assert journal.waiting == [*EVENTS, "{}"]
