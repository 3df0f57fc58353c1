"""Checks: what makes terms contradict themselves, each fault with the path at which it stands in a contract file."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from pricing.commit_checks import schedule_problems
from pricing.composites import TAG
from pricing.errors import TermsError
from pricing.price_checks import Problem, bounds_problems, money_problems, number_problems, price_problems
from pricing.prices import Composite, Seats
from pricing.product_checks import KINDS, group_keys, is_fee, product_problems, tier_group_problems
from pricing.terms import Commit, CustomUnit, Discount, Override, ProductPrice, Terms

MOST_EXPONENT = 12
WHOLE_PERCENT = Decimal(100)


def check_versions(versions: Sequence[Terms]) -> None:
    """Check all versions of one contract; raise `TermsError`, or `ValueError` when they are not of one contract."""
    if not versions:
        raise ValueError("no terms are given; give all versions of one contract")
    contracts = {terms.contract_id for terms in versions}
    if len(contracts) > 1 or len({(terms.version, terms.effective_from) for terms in versions}) < len(versions):
        numbers = sorted((terms.contract_id, terms.version) for terms in versions)
        raise ValueError(f"terms are not the versions of one contract, each once: {numbers}")
    currencies = sorted({terms.currency.code for terms in versions})
    if len(currencies) > 1:
        raise TermsError(
            f"contract {versions[0].contract_id!r} has terms in {' and '.join(currencies)}; "
            "a contract keeps one currency, so end it and begin another"
        )
    orders = sorted({terms.burn_order for terms in versions})
    if len(orders) > 1:
        raise TermsError(
            f"contract {versions[0].contract_id!r} has lots that burn by the order of {' and '.join(orders)}; "
            "a contract keeps one burn_order, so end it and begin another"
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
    """Return every contradiction in terms, in the order of a contract file; its key for `prices` is `products`.

    Names of products that a rate card may bring are left to the check of the terms that the card resolves to.
    """
    units = frozenset(unit.code for unit in terms.units)
    return (
        *_card_problems(terms),
        *_repeated("products", [product.product_id for product in terms.prices]),
        *(p for n, product in enumerate(terms.prices) for p in product_problems(f"products[{n}]", product, units)),
        *tier_group_problems("products", terms.prices),
        *_composite_problems(terms),
        *_allowance_seats_problems(terms),
        *_repeated("commits", [commit.commit_id for commit in terms.commits]),
        *(p for n, commit in enumerate(terms.commits) for p in _commit_problems(f"commits[{n}]", commit, terms)),
        *_repeated("overrides", [override.override_id for override in terms.overrides]),
        *(p for n, o in enumerate(terms.overrides) for p in _override_problems(f"overrides[{n}]", o, terms)),
        *_repeated("discounts", [discount.discount_id for discount in terms.discounts]),
        *(p for n, d in enumerate(terms.discounts) for p in _discount_problems(f"discounts[{n}]", d, terms)),
        *_repeated("units", [unit.code for unit in terms.units], field="code"),
        *(p for n, unit in enumerate(terms.units) for p in _unit_problems(f"units[{n}]", unit)),
        *bounds_problems("", "minimum", terms.minimum, "maximum", terms.maximum),
    )


def _repeated(path: str, ids: Sequence[str], *, field: str = "id") -> Iterator[Problem]:
    counts = Counter(ids)
    for n, name in enumerate(ids):
        if counts[name] > 1 and name in ids[:n]:
            yield f"{path}[{n}].{field}", f"repeats {name!r}; give each its own {field}"


def _card_problems(terms: Terms) -> Iterator[Problem]:
    card = terms.card
    if card is not None and (card.card_id is None) == (card.alias is None):
        yield "rate_card", "names a card and an alias, or neither; give exactly one of rate_card and rate_card_alias"


# --- names of products --------------------------------------------------------------------------------------------


def named_products(name: str, products: Sequence[ProductPrice]) -> list[ProductPrice]:
    """Return the products that an id or a tag names."""
    if name.startswith(TAG):
        return [product for product in products if name.removeprefix(TAG) in product.tags]
    return [product for product in products if product.product_id == name]


def names_problems(path: str, names: Sequence[str], terms: Terms, what: str) -> Iterator[Problem]:
    """Yield the names that stand for no product, and for none but fees, which `what` does not reach."""
    for n, name in enumerate(names):
        here = f"{path}.products[{n}]"
        found = named_products(name, terms.prices)
        if not found and terms.card is None:
            word = "is a tag of no product" if name.startswith(TAG) else "is no product"
            yield here, f"is {name!r}, which {word} of these terms"
        elif found and all(is_fee(product.price) for product in found):
            kind = KINDS[type(found[0].price)]
            yield here, f"is {name!r}, {kind}; {what} usage products only"
        if name in names[:n]:
            yield here, f"repeats {name!r}; name each product once"


def groups_problems(
    path: str, products: Sequence[str], groups: Sequence[tuple[str, str]], terms: Terms
) -> Iterator[Problem]:
    """Yield that a lot at `path` would pay nothing, as no product in its scope is split by its group keys.

    Where a rate card may bring one, that is left to terms that have its prices.
    """
    unsplit = unsplit_problem(products, groups, terms.prices)
    if unsplit is not None and terms.card is None:
        yield f"{path}.groups", unsplit


def unsplit_problem(
    products: Sequence[str], groups: Sequence[tuple[str, str]], prices: Sequence[ProductPrice]
) -> str | None:
    """Say that none of the usage products that a scope names is split by all of its group keys; None: one is."""
    named = [product for name in products for product in named_products(name, prices)]
    usage = [product for product in (named if products else prices) if not is_fee(product.price)]
    keys = {key for key, _ in groups}
    if not keys or any(keys <= {*group_keys(product)} for product in usage):
        return None
    ids = ", ".join(dict.fromkeys(product.product_id for product in usage)) or "none"
    return (
        f"names {', '.join(sorted(keys))}, and none of the usage products in scope ({ids}) is split by that, so "
        "nothing would be paid; leave it out, or give a product these keys as group_by"
    )


def _composite_problems(terms: Terms) -> Iterator[Problem]:
    for n, product in enumerate(terms.prices):
        if not isinstance(product.price, Composite):
            continue
        path = f"products[{n}].price"
        if not product.price.products:
            yield f"{path}.products", "is empty; name the products whose amounts it takes a share of"
        yield from names_problems(path, product.price.products, terms, "a composite takes a share of")
        for m, name in enumerate(product.price.products):
            circle = _way_back(product, name, terms.prices)
            if circle:
                way = " to ".join(repr(step) for step in circle)
                yield f"{path}.products[{m}]", f"leads back to this composite, by way of {way}; break the circle"


def _way_back(composite: ProductPrice, name: str, products: Sequence[ProductPrice]) -> list[str]:
    """Return the products by which a name leads back to a composite; none if it does not."""
    ways = [[product] for product in named_products(name, products)]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        here = way[-1]
        if here.product_id == composite.product_id:
            return [product.product_id for product in way]
        if here.product_id in seen or not isinstance(here.price, Composite):
            continue
        seen.add(here.product_id)
        ways += [[*way, found] for further in here.price.products for found in named_products(further, products)]
    return []


def _allowance_seats_problems(terms: Terms) -> Iterator[Problem]:
    for n, product in enumerate(terms.prices):
        seats = None if product.allowance is None else product.allowance.per_seats
        if seats is None:
            continue
        found = named_products(seats, terms.prices)
        is_unknown = not found and terms.card is None
        if is_unknown or any(not isinstance(other.price, Seats) for other in found):
            yield f"products[{n}].allowance.per_seats", f"is {seats!r}, which is no product of seats of these terms"


# --- the parts of a contract --------------------------------------------------------------------------------------


def _commit_problems(path: str, commit: Commit, terms: Terms) -> Iterator[Problem]:
    yield from schedule_problems(path, commit)
    yield from names_problems(path, commit.products, terms, "a commit serves")
    yield from groups_problems(path, commit.products, commit.groups, terms)


def _window_problems(path: str, start: datetime | None, end: datetime | None) -> Iterator[Problem]:
    if start is not None and end is not None and end <= start:
        yield f"{path}.end", f"is {end.isoformat()}; it must be after the start {start.isoformat()}"


def _discount_problems(path: str, discount: Discount, terms: Terms) -> Iterator[Problem]:
    unusable = list(money_problems(f"{path}.value", discount.value))
    yield from unusable
    if not unusable and discount.kind == "percentage" and discount.value > WHOLE_PERCENT:
        yield f"{path}.value", f"is {discount.value:f} per cent; it must be at most 100"
    yield from names_problems(path, discount.products, terms, "a discount reduces")
    yield from _window_problems(path, discount.start, discount.end)


def _override_problems(path: str, override: Override, terms: Terms) -> Iterator[Problem]:
    if (override.multiplier is None) == (override.price is None):
        yield f"{path}.multiplier", "is given beside a price, or neither is; give exactly one of multiplier and price"
    if override.multiplier is not None:
        yield from number_problems(f"{path}.multiplier", override.multiplier)
    if override.price is not None:
        yield from price_problems(f"{path}.price", override.price)
    if not override.products:
        yield f"{path}.products", "is empty; name the products that this override prices"
    yield from names_problems(path, override.products, terms, "an override prices")
    yield from _override_groups_problems(path, override, terms)
    yield from _window_problems(path, override.start, override.end)


def _override_groups_problems(path: str, override: Override, terms: Terms) -> Iterator[Problem]:
    keys = [key for key, _ in override.groups]
    for n, key in enumerate(keys):
        if key in keys[:n]:
            yield f"{path}.groups.{key}", "is given twice; give each key one value"
    hit = [product for name in override.products for product in named_products(name, terms.prices)]
    if terms.card is not None or not hit:
        return
    for key in dict.fromkeys(keys):
        if all(key not in group_keys(product) for product in hit):
            yield f"{path}.groups.{key}", "splits none of these products, so the override hits nothing; leave it out"


def _unit_problems(path: str, unit: CustomUnit) -> Iterator[Problem]:
    if not unit.code:
        yield f"{path}.code", "is empty; give the unit a code, such as credits"
    if not 0 <= unit.exponent <= MOST_EXPONENT:
        yield f"{path}.exponent", f"is {unit.exponent}; it must be between 0 and {MOST_EXPONENT}"
    yield from money_problems(f"{path}.money_per_unit", unit.money_per_unit, above_zero=True)
