"""The guardian of a stack: ends what a killed owner left behind.

It waits in a shell of a few kilobytes on a pipe whose other end only the owner holds. A word through the pipe dismisses
it; the end of the pipe without a word means that the owner is dead, however it died, or failed to clear up, as one does
that can no longer print. Then the shell becomes `python -m infra.stack clear-up-after HOME OWNER`.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from infra.stack.home import CLONE, Home
from infra.stack.processes import MARK

WAIT_FOR_DEATH = "trap '' INT TERM HUP; read -r dismissed || exec \"$@\""
GUARDIAN_SECONDS = 120


@contextmanager
def guarded(home: Home, owner: str, *, remove_home: bool) -> Iterator[Callable[[], None]]:
    """Have a guardian while the block runs; unless the block calls what it is given, the guardian then clears up."""
    home.create()
    read_end, write_end = os.pipe()  # children do not inherit these, so the owner's death closes the pipe
    command = [sys.executable, "-m", "infra.stack", "clear-up-after", str(home.folder), owner]
    with home.log("guardian").open("ab") as log:
        guardian = subprocess.Popen(
            ["/bin/sh", "-c", WAIT_FOR_DEATH, "guardian", *command, *(["--remove-home"] if remove_home else [])],
            cwd=CLONE,
            env={name: value for name, value in os.environ.items() if name != MARK},
            stdin=read_end,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    os.close(read_end)
    try:
        yield lambda: _dismiss(write_end)
    finally:
        os.close(write_end)
        guardian.wait(GUARDIAN_SECONDS)


def _dismiss(write_end: int) -> None:
    os.write(write_end, b"dismissed\n")
