"""Adjustments: discounts, then minimums and maximums, of products and of the whole contract.

They follow the usage that was rated and come before lots are drawn. What is taken off a charge is taken off all its
slices in proportion; what a minimum adds stands in the last interval of the period.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from pricing.calendar import Period
from pricing.composites import names, tags_of, with_composites
from pricing.money import EXACT, WIDE, ZERO, share_of_percent, to_ledger_scale, total
from pricing.rated import Adjustment, Charge, ChargeSlice
from pricing.segments import terms_in_force
from pricing.spreading import spread
from pricing.terms import Discount, ProductPrice, Terms

CONTRACT = "contract"
MINIMUM_PRODUCT = "minimum"
"""The product id under which the shortfall of a contract's minimum is charged."""


def adjusted(
    charges: Sequence[Charge], terms: Sequence[Terms], period: Period, last: Period, *, is_over: bool
) -> tuple[Charge, ...]:
    """Return the charges with their composites, discounts and bounds; slices are net of all.

    Discounts, bounds and composites are those of the terms in force when the period begins, or of the first that take
    effect within it. `last` is the period's last interval. Percentages come first, whatever their order, then fixed
    discounts, spread by largest remainder, then the bounds of each product, then the contract's: as a bound holds for
    the adjusted subtotal (Orb's). Nothing falls below zero. Minimums are charged once the period is over.
    """
    agreed = agreed_terms(terms, period)
    gross = with_composites(charges, agreed, period, last, is_over=is_over)
    work = _Work(agreed, period, last, is_over, dict(enumerate(gross)))
    for discount in sorted(agreed.discounts, key=lambda discount: discount.kind == "fixed"):
        if _is_in_effect(discount, period):
            work.discount(discount)
    for product in agreed.prices:
        work.bound_product(product)
    work.bound_contract()
    return work.result()


def agreed_terms(terms: Sequence[Terms], period: Period) -> Terms:
    """Return the terms whose discounts, bounds and composites hold for a period."""
    return terms_in_force(terms, period.start) or min(terms, key=lambda t: (t.effective_from, t.version))


def is_discounted(discount: Discount, product_id: str, tags: Mapping[str, tuple[str, ...]]) -> bool:
    """Say whether a discount is for a product, by its id or one of its tags."""
    return not discount.products or names(discount.products, product_id, tags.get(product_id, ()))


def net_amount(charge: Charge) -> Decimal:
    """Return what a charge comes to with its adjustments, exactly."""
    return EXACT.add(charge.amount, total([adjustment.amount for adjustment in charge.adjustments]))


def _is_in_effect(discount: Discount, period: Period) -> bool:
    begun = discount.start is None or discount.start <= period.start
    return begun and (discount.end is None or period.start < discount.end)


@dataclass(slots=True)
class _Work:
    """The charges of a period on their way through the adjustments."""

    terms: Terms
    period: Period
    last: Period
    is_over: bool
    charges: dict[int, Charge]

    def discount(self, discount: Discount) -> None:
        """Take a discount off what it applies to."""
        tags = tags_of(self.terms)
        hit = self._where(lambda charge: is_discounted(discount, charge.product_id, tags))
        if discount.kind == "percentage":
            share = share_of_percent(discount.value)
            parts: Mapping[int, Decimal] = {n: EXACT.multiply(net_amount(self.charges[n]), share) for n in hit}
        else:
            parts = self._shares(min(discount.value, self._sum(hit)), hit)
        self._take("discount", discount.discount_id, discount.name, parts)

    def bound_product(self, product: ProductPrice) -> None:
        """Hold a product between its minimum and maximum."""
        own = self._where(lambda charge: charge.product_id == product.product_id)
        reached = self._sum(own)
        if product.maximum is not None and reached > product.maximum:
            parts = self._shares(EXACT.subtract(reached, product.maximum), own)
            self._take("maximum", product.product_id, f"{product.name}, maximum", parts)
        if product.minimum is not None and self.is_over and reached < product.minimum:
            shortfall = EXACT.subtract(product.minimum, reached)
            name = f"{product.name}, minimum"
            if own:
                self._add(max(own), Adjustment("minimum", product.product_id, name, shortfall))
            else:
                self._begin(product.product_id, name, shortfall, product.product_id)

    def bound_contract(self) -> None:
        """Hold the sum of all charges between the contract's minimum and maximum."""
        everything = self._where(lambda _: True)
        reached = self._sum(everything)
        if self.terms.maximum is not None and reached > self.terms.maximum:
            parts = self._shares(EXACT.subtract(reached, self.terms.maximum), everything)
            self._take("maximum", CONTRACT, "Maximum spend", parts)
        if self.terms.minimum is not None and self.is_over and reached < self.terms.minimum:
            shortfall = EXACT.subtract(self.terms.minimum, reached)
            self._begin(MINIMUM_PRODUCT, "Minimum spend", shortfall, CONTRACT)

    def result(self) -> tuple[Charge, ...]:
        """Return the charges, with the slices that their adjustments leave."""
        return tuple(replace(c, slices=_net_slices(c, self.last)) for c in self.charges.values())

    def _where(self, applies: Callable[[Charge], bool]) -> list[int]:
        return [n for n, charge in self.charges.items() if applies(charge)]

    def _sum(self, positions: Iterable[int]) -> Decimal:
        return total([net_amount(self.charges[n]) for n in positions])

    def _shares(self, amount: Decimal, positions: Sequence[int]) -> Mapping[int, Decimal]:
        weights = [net_amount(self.charges[n]) for n in positions]
        return dict(zip(positions, spread(amount, weights), strict=True)) if positions else {}

    def _take(
        self, kind: Literal["discount", "maximum"], source_id: str, name: str, parts: Mapping[int, Decimal]
    ) -> None:
        for n, part in parts.items():
            if part:
                self._add(n, Adjustment(kind, source_id, name, EXACT.minus(part)))

    def _add(self, n: int, adjustment: Adjustment) -> None:
        charge = self.charges[n]
        self.charges[n] = replace(charge, adjustments=(*charge.adjustments, adjustment))

    def _begin(self, product_id: str, name: str, shortfall: Decimal, source_id: str) -> None:
        """Charge a shortfall that no charge stands for."""
        if not shortfall:
            return
        self.charges[len(self.charges)] = Charge(
            product_id=product_id,
            name=name,
            unit=self.terms.currency.code,
            segment=self.period,
            terms_version=self.terms.version,
            price=None,
            quantity=ZERO,
            amount=ZERO,
            steps=(),
            slices=(),
            adjustments=(Adjustment("minimum", source_id, name, shortfall),),
        )


def _net_slices(charge: Charge, last: Period) -> tuple[ChargeSlice, ...]:
    """Scale the slices to what reductions leave of the charge, and put what minimums add to the last interval."""
    if not charge.adjustments:
        return charge.slices
    added = total([a.amount for a in charge.adjustments if a.kind == "minimum"])
    net = net_amount(charge)
    left = max(EXACT.subtract(net, added), ZERO)  # a contract's maximum may take off more than a minimum has left
    gross = total([part.amount for part in charge.slices])
    slices: list[ChargeSlice] = []
    counted, reached = ZERO, ZERO
    for part in charge.slices:
        counted = EXACT.add(counted, part.amount)
        now = to_ledger_scale(left if counted == gross else WIDE.divide(EXACT.multiply(left, counted), gross))
        slices.append(replace(part, amount=EXACT.subtract(now, reached)))
        reached = now
    rest = EXACT.subtract(to_ledger_scale(net), reached)
    if rest and slices and (slices[-1].start, slices[-1].end) == (last.start, last.end):
        slices[-1] = replace(slices[-1], amount=EXACT.add(slices[-1].amount, rest))
    elif rest:
        slices.append(ChargeSlice(last.start, last.end, ZERO, rest))
    return tuple(slices)
