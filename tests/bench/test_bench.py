"""The bench runs, counts right, and writes what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.stack.home import CLONE

SPREAD = {"median", "least", "most"}


@pytest.mark.story
def test_a_quick_run_of_the_intake_counts_every_event_and_writes_each_figure_with_its_yardstick(
    tmp_path: Path,
) -> None:
    written = tmp_path / "figures.json"

    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--only", "intake", "--quick", "--json", str(written)],
        cwd=CLONE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads(written.read_text())
    assert [figure["name"] for figure in measured] == [
        "intake-new-1000",
        "intake-replay-1000",
        "intake-new-10000",
        "intake-replay-10000",
    ]
    for figure in measured:
        assert figure["unit"] == "per second"
        assert "cores" in figure["machine"]
        assert min(figure["value"], figure["yardstick"], figure["ratio"]) > 0
        for spread in (figure["value_spread"], figure["yardstick_spread"], figure["times_spread"]):
            assert spread.keys() == SPREAD
            assert 0 < spread["least"] <= spread["median"] <= spread["most"]
