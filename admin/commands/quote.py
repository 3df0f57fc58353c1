"""`meterbook quote`: what a contract would charge, for usage that is only said."""

import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from admin.commands.options import AsJson, InputFile
from admin.connections import books
from admin.errors import DoorError
from admin.input_files import taken
from admin.screen import money, say, say_json, show_table
from ledger.definitions import ContractDefinition
from ledger.files.cards import parse_rate_card
from ledger.files.contracts import parse_contract
from ledger.rate_cards import load_cards
from pricing.calendar import local_date
from pricing.cards import RateCard
from pricing.errors import PricingError
from pricing.explanation import explained_period
from pricing.money import round_to_currency, total
from pricing.quotes import SaidUsage, quote_period
from pricing.rated import Fee, Line, RatedPeriod
from pricing.resolution import resolved
from pricing.terms import Terms
from pricing.wording import counted

EXAMPLE = "Example: meterbook quote contract.yaml --usage 'tokens[model=large]=1250000' --usage requests=310"

_SAID = re.compile(r"(?P<metric>[^\[=]+)(\[(?P<groups>[^\]]*)\])?=(?P<quantities>[0-9.,]+)")
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,12})?")

Usage = Annotated[
    list[str] | None,
    typer.Option(
        metavar="METRIC[KEY=VALUE,...]=QUANTITY",
        help="Usage of a metric, for group values where the price asks for them. Repeatable.",
    ),
]
Values = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC=VALUE,VALUE,...", help="Single events, for prices that look at each. Repeatable."),
]
Cards = Annotated[
    list[Path] | None,
    typer.Option("--card", exists=True, dir_okay=False, help="A rate card's file, instead of the recorded cards."),
]
Start = Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="The first day, instead of the file's `start`.")]
Number = Annotated[int, typer.Option("--period", min=1, help="Which billing period, 1 being the first.")]


def quote(
    file: InputFile,
    *,
    usage: Usage = None,
    values: Values = None,
    card: Cards = None,
    start: Start = None,
    period: Number = 1,
    as_json: AsJson = False,
) -> None:
    """Show what a contract file would bill for a period, and how: nothing is recorded, no customer is needed."""
    definition = taken(file, lambda text: parse_contract(text, start=start))
    said = [*(_said(one) for one in usage or ()), *(_each(one) for one in values or ())]
    try:
        terms = resolved([definition.terms], _cards(definition, card))
        _refuse_unknown(terms, said)
        rated = quote_period(
            terms,
            said,
            time_zone=definition.time_zone,
            cadence=definition.cadence,
            anchor=definition.anchor,
            number=period - 1,
        )
    except PricingError as error:
        raise DoorError(f"{file} cannot be quoted: {error}") from error
    lines = [*rated.lines, *(_fee_line(fee, rated) for fee in rated.fees if fee.amount)]
    if as_json:
        say_json({"lines": lines, "total": total([line.amount for line in lines]), "charges": rated.charges})
        return
    _show(definition, rated, lines)


def _show(definition: ContractDefinition, rated: RatedPeriod, lines: Sequence[Line]) -> None:
    currency = rated.currency.code
    zone = definition.time_zone
    first, end = local_date(rated.period.start, zone), local_date(rated.period.end, zone)
    rows = [(_name(line), counted(line.quantity, line.unit), money(line.amount, currency)) for line in lines]
    whole = money(total([line.amount for line in lines]), currency)
    show_table(
        ("line", "quantity", currency),
        [*rows, ("total before tax", "", whole)],
        title=f"{definition.contract_id}: {first} up to {end}, as if all usage were known",
        right=("quantity", currency),
    )
    say("")
    for sentence in explained_period(rated):
        say(sentence)


def _name(line: Line) -> str:
    groups = ", ".join(value for _, value in line.groups)
    return f"{line.description} ({groups})" if groups else line.description


def _fee_line(fee: Fee, rated: RatedPeriod) -> Line:
    kind = "fee" if fee.timing == "advance" else "fee_in_arrears"
    amount = round_to_currency(fee.amount, rated.currency)
    return Line(kind, fee.product_id, fee.name, fee.service, fee.quantity, "period", fee.amount, amount, fee.steps)  # type: ignore[arg-type] # one of the two kinds


def _cards(definition: ContractDefinition, files: Sequence[Path] | None) -> Sequence[RateCard]:
    if files:
        return [taken(file, parse_rate_card) for file in files]
    if definition.terms.card is None:
        return ()
    with books() as connection:
        return load_cards(connection)


def _said(text: str) -> SaidUsage:
    match = _SAID.fullmatch(text)
    if match is None or not _NUMBER.fullmatch(match["quantities"]):
        raise DoorError(
            f"--usage {text!r} cannot be read; write METRIC=QUANTITY, such as tokens=1250000, "
            "or METRIC[KEY=VALUE]=QUANTITY, such as 'tokens[model=large]=1250000'"
        )
    pairs = [pair.partition("=") for pair in (match["groups"] or "").split(",") if pair]
    if any(not equals or not value for _, equals, value in pairs):
        raise DoorError(f"--usage {text!r} names a group without a value; write [KEY=VALUE,KEY=VALUE]")
    groups = tuple(sorted((key.strip(), value.strip()) for key, _, value in pairs))
    return SaidUsage(match["metric"].strip(), Decimal(match["quantities"]), groups)


def _each(text: str) -> SaidUsage:
    metric, equals, listed = text.partition("=")
    numbers = listed.split(",")
    if not equals or not all(_NUMBER.fullmatch(number) for number in numbers):
        raise DoorError(f"--values {text!r} cannot be read; write METRIC=VALUE,VALUE, such as payments=10,80,10000")
    each = tuple(Decimal(number) for number in numbers)
    return SaidUsage(metric.strip(), total(each), events=len(each), values=each)


def _refuse_unknown(terms: Sequence[Terms], said: Sequence[SaidUsage]) -> None:
    known = sorted({p.metric_id for version in terms for p in version.prices if p.metric_id is not None})
    for one in said:
        if one.metric_id not in known:
            listed = f"use one of {', '.join(known)}" if known else "its products count none"
            raise DoorError(f"metric {one.metric_id!r} is not priced by this contract; {listed}")
