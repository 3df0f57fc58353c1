"""Running the verification and showing each of its checks with both figures."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from activities.stripe_api import (
    RateLimitedError,
    StripeCash,
    StripeRefusedError,
    UnknownOutcomeError,
    list_succeeded_charges,
    stripe_client,
)
from admin.connections import books, settings
from admin.errors import AwayError, DoorError
from admin.plain import plain
from admin.screen import note, say, say_json, show_table
from ledger.verification import Check, Tell, left_out, scope_of, verify

COLUMNS = ("", "check", "one side", "figure", "other side", "figure ")


def prove(*, as_json: bool, contract_id: str | None = None, month: date | None = None) -> bool:
    """Verify the books, or one contract or month of them, print every check, and return whether all held.

    Raises `AwayError` when PostgreSQL or Stripe does not answer, `NotFoundError` for an unknown contract.
    """
    charges = _charges() if contract_id is None and month is None else None
    with books() as connection:
        omitted = left_out(scope_of(connection, contract_id, month))
    with books() as connection, _progress() as tell:
        checks = verify(connection, stripe_charges=charges, contract_id=contract_id, month=month, tell=tell)
    wrong = [check for check in checks if not check.ok]
    if as_json:
        say_json({"ok": not wrong, "checks": [plain(check) for check in checks], "left_out": [*omitted]})
        return not wrong
    show_table(COLUMNS, [_row(check) for check in checks], right=(COLUMNS[3], COLUMNS[5]))
    if charges is None and not omitted:
        note("STRIPE_API_KEY is not set: payments were not compared with Stripe's objects")
    for check in checks:
        if check.detail:
            say(f"{_mark(check)} {check.name}: {check.detail}")
    for sentence in omitted:
        say(sentence)
    say(f"{len(wrong)} of {len(checks)} checks found a difference" if wrong else f"all {len(checks)} checks hold")
    return not wrong


@contextmanager
def _progress() -> Iterator[Tell | None]:
    """Show each phase with its count on standard error; where that is no terminal, nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, TaskID] = {}

        def tell(phase: str, done: int, whole: int | None) -> None:
            if phase not in tasks:
                for before in tasks.values():
                    progress.stop_task(before)
                tasks[phase] = progress.add_task(phase, total=whole)
            progress.update(tasks[phase], completed=done, total=whole)

        yield tell


def _row(check: Check) -> tuple[str, ...]:
    return (
        _mark(check),
        check.name,
        check.left_label,
        check.left,
        check.right_label,
        check.right,
    )


def _mark(check: Check) -> str:
    return "✓" if check.ok else "✗"


def _charges() -> Mapping[str, StripeCash] | None:
    """Return Stripe's succeeded charges by id; None when Stripe is not configured."""
    key = settings().stripe_api_key
    if key is None:
        return None
    client = stripe_client(api_key=key.get_secret_value(), api_base=settings().stripe_api_base)
    try:
        return {cash.charge_id: cash for cash in list_succeeded_charges(client)}
    except (UnknownOutcomeError, RateLimitedError) as error:
        raise AwayError(f"Stripe's charges cannot be read now ({error})", "repeat the command") from error
    except StripeRefusedError as error:
        raise DoorError(f"Stripe's charges cannot be read ({error}); correct STRIPE_API_KEY") from error
