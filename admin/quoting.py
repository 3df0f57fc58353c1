"""Quoting: a contract's file and usage that is said on the command line become a quote."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

from admin.connections import books
from admin.errors import DoorError
from admin.input_files import taken
from admin.quote_screen import show_quote
from admin.screen import say_json
from ledger.definitions import ContractDefinition
from ledger.files.cards import parse_rate_card
from ledger.files.contracts import parse_contract
from ledger.rate_cards import load_cards
from pricing.calendar import Period, local_date, local_midnight, period_containing
from pricing.cards import RateCard
from pricing.errors import PricingError
from pricing.explanation import explained_period
from pricing.money import total
from pricing.quotes import Quote, SaidUsage, quote_period
from pricing.resolution import resolved

SAID = re.compile(r"(?P<metric>[^\[\]=]+)(\[(?P<groups>[^\[\]]*)\])?=(?P<said>[^=]*)")
NUMBER = re.compile(r"[0-9]{1,30}(\.[0-9]{1,24})?")


@dataclass(frozen=True, slots=True)
class QuotedContract:
    """A contract as its file defines it, and the quote of one of its billing periods."""

    definition: ContractDefinition
    quote: Quote


def quote_file(
    file: Path, said: Sequence[SaidUsage], *, cards: Sequence[Path], start: str | None, day: date | None
) -> QuotedContract:
    """Quote the billing period of a day (None: the first) of a contract's file.

    Its rate card comes from `cards`, the files of cards; without any from the books. Raises `DoorError`.
    """
    definition = taken(file, lambda text: parse_contract(text, start=start))
    try:
        quote = quote_period(
            resolved([definition.terms], _cards(definition, cards)),
            said,
            _period(definition, day),
            time_zone=definition.time_zone,
            contract_start=definition.start_at,
            contract_end=definition.end_at,
            cadence=definition.cadence,
            anchor=definition.anchor,
        )
    except PricingError as error:
        raise DoorError(f"{file} cannot be quoted: {error}") from error
    return QuotedContract(definition, quote)


def show(quoted: QuotedContract, *, as_json: bool) -> None:
    """Print a quote, for people or for programs."""
    definition = quoted.definition
    if as_json:
        say_json(_answer(definition, quoted.quote))
    else:
        show_quote(quoted.quote, definition.contract_id, definition.time_zone)


def _answer(definition: ContractDefinition, quote: Quote) -> dict[str, object]:
    return {
        "contract_id": definition.contract_id,
        "period": quote.period,
        "currency": quote.currency.code,
        "lines": quote.lines,
        "subtotal": quote.subtotal,
        "changes": quote.changes,
        "total": quote.total,
        "charges": quote.rated.charges,
        "explanation": explained_period(quote.rated, time_zone=definition.time_zone),
    }


def _period(definition: ContractDefinition, day: date | None) -> Period:
    """Return the contract's first billing period, or the one of a day."""
    zone = definition.time_zone
    moment = definition.start_at if day is None else max(local_midnight(day, zone), definition.start_at)
    first = local_date(definition.start_at, zone)
    if day is not None and day < first:
        raise DoorError(f"the contract has no period on {day}; it starts on {first}")
    if definition.end_at is not None and moment >= definition.end_at:
        raise DoorError(f"the contract has no period on {day}; it ends on {local_date(definition.end_at, zone)}")
    found = period_containing(definition.start_at, zone, moment, cadence=definition.cadence, anchor=definition.anchor)
    return Period(found.start, min(found.end, definition.end_at or found.end))


def _cards(definition: ContractDefinition, files: Sequence[Path]) -> Sequence[RateCard]:
    if files:
        return [taken(file, parse_rate_card) for file in files]
    if definition.terms.card is None:
        return ()
    with books() as connection:
        return load_cards(connection)


# --- usage that is said -------------------------------------------------------------------------------------------

Place = tuple[str, tuple[tuple[str, str], ...]]
"""A metric, and group values."""


def said_usage(
    usage: Iterable[str], *, values: Iterable[str], events: Iterable[str], amount: Iterable[str]
) -> tuple[SaidUsage, ...]:
    """Put together what the options say of each metric and its groups; raise `DoorError` for what cannot be meant."""
    return tuple(_said(usage, values, events, amount))


def _said(
    usage: Iterable[str], values: Iterable[str], events: Iterable[str], amount: Iterable[str]
) -> Iterator[SaidUsage]:
    quantities, listed = _numbers("--usage", usage), _numbers("--values", values, many=True)
    counts, amounts = _numbers("--events", events), _numbers("--amount", amount)
    for place in dict.fromkeys((*quantities, *listed, *counts, *amounts)):
        name = _named(place)
        if place in quantities and place in listed:
            raise DoorError(f"{name} is given by --usage and by --values; give one, the values say the quantity")
        if place in listed and place in counts:
            raise DoorError(f"{name} is given by --values and by --events; leave --events away, each value is one")
        if place not in quantities and place not in listed:
            raise DoorError(f"{name} has no quantity; give it by --usage as well")
        whole = listed.get(place)
        number = counts.get(place)
        if number is not None and (len(number) > 1 or number[0] != int(number[0])):
            raise DoorError(f"{name} is given no number of events; give --events one whole number")
        yield SaidUsage(
            metric_id=place[0],
            quantity=total(quantities[place] if whole is None else whole),
            groups=place[1],
            events=int(number[0]) if number is not None else None if whole is None else len(whole),
            amount=total(amounts[place]) if place in amounts else None,
            values=None if whole is None else tuple(whole),
        )


def _numbers(option: str, texts: Iterable[str], *, many: bool = False) -> dict[Place, list[Decimal]]:
    """Read what one option says; several for the same metric and groups are kept together."""
    found: dict[Place, list[Decimal]] = {}
    for text in texts:
        match = SAID.fullmatch(text)
        numbers = [] if match is None else match["said"].split(",") if many else [match["said"]]
        if match is None or not all(NUMBER.fullmatch(number) for number in numbers):
            form = "VALUE,VALUE" if many else "NUMBER"
            raise DoorError(
                f"{option} {text!r} cannot be read; write METRIC={form}, or 'METRIC[KEY=VALUE,KEY=VALUE]={form}', "
                "each number above or at zero, with a point and without other signs"
            )
        place = (match["metric"].strip(), _groups(option, text, match["groups"] or ""))
        found.setdefault(place, []).extend(Decimal(number) for number in numbers)
    return found


def _groups(option: str, text: str, written: str) -> tuple[tuple[str, str], ...]:
    pairs = [pair.partition("=") for pair in written.split(",") if pair.strip()]
    groups = [(key.strip(), value.strip()) for key, _, value in pairs]
    if not all(key and value for key, value in groups):
        raise DoorError(f"{option} {text!r} names a group without a value; write [KEY=VALUE,KEY=VALUE]")
    if len({key for key, _ in groups}) < len(groups):
        raise DoorError(f"{option} {text!r} names a group twice; give each key one value")
    return tuple(sorted(groups))


def _named(place: Place) -> str:
    metric_id, groups = place
    told = ",".join(f"{key}={value}" for key, value in groups)
    return f"usage of {metric_id}[{told}]" if told else f"usage of {metric_id}"
