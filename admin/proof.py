"""Running the verification and showing each of its checks with both figures."""

from collections.abc import Mapping

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
from ledger.verification import Check, verify

COLUMNS = ("", "check", "one side", "figure", "other side", "figure ")


def prove(*, as_json: bool) -> bool:
    """Verify the books, print every check, and return whether all held.

    Raises `AwayError` when PostgreSQL or Stripe does not answer.
    """
    charges = _charges()
    with books() as connection:
        checks = verify(connection, stripe_charges=charges)
    wrong = [check for check in checks if not check.ok]
    if as_json:
        say_json({"ok": not wrong, "checks": [plain(check) for check in checks]})
        return not wrong
    show_table(COLUMNS, [_row(check) for check in checks], right=(COLUMNS[3], COLUMNS[5]))
    if charges is None:
        note("STRIPE_API_KEY is not set: payments were not compared with Stripe's objects")
    for check in checks:
        if check.detail:
            say(f"{_mark(check)} {check.name}: {check.detail}")
    say(f"{len(wrong)} of {len(checks)} checks found a difference" if wrong else f"all {len(checks)} checks hold")
    return not wrong


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
