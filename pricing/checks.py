"""Checks: what makes terms contradict themselves, each fault with the path at which it stands in a contract file."""

from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import assert_never

from pricing.errors import TermsError
from pricing.money import WIDE
from pricing.prices import FixedFee, Graduated, Package, PerUnit, Price, Tier, Volume
from pricing.terms import Commit, ProductPrice, Terms

Problem = tuple[str, str]
"""A path such as `products[1].price.tiers[0].up_to`, and a sentence that says what must change."""

LEDGER_DECIMALS = 12
MOST_DIGITS = 24
"""Before and after the point of a price, so that its product with any quantity of 38 digits is exact."""


def check_versions(versions: Sequence[Terms]) -> None:
    """Check all versions of one contract; raise `TermsError`, or `ValueError` when they are not of one contract."""
    if not versions:
        raise ValueError("no terms are given; give all versions of one contract")
    contracts = {terms.contract_id for terms in versions}
    if len(contracts) > 1 or len({terms.version for terms in versions}) < len(versions):
        numbers = sorted((terms.contract_id, terms.version) for terms in versions)
        raise ValueError(f"terms are not the versions of one contract, each once: {numbers}")
    currencies = sorted({terms.currency.code for terms in versions})
    if len(currencies) > 1:
        raise TermsError(
            f"contract {versions[0].contract_id!r} has terms in {' and '.join(currencies)}; "
            "a contract keeps one currency, so end it and begin another"
        )
    for terms in versions:
        check_terms(terms)


def check_terms(terms: Terms) -> None:
    """Raise `TermsError` that names every contradiction in one version of terms."""
    problems = terms_problems(terms)
    if problems:
        facts = "; ".join(f"{path} {message}" for path, message in problems)
        raise TermsError(f"contract {terms.contract_id!r}, terms version {terms.version}: {facts}")


def terms_problems(terms: Terms) -> tuple[Problem, ...]:
    """Return every contradiction in terms, in the order of a contract file; its key for `prices` is `products`."""
    return (
        *_repeated("products", [product.product_id for product in terms.prices]),
        *(p for n, product in enumerate(terms.prices) for p in _product_problems(f"products[{n}]", product)),
        *_repeated("commits", [commit.commit_id for commit in terms.commits]),
        *(p for n, commit in enumerate(terms.commits) for p in _commit_problems(f"commits[{n}]", commit, terms)),
    )


def _repeated(path: str, ids: Sequence[str]) -> Iterator[Problem]:
    counts = Counter(ids)
    for n, name in enumerate(ids):
        if counts[name] > 1 and name in ids[:n]:
            yield f"{path}[{n}].id", f"repeats {name!r}; give each its own id"


def _product_problems(path: str, product: ProductPrice) -> Iterator[Problem]:
    if isinstance(product.price, FixedFee):
        if product.metric_id is not None:
            yield f"{path}.metric", f"is {product.metric_id!r}, but a fixed fee counts nothing; leave it out"
    elif product.metric_id is None:
        yield f"{path}.metric", "is missing; name the metric whose units this price is for"
    yield from _price_problems(f"{path}.price", product.price)


def _price_problems(path: str, price: Price) -> Iterator[Problem]:
    match price:
        case PerUnit(unit_price):
            yield from _number_problems(f"{path}.unit_price", unit_price)
        case Package(size, package_price):
            yield from _number_problems(f"{path}.size", size, above_zero=True)
            yield from _number_problems(f"{path}.package_price", package_price)
        case Graduated(tiers) | Volume(tiers):
            yield from _tiers_problems(f"{path}.tiers", tiers)
        case FixedFee(amount):
            yield from _number_problems(f"{path}.amount", amount, most_decimals=LEDGER_DECIMALS)
        case _:
            assert_never(price)


def _tiers_problems(path: str, tiers: Sequence[Tier]) -> Iterator[Problem]:
    if not tiers:
        yield path, "is empty; give at least one tier, the last without up_to"
    over = Decimal(0)
    for n, tier in enumerate(tiers):
        here, is_last = f"{path}[{n}]", n == len(tiers) - 1
        if tier.up_to is None:
            if not is_last:
                yield f"{here}.up_to", "is missing; only the last tier may be without end"
        elif unusable := list(_number_problems(f"{here}.up_to", tier.up_to)):
            yield from unusable
        elif tier.up_to <= over:
            yield f"{here}.up_to", f"is {tier.up_to:f}; it must be above {over:f}, where the tier before ends"
        elif is_last:
            yield f"{here}.up_to", f"is {tier.up_to:f}; leave it out, because the last tier has no end"
        else:
            over = tier.up_to
        yield from _number_problems(f"{here}.unit_price", tier.unit_price)
        yield from _number_problems(f"{here}.flat_fee", tier.flat_fee)


def _commit_problems(path: str, commit: Commit, terms: Terms) -> Iterator[Problem]:
    yield from _number_problems(f"{path}.amount", commit.amount, above_zero=True, most_decimals=LEDGER_DECIMALS)
    if commit.end is not None and commit.end <= commit.start:
        yield f"{path}.end", f"is {commit.end.isoformat()}; it must be after the start {commit.start.isoformat()}"
    prices = {product.product_id: product.price for product in terms.prices}
    for n, product_id in enumerate(commit.products):
        if product_id not in prices:
            yield f"{path}.products[{n}]", f"is {product_id!r}, which is no product of these terms"
        elif isinstance(prices[product_id], FixedFee):
            yield f"{path}.products[{n}]", f"is {product_id!r}, a fixed fee; a commit serves usage products only"


def _number_problems(
    path: str, value: Decimal, *, above_zero: bool = False, most_decimals: int = MOST_DIGITS
) -> Iterator[Problem]:
    if not value.is_finite():
        yield path, f"is {value}; it must be a number"
    elif value.adjusted() >= MOST_DIGITS:
        yield path, f"is {value}; it may have at most {MOST_DIGITS} digits before the point"
    elif value < 0 or (above_zero and value == 0):
        yield path, f"is {value:f}; it must be {'above zero' if above_zero else 'zero or more'}"
    elif value != value.quantize(Decimal(1).scaleb(-most_decimals), context=WIDE):
        yield path, f"is {value:f}; it may have at most {most_decimals} decimals"
