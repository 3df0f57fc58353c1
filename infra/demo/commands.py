"""The demo speaks to the product as a person would: through the command `meterbook` and the HTTP API."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx


class DemoError(Exception):
    """A step of the demo did not do what it must."""


@dataclass(frozen=True, slots=True)
class Product:
    """The doors of one running stack."""

    environment: Mapping[str, str]
    http: httpx.Client = field(compare=False)

    def run(self, *arguments: str) -> str:
        """Run `meterbook ARGUMENTS` and return what it prints; raise `DemoError` with its message when it fails."""
        done = self.attempt(*arguments)
        if done.returncode != 0:
            raise DemoError(f"meterbook {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `meterbook ARGUMENTS`, whatever it answers."""
        return subprocess.run(
            [sys.executable, "-m", "admin.cli", *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )

    def read(self, *arguments: str) -> Any:  # noqa: ANN401 - the shape is the command's
        """Run a reading command with `--json` and return its answer."""
        return json.loads(self.run(*arguments, "--json"))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `meterbook ARGUMENTS` in the background."""
        return subprocess.Popen(
            [sys.executable, "-m", "admin.cli", *arguments],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def files_folder() -> Path:
    """Return the folder of the demo's entity, metrics, customers and contracts."""
    return Path(__file__).parent / "files"
