"""`python -m tests [PATH ...]` runs the fast tests, and beside them the slow ones, which mostly wait.

The two halves share no server and no folder. What the fast tests say is shown at once, what the slow ones say after it.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

FAST = "not story and not chaos"
SLOW = "story or chaos"
NOTHING_SELECTED = 5
"""pytest's code: right where the paths hold no tests of one half, else a mistake."""


def main(paths: Sequence[str]) -> int:
    """Run both halves to their end; return 0, or the code of the first one that failed."""
    begin = time.monotonic()
    # pytest would leave a temporary folder of its own behind.
    with TemporaryDirectory() as temporary, (Path(temporary) / "slow.log").open("w+") as said:
        slow = subprocess.Popen(_command(SLOW, Path(temporary) / "slow", paths), stdout=said, stderr=said)
        fast = subprocess.Popen(_command(FAST, Path(temporary) / "fast", paths))
        _pass_on_interruptions((fast, slow))
        fast.wait()
        _say(f'\npytest -m "{SLOW}" runs beside, and says:')
        slow.wait()
        said.seek(0)
        _say(said.read())
    codes = {FAST: fast.returncode, SLOW: slow.returncode}
    for kind, code in codes.items():
        _say(f'pytest -m "{kind}" ended with code {code}')
    minutes, seconds = divmod(round(time.monotonic() - begin), 60)
    _say(f"both took {minutes} min {seconds} s")
    return joined(codes, narrowed=bool(paths))


def joined(codes: Mapping[str, int], *, narrowed: bool) -> int:
    """Return the code of the run: 0 where every half passed, or holds none of the tests that it was narrowed to."""
    counted = [code for code in codes.values() if not narrowed or code != NOTHING_SELECTED]
    return next((code for code in counted if code), 0) if counted else NOTHING_SELECTED


def _command(kind: str, temporary: Path, paths: Sequence[str]) -> list[str]:
    _say(f'pytest -m "{kind}" {" ".join(paths)}'.rstrip())
    return [sys.executable, "-m", "pytest", "-m", kind, f"--basetemp={temporary}", *paths]


def _pass_on_interruptions(halves: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let the halves end in order and say what they found; an interrupt from the keyboard reaches them anyhow."""

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        for half in halves:
            half.send_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, lambda *_: None)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
