"""Rate cards, and catalogs of what is counted and sold."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter

from ledger.files.contracts import ANY_CURRENCY, ZONE, pieces_of, refuse_contradictions
from ledger.files.document import Part, joined, read_document
from ledger.files.metrics import METRIC_FILE, metric_of
from ledger.files.problems import read, read_at
from ledger.files.shapes import FileModel, Shaped, built, extended
from ledger.files.values import FIRST_MOMENT, CurrencyCode, Setting, Slug, TimeZone, refused
from pricing.cards import AliasEntry, CardProduct, CardRate, RateCard
from pricing.metrics import Metric
from pricing.money import Currency
from pricing.prices import Price
from pricing.terms import CustomUnit, ProductPrice, Terms

RATES = tuple[Annotated[CardRate, Shaped()], ...]


def _card_product(said: FileModel) -> CardProduct:
    price: Price | None = getattr(said, "price", None)
    rates: tuple[CardRate, ...] = getattr(said, "rates", ())
    if (price is None) == (not rates):
        found = "has neither price nor rates" if price is None else "has a price beside rates"
        raise refused(f"{found}; give exactly one of them, rates where the price changes on a date")
    dated = rates or (CardRate(None, price),) if price is not None else rates
    return CardProduct(built(ProductPrice, said, price=dated[0].price), dated)


CARD_PRODUCT: Any = Annotated[
    extended("CardProduct", ProductPrice, price=(Annotated[Price, Shaped()] | None, None), rates=(RATES, ())),
    AfterValidator(_card_product),
]
"""A product of a card: in place of `price` it may have `rates`, each from a date."""


class RateCardFile(FileModel):
    """A rate card. Its dates are midnights in `time_zone`, without one in UTC."""

    rate_card: Slug
    currency: CurrencyCode
    time_zone: TimeZone = "UTC"
    units: tuple[Annotated[CustomUnit, Shaped()], ...] = ()
    products: tuple[Annotated[CardProduct, Shaped(CARD_PRODUCT)], ...]
    aliases: tuple[Annotated[AliasEntry, Shaped()], ...] = ()


class CatalogFile(FileModel):
    """What is counted and sold: metrics, and the rate cards that price them."""

    metrics: tuple[Annotated[Metric, Shaped(METRIC_FILE)], ...] = ()
    rate_cards: tuple[RateCardFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalog:
    """The metrics and rate cards of one file."""

    metrics: tuple[Metric, ...]
    rate_cards: tuple[RateCard, ...]


PRODUCT = TypeAdapter(Annotated[CardProduct, Shaped(CARD_PRODUCT)])
RATE_CARD = TypeAdapter(RateCardFile)
CATALOG = TypeAdapter(CatalogFile)
LISTS: Mapping[str, TypeAdapter[Any]] = {
    "products": PRODUCT,
    "units": TypeAdapter(Annotated[CustomUnit, Shaped()]),
}
_CURRENCY: TypeAdapter[Currency] = TypeAdapter(CurrencyCode)


def parse_rate_card(text: str) -> RateCard:
    """Return the rate card that a YAML file defines; raise `FileError` with everything that is wrong."""
    part = read_document(text)
    card = card_of(part)
    part.findings.settle()
    if card is None:
        raise AssertionError("what cannot be read has a problem")
    return card


def parse_catalog(text: str) -> Catalog:
    """Return the metrics and rate cards of a YAML file; raise `FileError` with everything that is wrong."""
    part = read_document(text)
    read(CATALOG, part, Setting())
    metrics = [metric_of(item) for item in part.below("metrics")]
    cards = [card_of(item) for item in part.below("rate_cards")]
    part.findings.settle()
    return Catalog(
        tuple(metric for metric in metrics if metric is not None), tuple(card for card in cards if card is not None)
    )


def card_of(part: Part) -> RateCard | None:
    """Return the rate card that a part of a file describes, or None with its problems noted."""
    setting = Setting(read_at(ZONE, part, "time_zone", Setting()) or "UTC")
    said = read(RATE_CARD, part, setting)
    if said is not None and not said.products:
        part.findings.refuse(joined(part.path, "products"), "names no product; list at least one, with its price")
    _check_products(part, setting)
    if said is None:
        return None
    for n, alias in enumerate(said.aliases):
        if alias.alias in [one.alias for one in said.aliases[:n]]:
            place = joined(part.path, f"aliases[{n}].alias")
            part.findings.refuse(place, f"repeats {alias.alias!r}; an alias comes to a card once")
    return RateCard(said.rate_card, said.currency, said.units, said.products, said.aliases)


def _check_products(part: Part, setting: Setting) -> None:
    """Note what contradicts itself in the products that can be read, at each of their rates."""
    pieces = pieces_of(part, LISTS, setting)
    products: tuple[CardProduct, ...] = pieces.of("products")
    terms = Terms(
        contract_id=str(part.scalar("rate_card") or ""),
        version=1,
        effective_from=FIRST_MOMENT,
        currency=read_at(_CURRENCY, part, "currency", setting) or ANY_CURRENCY,
        prices=(),
        units=pieces.of("units"),
    )
    rates = max((len(product.rates) for product in products), default=1)
    for nth in range(rates):
        prices = tuple(_at_rate(product, nth) for product in products)
        refuse_contradictions(replace(terms, prices=prices), pieces, part.findings, at=_dated(products, nth))
    for n, product in enumerate(products):
        for path, message in _rates_problems(product.rates):
            part.findings.refuse(pieces.in_file(f"products[{n}].{path}"), message)


def _at_rate(product: CardProduct, nth: int) -> ProductPrice:
    """Return a product at its nth price, its last where it has fewer."""
    return replace(product.product, price=product.rates[min(nth, len(product.rates) - 1)].price)


def _dated(products: Sequence[CardProduct], nth: int) -> Mapping[str, str]:
    """Return where the prices of terms at the nth rates stand in a card's file."""
    return {
        f"products[{n}].price": f"products[{n}].rates[{min(nth, len(product.rates) - 1)}].price"
        for n, product in enumerate(products)
        if len(product.rates) > 1 or product.rates[0].effective_from is not None
    }


def _rates_problems(rates: Sequence[CardRate]) -> Iterator[tuple[str, str]]:
    for n, (before, after) in enumerate(pairwise(rates), start=1):
        if after.effective_from is None:
            yield f"rates[{n}].from", "is missing; only the first rate may be from ever"
        elif before.effective_from is not None and after.effective_from <= before.effective_from:
            yield f"rates[{n}].from", f"is not after {before.effective_from.isoformat()}, the rate before; sort them"
