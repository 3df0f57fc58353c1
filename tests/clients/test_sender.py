"""Senders in the background: together, again, in order, and never lost; with a journal not even by a crash."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from meterbook_client import (
    Answer,
    AsyncClient,
    AsyncSender,
    Client,
    ClosedError,
    FullError,
    Sender,
    UnauthorisedError,
    UnavailableError,
)

from tests.admin.away import database_away
from tests.clients.conftest import PACKAGE, made, recorded

KEYS = [f"{number:02}" for number in range(25)]


def test_events_go_together_and_every_one_is_answered(url: str, key: str, engine: sa.Engine) -> None:
    answers: list[Answer] = []
    with (
        Client(url, api_key=key) as client,
        Sender(client, request_events=10, wait_seconds=60, on_answer=answers.append) as sender,
    ):
        sender.add(*(made(name) for name in KEYS))
        sender.flush()
        assert (sender.waiting, recorded(engine)) == (0, KEYS)
        sender.add(made("bad", "many"))
    assert [answer.accepted for answer in answers] == [10, 10, 5, 0]
    assert [one.key for answer in answers for one in answer.refused] == ["bad"]


def test_a_lone_event_does_not_wait_for_company(url: str, key: str, engine: sa.Engine) -> None:
    with Client(url, api_key=key) as client, Sender(client, wait_seconds=0.05) as sender:
        sender.add(made("1"))
        until = time.monotonic() + 10
        while sender.waiting and time.monotonic() < until:
            time.sleep(0.01)
        assert recorded(engine) == ["1"]


def test_refused_events_are_logged_when_nobody_else_is_told(
    url: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(url, api_key=key) as client, Sender(client) as sender:
        sender.add(made("7", "many"))
    assert "event 7 of gate is rejected: properties.tokens many" in caplog.text


def test_while_the_server_is_away_everything_waits_and_then_goes(
    url: str, key: str, engine: sa.Engine, postgres_url: str, database_url: str
) -> None:
    with Client(url, api_key=key) as client, Sender(client, request_events=10) as sender:
        with database_away(postgres_url, database_url):
            sender.add(*(made(name) for name in KEYS))
            time.sleep(0.3)
            assert sender.waiting == 25
        sender.flush()
        assert recorded(engine) == KEYS


def test_no_more_than_so_many_events_wait(silent_url: str) -> None:
    with Client(silent_url, api_key="mbk_x") as client:
        sender = Sender(client, most_waiting=3)
        sender.add(made("1"), made("2"))
        with pytest.raises(FullError, match="2 events wait and at most 3 may"):
            sender.add(made("3"), made("4"))
        sender.add(made("3"))
        assert sender.waiting == 3
        with pytest.raises(UnavailableError, match="3 events are not answered and are lost"):
            sender.close(timeout_seconds=0.1)
        with pytest.raises(ClosedError):
            sender.add(made("4"))


def test_a_key_that_does_not_work_stops_the_sender_and_the_events_stay(
    url: str, key: str, engine: sa.Engine, tmp_path: Path
) -> None:
    journal = tmp_path / "usage.journal"
    with Client(url, api_key="mbk_wrong") as client:
        sender = Sender(client, journal=journal)
        sender.add(made("1"))
        with pytest.raises(UnauthorisedError):
            sender.flush()
        with pytest.raises(UnauthorisedError):
            sender.add(made("2"))
        with pytest.raises(UnauthorisedError):
            sender.close()
    with Client(url, api_key=key) as client, Sender(client, journal=journal) as again:
        assert again.waiting == 1
    assert recorded(engine) == ["1"]


def test_what_could_not_be_sent_is_sent_by_the_next_sender_with_the_journal(
    url: str, silent_url: str, key: str, engine: sa.Engine, tmp_path: Path
) -> None:
    journal = tmp_path / "usage.journal"
    with Client(silent_url, api_key=key) as client:
        sender = Sender(client, journal=journal)
        sender.add(*(made(name) for name in KEYS))
        with pytest.raises(UnavailableError, match="stay in the journal"):
            sender.close(timeout_seconds=0.1)
    with Client(url, api_key=key) as client, Sender(client, journal=journal) as again:
        again.add(made("more"))
    assert recorded(engine) == [*KEYS, "more"]
    assert journal.stat().st_size == 0


def test_many_threads_may_share_a_sender(url: str, key: str, engine: sa.Engine, tmp_path: Path) -> None:
    with Client(url, api_key=key) as client, Sender(client, journal=tmp_path / "j", request_events=5) as sender:

        def add(part: int) -> None:
            for number in range(20):
                sender.add(made(f"{part}-{number:02}"))

        threads = [threading.Thread(target=add, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert recorded(engine) == [f"{part}-{n:02}" for part in range(4) for n in range(20)]


async def test_the_async_sender_sends_in_the_background(url: str, key: str, engine: sa.Engine, tmp_path: Path) -> None:
    answers: list[Answer] = []
    async with (
        AsyncClient(url, api_key=key) as client,
        AsyncSender(
            client, journal=tmp_path / "j", request_events=10, wait_seconds=60, on_answer=answers.append
        ) as sender,
    ):
        await asyncio.gather(*(sender.add(made(name)) for name in KEYS))
        await sender.flush()
        assert (sender.waiting, recorded(engine)) == (0, KEYS)
        await sender.add(made("bad", "many"))
    assert sum(answer.accepted for answer in answers) == 25
    assert [one.key for answer in answers for one in answer.refused] == ["bad"]


async def test_an_async_sender_leaves_what_it_could_not_send_to_the_next(
    url: str, silent_url: str, key: str, engine: sa.Engine, tmp_path: Path
) -> None:
    async with AsyncClient(silent_url, api_key=key) as client:
        sender = AsyncSender(client, journal=tmp_path / "j", most_waiting=25)
        with pytest.raises(ClosedError):
            await sender.add(made("1"))
        await sender.__aenter__()
        await sender.add(*(made(name) for name in KEYS))
        with pytest.raises(FullError):
            await sender.add(made("more"))
        with pytest.raises(UnavailableError, match="stay in the journal"):
            await sender.close(timeout_seconds=0.1)
    async with AsyncClient(url, api_key=key) as client, AsyncSender(client, journal=tmp_path / "j", wait_seconds=0.01):
        pass
    assert recorded(engine) == KEYS


async def test_an_async_sender_tells_what_stopped_it(url: str, key: str, tmp_path: Path) -> None:
    assert key
    async with AsyncClient(url, api_key="mbk_wrong") as client:
        sender = AsyncSender(client, journal=tmp_path / "j")
        await sender.__aenter__()
        await sender.add(made("1"))
        with pytest.raises(UnauthorisedError):
            await sender.flush()
        with pytest.raises(UnauthorisedError):
            await sender.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_sender_that_is_killed_loses_nothing_and_counts_nothing_twice(
    url: str, key: str, engine: sa.Engine, tmp_path: Path, seed: int
) -> None:
    arguments = [sys.executable, str(Path(__file__).parent / "sending_process.py"), url, key, str(tmp_path / "journal")]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    stop_after = random.Random(seed).randrange(1, 300)  # noqa: S311 - which moment is tried, not a secret
    process = subprocess.Popen([*arguments, "100000"], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    with process.stdout as printed:
        added = [printed.readline().strip() for _ in range(stop_after)]
        process.send_signal(signal.SIGKILL)
        process.wait()
        added += [line.strip() for line in printed if line.endswith("\n")]
    subprocess.run([*arguments, "0"], check=True, env=environment, timeout=60)
    found = recorded(engine)
    assert found[: len(added)] == added
    assert len(found) == len({*found})
    assert len(found) - len(added) in (0, 1)  # one was written when the process was killed before it said so
