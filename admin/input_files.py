"""Files given to commands: read, or refused with everything that is wrong with them."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from admin.commands.options import read_text
from admin.errors import DoorError
from ledger.files.document import FileError

Read = TypeVar("Read")


def taken(path: Path, read: Callable[[str], Read]) -> Read:
    """Return what a reader makes of a file's text; raise `DoorError` with every problem and its line."""
    try:
        return read(read_text(path))
    except FileError as error:
        listed = "\n".join(f"  {problem}" for problem in error.problems)
        raise DoorError(f"{path} was not taken; correct it and repeat:\n{listed}") from error
