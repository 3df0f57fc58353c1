"""`meterbook usage months` and `usage archive`: where the events of each month are."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from admin.commands.options import AsJson, parse_month
from admin.connections import books, settings
from admin.errors import DoorError
from admin.plain import plain
from admin.screen import say, say_json, show_table
from ledger.intake.partitions import archive, detach, list_months

MONTHS_EXAMPLE = "Example: meterbook usage months"
ARCHIVE_EXAMPLE = "Example: meterbook usage archive 2026-01"
MEGABYTE = 1024 * 1024

UsageMonth = Annotated[date, typer.Argument(metavar="YYYY-MM", parser=parse_month, help="The month, in UTC.")]
Directory = Annotated[
    Path | None, typer.Option("--to", metavar="FOLDER", help="Where the file goes; default: METERBOOK_ARCHIVE_DIR.")
]
ExportOnly = Annotated[bool, typer.Option("--export-only", help="Leave the events in the database too.")]


def months(*, as_json: AsJson = False) -> None:
    """Show the months of usage: their events, their size in the database, and where they are."""
    with books() as connection:
        found = list_months(connection, at=datetime.now(UTC))
    if as_json:
        say_json({"months": [plain(one) for one in found]})
        return
    show_table(
        ("month", "state", "events", "MB in the database", "file"),
        [
            (f"{one.month:%Y-%m}", one.state, f"{one.events}", f"{one.size / MEGABYTE:.1f}", one.path or "-")
            for one in found
        ],
        right=("events", "MB in the database"),
        empty="no month has events yet",
    )


def archive_month(
    month: UsageMonth, *, to: Directory = None, export_only: ExportOnly = False, as_json: AsJson = False
) -> None:
    """Export a month's events to a Parquet file, read it back, and take them out of the database.

    Keys and totals stay: balances do not change, and what is sent again is known. A month leaves only when all of its
    periods are invoiced and nothing late waits; the oldest first.
    """
    directory = to or settings().meterbook_archive_dir
    if directory is None:
        raise DoorError("no folder for the file is known; name one with --to or set METERBOOK_ARCHIVE_DIR")
    at = datetime.now(UTC)
    with books() as connection:
        found = archive(connection, month, directory, at=at)
        if not export_only:
            detach(connection, month, at=at)
    if as_json:
        say_json(
            {"month": f"{month:%Y-%m}", "events": found.events, "path": str(found.path), "detached": not export_only}
        )
        return
    where = "they are in the database too" if export_only else "they have left the database"
    say(f"{found.events} events of {month:%Y-%m} are in {found.path}; {where}")
