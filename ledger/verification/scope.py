"""The scope of a verification: everything, one contract, or one month (UTC) of usage, and what that leaves out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

NO_FACTS: Mapping[str, object] = {"customer_id": None, "since": None, "until": None}

WHOLE_BOOKS = (
    "received = accepted + duplicate + conflict + rejected",
    "batches hold what was stored",
    "sources hold what was stored",
    "conflicts are kept for a person",
    "accepted = rated + unmatched + withdrawn",
    "usage status tells what became of events",
    "receipts tell what became of their batch",
    "cash and fees are those of the payments",
    "card payments are Stripe's charges",
    "invoice numbers have no gap",
    "no other account holds anything",
)
"""Checks of figures that are kept for all contracts together."""


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
