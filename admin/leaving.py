"""Ending a process that may have spoken to Temporal."""

import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End the process at once when Temporal's client is loaded, as usual otherwise.

    The client's own threads may still call into Python while the interpreter is taken down, which aborts the process
    and turns a command that succeeded into a failure.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if "temporalio" in sys.modules:
        os._exit(code)
    sys.exit(code)
