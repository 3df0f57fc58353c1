"""The demo as a person runs it: every check holds, and nothing of it stays behind."""

import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from infra.stack.home import CLONE
from infra.stack.processes import MARK

pytestmark = [pytest.mark.story, pytest.mark.timeout(330)]

PATIENCE_SECONDS = 280
CLEARED_UP_SECONDS = 60
EVENTS = 1500
ROWS = 300


def test_the_demo_bills_two_months_and_leaves_nothing_behind() -> None:
    assert_every_check_holds("--events", str(EVENTS))


def test_the_demo_bills_usage_from_a_file(tmp_path: Path) -> None:
    usage = tmp_path / "usage.csv"
    first = datetime(2024, 5, 10)  # noqa: DTZ001 - the file's times have no zone
    rows = [
        f"{first + timedelta(seconds=7 * n, microseconds=979600)}0,{200 + 13 * n % 4000},{20 + 7 * n % 500}"
        for n in range(ROWS)
    ]
    usage.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n", encoding="utf-8")
    shown = assert_every_check_holds("--usage", str(usage))
    assert f"events accepted: {ROWS}" in shown


def test_the_demo_names_the_line_that_it_cannot_read(tmp_path: Path) -> None:
    usage = tmp_path / "usage.csv"
    usage.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00,many,1\n", encoding="utf-8")
    demo = subprocess.run(
        command("--usage", str(usage)), env=surroundings(), capture_output=True, text=True, check=False
    )
    assert demo.returncode == 1
    assert "line 2" in demo.stdout.replace("\n", " ")


def test_a_demo_that_is_interrupted_together_with_its_reader_leaves_nothing_behind() -> None:
    with subprocess.Popen(
        command("--events", str(EVENTS)),
        env=surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as demo:
        home = CLONE / ".meterbook" / f"demo-{demo.pid}"
        assert demo.stdout is not None
        while "worker: starting" not in demo.stdout.readline():
            assert demo.poll() is None
        demo.stdout.close()  # as Ctrl-C does to `python -m infra.demo | tee log`: the stopping can say nothing
        demo.terminate()
        assert demo.wait(PATIENCE_SECONDS) != 0
    deadline = time.monotonic() + CLEARED_UP_SECONDS
    while home.exists() or left_behind(home):
        assert time.monotonic() < deadline, left_behind(home)
        time.sleep(0.5)


def assert_every_check_holds(*arguments: str) -> str:
    """Run the demo to its end and return what it showed."""
    with subprocess.Popen(
        command(*arguments), env=surroundings(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        try:
            shown, _ = demo.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            demo.terminate()  # it stops what it has started
            pytest.fail(f"the demo did not end in {PATIENCE_SECONDS} s:\n{demo.communicate()[0]}")
    home = CLONE / ".meterbook" / f"demo-{demo.pid}"
    assert demo.returncode == 0, shown
    assert "checks held" in shown
    assert "✗" not in shown
    assert not home.exists()
    assert left_behind(home) == []
    return shown


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "infra.demo", *arguments]


def surroundings() -> dict[str, str]:
    """The environment without a stack of somebody's own; words are not coloured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("METERBOOK_", "STRIPE_"))}
    for yours in ("DATABASE_URL", "TEMPORAL_ADDRESS"):
        kept.pop(yours, None)
    return {**kept, "NO_COLOR": "1", "TERM": "dumb"}


def left_behind(home: Path) -> list[str]:
    """The processes that belong to a home."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(f"{home}:") or str(home) in " ".join(process.cmdline()):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
