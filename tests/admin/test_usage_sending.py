"""`meterbook usage send`: files in, batch by batch; and how files are cut into signals."""

import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import psycopg
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from admin.bookmarks import Bookmark, bookmark_path, read_bookmark, write_bookmark
from admin.usage_sending import SIGNAL_BYTES, SIGNAL_EVENTS, events_of, portions
from ledger.errors import InvalidError
from tests.admin.conftest import CONTRACT, Meterbook, written

HEADER = "source,key,customer,type,timestamp,tokens\n"


def row(key: str, tokens: str = "100", customer: str = "acme", at: str = "2026-10-05T12:00:00Z") -> str:
    return f"gate,{key},{customer},llm.request,{at},{tokens}\n"


def test_a_file_is_answered_event_by_event_and_counted(parties: Meterbook, tmp_path: Path) -> None:
    text = HEADER + row("1") + row("2", at="2026-10-05T12:00:00") + row("3", tokens="many") + row("1") + row("1", "7")
    answer = parties("usage", "send", written(tmp_path / "usage.csv", text))
    assert answer.code == 0
    # 1 is new, then comes again (duplicate) and with other content (conflict); 2 has no zone, 3 no number
    assert answer.out.startswith("5 events answered: 1 accepted, 1 duplicate, 1 in conflict, 2 rejected\n")
    assert "has no time zone" in answer.out
    status = parties("usage", "status", "--json").content
    assert [status[name] for name in ("received", "accepted", "duplicate", "conflict", "rejected")] == [5, 1, 1, 1, 2]
    assert status["unmatched"] == {"unknown_customer": 0, "no_metric": 0, "no_contract": 1, "no_price": 0}
    assert parties("usage", "status").code == 0


def test_batches_do_not_change_the_counts_and_a_file_may_be_sent_again(parties: Meterbook, tmp_path: Path) -> None:
    path = written(tmp_path / "usage.csv", HEADER + "".join(row(str(n)) for n in range(25)))
    first = parties("usage", "send", path, "--batch-size", "10", "--json").content
    assert (first["accepted"], first["batches"]) == (25, 3)
    again = parties("usage", "send", path, "--json").content
    assert (again["accepted"], again["duplicate"]) == (0, 25)


def test_with_temporal_away_usage_is_accepted_with_a_note(parties: Meterbook, tmp_path: Path) -> None:
    assert parties("contract", "start", written(tmp_path / "c.yaml", CONTRACT), "--start", "2026-10-01").code == 1
    answer = parties("usage", "send", written(tmp_path / "usage.csv", HEADER + row("1")))
    assert (answer.code, answer.out) == (0, "1 events answered: 1 accepted, 0 duplicate, 0 in conflict, 0 rejected\n")
    assert "balances follow when Temporal is back" in answer.err
    assert parties("usage", "status", "--json").content["waiting"] == 1


def test_a_batch_that_the_database_broke_off_is_sent_again(
    parties: Meterbook, tmp_path: Path, database_url: str, postgres_url: str
) -> None:
    name = sa.make_url(database_url).database
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'alter database "{name}" allow_connections false')

        def open_again() -> None:
            time.sleep(0.3)
            server.execute(f'alter database "{name}" allow_connections true')

        opener = threading.Thread(target=open_again)
        opener.start()
        answer = parties("usage", "send", written(tmp_path / "usage.csv", HEADER + row("1")), "--json")
        opener.join()
    assert answer.content["accepted"] == 1
    assert "it is sent again" in answer.err


def test_a_file_of_another_kind_or_that_is_not_there_is_refused(parties: Meterbook, tmp_path: Path) -> None:
    assert "use .csv, .jsonl" in parties("usage", "send", written(tmp_path / "usage.xlsx", "x")).err
    assert "lacks the columns" in parties("usage", "send", written(tmp_path / "usage.csv", "a,b\n1,2\n")).err
    assert parties("usage", "send", tmp_path / "missing.csv").code == 2


def test_what_is_signalled_is_the_file_unreadable_lines_included(tmp_path: Path) -> None:
    good = (
        '{"source":"g","key":"1","customer":"a","type":"t","timestamp":"2026-10-05T12:00:00Z","properties":{"n":0.10}}'
    )
    naive = good.replace("00:00Z", "00:00").replace('"1"', '"2"')
    found = list(events_of(written(tmp_path / "u.jsonl", f"{good}\n{{broken\n{naive}\n")))
    first, second, third = found
    assert isinstance(first, dict)
    assert first["properties"] == {"n": Decimal("0.1")}
    assert second == "{broken"
    assert isinstance(third, dict)
    assert third["timestamp"] == "2026-10-05T12:00:00"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(min_value=1, max_value=3000), max_size=250))
def test_portions_fit_into_signals_and_lose_nothing(lengths: list[int]) -> None:
    events = [{"note": "x" * length} for length in lengths]
    cut = list(portions(iter(events)))
    assert [event for portion in cut for event in portion] == events
    for portion in cut:
        assert 0 < len(portion) <= SIGNAL_EVENTS
        assert len(msgspec.json.encode(portion)) <= SIGNAL_BYTES
    largest = {"note": "x" * (SIGNAL_BYTES - len(json.dumps([{"note": ""}], separators=(",", ":"))))}
    with pytest.raises(InvalidError, match="too much for a signal"):
        list(portions(iter([{**largest, "more": 1}])))


def test_a_parquet_file_is_sent_like_the_others(parties: Meterbook, tmp_path: Path) -> None:
    moments = pa.array([datetime(2026, 10, 5, 12, tzinfo=UTC)] * 3, pa.timestamp("us", tz="UTC"))
    texts = {"source": ["gate"] * 3, "key": ["1", "2", "3"], "customer": ["acme"] * 3, "type": ["llm.request"] * 3}
    pq.write_table(pa.table({**texts, "timestamp": moments, "tokens": [1, 2, 3]}), tmp_path / "usage.parquet")
    sent = parties("usage", "send", tmp_path / "usage.parquet", "--json").content
    assert (sent["accepted"], sent["rejected"]) == (3, 0)


EVENTS = 2000
PORTION = 20


@pytest.fixture
def broken_off(parties: Meterbook, tmp_path: Path) -> Path:
    """A file whose sending was killed between its first and its last batch."""
    assert parties("usage", "status").code == 0
    path = written(tmp_path / "usage.csv", HEADER + "".join(row(str(n)) for n in range(EVENTS)))
    place = bookmark_path(path)
    command = [sys.executable, "-m", "admin.cli", "usage", "send", str(path), "--batch-size", str(PORTION)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not place.exists():
            assert process.poll() is None
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    return path


def test_sending_goes_on_after_the_last_committed_batch(parties: Meterbook, broken_off: Path) -> None:
    resumed = parties("usage", "send", broken_off, "--resume", "--json").content
    before = resumed["resumed_after"]
    assert 0 < before < EVENTS
    assert resumed["accepted"] + resumed["duplicate"] == EVENTS - before
    assert resumed["duplicate"] in (0, PORTION)  # killed after the commit, but before the bookmark was moved
    assert parties("usage", "status", "--json").content["accepted"] == EVENTS
    again = parties("usage", "send", broken_off, "--resume", "--json").content  # a file that was sent whole begins anew
    assert (again["resumed_after"], again["accepted"], again["duplicate"]) == (0, 0, EVENTS)


def test_a_file_that_changed_meanwhile_is_sent_from_its_start(parties: Meterbook, broken_off: Path) -> None:
    written(broken_off, HEADER + row("other") + broken_off.read_text(encoding="utf-8").removeprefix(HEADER))
    resumed = parties("usage", "send", broken_off, "--resume", "--json").content
    assert (resumed["resumed_after"], resumed["accepted"] + resumed["duplicate"]) == (0, EVENTS + 1)
    assert parties("usage", "status", "--json").content["accepted"] == EVENTS + 1


def test_a_database_without_the_last_batch_gets_the_whole_file(
    parties: Meterbook, broken_off: Path, engine: sa.Engine
) -> None:
    place = bookmark_path(broken_off)
    with engine.begin() as connection:
        bookmark = read_bookmark(connection, place)
        assert bookmark is not None
        elsewhere = bookmark.received_at + timedelta(microseconds=1)
        write_bookmark(place, Bookmark(bookmark.events, bookmark.batch_id, elsewhere))
        assert read_bookmark(connection, place) is None
    resumed = parties("usage", "send", broken_off, "--resume", "--json").content
    assert (resumed["resumed_after"], resumed["accepted"] + resumed["duplicate"]) == (0, EVENTS)
