"""`meterbook usage completeness`, `declare` and `unmatched`: whether all usage is there, and whether it is rated."""

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Annotated

import typer

from admin.commands.options import AsJson, By, Limit, parse_day, parse_moment
from admin.connections import books
from admin.screen import moment, say, say_json, show_table
from ledger.completeness import HOUR, Completeness, Declaration, HourOfUsage, declare_usage
from ledger.completeness import completeness as completeness_of
from ledger.unmatched import list_unmatched

SHOWN = timedelta(days=7)
DAY_LENGTH = len("2026-10-05")


def parse_bound(text: str) -> datetime:
    """Read the start of a day in UTC, or a moment with its zone; raise a usage error naming the form."""
    if len(text) == DAY_LENGTH:
        return datetime.combine(parse_day(text), time(), tzinfo=UTC)
    return parse_moment(text)


Hour = Annotated[datetime, typer.Argument(metavar="HOUR", parser=parse_moment, help="2026-10-31T14:00:00Z")]
Since = Annotated[
    datetime | None, typer.Option("--from", metavar="DAY|TIME", parser=parse_bound, help="Default: a week ago.")
]
Until = Annotated[datetime | None, typer.Option("--to", metavar="DAY|TIME", parser=parse_bound, help="Default: now.")]
OfSource = Annotated[str | None, typer.Option("--source", help="Only of this source.")]
Source = Annotated[str, typer.Argument(metavar="SOURCE", help="The source as events name it.")]
Count = Annotated[int, typer.Argument(metavar="COUNT", min=0, help="Events that it made in that hour of usage.")]


def completeness(*, source: OfSource = None, since: Since = None, until: Until = None, as_json: AsJson = False) -> None:
    """Show by source and hour that accepted = rated + unmatched + withdrawn, beside what the source declared.

    Gaps between hours with usage and sources that stopped are flagged. Exit code 1 when something is missing.
    """
    now = datetime.now(UTC)
    end = until or now.replace(minute=0, second=0, microsecond=0) + HOUR
    with books() as connection:
        found = completeness_of(connection, start=since or end - SHOWN, end=end, now=now, source=source)
    if as_json:
        say_json(found)
    else:
        _show(found)
    if any((one.missing or 0) > 0 for one in found.usage):
        raise typer.Exit(1)


def declare(source: Source, hour: Hour, count: Count, *, by: By) -> None:
    """Declare how many events a source made in an hour of usage, for `usage completeness`; again replaces it."""
    with books() as connection:
        changed = declare_usage(connection, [Declaration(source, hour, count)], by=by, at=datetime.now(UTC))
    done = "is declared" if changed else "was declared already"
    say(f"{count} events of {source} in the hour from {moment(hour)}: {done}")


def unmatched(*, limit: Limit = 50, as_json: AsJson = False) -> None:
    """Show usage that is accepted and not rated: why, since when, examples, and the command that changes it."""
    with books() as connection:
        found = list_unmatched(connection, limit=limit)
    if as_json:
        say_json(found)
        return
    show_table(
        ("reason", "alias", "type", "events", "from", "to", "such as"),
        [
            (
                one.reason.replace("_", " "),
                one.customer_alias,
                one.type,
                str(one.events),
                moment(one.first),
                moment(one.last),
                ", ".join(f"{example.source} {example.key}" for example in one.examples) or "-",
            )
            for one in found
        ],
        right=("events",),
        empty="all usage is rated",
    )
    for fix in dict.fromkeys(one.fix for one in found):
        say(f"fix: {fix}")


def _show(found: Completeness) -> None:
    show_table(
        ("source", "hour of usage", "accepted", "rated", "unmatched", "withdrawn", "declared", "missing"),
        [_row(one) for one in found.usage],
        title=f"usage from {moment(found.start)} to {moment(found.end)}",
        right=("accepted", "rated", "unmatched", "withdrawn", "declared", "missing"),
        empty="no usage of that time came",
    )
    show_table(
        ("source", "hour of arrival", "accepted", "duplicate", "conflict", "rejected"),
        [
            (one.source or "-", moment(one.hour), *_figures(one.accepted, one.duplicate, one.conflict, one.rejected))
            for one in found.arrivals
        ],
        title="what arrived in that time",
        right=("accepted", "duplicate", "conflict", "rejected"),
        empty="nothing arrived in that time",
    )
    for one in found.incomplete:
        missing = one.missing or 0
        told = f"{missing} are missing" if missing > 0 else f"{-missing} more came than that"
        say(f"{one.source} declared {one.declared} for {moment(one.hour)}: {told}", style="red")
    for gap in found.gaps:
        hours = "an hour" if gap.hours == 1 else f"{gap.hours} hours"
        say(f"gap: {gap.source} has no usage for {hours} from {moment(gap.start)}", style="yellow")
    for silence in found.silences:
        say(
            f"silent: nothing came from {silence.source} for {silence.silent_hours} hours, since the hour from "
            f"{moment(silence.last_hour)}; its usual gap is {silence.usual_hours} hours, flagged over "
            f"{silence.factor} times that",
            style="red",
        )


def _row(one: HourOfUsage) -> tuple[str, ...]:
    figures = _figures(one.accepted, one.rated, one.unmatched, one.withdrawn, one.declared, one.missing)
    return (one.source, moment(one.hour), *figures)


def _figures(*figures: int | None) -> Iterable[str]:
    return ("-" if figure is None else str(figure) for figure in figures)
