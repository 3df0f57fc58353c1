"""Rate cards: products with dated prices that many contracts share, and the aliases that lead to a card."""

from dataclasses import dataclass
from datetime import datetime

from pricing.money import Currency
from pricing.prices import Price
from pricing.terms import CustomUnit, ProductPrice


@dataclass(frozen=True, slots=True)
class CardRate:
    """The price of a card's product from `effective_from` (UTC; None: from ever) until its next rate's."""

    effective_from: datetime | None
    price: Price


@dataclass(frozen=True, slots=True)
class CardProduct:
    """A product of a card with its rates, at least one, by rising `effective_from`.

    Only the first rate may be from ever. `product.price` is the first rate's; what applies at a moment is the rate in
    force then.
    """

    product: ProductPrice
    rates: tuple[CardRate, ...]


@dataclass(frozen=True, slots=True)
class AliasEntry:
    """From `effective_from` (UTC; None: from ever) the alias leads to this card, until another card takes it over."""

    alias: str
    effective_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class RateCard:
    """A rate card in one currency; `units` are the custom units in which its products may be priced."""

    card_id: str
    currency: Currency
    units: tuple[CustomUnit, ...]
    products: tuple[CardProduct, ...]
    aliases: tuple[AliasEntry, ...] = ()
