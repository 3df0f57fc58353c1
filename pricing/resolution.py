"""From rate cards and overrides to prices: what a contract pays at each moment, with where the price stands.

Rating knows only terms whose prices are their own; `resolved` makes them from terms that use a card.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from pricing.cards import CardProduct, RateCard
from pricing.composites import names
from pricing.errors import TermsError
from pricing.models import ANY_VALUE, scaled
from pricing.money import EXACT
from pricing.prices import Cell, CellPrice, Composite, FixedFee, Matrix, OneOff, Price, Seats
from pricing.terms import CardUse, Override, ProductPrice, Terms

EVER = datetime.min.replace(tzinfo=UTC)


def resolved(terms: Sequence[Terms], cards: Sequence[RateCard]) -> tuple[Terms, ...]:
    """Return a contract's terms with the prices of their cards and overrides in place, cut where a price changes.

    The parts of a version keep its number, and of two in effect the later one is in force. A product of the contract
    takes the place of the card's product of the same id. Raises `TermsError` for a card or alias that does not exist,
    or whose currency is another.
    """
    return tuple(part for version in terms for part in _parts(version, cards))


def card_at(use: CardUse, cards: Sequence[RateCard], moment: datetime) -> RateCard:
    """Return the card that a contract uses at a moment: its own, or the one its alias names then."""
    if use.alias is None:
        for card in cards:
            if card.card_id == use.card_id:
                return card
        raise TermsError(f"rate card {use.card_id!r} does not exist; apply its file first, or name another")
    asked = moment if use.as_of is None else use.as_of
    named = [
        (entry.effective_from or EVER, card)
        for card in cards
        for entry in card.aliases
        if entry.alias == use.alias and (entry.effective_from or EVER) <= asked
    ]
    if not named:
        raise TermsError(
            f"alias {use.alias!r} names no rate card at {asked.isoformat()}; "
            "give a card this alias from then or earlier, or name the card itself"
        )
    return max(named, key=lambda pair: pair[0])[1]


def overridden(product: ProductPrice, overrides: Sequence[Override], moment: datetime) -> ProductPrice:
    """Return a product with the overrides that hit it at a moment.

    For each usage exactly one override counts: prices go before multipliers, then the lowest priority, then the order
    of the file (Metronome's explicit prioritization). A multiplier multiplies the card's price, never another override.
    Usage that an override picks out by group values is rated for itself.
    """
    hits = [o for o in overrides if _is_in_effect(o, moment) and names(o.products, product.product_id, product.tags)]
    hits.sort(key=lambda o: (o.price is None, o.priority))
    if not hits:
        return product
    told = ", ".join(_told(override) for override in hits)
    source = f"{product.source}, {told}" if product.source else told
    if not hits[0].groups:
        return replace(product, price=_price_of(product, hits[0]), source=source)
    matrix = _picked_out(product, hits)
    group_by = tuple(dict.fromkeys((*product.group_by, *matrix.keys)))
    return replace(product, price=matrix, group_by=group_by, source=source)


# --- versions -----------------------------------------------------------------------------------------------------


def _parts(version: Terms, cards: Sequence[RateCard]) -> Iterator[Terms]:
    if version.card is None and not version.overrides:
        yield version
        return
    last: Terms | None = None
    for moment in (version.effective_from, *_changes(version, cards)):
        part = _part(version, cards, moment)
        if last is None or part != replace(last, effective_from=moment):
            yield part
            last = part


def _changes(version: Terms, cards: Sequence[RateCard]) -> list[datetime]:
    """Return, in order, the moments after a version's start at which one of its prices may change."""
    moments = {moment for override in version.overrides for moment in (override.start, override.end)}
    if version.card is not None:
        moments |= {rate.effective_from for card in cards for product in card.products for rate in product.rates}
        moments |= {entry.effective_from for card in cards for entry in card.aliases}
    return sorted(moment for moment in moments if moment is not None and moment > version.effective_from)


def _part(version: Terms, cards: Sequence[RateCard], moment: datetime) -> Terms:
    prices, units = version.prices, version.units
    if version.card is not None:
        card = card_at(version.card, cards, moment)
        if card.currency != version.currency:
            raise TermsError(
                f"contract {version.contract_id!r} is in {version.currency.code}, but rate card {card.card_id!r} in "
                f"{card.currency.code}; use a card in the currency of the contract"
            )
        own = {product.product_id for product in prices}
        listed = (_listed(card, product, moment) for product in card.products)
        prices = (*prices, *(p for p in listed if p is not None and p.product_id not in own))
        named = {unit.code for unit in units}
        units = (*units, *(unit for unit in card.units if unit.code not in named))
    return replace(
        version,
        effective_from=moment,
        prices=tuple(overridden(product, version.overrides, moment) for product in prices),
        units=units,
        card=None,
        overrides=(),
    )


def _listed(card: RateCard, listed: CardProduct, moment: datetime) -> ProductPrice | None:
    """Return a card's product with its rate at a moment; None before its first rate."""
    in_effect = [rate for rate in listed.rates if (rate.effective_from or EVER) <= moment]
    if not in_effect:
        return None
    rate = in_effect[-1]
    since = "" if rate.effective_from is None else f", rate from {rate.effective_from:%Y-%m-%d}"
    return replace(listed.product, price=rate.price, source=f"rate card {card.card_id}{since}")


# --- overrides ----------------------------------------------------------------------------------------------------


def _is_in_effect(override: Override, moment: datetime) -> bool:
    return (override.start is None or override.start <= moment) and (override.end is None or moment < override.end)


def _told(override: Override) -> str:
    """Say which override it is, and which usage it picks out."""
    picked = " and ".join(f"{key} {value}" for key, value in override.groups)
    return f"override {override.override_id}" + (f" where it is {picked}" if picked else "")


def _price_of(product: ProductPrice, override: Override) -> Price:
    if override.multiplier is not None:
        return _times(product.price, override.multiplier)
    if override.price is None or isinstance(product.price, Composite | FixedFee | Seats | OneOff):
        raise TermsError(
            f"override {override.override_id!r} gives product {product.product_id!r} a price for usage, but it counts "
            "none; list the product in the contract itself, with the price that it is to have"
        )
    return override.price


def _picked_out(product: ProductPrice, hits: Sequence[Override]) -> Matrix:
    """Return a matrix that has the cells of the overrides, best first, before those of the product's own price."""
    price = product.price
    if isinstance(price, Composite | FixedFee | Seats | OneOff):
        raise TermsError(
            f"override {hits[0].override_id!r} picks out groups of product {product.product_id!r}, which counts no "
            "usage; leave the groups away"
        )
    own = price if isinstance(price, Matrix) else Matrix((), (), price)
    keys = tuple(dict.fromkeys((*own.keys, *(key for hit in hits for key, _ in hit.groups))))
    rows = [({**dict(zip(own.keys, cell.values, strict=True))}, cell.price) for cell in own.cells]
    if own.default is not None:
        rows.append(({}, own.default))
    cells: list[Cell] = []
    for hit in hits:
        picked = dict(hit.groups)
        for values, base in rows:
            if all(values.get(key, ANY_VALUE) in (ANY_VALUE, value) for key, value in picked.items()):
                cells.append(_cell(keys, {**values, **picked}, _cell_price(base, hit)))
    cells += [_cell(keys, values, base) for values, base in rows if values]
    first: dict[tuple[str, ...], Cell] = {}
    for cell in cells:
        first.setdefault(cell.values, cell)  # the first cell that fits counts, so a later one of its values never does
    return Matrix(keys, tuple(first.values()), own.default)


def _cell(keys: Sequence[str], values: dict[str, str], price: CellPrice) -> Cell:
    return Cell(tuple(values.get(key, ANY_VALUE) for key in keys), price)


def _cell_price(base: CellPrice, override: Override) -> CellPrice:
    if override.price is not None:
        return override.price
    return base if override.multiplier is None else scaled(base, override.multiplier)


def _times(price: Price, factor: Decimal) -> Price:
    match price:
        case Matrix():
            cells = tuple(replace(cell, price=scaled(cell.price, factor)) for cell in price.cells)
            default = None if price.default is None else scaled(price.default, factor)
            return replace(price, cells=cells, default=default)
        case Composite():
            return replace(price, rate_percent=EXACT.multiply(price.rate_percent, factor))
        case FixedFee() | OneOff():
            return replace(price, amount=EXACT.multiply(price.amount, factor))
        case Seats():
            seat_price = scaled(price.price, factor)
            if isinstance(seat_price, type(price.price)):
                return replace(price, price=seat_price)
            raise AssertionError(f"a scaled price changed its model: {seat_price}")
        case _:
            return scaled(price, factor)
