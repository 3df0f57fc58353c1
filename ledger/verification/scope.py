"""The scope of a verification: everything, one contract, or one month (UTC) of usage, and what that leaves out."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from ledger.verification.check import Check

NO_FACTS: Mapping[str, object] = {"customer_id": None, "since": None, "until": None}

Tell = Callable[[str, int, int | None], None]
"""Hears what is being done, how much of it is done, and how much there is (None: not known)."""

OF_ALL_CONTRACTS = frozenset(
    {
        "received = accepted + duplicate + conflict + rejected",
        "batches hold what was stored",
        "sources hold what was stored",
        "conflicts are kept for a person",
        "conflicts are settled as they were decided",
        "receipts tell what became of their batch",
        "corrections are accounted for",
        "accepted = rated + unmatched + withdrawn",
        "usage status tells what became of events",
        "cash and fees are those of the payments",
        "card payments are Stripe's charges",
        "invoice numbers have no gap",
        "no other account holds anything",
        "every entity's trial balance is 0",
    }
)
"""Checks of figures that are kept for all contracts together."""

OF_A_MONTH = frozenset(
    {
        "each event has one key",
        "events are as they were sent",
        "events belong to who has their alias",
        "rollups count the events",
        "rollups hold the quantities",
        "rollups hold the highest, lowest, latest, weighted and carried figures",
        "members are counted as they come and go",
        "archived months are as they were exported",
        "transfers are as they were posted",
        "seals of closed months hold",
        "nothing is posted into a closed month",
    }
)
"""Checks that a month of usage, and the transfers that are effective in it, can stand by themselves."""

OF_ALL_EVENTS = frozenset(
    {
        "rollups count the events",
        "rollups hold the quantities",
        "rollups hold the highest, lowest, latest, weighted and carried figures",
        "members are counted as they come and go",
        "corrections are accounted for",
        "batches hold what was stored",
        "sources hold what was stored",
        "accepted = rated + unmatched + withdrawn",
        "usage status tells what became of events",
        "rated usage has a price",
        "rated quantities are accrued",
        "rated amounts are accrued",
        "frozen periods stand as they were billed",
        "kept readings are those of the events",
        "invoices bill the usage that was rated",
        "usage revenue is what was rated",
        "deferred revenue is billed and neither drawn nor earned",
        "breakage is what ended paid lots have left",
        "promotional credit is what free lots paid",
        "no lot is drawn by more than it holds",
        "lots are drawn, left, expired or voided",
        "unbilled receivable is what no issued invoice holds",
        "rounding is what lines were rounded by",
    }
)
"""Checks that nobody can make while the events of some month cannot be read."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What to verify: one contract with the usage of its customer, or a month of usage; all where both are None."""

    contract_id: str | None = None
    customer_id: str | None = None
    month: date | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self.contract_id is None and self.month is None

    @property
    def facts(self) -> Mapping[str, object]:
        """What queries are told: the customer of the contract, and the half-open span of the month."""
        if self.month is None:
            return {**NO_FACTS, "customer_id": self.customer_id}
        year, month = self.month.year, self.month.month
        until = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        return {"customer_id": None, "since": datetime(year, month, 1, tzinfo=UTC), "until": until}

    def has(self, moment: datetime) -> bool:
        """Say whether a moment of usage lies in the scope."""
        since, until = self.facts["since"], self.facts["until"]
        if not isinstance(since, datetime) or not isinstance(until, datetime):
            return True
        return since <= moment < until


EVERYTHING = Scope()


def left_out(scope: Scope) -> tuple[str, ...]:
    """Return sentences that say what a verification of the scope does not look at."""
    if scope.contract_id is not None:
        return (
            f"only contract {scope.contract_id} and the usage of customer {scope.customer_id} were verified",
            "left out: keys without an event, whose customer nobody knows",
            *(f"left out: {name}" for name in sorted(OF_ALL_CONTRACTS)),
        )
    if scope.month is not None:
        return (
            f"only the usage of {scope.month:%Y-%m} (UTC) and the transfers effective in it were verified",
            "left out: rating, invoices, receivables, payments and balances, which need more than a month",
            "left out: batches, sources, corrections and the status of usage, which are not kept by month of usage",
        )
    return ()


def within(scope: Scope, checks: Iterable[Check], missing: Iterable[date]) -> Iterator[Check]:
    """Yield the checks that the scope can make; those that need the events of missing months say so instead."""
    names = ", ".join(f"{month:%Y-%m}" for month in missing)
    for check in checks:
        if scope.contract_id is not None and check.name in OF_ALL_CONTRACTS:
            continue
        if scope.month is not None and check.name not in OF_A_MONTH:
            continue
        if names and check.name in OF_ALL_EVENTS:
            detail = f"unverified: the events of {names} are archived in files that cannot be read here"
            yield replace(check, left="unverified", right="unverified", ok=True, detail=detail)
            continue
        yield check
