"""`meterbook gate`: may a customer use a feature now, and what is left of it."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import typer

from admin.commands.options import AsJson, parse_figure
from admin.connections import books
from admin.plain import decimal_text
from admin.screen import moment, say, say_json, show_facts
from ledger.gates import Reason, check_gate

application = typer.Typer()

NUMBER = "NUMBER"
WORDS: dict[Reason, str] = {
    "no_feature": "no contract grants it",
    "no_contract": "the contract that grants it has not begun, or is over",
    "stopped": "an alert holds the gates of the customer; see `meterbook alert list --open`",
    "problem": "rating of its contract stopped; see `meterbook contract show`",
    "units_spent": "too few units are left in this period",
    "balance_spent": "too little money is left",
    "cap_reached": "the spend cap leaves too little",
    "unpriced": "the estimate cannot be valued; give it in units where it is metered, else as an amount",
}


@application.callback()
def gate() -> None:
    """May a customer use a feature now, and what is left of it."""


@application.command(epilog="Example: meterbook gate check acme writing --units 2000")
def check(
    customer_id: Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer's id.")],
    feature_id: Annotated[str, typer.Argument(metavar="FEATURE", help="The feature's id.")],
    *,
    units: Annotated[
        Decimal | None, typer.Option("--units", metavar=NUMBER, parser=parse_figure, help="The estimate in units.")
    ] = None,
    amount: Annotated[
        Decimal | None, typer.Option("--amount", metavar=NUMBER, parser=parse_figure, help="The estimate in money.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a gate as programs do by `POST /v1/gate`."""
    with books() as connection:
        answer = check_gate(connection, customer_id, feature_id, units=units, amount=amount, at=datetime.now(UTC))
    if as_json:
        say_json(answer)
        return
    by_rule = "" if answer.rule_id is None else f" (rule {answer.rule_id})"
    say("allowed" if answer.reason is None else f"denied: {WORDS[answer.reason]}{by_rule}")
    show_facts(
        [
            ("left in money", "-" if answer.left_amount is None else decimal_text(answer.left_amount)),
            ("left in units", "-" if answer.left_units is None else decimal_text(answer.left_units)),
            ("includes usage before", moment(answer.watermark)),
        ]
    )
