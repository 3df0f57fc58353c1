"""`meterbook ratecard`: the prices that many contracts share."""

from collections.abc import Iterator
from typing import Annotated

import typer

from admin.commands.options import AsJson, By, InputFile
from admin.connections import books
from admin.input_files import taken
from admin.price_words import price_text
from admin.screen import moment, say, say_json, show_table
from ledger.files.cards import parse_rate_card
from ledger.rate_cards import get_card, load_cards, record_card
from pricing.cards import RateCard

application = typer.Typer()

CardId = Annotated[str, typer.Argument(metavar="RATE_CARD", help="The card's id.")]
OUTCOMES = {
    "created": "is recorded",
    "changed": "has a new version; contracts that use cards are accrued anew",
    "same": "is recorded already, with the same content",
}


@application.command(epilog="Example: meterbook ratecard create rate_card.yaml --by finance")
def create(file: InputFile, *, by: By) -> None:
    """Record a rate card, or a changed one as its next version; what is invoiced keeps the prices it had."""
    card = taken(file, parse_rate_card)
    with books() as connection:
        outcome = record_card(connection, card, by=by)
    say(f"rate card {card.card_id} {OUTCOMES[outcome]}")


@application.command("list", epilog="Example: meterbook ratecard list --json")
def list_(*, as_json: AsJson = False) -> None:
    """List the rate cards with their aliases."""
    with books() as connection:
        cards = load_cards(connection)
    if as_json:
        say_json(cards)
        return
    show_table(
        ("rate card", "currency", "products", "aliases"),
        [(c.card_id, c.currency.code, str(len(c.products)), ", ".join(_aliases(c)) or "-") for c in cards],
        right=("products",),
        empty="no rate card is recorded yet; record one with `meterbook ratecard create FILE`",
    )


@application.command(epilog="Example: meterbook ratecard show list-2026")
def show(card_id: CardId, *, as_json: AsJson = False) -> None:
    """Show the prices of a rate card, each from its date."""
    with books() as connection:
        card = get_card(connection, card_id)
    if as_json:
        say_json(card)
        return
    show_table(
        ("product", "name", "metric", "from", f"price in {card.currency.code}"),
        [
            (
                listed.product.product_id,
                listed.product.name,
                listed.product.metric_id or "-",
                "ever" if rate.effective_from is None else moment(rate.effective_from),
                price_text(rate.price, listed.product.unit),
            )
            for listed in card.products
            for rate in listed.rates
        ],
        title=f"Rate card {card.card_id}, also {', '.join(_aliases(card))}" if card.aliases else f"Rate card {card_id}",
    )


def _aliases(card: RateCard) -> Iterator[str]:
    for entry in card.aliases:
        yield entry.alias + ("" if entry.effective_from is None else f" from {moment(entry.effective_from)}")
