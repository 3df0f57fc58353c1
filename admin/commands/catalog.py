"""`meterbook catalog`: everything that is sold and agreed, as files."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from admin import durable
from admin.commands.options import AsJson, By, parse_day, read_text
from admin.connections import books
from admin.errors import AwayError, DoorError
from admin.screen import say, say_json, show_table
from ledger.catalog import Change, apply_catalog, export_catalog, plan_catalog, read_catalog

application = typer.Typer()

Folder = Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A folder of YAML files.")]
NewFolder = Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Where the files are written.")]
From = Annotated[
    date | None,
    typer.Option(
        "--from", metavar="YYYY-MM-DD", parser=parse_day, help="The first day of the terms of contracts that change."
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Why contracts are amended; it is kept with them.")]
Yes = Annotated[bool, typer.Option("--yes", help="Apply without asking.")]
OnlyPlan = Annotated[bool, typer.Option("--plan", help="Show the plan, and apply nothing.")]


@application.command(epilog="Example: meterbook catalog apply catalog --plan")
def apply(
    folder: Folder,
    *,
    by: By,
    effective_from: From = None,
    reason: Reason = "catalogue",
    yes: Yes = False,
    plan: OnlyPlan = False,
    as_json: AsJson = False,
) -> None:
    """Record what the files of a folder define, all or nothing; the plan is shown first. The same again is harmless."""
    found = read_catalog(_read(folder))
    with books() as connection:
        planned = plan_catalog(connection, found, by=by, effective_from=effective_from, reason=reason)
    if as_json and plan:
        say_json(planned)
        return
    if not as_json:
        _show(planned)
    is_changed = any(change.action != "nothing" for change in planned)
    if plan:
        return
    if is_changed and not (yes or as_json):
        typer.confirm("Apply this?", abort=True)
    with books() as connection:
        applied = apply_catalog(connection, found, by=by, effective_from=effective_from, reason=reason)
    _start(applied)
    if as_json:
        say_json(applied)
    else:
        changed = sum(change.action != "nothing" for change in applied)
        say(f"{changed} of {len(applied)} changed" if changed else "nothing was to change")


@application.command(epilog="Example: meterbook catalog export catalog")
def export(folder: NewFolder) -> None:
    """Write everything that is recorded as files, so that applying them would change nothing."""
    with books() as connection:
        files = export_catalog(connection)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        say(f"{path} is written")
    if not files:
        say("nothing is recorded yet")


def _read(folder: Path) -> dict[str, str]:
    paths = sorted(path for pattern in ("*.yaml", "*.yml") for path in folder.rglob(pattern))
    hidden = [path for path in paths if any(part.startswith(".") for part in path.relative_to(folder).parts)]
    found = {str(path.relative_to(folder)): read_text(path) for path in paths if path not in hidden}
    if not found:
        raise DoorError(f"{folder} holds no *.yaml file; write one with `meterbook init --template llm-api {folder}`")
    return found


def _show(planned: Sequence[Change]) -> None:
    show_table(
        ("file", "kind", "id", "plan", "what"),
        [(change.file, change.kind, change.name, change.action, change.detail) for change in planned],
    )


def _start(applied: Sequence[Change]) -> None:
    """Start the workflows of the contracts; one that runs already goes on."""
    for change in applied:
        if change.kind == "contract":
            try:
                durable.start_contract(change.name)
            except AwayError as error:
                raise AwayError(
                    f"everything is recorded, but the workflow of contract {change.name} is not started: {error.what}",
                    "run the same command again to start it",
                ) from error
