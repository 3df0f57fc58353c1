"""Recharges in contract files: what must hold so that one recharge always lifts the balance above where it is low."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from ledger.definitions import RECHARGE_ID, CollectionPolicy, RechargePolicy
from pricing.money import EXACT, ZERO, Currency, round_to_currency
from pricing.recharge import recharge
from pricing.terms import Commit

Problems = Iterator[tuple[str, str]]


def recharge_problems(
    policy: RechargePolicy, collection: CollectionPolicy, commits: Sequence[Commit], unit: Currency
) -> Problems:
    """Yield the key and the sentence of each thing that keeps a contract from being recharged by a policy."""
    found = [*_size_problems(policy, unit)]
    if not 0 <= policy.discount < 1:
        found.append(("discount", f"{policy.discount} must be a fraction from 0 to below 1; write 0.1 for a tenth"))
    yield from found
    if not found:
        yield from _charge_problems(policy, unit)
    if collection.method != "card":
        yield "", f"needs a card, and collection.method is {collection.method}; write card, or remove the recharge"
    for commit in commits:
        if commit.commit_id.startswith(RECHARGE_ID):
            yield "", f"gives its lots ids such as that of commit {commit.commit_id}; name the commit otherwise"


def _size_problems(policy: RechargePolicy, unit: Currency) -> Problems:
    if policy.below < 0:
        yield "below", f"{policy.below} must not be negative; write 0 to recharge once all is used"
    if (policy.amount is None) == (policy.to is None):
        yield "", "says how much by either amount (a fixed sum) or to (fill up to a balance); write one of them"
        return
    key, size = ("to", policy.to) if policy.amount is None else ("amount", policy.amount)
    if size is None or size <= policy.below:
        yield (
            key,
            f"{size} must be above below, {policy.below}: one recharge must lift an empty balance out of being low",
        )
    elif round_to_currency(size, unit) != size:
        yield key, f"{size} must have at most {unit.exponent} decimal places; an invoice in {unit.code} has no more"


def _charge_problems(policy: RechargePolicy, unit: Currency) -> Problems:
    """Judge the least and the most that one recharge is charged: by `to`, from the threshold and from nothing."""
    most = policy.to or policy.amount or ZERO
    least = most if policy.to is None else EXACT.subtract(policy.to, policy.below)
    charged = recharge(most, policy.discount, unit).charged
    if recharge(round_to_currency(least, unit), policy.discount, unit).charged <= 0:
        yield "discount", f"{policy.discount} leaves nothing to charge for a recharge by {least}; lower it"
    caps: Sequence[tuple[str, Decimal | None]] = (
        ("most_per_day", policy.most_per_day),
        ("most_per_month", policy.most_per_month),
    )
    for key, cap in caps:
        if cap is not None and cap < charged:
            yield key, f"{cap} is less than one recharge may be charged, {charged}; raise it, or remove it"
