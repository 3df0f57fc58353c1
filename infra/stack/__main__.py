"""`python -m infra.stack up | down | status [--json] | run -- COMMAND...`: the local stack for people."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from infra.stack.errors import StackError
from infra.stack.stack import PARTS, InterruptedBySignal, PartStatus, Stack, clear_up, running_stack

COMMAND_SECONDS = 10
COLOURS = {"running": "green", "yours": "cyan", "stopped": "dim", "crashed": "red", "not answering": "red"}

application = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(stderr=True)

Only = Annotated[str, typer.Option(help="The parts to start, separated by commas.")]
ALL = ",".join(PARTS)


@application.command()
def up(only: Only = ALL) -> None:
    """Start what does not run, migrate the database, write stack.env, and leave it running."""
    with console.status("starting"):
        stack = Stack(report=_show)
        stack.up(_parts(only))
    _print(stack.status())


@application.command()
def down() -> None:
    """Stop everything, also what a crash left behind."""
    with console.status("stopping"):
        Stack(report=_show).down()
    console.print("everything is stopped")


@application.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show each part's address, process and state."""
    lines = Stack().status()
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(line) for line in lines], indent=2))
    else:
        _print(lines)


@application.command(context_settings={"ignore_unknown_options": True})
def run(command: Annotated[list[str], typer.Argument()], only: Only = ALL) -> None:
    """Run a command with the stack around it: nothing of the stack outlives the command."""
    try:
        with running_stack(parts=_parts(only), report=_show) as stack:
            code = _run_to_the_end(command, {**os.environ, **stack.environment})
    except InterruptedBySignal as interruption:
        code = -interruption.number
    raise typer.Exit(code if code >= 0 else 128 - code)


@application.command(hidden=True)
def clear_up_after(home: Path, owner: str, remove_home: bool = False) -> None:
    """Stop what this owner, who was killed, started in this home; the guardian calls it."""
    clear_up(Stack(home, owner=owner), remove_home=remove_home)


def _parts(only: str) -> list[str]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise StackError(f"There is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    return names


def _run_to_the_end(command: list[str], environment: Mapping[str, str]) -> int:
    """Run a command and return its exit code; an interrupted one has some seconds to end."""
    child = subprocess.Popen(command, env=environment)
    try:
        return child.wait()
    except InterruptedBySignal as interruption:
        if interruption.number != signal.SIGINT:  # which a terminal has sent to the command as well
            child.terminate()
        for stop in (child.terminate, child.kill):
            try:
                child.wait(COMMAND_SECONDS)
            except subprocess.TimeoutExpired:
                stop()
        child.wait()
        raise


def _show(step: str) -> None:
    console.print(step, markup=False, highlight=False, soft_wrap=True)


def _print(lines: list[PartStatus]) -> None:
    table = Table(box=None, header_style="bold")
    for heading in ("part", "state", "address", "pid"):
        table.add_column(heading, overflow="fold")
    for line in lines:
        state = f"[{COLOURS[line.state]}]{line.state}[/]"
        table.add_row(line.name, state, line.address, str(line.pid or ""))
    Console().print(table)


def main() -> None:
    """Run the command; an expected failure is one sentence and exit code 1."""
    try:
        application()
    except StackError as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
