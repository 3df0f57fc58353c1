"""Spend caps: what rules that cap leave of a contract's running period or day, so that its gates close in time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa

from ledger.alert_rules import rules_on
from ledger.contracts import Contract
from pricing.calendar import local_date, local_midnight
from pricing.money import EXACT, total


@dataclass(frozen=True, slots=True)
class Cap:
    """What a cap leaves of its span, below zero where more was spent, until the next span begins.

    `product_id` None caps all that the contract costs. In the contract's currency; nothing that is held is in it.
    """

    rule_id: str
    product_id: str | None
    left: Decimal
    until: datetime

    def covers(self, products: Sequence[str]) -> bool:
        """Say whether what is used of a feature with these products may count for the cap."""
        return self.product_id is None or self.product_id in products


def caps_of(connection: sa.Connection, contract: Contract, *, as_of: datetime) -> tuple[Cap, ...]:
    """Return the caps on a contract in force at `as_of`, by what is posted; usage and earned fees count."""
    rules = [rule for rule in rules_on(connection, contract) if rule.action == "cap"]
    if not rules:
        return ()
    zone, begun = contract.entity_zone, contract.periods(as_of)
    running = begun[-1]
    today = local_date(as_of, zone)
    first, next_day = local_midnight(today, zone), local_midnight(today + timedelta(days=1), zone)
    starts = [period.start for period in begun if first < period.end]
    facts = {"contract_id": contract.contract_id, "starts": starts, "running": running.start, "today": today}
    rows = connection.execute(_SPENT, facts).all()
    caps = []
    for rule in rules:
        own = [row for row in rows if rule.product_id in (None, row.product_id)]
        spent = total([row.in_day if rule.span == "day" else row.in_period for row in own])
        until = next_day if rule.span == "day" else running.end
        caps.append(Cap(rule.rule_id, rule.product_id, EXACT.subtract(rule.threshold, spent), until))
    return tuple(caps)


_SPENT = sa.text("""
select product_id, coalesce(sum(amount) filter (where period_start = :running), 0) as in_period,
    coalesce(sum(amount) filter (where day = :today), 0) as in_day
from accrued where contract_id = :contract_id and kind <> 'breakage' and period_start = any(:starts)
group by product_id
""")
