"""What stands at the gates of a contract, from its books: money and units left, what is held, and until when it holds.

Money left is what the lots in force hold that serve every product of a feature, whatever its group values: one that
serves only some of them could not pay for the others.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from ledger.contracts import Contract, lots_of, terms_of
from ledger.errors import InvalidError
from ledger.shares import left_of
from ledger.spend_caps import Cap, caps_of
from pricing.commits import prepaid
from pricing.draws import has_tags, in_force, named_by
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

    None of `left_amount` or `left_units` is given where money or units do not limit the feature. `cap_left` is what the
    spend cap that is nearest leaves, less what is held of it, by the rule `cap_rule`; None: nothing is capped.
    """

    feature_id: str
    left_amount: Decimal | None
    left_units: Decimal | None
    held_amount: Decimal
    held_units: Decimal
    unit_price: Decimal | None
    problem: str | None
    valid_until: datetime | None
    cap_left: Decimal | None
    cap_rule: str | None


def check_figure(field: str, value: Decimal) -> None:
    """Refuse a number of units or an amount that is not above zero, or finer or larger than the ledger holds."""
    if not value.is_finite() or value <= 0 or value.adjusted() >= MOST_DIGITS or value != to_ledger_scale(value):
        raise InvalidError(
            f"{field} {value} must be above 0, with at most {MOST_DIGITS} digits before the point and "
            f"{-LEDGER_SCALE.adjusted()} after it"
        )


def figures_of(
    connection: sa.Connection,
    contract: Contract,
    granted: Sequence[Granted],
    *,
    as_of: datetime,
    has_caps: bool = False,
) -> tuple[GateFigures, ...]:
    """Return what stands at the gates of these features of a contract in force at `as_of`.

    The caller has locked the gates. Holds are read before the books, so that usage which an accrual brings to the books
    meanwhile counts twice rather than never.
    """
    held = held_of(connection, contract.contract_id)
    caps = caps_of(connection, contract, as_of=as_of) if has_caps else ()
    lots = lots_of(connection, contract.contract_id)
    period = contract.periods(as_of)[-1]
    versions = terms_of(connection, contract.contract_id)
    terms, next_terms = terms_at(versions, as_of)
    turns = [period.end, contract.end_at, next_terms, *(one for lot in lots for one in (lot.start, lot.end))]
    turns += [cap.until for cap in caps]
    books = _Books(
        contract.problem,
        paying(lots, versions),
        paying(in_force(lots, as_of), [terms]),
        left_of(connection, contract.contract_id, in_force(lots, as_of)),
        _used(connection, contract.contract_id, period.start, granted),
        held,
        caps,
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

    Money does where a lot of `lots`, in force or not, serves both features, units where they count a product in common;
    `lots` are what `paying` returns for all versions of the terms.
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


def unit_price_of(granted: Granted, terms: Terms) -> Decimal | None:
    """Return the price of one more unit of a feature; None where it has several products, or no single price."""
    if len(granted.products) != 1:
        return None
    return next((price_of_unit(price) for price in terms.prices if price.product_id == granted.products[0]), None)


def paying(lots: Sequence[Lot], versions: Sequence[Terms]) -> tuple[Lot, ...]:
    """Return the lots that pay for products whatever the group values, with ids of products in place of tags.

    A tag names the products that have it in any of these versions of the terms. What pays only for some group values
    is left out: nobody knows those of the usage that is to come. So are postpaid lots, which hold no money.
    """
    return tuple(one for lot in prepaid(lots) if not lot.groups and (one := _without_tags(lot, versions)) is not None)


def serves(lot: Lot, products: Collection[str]) -> bool:
    """Say whether a lot without tags pays for every one of these products."""
    return not lot.products or {*products} <= {*lot.products}


def terms_at(versions: Sequence[Terms], moment: datetime) -> tuple[Terms, datetime | None]:
    """Return the terms in force at a moment, and when the next ones begin."""
    begun = [terms for terms in versions if terms.effective_from <= moment]
    coming = [terms.effective_from for terms in versions if terms.effective_from > moment]
    return (begun or versions[:1])[-1], min(coming, default=None)


# --- the parts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Books:
    """What the books of a contract say; `left` is of the lots in force, `used` the units of products.

    `lots` are those of all times with what their tags ever name, `now` those in force with what they name now.
    """

    problem: str | None
    lots: Sequence[Lot]
    now: Sequence[Lot]
    left: Mapping[str, Decimal]
    used: Mapping[str, Decimal]
    held: Sequence[Held]
    caps: Sequence[Cap]
    terms: Terms
    valid_until: datetime | None


def _figures(one: Granted, books: _Books) -> GateFigures:
    held_amount, held_units = held_against(one, books.held, books.lots)
    serving = [books.left[lot.lot_id] for lot in books.now if serves(lot, one.products)]
    units = total([books.used.get(product_id, ZERO) for product_id in one.products])
    cap_left, cap_rule = _capped(one, books)
    return GateFigures(
        feature_id=one.feature_id,
        left_amount=total(serving) if one.kind == "balance" else None,
        left_units=None if one.most_units is None else EXACT.subtract(one.most_units, units),
        held_amount=held_amount,
        held_units=held_units,
        unit_price=unit_price_of(one, books.terms),
        problem=None if one.kind == "boolean" else books.problem,
        valid_until=books.valid_until,
        cap_left=cap_left,
        cap_rule=cap_rule,
    )


def _capped(one: Granted, books: _Books) -> tuple[Decimal, str] | tuple[None, None]:
    """Return what the nearest cap leaves for a feature, less what is held of all that it covers, and its rule."""
    left = []
    for cap in books.caps:
        if cap.covers(one.products):
            held = total([other.amount for other in books.held if cap.covers(other.products)])
            left.append((EXACT.subtract(cap.left, held), cap.rule_id))
    return min(left, default=(None, None))


def _without_tags(lot: Lot, versions: Sequence[Terms]) -> Lot | None:
    """Return a lot with the products that it names; None where its tags name none."""
    if not has_tags(lot):
        return lot
    products = named_by(lot, versions)
    return replace(lot, products=tuple(sorted(products))) if products else None


def _share_money(granted: Granted, held: Held, lots: Collection[Lot]) -> bool:
    both = {*granted.products, *held.products}
    return {*granted.products} == {*held.products} or any(serves(lot, both) for lot in lots)


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
