"""`python -m tests.bench [--only PART,PART] [--quick] [--json FILE] [--usage FILE]` measures; `--help` names the parts.

Measures on servers of its own, shows a table, and leaves nothing behind. No speed fails it; a wrong count does.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from tests.bench import (
    accrual,
    alert,
    burndown,
    close,
    delay,
    gates,
    gates_http,
    growth,
    hot,
    http,
    intake,
    posting,
    rating,
)
from tests.bench.figure import CountError, Figure, Spread, Tell, written
from tests.bench.machine import Machine, describe

JSON = CLONE / "build" / "bench.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a part measures on, and how much; `usage` is a file of real usage."""

    stack: Stack
    tell: Tell
    quick: bool
    usage: Path | None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the bench; `durable`: it needs Temporal, a worker and the HTTP API."""

    name: str
    measure: Callable[[Asked], list[Figure]]
    durable: bool = False


PARTS = (
    Part("rating", lambda asked: rating.measure(asked.tell, quick=asked.quick)),
    Part("burndown", lambda asked: burndown.measure(asked.tell, quick=asked.quick)),
    Part("posting", lambda asked: posting.measure(asked.stack, asked.tell, quick=asked.quick)),
    Part("intake", lambda asked: intake.measure(asked.stack, asked.tell, quick=asked.quick, usage=asked.usage)),
    Part("growth", lambda asked: growth.measure(asked.stack, asked.tell, quick=asked.quick)),
    Part("http", lambda asked: http.measure(asked.stack, asked.tell, quick=asked.quick)),
    Part("accrual", lambda asked: accrual.measure(asked.stack, asked.tell, quick=asked.quick)),
    Part("rules", lambda asked: alert.measure_rules(asked.stack, asked.tell, quick=asked.quick)),
    Part("gates", lambda asked: gates.measure(asked.stack, asked.tell, quick=asked.quick)),
    Part("gates-http", lambda asked: gates_http.measure(asked.stack, asked.tell, quick=asked.quick)),
    Part("delay", lambda asked: delay.measure(asked.stack, asked.tell, quick=asked.quick), durable=True),
    Part("alert", lambda asked: alert.measure(asked.stack, asked.tell, quick=asked.quick), durable=True),
    Part("hot", lambda asked: hot.measure(asked.stack, asked.tell, quick=asked.quick), durable=True),
    Part("close", lambda asked: close.measure(asked.stack, asked.tell, quick=asked.quick), durable=True),
)
"""The durable ones come last, because Temporal and the worker take time from whatever runs beside them."""
NAMES = tuple(part.name for part in PARTS)


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
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    measured = [written(figure, machine=machine.sentence) for figure in figures]
    arguments.json.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    return 0


def _measure(
    arguments: argparse.Namespace, tell: Tell, *, load: tuple[float, float, float]
) -> tuple[Machine, list[Figure]]:
    home = CLONE / ".meterbook" / f"bench-{os.getpid()}"
    figures: list[Figure] = []
    with running_stack(home, parts=("postgres",), environment={}, report=tell, remove_home=True) as stack:
        machine = _describe(stack, load)
        asked = Asked(stack, tell, arguments.quick, arguments.usage)
        up = False
        for part in (part for part in PARTS if part.name in arguments.only):
            if part.durable and not up:
                stack.up(("temporal", "worker", "http"))
                up = True
            figures += part.measure(asked)
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
    parser.add_argument("--only", type=_names, default=NAMES, help=f"some of {','.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds of less, within a minute")
    parser.add_argument("--json", type=Path, default=JSON, help="the file that the figures are written to")
    parser.add_argument(
        "--usage", type=Path, help="a CSV file (TIMESTAMP, ContextTokens, GeneratedTokens) instead of generated usage"
    )
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(NAMES)}")
    return names


if __name__ == "__main__":
    leave(main())
