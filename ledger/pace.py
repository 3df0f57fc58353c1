"""Pace: how soon a balance is to follow its usage again."""

from datetime import timedelta

import sqlalchemy as sa

SOONEST = timedelta(milliseconds=200)
"""Shorter than the second between two nudges of a door, so that the timer is needed where something else tells."""
LATEST = timedelta(seconds=60)
TIMES_OF_WORK = 10
"""So much longer than an accrual takes is the time to the next one: a contract keeps a worker busy a tenth of it."""


def next_after(connection: sa.Connection, contract_id: str, *, took: timedelta, has_lots: bool) -> timedelta:
    """Return how long the next accrual may wait: in proportion to what the last one took, up to a minute.

    While a lot in force has something left, but at most a tenth, it is the shortest: what it pays is about to change.
    """
    if has_lots and connection.execute(_IS_NEARLY_USED, {"contract_id": contract_id}).scalar_one():
        return SOONEST
    return min(max(TIMES_OF_WORK * took, SOONEST), LATEST)


_IS_NEARLY_USED = sa.text("""
select exists (
    select from lot l
    join contract c on c.contract_id = l.contract_id
    cross join lateral (
        select l.amount - coalesce(sum(a.amount), 0) as amount from accrued a
        where a.contract_id = l.contract_id and a.lot_id = l.lot_id and a.kind = 'usage'
    ) rest
    cross join lateral (
        select coalesce(
            (select end_at from lot_change where lot_id = l.lot_id order by change_id desc limit 1), l.end_at
        ) as ends_at
    ) window_of_now
    where l.contract_id = :contract_id and l.kind <> 'postpaid' and rest.amount > 0 and rest.amount <= l.amount / 10
        and l.start_at <= c.accrued_at and (ends_at is null or c.accrued_at < ends_at)
)
""")
