"""Bases: which charges a composite, discount, minimum or maximum was computed from, and what each put into its base."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pricing.adjustments import CONTRACT, agreed_terms, is_discounted
from pricing.composites import bounded_share, is_part, tags_of
from pricing.money import EXACT, share_of_percent, to_ledger_scale, total
from pricing.prices import Composite
from pricing.rated import Adjustment, Charge, RatedPeriod
from pricing.terms import Discount, ProductPrice, Terms
from pricing.wording import amount_text, percent_text


@dataclass(frozen=True, slots=True)
class BasisPart:
    """A charge, and what it puts into a base: its amount with the adjustments that were made before."""

    charge: Charge
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Basis:
    """The parts add up to `base`, of which the terms make `result` in the way that `told` says.

    `held` is what the charges of the period hold of that in all, to be compared with `result`: a discount or maximum
    may be spread over several.
    """

    told: str
    parts: tuple[BasisPart, ...]
    result: Decimal
    held: Decimal

    @property
    def base(self) -> Decimal:
        """What the parts come to."""
        return total([part.amount for part in self.parts])


def basis_of_charge(rated: RatedPeriod, terms: Sequence[Terms], charge: Charge, *, is_over: bool) -> Basis | None:
    """Return what a composite, or a minimum that is a charge of its own, was computed from; None: usage makes it.

    `terms` are those that the period was rated with, and `is_over` what it was rated by.
    """
    if isinstance(charge.price, Composite):
        return _of_composite(rated, agreed_terms(terms, rated.period), charge, charge.price, is_over=is_over)
    if charge.price is None:
        return basis_of_adjustment(rated, terms, charge, charge.adjustments[0])
    return None


def basis_of_adjustment(rated: RatedPeriod, terms: Sequence[Terms], charge: Charge, adjustment: Adjustment) -> Basis:
    """Return what an adjustment of a charge was computed from, as the charges came to before it."""
    agreed = agreed_terms(terms, rated.period)
    if adjustment.kind == "discount":
        return _of_discount(rated, agreed, charge, adjustment)
    return _of_bound(rated, agreed, adjustment)


# --- composites ---------------------------------------------------------------------------------------------------


def _of_composite(rated: RatedPeriod, agreed: Terms, charge: Charge, price: Composite, *, is_over: bool) -> Basis:
    product = _product(agreed, charge.product_id)
    parts = tuple(
        BasisPart(other, to_ledger_scale(other.amount))
        for other in rated.charges
        if other.price is not None and is_part(product, other.product_id, agreed)
    )
    base = total([part.amount for part in parts])
    told = f"{percent_text(price.rate_percent)} of {_money(base, rated)}, {_counted(parts)} before discounts and bounds"
    return Basis(told, parts, bounded_share(price, base, is_over=is_over), charge.amount)


def _product(agreed: Terms, product_id: str) -> ProductPrice:
    return next(product for product in agreed.prices if product.product_id == product_id)


# --- adjustments --------------------------------------------------------------------------------------------------


def _of_discount(rated: RatedPeriod, agreed: Terms, charge: Charge, adjustment: Adjustment) -> Basis:
    discount = next(one for one in agreed.discounts if one.discount_id == adjustment.adjustment_id)
    if discount.kind == "percentage":
        [part] = _parts_before(rated, agreed, adjustment, lambda other: other is charge)
        off = EXACT.multiply(part.amount, share_of_percent(discount.value))
        told = f"{percent_text(discount.value)} off {_money(part.amount, rated)}, what the charge comes to before it"
        return Basis(told, (part,), EXACT.minus(off), adjustment.amount)
    tags = tags_of(agreed)
    parts = tuple(
        _parts_before(rated, agreed, adjustment, lambda other: is_discounted(discount, other.product_id, tags))
    )
    base = total([part.amount for part in parts])
    off = min(discount.value, base)
    told = f"{_money(off, rated)} off {_money(base, rated)}, {_counted(parts)} before it"
    return _shared(rated, adjustment, told, parts, EXACT.minus(off))


def _of_bound(rated: RatedPeriod, agreed: Terms, adjustment: Adjustment) -> Basis:
    of_contract = adjustment.adjustment_id == CONTRACT
    bounds: Terms | ProductPrice = agreed if of_contract else _product(agreed, adjustment.adjustment_id)
    parts = tuple(
        _parts_before(
            rated, agreed, adjustment, lambda other: of_contract or other.product_id == adjustment.adjustment_id
        )
    )
    base = total([part.amount for part in parts])
    bound = bounds.minimum if adjustment.kind == "minimum" else bounds.maximum
    if bound is None:
        raise AssertionError(f"the terms have no {adjustment.kind} that adjustment {adjustment.name!r} could be of")
    result = EXACT.subtract(bound, base)
    whose = "the contract" if of_contract else f"product {adjustment.adjustment_id}"
    way = "short of" if adjustment.kind == "minimum" else "above"
    told = (
        f"{_money(base, rated)}, {_counted(parts)} before it, is {_money(EXACT.abs(result), rated)} {way} "
        f"the {adjustment.kind} of {_money(bound, rated)} of {whose}"
    )
    return _shared(rated, adjustment, told, parts, result)


def _shared(
    rated: RatedPeriod, adjustment: Adjustment, told: str, parts: tuple[BasisPart, ...], result: Decimal
) -> Basis:
    held = [
        one.amount
        for charge in rated.charges
        for one in charge.adjustments
        if (one.kind, one.adjustment_id) == (adjustment.kind, adjustment.adjustment_id)
    ]
    if len(held) > 1:
        told += f", spread over {len(held)} charges: {_money(EXACT.abs(adjustment.amount), rated)} falls to this one"
    return Basis(told, parts, result, total(held))


def _parts_before(
    rated: RatedPeriod, agreed: Terms, adjustment: Adjustment, counts: Callable[[Charge], bool]
) -> Iterator[BasisPart]:
    """Yield the charges that count, with what each came to when an adjustment was made."""
    order = _order_of_discounts(agreed)
    now = _turn(adjustment, order)
    for charge in rated.charges:
        earlier = [one.amount for one in charge.adjustments if _turn(one, order) < now]
        stood_already = charge.price is not None or bool(earlier)
        if stood_already and counts(charge):
            yield BasisPart(charge, EXACT.add(charge.amount, total(earlier)))


def _order_of_discounts(agreed: Terms) -> Mapping[str, int]:
    percentages_first: list[Discount] = sorted(agreed.discounts, key=lambda discount: discount.kind == "fixed")
    return {discount.discount_id: n for n, discount in enumerate(percentages_first)}


def _turn(adjustment: Adjustment, order: Mapping[str, int]) -> tuple[int, int]:
    """Return when an adjustment is made: discounts, then bounds of products, then those of the contract."""
    if adjustment.kind == "discount":
        return (0, order[adjustment.adjustment_id])
    return (2 if adjustment.adjustment_id == CONTRACT else 1, 0 if adjustment.kind == "maximum" else 1)


# --- words --------------------------------------------------------------------------------------------------------


def _counted(parts: Sequence[BasisPart]) -> str:
    return "what 1 charge comes to" if len(parts) == 1 else f"what {len(parts) or 'no'} charges come to"


def _money(amount: Decimal, rated: RatedPeriod) -> str:
    return amount_text(amount, rated.currency.exponent)
