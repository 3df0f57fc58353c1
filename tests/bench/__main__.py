"""`python -m tests.bench [--only rating,intake,accrual,delay,close] [--quick] [--json FILE] [--usage FILE]`.

Measures on servers of its own, shows a table, and leaves nothing behind. No speed fails it; a wrong count does.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import httpx
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from admin.leaving import leave
from infra.stack import Stack, StackError, running_stack
from infra.stack.home import CLONE
from infra.stack.stack import InterruptedBySignal
from ledger.database import create_engine
from tests.bench import accrual, close, delay, intake, rating
from tests.bench.figure import CountError, Figure, Spread, Tell
from tests.bench.machine import Machine, describe

FIGURES = ("rating", "intake", "accrual", "delay", "close")
DURABLE = ("delay", "close")
"""Measured after the others, because Temporal and the worker take time from whatever runs beside them."""


def main() -> int:
    """Measure, show, and return the process's exit code."""
    arguments = _arguments()
    console = Console(highlight=False)
    begin, load = time.monotonic(), os.getloadavg()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("starting servers", total=None)

            def tell(text: str) -> None:
                progress.update(task, description=text)

            machine, figures = _measure(arguments, tell, load=load)
    except (CountError, StackError, TimeoutError, ValueError, OSError, httpx.HTTPError) as error:
        console.print(f"[bold red]The bench stopped:[/] {error}")
        return 1
    except InterruptedBySignal as interruption:
        console.print("interrupted; everything that was started is stopped")
        return 128 + interruption.number
    seconds = time.monotonic() - begin
    _show(console, machine, figures, seconds)
    if arguments.json is not None:
        measured = {"machine": asdict(machine), "figures": [asdict(figure) for figure in figures], "seconds": seconds}
        arguments.json.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    return 0


def _measure(
    arguments: argparse.Namespace, tell: Tell, *, load: tuple[float, float, float]
) -> tuple[Machine, list[Figure]]:
    home = CLONE / ".meterbook" / f"bench-{os.getpid()}"
    figures: list[Figure] = []
    with running_stack(home, parts=("postgres",), environment={}, report=tell, remove_home=True) as stack:
        machine = _describe(stack, load)
        if "rating" in arguments.only:
            figures += rating.measure(tell, quick=arguments.quick)
        if "intake" in arguments.only:
            figures += intake.measure(stack, tell, quick=arguments.quick, usage=arguments.usage)
        if "accrual" in arguments.only:
            figures += accrual.measure(stack, tell, quick=arguments.quick)
        if any(name in arguments.only for name in DURABLE):
            stack.up(("temporal", "worker", "http"))
        if "delay" in arguments.only:
            figures += delay.measure(stack, tell, quick=arguments.quick)
        if "close" in arguments.only:
            figures += close.measure(stack, tell, quick=arguments.quick)
    return machine, figures


def _describe(stack: Stack, load: tuple[float, float, float]) -> Machine:
    engine = create_engine(stack.environment["DATABASE_URL"])
    with engine.begin() as connection:
        machine = describe(connection, load=load)
    engine.dispose()  # the database is copied, and nobody may be connected to it then
    return machine


def _show(console: Console, machine: Machine, figures: Sequence[Figure], seconds: float) -> None:
    table = Table(title="Speed: median of interleaved rounds, least - most", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("what\n[dim]against what[/]")
    for column in ("measured", "yardstick", "times\nits time"):
        table.add_column(column, justify="right", no_wrap=True)
    for figure in figures:
        table.add_row(
            f"{figure.what}\n[dim]{figure.yardstick_what}[/]",
            f"{_spread(figure.measured)}\n[dim]{figure.unit}[/]",
            f"{_spread(figure.yardstick)}\n[dim]{figure.unit}[/]",
            f"[bold]{_spread(figure.times)}[/]",
            end_section=True,
        )
    console.print(table)
    for note in dict.fromkeys(figure.note for figure in figures):
        noted = [f"{f.name} ({f.rounds} rounds of {f.operations:,})" for f in figures if f.note == note]
        console.print(f"[bold]{', '.join(noted)}[/]: {note}")
    console.print(f"{machine.sentence}; {seconds:.0f} s in total")


def _spread(spread: Spread) -> str:
    return f"{_figure(spread.median)}\n{_figure(spread.least)} - {_figure(spread.most)}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", type=_names, default=FIGURES, help=f"some of {','.join(FIGURES)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds of less, within a minute")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument(
        "--usage", type=Path, help="a CSV file (TIMESTAMP, ContextTokens, GeneratedTokens) instead of generated usage"
    )
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(FIGURES)}")
    return names


if __name__ == "__main__":
    leave(main())
