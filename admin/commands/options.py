"""Options and arguments that commands share."""

import getpass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from admin.errors import DoorError

AsJson = Annotated[bool, typer.Option("--json", help="For programs: decimals as text, times in ISO 8601.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Show at most so many.")]
InputFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, metavar="FILE")]
EntityId = Annotated[str, typer.Argument(metavar="ENTITY", help="The entity's id.")]
ContractId = Annotated[str, typer.Argument(metavar="CONTRACT", help="The contract's id.")]
InvoiceId = Annotated[str, typer.Argument(metavar="INVOICE", help="The invoice's id.")]
OfEntity = Annotated[str | None, typer.Option("--entity", metavar="ENTITY", help="Only of this entity.")]
OfCustomer = Annotated[str | None, typer.Option("--customer", metavar="CUSTOMER", help="Only of this customer.")]
OfContract = Annotated[str | None, typer.Option("--contract", metavar="CONTRACT", help="Only of this contract.")]


def login_name() -> str:
    """Return the name this process's user has logged in with; raise `DoorError` when it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise DoorError("your login name is not known here; say who you are with --by NAME") from error


By = Annotated[
    str, typer.Option("--by", metavar="NAME", default_factory=login_name, show_default="your login name", help="Who.")
]


def parse_day(text: str) -> date:
    """Read a day; raise a usage error naming the form."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day; write it as 2026-10-31") from None


def parse_moment(text: str) -> datetime:
    """Read a moment with its zone, as UTC; raise a usage error naming the form."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time; write it as 2026-10-05T00:00:00Z") from None
    if found.utcoffset() is None:
        raise typer.BadParameter(f"{text!r} has no time zone; write it as 2026-10-05T00:00:00Z")
    return found.astimezone(UTC)


AsOf = Annotated[
    datetime | None,
    typer.Option("--as-of", metavar="TIME", parser=parse_moment, help="As it was known then: 2026-10-05T12:00:00Z."),
]


def parse_figure(text: str) -> Decimal:
    """Read a number exactly; raise a usage error naming the form."""
    try:
        return Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is not a number; write it as 500 or 0.25") from None


def parse_month(text: str) -> date:
    """Read a month as its first day; raise a usage error naming the form."""
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007 - a calendar month has no time zone
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a month; write it as 2026-10") from None


Month = Annotated[date, typer.Argument(metavar="YYYY-MM", parser=parse_month, help="The month, of the entity's zone.")]


def read_text(path: Path) -> str:
    """Return a file's text; raise `DoorError` when it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DoorError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
