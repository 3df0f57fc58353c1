"""What stands at the gates of a contract, from its books: money and units left, what is held, and until when it holds.

Money left is what the lots in force hold that serve every product of a feature: one that serves only some of them
could not pay for the others.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from ledger.contracts import Contract, lots_of, terms_of
from ledger.errors import InvalidError
from ledger.shares import left_of
from pricing.draws import in_force
from pricing.money import EXACT, LEDGER_SCALE, ZERO, to_ledger_scale, total
from pricing.prices import PerUnit
from pricing.terms import Lot, ProductPrice, Terms

MOST_DIGITS = 26
"""Before the point, as in the ledger."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A feature that a contract has; `most_units` in a period is None where it is not metered."""

    feature_id: str
    kind: str
    products: tuple[str, ...]
    most_units: Decimal | None


@dataclass(frozen=True, slots=True)
class Held:
    """What the open holds of one feature hold together; the first of them expires at `expires_at`, None: none does."""

    products: tuple[str, ...]
    units: Decimal
    amount: Decimal
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class GateFigures:
    """What stands at the gate of one feature until `valid_until`, in the contract's currency and the products' units.

    None of `left_amount` or `left_units` is given where money or units do not limit the feature.
    """

    feature_id: str
    left_amount: Decimal | None
    left_units: Decimal | None
    held_amount: Decimal
    held_units: Decimal
    unit_price: Decimal | None
    problem: str | None
    valid_until: datetime | None


def check_figure(field: str, value: Decimal) -> None:
    """Refuse a number of units or an amount that is not above zero, or finer or larger than the ledger holds."""
    if not value.is_finite() or value <= 0 or value.adjusted() >= MOST_DIGITS or value != to_ledger_scale(value):
        raise InvalidError(
            f"{field} {value} must be above 0, with at most {MOST_DIGITS} digits before the point and "
            f"{-LEDGER_SCALE.adjusted()} after it"
        )


def figures_of(
    connection: sa.Connection, contract: Contract, granted: Sequence[Granted], *, as_of: datetime
) -> tuple[GateFigures, ...]:
    """Return what stands at the gates of these features of a contract in force at `as_of`.

    The caller has locked the gates. Holds are read before the books, so that usage which an accrual brings to the books
    meanwhile counts twice rather than never.
    """
    held = held_of(connection, contract.contract_id)
    lots = lots_of(connection, contract.contract_id)
    period = contract.periods(as_of)[-1]
    terms, next_terms = terms_at(terms_of(connection, contract.contract_id), as_of)
    turns = [period.end, contract.end_at, next_terms, *(one for lot in lots for one in (lot.start, lot.end))]
    books = _Books(
        contract.problem,
        lots,
        left_of(connection, contract.contract_id, in_force(lots, as_of)),
        _used(connection, contract.contract_id, period.start, granted),
        held,
        terms,
        min(
            [turn for turn in (*turns, *(one.expires_at for one in held)) if turn is not None and turn > as_of],
            default=None,
        ),
    )
    return tuple(_figures(one, books) for one in granted)


def held_of(connection: sa.Connection, contract_id: str) -> tuple[Held, ...]:
    """Return what is held of a contract, feature by feature."""
    rows = connection.execute(_HELD, {"contract_id": contract_id})
    return tuple(Held(tuple(row.products), row.units, row.amount, row.expires_at) for row in rows)


def held_against(granted: Granted, held: Sequence[Held], lots: Collection[Lot]) -> tuple[Decimal, Decimal]:
    """Return the amount and units that stand against a feature: of every hold that may take what is left for it.

    Money does where a lot, in force or not, serves both features, units where they count a product in common.
    """
    amounts = [one.amount for one in held if _share_money(granted, one, lots)]
    units = [one.units for one in held if {*granted.products} & {*one.products}]
    return (
        total(amounts) if granted.kind == "balance" else ZERO,
        total(units) if granted.kind == "metered" else ZERO,
    )


def price_of_unit(price: ProductPrice) -> Decimal | None:
    """Return what one more unit of a product costs at most; None where that is more than one price per unit."""
    is_plain = isinstance(price.price, PerUnit) and price.pricing_unit is None and price.commitment is None
    return price.price.unit_price if is_plain and isinstance(price.price, PerUnit) else None


# --- the parts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Books:
    """What the books of a contract say; `left` is of the lots in force, `used` the units of products."""

    problem: str | None
    lots: Sequence[Lot]
    left: Mapping[str, Decimal]
    used: Mapping[str, Decimal]
    held: Sequence[Held]
    terms: Terms
    valid_until: datetime | None


def _figures(one: Granted, books: _Books) -> GateFigures:
    held_amount, held_units = held_against(one, books.held, books.lots)
    serving = [books.left[lot.lot_id] for lot in books.lots if lot.lot_id in books.left and _serves(lot, one.products)]
    units = total([books.used.get(product_id, ZERO) for product_id in one.products])
    return GateFigures(
        feature_id=one.feature_id,
        left_amount=total(serving) if one.kind == "balance" else None,
        left_units=None if one.most_units is None else EXACT.subtract(one.most_units, units),
        held_amount=held_amount,
        held_units=held_units,
        unit_price=_unit_price(one, books.terms),
        problem=None if one.kind == "boolean" else books.problem,
        valid_until=books.valid_until,
    )


def _unit_price(one: Granted, terms: Terms) -> Decimal | None:
    if len(one.products) != 1:
        return None
    return next((price_of_unit(price) for price in terms.prices if price.product_id == one.products[0]), None)


def _share_money(granted: Granted, held: Held, lots: Collection[Lot]) -> bool:
    both = {*granted.products, *held.products}
    return {*granted.products} == {*held.products} or any(_serves(lot, both) for lot in lots)


def _serves(lot: Lot, products: Collection[str]) -> bool:
    return not lot.products or {*products} <= {*lot.products}


def terms_at(versions: Sequence[Terms], moment: datetime) -> tuple[Terms, datetime | None]:
    """Return the terms in force at a moment, and when the next ones begin."""
    begun = [terms for terms in versions if terms.effective_from <= moment]
    coming = [terms.effective_from for terms in versions if terms.effective_from > moment]
    return (begun or versions[:1])[-1], min(coming, default=None)


def _used(
    connection: sa.Connection, contract_id: str, period_start: datetime, granted: Sequence[Granted]
) -> Mapping[str, Decimal]:
    products = sorted({product_id for one in granted if one.kind == "metered" for product_id in one.products})
    if not products:
        return {}
    facts = {"contract_id": contract_id, "period_start": period_start, "products": products}
    return dict(connection.execute(_USED, facts).all())


_HELD = sa.text("""
select f.products, sum(coalesce(h.used_units, h.units)) as units, sum(coalesce(h.used_amount, h.amount)) as amount,
    min(h.expires_at) filter (where h.state = 'held') as expires_at
from hold h join feature f using (feature_id)
where h.contract_id = :contract_id and h.state in ('held', 'captured')
group by f.feature_id order by f.feature_id
""")

_USED = sa.text("""
select product_id, sum(quantity) from accrued
where contract_id = :contract_id and period_start = :period_start and kind = 'usage' and product_id = any(:products)
group by product_id
""")
