"""What the demo shows: numbered steps, live spend while usage arrives, checks that held or did not."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console

MARGIN = 8


@dataclass(slots=True)
class Screen:
    """Prints the demo and remembers whether every check held."""

    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    started: float = field(default_factory=time.monotonic)
    failed: list[str] = field(default_factory=list)
    checks: int = 0

    def columns(self) -> dict[str, str]:
        """Return the setting that makes a command print its tables as wide as this terminal, less the margin."""
        return {"COLUMNS": str(self.console.width - MARGIN)} if self.console.is_terminal else {}

    def step(self, title: str) -> None:
        """Begin a step."""
        self.console.print(f"\n[bold cyan]{self._clock()}[/]  [bold]{title}[/]")

    def say(self, text: str) -> None:
        """Print a line of the current step."""
        self.console.print(f"        {text}")

    def show(self, text: str) -> None:
        """Print what a command of the product printed, as it is."""
        for line in text.rstrip().splitlines():
            self.console.print(f"        {line}", markup=False)

    def check(self, what: str, *, expected: object, found: object) -> None:
        """Print a check with both figures, and remember it if it failed."""
        self.checks += 1
        if expected == found:
            self.console.print(f"        [green]✓[/] {what}: {found}")
        else:
            self.failed.append(what)
            self.console.print(f"        [red]✗ {what}: expected {expected}, found {found}[/]")

    def live(self, spend: Mapping[str, str], *, sent: int, of: int) -> None:
        """Print one line of live spend per contract while usage arrives."""
        figures = "  ".join(f"{contract} [bold]{amount}[/]" for contract, amount in spend.items())
        self.console.print(f"        [dim]{self._clock()} {100 * sent // max(of, 1):3d} %[/]  {figures}")

    def finish(self) -> int:
        """Print the verdict and return the process's exit code."""
        took = f"{time.monotonic() - self.started:.0f} s"
        if self.failed:
            self.console.print(f"\n[bold red]{len(self.failed)} of {self.checks} checks failed[/] ({took}):")
            for what in self.failed:
                self.console.print(f"        [red]✗ {what}[/]")
            return 1
        self.console.print(f"\n[bold green]All {self.checks} checks held[/] ({took}).")
        return 0

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self.started)
        return f"{seconds // 60:02d}:{seconds % 60:02d}"
