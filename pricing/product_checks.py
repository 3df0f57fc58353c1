"""Checks of products: whether the options of a product fit its price and each other."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from pricing.models import wants_values
from pricing.price_checks import Problem, bounds_problems, money_problems, number_problems, price_problems
from pricing.prices import Composite, Dynamic, FixedFee, Matrix, OneOff, PerUnit, Price, Seats
from pricing.terms import Allowance, HoursOfDay, ProductPrice, WindowedCommitment

HOURS_OF_DAY = 24
MOST_PLACES = 12

KINDS = {FixedFee: "a fixed fee", Seats: "a price of seats", OneOff: "a one-off amount", Composite: "a composite"}
"""The prices that count nothing, as a problem names them."""


def is_fee(price: Price) -> bool:
    """Tell whether a price is billed without usage, as a fee."""
    return isinstance(price, FixedFee | Seats | OneOff)


def product_problems(path: str, product: ProductPrice, units: frozenset[str]) -> Iterator[Problem]:
    """Yield every contradiction within one product that stands at `path`; `units` are the codes of custom units."""
    kind = KINDS.get(type(product.price))
    if kind is not None:
        if product.metric_id is not None:
            yield f"{path}.metric", f"is {product.metric_id!r}, but {kind} counts nothing; leave it out"
        yield from _needless_options(path, product, kind)
    elif product.metric_id is None:
        yield f"{path}.metric", "is missing; name the metric whose units this price is for"
    yield from price_problems(f"{path}.price", product.price)
    yield from _grouping_problems(path, product)
    yield from _counting_problems(path, product)
    yield from _values_problems(path, product)
    yield from bounds_problems(f"{path}.", "minimum", product.minimum, "maximum", product.maximum)
    if product.commitment is not None and kind is None:
        yield from _commitment_problems(f"{path}.commitment", product.commitment, product.price)
    if product.pricing_unit is not None and product.pricing_unit not in units:
        yield f"{path}.pricing_unit", f"is {product.pricing_unit!r}, which is no unit of these terms; define it there"


def group_keys(product: ProductPrice) -> tuple[str, ...]:
    """Return the keys by which a product's usage is split: its own, else those of its matrix."""
    if isinstance(product.price, Matrix) and not product.group_by:
        return product.price.keys
    return product.group_by


def tier_group_problems(path: str, products: Sequence[ProductPrice]) -> Iterator[Problem]:
    """Yield the products whose tiers begin anew at other times than those of the group in which they stand."""
    first: dict[str, ProductPrice] = {}
    for n, product in enumerate(products):
        if product.tier_group is None:
            continue
        leader = first.setdefault(product.tier_group, product)
        if product.tier_period != leader.tier_period:
            other = f"{leader.product_id!r} in the same tier_group has {leader.tier_period!r}"
            yield f"{path}[{n}].tier_period", f"is {product.tier_period!r}, but {other}; give both the same"


def _needless_options(path: str, product: ProductPrice, kind: str) -> Iterator[Problem]:
    """Refuse what only usage can have: on another price it would silently do nothing."""
    given = {
        "group_by": bool(product.group_by),
        "rounding": product.rounding is not None,
        "conversion": product.conversion is not None,
        "allowance": product.allowance is not None,
        "tier_period": product.tier_period != "billing_period",
        "tier_group": product.tier_group is not None,
        "commitment": product.commitment is not None,
        "pricing_unit": product.pricing_unit is not None,
        "minimum": product.minimum is not None and is_fee(product.price),
        "maximum": product.maximum is not None and is_fee(product.price),
    }
    for option, is_given in given.items():
        if is_given:
            yield f"{path}.{option}", f"does not apply to {kind}; leave it out"


def _grouping_problems(path: str, product: ProductPrice) -> Iterator[Problem]:
    for n, key in enumerate(product.group_by):
        if key in product.group_by[:n]:
            yield f"{path}.group_by[{n}]", f"repeats {key!r}; name each key once"
    if isinstance(product.price, Matrix) and product.group_by:
        missing = [key for key in product.price.keys if key not in product.group_by]
        if missing:
            yield f"{path}.group_by", f"lacks {', '.join(missing)}, by which the matrix prices; add it"


def _counting_problems(path: str, product: ProductPrice) -> Iterator[Problem]:
    if product.rounding is not None and abs(product.rounding.places) > MOST_PLACES:
        yield (
            f"{path}.rounding.places",
            f"is {product.rounding.places}; it must be between -{MOST_PLACES} and {MOST_PLACES}",
        )
    if product.conversion is not None:
        yield from number_problems(
            f"{path}.conversion.factor", product.conversion.factor, above_zero=True, most_decimals=MOST_PLACES
        )
    if product.allowance is not None:
        yield from _allowance_problems(f"{path}.allowance", product.allowance)


def _allowance_problems(path: str, allowance: Allowance) -> Iterator[Problem]:
    yield from number_problems(f"{path}.units", allowance.units, most_decimals=MOST_PLACES)
    if allowance.rollover_cap is not None:
        yield from number_problems(f"{path}.rollover_cap", allowance.rollover_cap, most_decimals=MOST_PLACES)
    if allowance.per_metric is not None and allowance.per_seats is not None:
        yield f"{path}.per_seats", "is given beside per_metric; keep one of the two"


def _values_problems(path: str, product: ProductPrice) -> Iterator[Problem]:
    """Refuse what works on the sum of the usage where the price looks at single events instead."""
    if isinstance(product.price, Composite | FixedFee | Seats | OneOff):
        return
    carried = isinstance(product.price, Dynamic) and product.price.source == "event_amount"
    if not carried and not wants_values(product.price):
        return
    for option in ("rounding", "conversion", "allowance"):
        if getattr(product, option) is not None:
            yield f"{path}.{option}", "does not reach the single events that this price looks at; leave it out"


def _commitment_problems(path: str, commitment: WindowedCommitment, price: Price) -> Iterator[Problem]:
    if not isinstance(price, PerUnit):
        yield path, "applies to a price per unit only; price the product per unit or leave it out"
    yield from _committed_problems(path, commitment)
    for n, hours in enumerate(commitment.hours):
        here = f"{path}.hours[{n}]"
        yield from number_problems(f"{here}.unit_price", hours.unit_price)
        yield from _committed_problems(here, hours)
        if not 0 <= hours.start < HOURS_OF_DAY:
            yield f"{here}.start", f"is {hours.start}; it must be an hour from 0 to 23"
        elif not hours.start < hours.end <= HOURS_OF_DAY:
            yield f"{here}.end", f"is {hours.end}; it must be after the start {hours.start} and at most 24"
    in_order = sorted(enumerate(commitment.hours), key=lambda numbered: numbered[1].start)
    for (n, before), (m, after) in pairwise(in_order):
        if after.start < before.end:
            yield f"{path}.hours[{max(n, m)}]", f"overlaps hours[{min(n, m)}]; give each hour of the day one price"


def _committed_problems(path: str, commitment: WindowedCommitment | HoursOfDay) -> Iterator[Problem]:
    yield from money_problems(f"{path}.amount", commitment.amount)
    if commitment.quantity is not None:
        yield from number_problems(f"{path}.quantity", commitment.quantity, most_decimals=MOST_PLACES)
        if commitment.amount is not None:
            yield f"{path}.quantity", "is given beside amount; commit to one of the two"
    yield from number_problems(f"{path}.overage_factor", commitment.overage_factor, most_decimals=MOST_PLACES)
    if commitment.true_up and commitment.amount is None and commitment.quantity is None:
        yield f"{path}.true_up", "is set without an amount or a quantity to charge up to; give one or leave it out"
