"""Composites: products that cost a share of what other products of the contract come to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pricing.calendar import Period
from pricing.money import EXACT, ZERO, share_of_percent, to_ledger_scale, total
from pricing.prices import Composite
from pricing.rated import Charge, ChargeSlice, Step
from pricing.terms import ProductPrice, Terms
from pricing.wording import number, percent_text, price_text

TAG = "tag:"
"""Begins a name that stands for every product with that tag."""


def with_composites(
    charges: Sequence[Charge], terms: Terms, period: Period, last: Period, *, is_over: bool
) -> tuple[Charge, ...]:
    """Add the charges of the composites of these terms; one may be a share of another.

    They take the others at ledger scale, before adjustments. The minimum is charged once the period is over, in its
    last interval.
    """
    composites = {p.product_id: p for p in terms.prices if isinstance(p.price, Composite)}
    found: dict[str, Charge] = {}

    def charge_of(product_id: str) -> Charge:
        if product_id not in found:
            product = composites[product_id]
            bases = [c for c in charges if is_part(product, c.product_id, terms)]
            bases += [charge_of(other) for other in composites if is_part(product, other, terms)]
            found[product_id] = _charge(product, bases, terms, _Time(period, last, is_over))
        return found[product_id]

    added = [charge_of(product_id) for product_id in composites]
    return (*charges, *(charge for charge in added if charge.amount))


def is_part(product: ProductPrice, product_id: str, terms: Terms) -> bool:
    """Say whether a product counts for a composite, by its id or one of its tags."""
    if not isinstance(product.price, Composite) or product.product_id == product_id:
        return False
    return names(product.price.products, product_id, tags_of(terms).get(product_id, ()))


def names(listed: Sequence[str], product_id: str, tags: Sequence[str]) -> bool:
    """Say whether a list of product ids and tags (`tag:ai`) names a product."""
    return product_id in listed or any(f"{TAG}{tag}" in listed for tag in tags)


def tags_of(terms: Terms) -> Mapping[str, tuple[str, ...]]:
    """Return the tags of each product."""
    return {product.product_id: product.tags for product in terms.prices}


def bounded_share(price: Composite, base: Decimal, *, is_over: bool) -> Decimal:
    """Return the share of a base, held within the bounds of a composite; its minimum counts once the period is over."""
    share = EXACT.multiply(base, share_of_percent(price.rate_percent))
    if price.minimum is not None and is_over:
        share = max(share, price.minimum)
    return share if price.maximum is None else min(share, price.maximum)


def _charge(product: ProductPrice, bases: Sequence[Charge], terms: Terms, time: "_Time") -> Charge:
    price = product.price
    if not isinstance(price, Composite):
        raise TypeError(f"product {product.product_id!r} is no composite")
    parts: dict[tuple[datetime, datetime], Decimal] = {}
    intervals: dict[tuple[datetime, datetime], ChargeSlice] = {}
    for part in (part for base in bases for part in base.slices):
        place = (part.start, part.end)
        parts[place] = EXACT.add(parts.get(place, ZERO), part.amount)
        intervals.setdefault(place, part)
    base = total([*parts.values()])
    steps = tuple(_steps(price, base, is_over=time.is_over))
    amount = total([step.amount for step in steps])
    slices: list[ChargeSlice] = []
    reached, counted = ZERO, ZERO
    for place in sorted(parts, key=lambda place: intervals[place].start):
        counted = EXACT.add(counted, parts[place])
        now = to_ledger_scale(bounded_share(price, counted, is_over=False))
        part = intervals[place]
        slices.append(ChargeSlice(part.start, part.end, ZERO, EXACT.subtract(now, reached)))
        reached = now
    rest = EXACT.subtract(to_ledger_scale(amount), reached)
    if rest:
        slices.append(ChargeSlice(time.last.start, time.last.end, ZERO, rest))
    return Charge(
        product_id=product.product_id,
        name=product.name,
        unit=terms.currency.code,
        segment=time.period,
        terms_version=terms.version,
        price=price,
        quantity=base,
        amount=amount,
        steps=steps,
        slices=tuple(slices),
        source=product.source,
    )


def _steps(price: Composite, base: Decimal, *, is_over: bool) -> Iterator[Step]:
    """Yield the share, and what its bounds add or take."""
    rate = share_of_percent(price.rate_percent)
    share = EXACT.multiply(base, rate)
    yield Step(f"{percent_text(price.rate_percent)} of {number(base)}", base, rate, share)
    rest = EXACT.subtract(bounded_share(price, base, is_over=is_over), share)
    if rest:
        text = f"{number(rest)} more, up to the minimum of {price_text(price.minimum or ZERO)}"
        if rest < 0:
            text = f"{number(EXACT.minus(rest))} less, down to the maximum of {price_text(price.maximum or ZERO)}"
        yield Step(text, ZERO, None, rest, rest)


@dataclass(frozen=True, slots=True)
class _Time:
    """The billing period, its last interval, and whether it is over."""

    period: Period
    last: Period
    is_over: bool
