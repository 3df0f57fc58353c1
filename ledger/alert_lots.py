"""What alerts observe of lots: what is left, drawn, about to expire, and when that is to be looked at again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa

from ledger.alert_rules import AlertRule
from ledger.contracts import Contract
from pricing.calendar import local_date
from pricing.expiry import end_of
from pricing.money import EXACT, total
from pricing.thresholds import days_left, percent_left

PACE_DAYS = 7
"""Over so many full days of the entity the pace of draws is taken, fewer where the lots are younger."""


@dataclass(frozen=True, slots=True)
class LotBalance:
    """A lot that has begun, with all that was drawn from it, and the part of the last `PACE_DAYS` full days."""

    lot_id: str
    amount: Decimal
    start_at: datetime
    ends_at: datetime | None
    drawn: Decimal
    drawn_lately: Decimal
    is_postpaid: bool


def lots_begun(connection: sa.Connection, contract: Contract, *, as_of: datetime) -> tuple[LotBalance, ...]:
    """Return the lots of a contract that have begun by a moment, those that are over too."""
    today = local_date(as_of, contract.entity_zone)
    facts = {"contract_id": contract.contract_id, "as_of": as_of, "today": today, "days": PACE_DAYS}
    return tuple(LotBalance(*row) for row in connection.execute(_LOTS, facts))


def lot_figure(rule: AlertRule, contract: Contract, lots: Sequence[LotBalance], *, as_of: datetime) -> Decimal | None:
    """Return what a rule observes of lots at a moment; None where the lot, or any lot, has not begun.

    So a contract that pays as it goes has no balance that could fall; nor has one with a postpaid commit, of which only
    how much is used is observed. The days are those of the entity.
    """
    if rule.kind == "commit_used":
        return next((percent_left(lot.drawn, lot.amount) for lot in lots if lot.lot_id == rule.lot_id), None)
    lots = [lot for lot in lots if not lot.is_postpaid]
    if rule.kind == "credit_expiring":
        return _expiring(contract, lots, as_of, timedelta(days=rule.days or 0))
    return _balances(lots, as_of=as_of, zone=contract.entity_zone).get(rule.kind)


def next_expiring(
    contract: Contract, rules: Sequence[AlertRule], lots: Sequence[LotBalance], *, as_of: datetime
) -> datetime | None:
    """Return when the next lot comes so near to its end that a rule on what expires sees it; None: none does."""
    ends = [end for lot in lots if (end := end_of(lot.ends_at, contract.end_at)) is not None]
    days = [rule.days for rule in rules if rule.days is not None]
    seen = [end - timedelta(days=ahead) for end in ends for ahead in days]
    return min((moment for moment in seen if moment > as_of), default=None)


def _expiring(contract: Contract, lots: Sequence[LotBalance], as_of: datetime, ahead: timedelta) -> Decimal | None:
    """Return what is left in the lots that end, with their contract at the latest, within so much time."""
    if not lots:
        return None
    ending = [
        EXACT.subtract(lot.amount, lot.drawn)
        for lot in lots
        if (end := end_of(lot.ends_at, contract.end_at)) is not None and as_of < end <= as_of + ahead
    ]
    return total(ending)


def _balances(lots: Sequence[LotBalance], *, as_of: datetime, zone: str) -> Mapping[str, Decimal]:
    """Return what is left in the lots in force, by kind of rule; nothing where no lot has begun."""
    if not lots:
        return {}
    in_force = [lot for lot in lots if lot.ends_at is None or as_of < lot.ends_at]
    granted = total([lot.amount for lot in in_force])
    left = EXACT.subtract(granted, total([lot.drawn for lot in in_force]))
    since = as_of - timedelta(days=PACE_DAYS)
    recent = [lot.start_at for lot in lots if lot.ends_at is None or since < lot.ends_at]
    full_days = (local_date(as_of, zone) - local_date(min(recent, default=as_of), zone)).days
    return {
        "balance_amount": left,
        "balance_percent": percent_left(left, granted),
        "balance_days": days_left(left, total([lot.drawn_lately for lot in lots]), days=min(PACE_DAYS, full_days)),
    }


_LOTS = sa.text("""
select l.lot_id, l.amount, l.start_at, coalesce(changed.end_at, l.end_at) as ends_at,
    coalesce(draws.amount, 0) as drawn, coalesce(draws.lately, 0) as drawn_lately,
    l.kind = 'postpaid' as is_postpaid
from lot l
left join lateral (
    select end_at from lot_change where lot_id = l.lot_id order by change_id desc limit 1
) changed on true
left join (
    select lot_id, sum(amount) as amount,
        sum(amount) filter (where day < :today and day >= cast(:today as date) - cast(:days as integer)) as lately
    from accrued where contract_id = :contract_id and lot_id <> '' and kind = 'usage' group by lot_id
) draws on draws.lot_id = l.lot_id
where l.contract_id = :contract_id and l.start_at <= :as_of
""")
