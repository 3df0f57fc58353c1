"""What the command says about itself."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.core import TyperGroup
from typer.main import get_command, get_group

from admin.cli import NOUNS, Noun, application
from tests.admin.conftest import Meterbook


def paths() -> Iterator[tuple[str, ...]]:
    yield ()
    yield from ((name,) for name in ("up", "down", "status", "verify"))
    root = get_command(application)
    assert isinstance(root, TyperGroup)
    for noun in NOUNS:
        yield (noun,)
        group = root.commands[noun]
        assert isinstance(group, Noun)
        yield from ((noun, verb) for verb in group.list_commands(None))


@pytest.mark.parametrize("path", list(paths()), ids=" ".join)
def test_the_help_of_every_command_has_an_example_that_names_it(path: tuple[str, ...], meterbook: Meterbook) -> None:
    answer = meterbook(*path, "--help")
    assert answer.code == 0
    text = " ".join(answer.out.replace("│", " ").split())
    assert f"Example: {' '.join(['meterbook', *path])}" in text


def test_every_reading_command_speaks_json() -> None:
    reading = {"list", "show", "status", "trial-balance", "account", "journal", "customers", "validate"}
    found = [path for path in paths() if path[-1:] and path[-1] in reading and len(path) == 2]
    assert len(found) >= 14
    root = get_group(application)
    for noun, verb in found:
        group = root.commands[noun]
        assert isinstance(group, Noun)
        command = group.get_command(None, verb)
        assert command is not None
        assert any("--json" in parameter.opts for parameter in command.params), (noun, verb)


def test_an_unknown_command_is_a_usage_error(meterbook: Meterbook) -> None:
    assert meterbook("contract", "strat").code == 2
    assert meterbook("contracts").code == 2


def test_help_does_not_load_what_only_commands_need() -> None:
    script = (
        "import sys; from admin.cli import run; run(['--help']);"
        "print([name for name in ('sqlalchemy', 'temporalio', 'stripe', 'fastapi') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.splitlines()[-1] == "[]"


def test_shells_can_complete_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_METERBOOK_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "meterbook contract ")
    monkeypatch.setenv("COMP_CWORD", "2")
    done = subprocess.run([sys.executable, "-m", "admin.cli"], capture_output=True, text=True, check=False, timeout=30)
    assert {"start", "show", "amend", "end"} <= set(done.stdout.split())
