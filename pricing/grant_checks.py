"""What keeps a recurring grant from being granted: each problem is a key with a sentence that says what to write."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from pricing.checks import groups_problems, names_problems
from pricing.grants import Grant
from pricing.price_checks import Problem, money_problems
from pricing.terms import Terms

A_DAY = timedelta(days=1)


def grant_problems(grant: Grant, contract_start: datetime, contract_end: datetime | None) -> Iterator[Problem]:
    """Yield what is wrong with a grant in a contract of the term [contract_start, contract_end)."""
    yield from money_problems("amount", grant.amount, above_zero=True)
    if grant.starts < contract_start:
        yield (
            "starts",
            f"is {grant.starts.isoformat()}; it must not be before the contract's start {contract_start.isoformat()}",
        )
    if contract_end is not None and grant.starts >= contract_end:
        yield (
            "starts",
            f"is {grant.starts.isoformat()}; it must be before the contract's end {contract_end.isoformat()}",
        )
    if grant.ends is not None and grant.every == "once":
        yield "ends", "says nothing of a credit that is granted once; remove it, and say with lasts how long it serves"
    elif grant.ends is not None and grant.ends <= grant.starts:
        yield "ends", f"is {grant.ends.isoformat()}; it must be after the start {grant.starts.isoformat()}"
    yield from _length_problems(grant)


def scope_problems(path: str, grant: Grant, terms: Terms) -> Iterator[Problem]:
    """Yield what keeps a grant at `path` from paying anything: products that are not sold by usage, groups of none.

    Where a rate card may bring them, that is left to terms that have its prices.
    """
    yield from names_problems(path, grant.products, terms, "a credit serves")
    yield from groups_problems(path, grant.products, grant.groups, terms)


def _length_problems(grant: Grant) -> Iterator[Problem]:
    lasts = grant.lasts
    if lasts == "never":
        return
    if grant.every != "once":
        if isinstance(lasts, timedelta):
            yield "lasts", f"counts windows of a {grant.every}; write how many, such as 1, or never"
        return
    if not isinstance(lasts, timedelta):
        yield "lasts", "must say for how many days a credit that is granted once serves; write 14d, or never"
    elif lasts < A_DAY or lasts % A_DAY:
        yield "lasts", f"is {lasts}; it must be whole days, such as 14d"
    if grant.first != "full":
        yield "first", f"is {grant.first}, which says nothing of a credit that is granted once; remove it"
