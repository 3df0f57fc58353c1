"""Rollovers: how much of what a lot has left is handed over on renewal, and how long that serves."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal

from pricing.calendar import local_date, local_midnight
from pricing.commits import lots_of_commit
from pricing.grants import Grant
from pricing.money import EXACT, WIDE, ZERO, Currency
from pricing.price_checks import Problem, money_problems
from pricing.terms import Rollover, Terms

A_DAY = timedelta(days=1)


def rolled_amount(rule: Rollover, left: Decimal, unit: Currency) -> Decimal:
    """Return how much of what is left is handed over: its fraction, at most the cap, in whole minor units downwards."""
    share = EXACT.multiply(max(left, ZERO), rule.fraction)
    amount = share if rule.cap is None else min(share, rule.cap)
    return amount.quantize(Decimal(1).scaleb(-unit.exponent), rounding=ROUND_DOWN, context=WIDE)


def rolled_end(
    rule: Rollover,
    lot_start: datetime,
    lot_end: datetime | None,
    *,
    renewed_at: datetime,
    term_end: datetime | None,
    time_zone: str,
) -> datetime | None:
    """Return when what is handed over at a renewal ends, but not after the renewing contract; None: it has no end.

    It lasts for the local days that the rule says, else for as many as the lot that it comes from.
    """
    if rule.lasts == "never" or (rule.lasts is None and lot_end is None):
        return None
    if rule.lasts is not None:
        days = rule.lasts
    else:
        days = max(local_date(lot_end or lot_start, time_zone) - local_date(lot_start, time_zone), A_DAY)
    end = local_midnight(local_date(renewed_at, time_zone) + days, time_zone)
    return end if term_end is None else min(end, term_end)


def rollover_problems(path: str, rule: Rollover | None) -> Iterator[Problem]:
    """Yield what is wrong with a rule at `path`."""
    if rule is None:
        return
    if not rule.fraction.is_finite() or not 0 < rule.fraction <= 1:
        yield f"{path}.fraction", f"is {rule.fraction}; it must be above 0 and at most 1, which hands over all"
    if rule.cap is not None:
        yield from money_problems(f"{path}.cap", rule.cap, above_zero=True)
    lasts = rule.lasts
    if lasts is None or lasts == "never":
        return
    if lasts < A_DAY or lasts % A_DAY:
        yield f"{path}.lasts", f"is {lasts}; it must be whole days, such as 90d, or never"


def rules_of(
    contract_id: str, versions: Sequence[Terms], grants: Sequence[Grant], lot_ids: Iterable[str]
) -> dict[str, Rollover]:
    """Return the rules of those lots of a contract that have one, by their ids.

    What was handed over once, and what a person granted, has none.
    """
    found: dict[str, Rollover] = {}
    for commit in (commit for terms in versions for commit in terms.commits):
        if commit.rollover is not None:
            own = lots_of_commit(commit, f"{contract_id}.{commit.commit_id}")
            found |= {lot.lot_id: commit.rollover for lot in own}
    windows = {f"{contract_id}.{grant.grant_id}": grant.rollover for grant in grants if grant.rollover is not None}
    for lot_id in lot_ids:
        prefix, _, number = lot_id.rpartition(".")
        if prefix in windows and number.isdecimal():
            found[lot_id] = windows[prefix]
    return found
