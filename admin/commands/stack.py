"""`meterbook up | down | status`: the local stack, processes of its own that are no part of the product."""

import subprocess
import sys
from importlib.util import find_spec

import typer

from admin.commands.options import AsJson
from admin.errors import DoorError

EXAMPLES = {
    "up": "Example: meterbook up",
    "down": "Example: meterbook down",
    "status": "Example: meterbook status --json",
}


def up() -> None:
    """Start PostgreSQL, Temporal, the Stripe simulator, a worker and the HTTP API, and leave them running."""
    _run("up")


def down() -> None:
    """Stop the local stack."""
    _run("down")


def status(*, as_json: AsJson = False) -> None:
    """Show each part of the local stack with its address."""
    _run("status", *(["--json"] if as_json else []))


def _run(*arguments: str) -> None:
    if find_spec("infra") is None or find_spec("psutil") is None:
        raise DoorError(
            "the local stack is not installed here; install Meterbook from a clone with the dependency group "
            "`local`, or set DATABASE_URL, TEMPORAL_ADDRESS and STRIPE_API_KEY to use your own servers"
        )
    command = [sys.executable, "-m", "infra.stack", *arguments]
    raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - our own module, fixed arguments
