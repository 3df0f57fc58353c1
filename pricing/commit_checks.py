"""What keeps a commit from being granted and billed: each problem is a path with a sentence that says what to write."""

from collections.abc import Iterator
from datetime import datetime

from pricing.money import total
from pricing.price_checks import Problem, money_problems
from pricing.terms import Commit


def schedule_problems(path: str, commit: Commit) -> Iterator[Problem]:
    """Yield what contradicts itself in the amounts, segments and instalments of a commit at `path`."""
    if commit.type == "postpaid":
        for key, given in (("access", commit.access), ("invoices", commit.invoices)):
            if given:
                yield f"{path}.{key}", "is given for a postpaid commit, which is used and billed as a whole; remove it"
        if commit.end is None and not commit.access:
            yield f"{path}.end", "is missing; what a postpaid commit has left is billed at its end, so add it"
    if commit.access:
        yield from _access_problems(path, commit)
    else:
        yield from money_problems(f"{path}.amount", commit.amount, above_zero=True)
        if commit.end is not None and commit.end <= commit.start:
            yield _after(f"{path}.end", commit.end, "the start", commit.start)
    yield from _instalment_problems(path, commit)


def term_problems(commit: Commit, contract_start: datetime, contract_end: datetime | None) -> Iterator[Problem]:
    """Yield the segments and instalments of a commit, by their keys, that leave its contract's term.

    A prepaid commit in one piece may outlive its contract: it is paid for.
    """
    spans = [(f"access[{n}].", one.start, one.end) for n, one in enumerate(commit.access)]
    if commit.type == "postpaid" and not commit.access:
        spans.append(("", commit.start, commit.end))
    for key, start, end in spans:
        yield from _moment_problems(f"{key}start", start, contract_start, contract_end)
        if contract_end is not None and end is not None and end > contract_end:
            yield (
                f"{key}end",
                f"is {end.isoformat()}; it must not be after the contract's end {contract_end.isoformat()}",
            )
    for n, one in enumerate(commit.invoices):
        yield from _moment_problems(f"invoices[{n}].on", one.on, contract_start, contract_end)


def _access_problems(path: str, commit: Commit) -> Iterator[Problem]:
    for n, segment in enumerate(commit.access):
        here = f"{path}.access[{n}]"
        yield from money_problems(f"{here}.amount", segment.amount, above_zero=True)
        if segment.end is not None and segment.end <= segment.start:
            yield _after(f"{here}.end", segment.end, "the start", segment.start)
        if n == 0:
            continue
        before = commit.access[n - 1].end
        if before is None:
            yield f"{path}.access[{n - 1}].end", "is missing; only the last segment may have none, so add it"
        elif segment.start < before:
            yield (
                f"{here}.start",
                f"is {segment.start.isoformat()}, before the one before it ends; let it begin at {before.isoformat()}",
            )


def _instalment_problems(path: str, commit: Commit) -> Iterator[Problem]:
    unusable = False
    for n, one in enumerate(commit.invoices):
        here = f"{path}.invoices[{n}]"
        for problem in money_problems(f"{here}.amount", one.amount, above_zero=True):
            unusable = True
            yield problem
        if n > 0 and one.on <= commit.invoices[n - 1].on:
            yield _after(f"{here}.on", one.on, "the instalment before it", commit.invoices[n - 1].on)
    if unusable or not commit.invoices or not commit.amount.is_finite():
        return
    price = total([one.amount for one in commit.invoices])
    if price > commit.amount:
        yield (
            f"{path}.invoices",
            f"come to {price:f}, more than the {commit.amount:f} that may be drawn; lower them, or raise the access",
        )


def _moment_problems(key: str, moment: datetime, start: datetime, end: datetime | None) -> Iterator[Problem]:
    if moment < start:
        yield key, f"is {moment.isoformat()}; it must not be before the contract's start {start.isoformat()}"
    elif end is not None and moment >= end:
        yield key, f"is {moment.isoformat()}; it must be before the contract's end {end.isoformat()}"


def _after(path: str, moment: datetime, what: str, other: datetime) -> Problem:
    return path, f"is {moment.isoformat()}; it must be after {what} {other.isoformat()}"
