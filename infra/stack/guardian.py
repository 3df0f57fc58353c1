"""The guardian of a stack: ends what a killed owner left behind.

It waits in a shell of a few kilobytes on a pipe whose other end only the owner holds. A word through the pipe dismisses
it; the end of the pipe without a word means that the owner is dead, however it died, and the shell becomes
`python -m infra.stack clear-up-after HOME OWNER`.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from infra.stack.home import CLONE, Home
from infra.stack.processes import MARK

WAIT_FOR_DEATH = "trap '' INT TERM HUP; read -r dismissed || exec \"$@\""
DISMISS_SECONDS = 10


@contextmanager
def guarded(home: Home, owner: str, *, remove_home: bool) -> Iterator[None]:
    """Have a guardian while the block runs."""
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
        yield
    finally:
        os.write(write_end, b"dismissed\n")
        os.close(write_end)
        guardian.wait(DISMISS_SECONDS)
