"""The examples of docs/pricing.md: their files are read and their commands run, so that they show what is printed.

`python -m tests.examples` writes what the commands print into the page.
"""

import contextlib
import io
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

from admin.cli import run

PAGE = Path(__file__).parent.parent / "docs" / "pricing.md"
BLOCK = re.compile(r"```(yaml|console)\n(.*?)```", re.DOTALL)
NAME = re.compile(r"# ([a-z.]+)\n")
FRAME = "# frame\n"
COLUMNS = "80"


def rendered(page: str) -> str:
    """Return a page whose every console block shows its command with what that prints.

    A command sees the YAML blocks since the last one, each under the name that its first line says; the contract
    continues the page's frame.
    """
    frame = ""
    files: dict[str, str] = {}

    def block(match: re.Match[str]) -> str:
        nonlocal frame
        kind, content = match.groups()
        if kind == "console":
            command, _, _ = content.partition("\n")
            shown = f"```console\n{command}\n{_printed(command, files)}```"
            files.clear()
            return shown
        if content.startswith(FRAME):
            frame = content
        else:
            named = NAME.match(content)
            name = "contract.yaml" if named is None else named[1]
            files[name] = frame + content if name == "contract.yaml" else content
        return match[0]

    return BLOCK.sub(block, page)


def _printed(command: str, files: dict[str, str]) -> str:
    """Return what a command, `$ meterbook ...`, prints where these files are."""
    output = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, _set("COLUMNS", COLUMNS):
        for name, content in files.items():
            (Path(folder) / name).write_text(content, encoding="utf-8")
        with contextlib.chdir(folder), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            run(shlex.split(command.removeprefix("$ meterbook ")))
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    return "".join(f"{line}\n" for line in lines)


@contextlib.contextmanager
def _set(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
