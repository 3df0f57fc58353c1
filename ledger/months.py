"""The months of an entity's books: which are closed, and on which day a fact may still be posted.

A month is its first day, in the entity's time zone.
"""

from collections.abc import Set as AbstractSet
from datetime import date, timedelta

import sqlalchemy as sa

from ledger import schema


def closed_months(connection: sa.Connection, entity_id: str) -> set[date]:
    """Return the months that the entity has closed."""
    period = schema.accounting_period.c
    query = sa.select(period.month).where(period.entity_id == entity_id).where(period.state == "closed")
    return {*connection.execute(query).scalars()}


def hold_closed_months(connection: sa.Connection, entity_id: str) -> set[date]:
    """Return the closed months, and keep others from being closed until the transaction ends."""
    connection.execute(sa.text("select share_books(:entity_id)"), {"entity_id": entity_id})
    return closed_months(connection, entity_id)


def first_open_day(day: date, closed: AbstractSet[date]) -> date:
    """Return the day itself, or the first day after it whose month is not closed."""
    while day.replace(day=1) in closed:
        day = next_month(day)
    return day


def open_day(connection: sa.Connection, entity_id: str, day: date) -> date:
    """Return the first open day from `day` on, which stays open until the transaction ends."""
    return first_open_day(day, hold_closed_months(connection, entity_id))


def next_month(day: date) -> date:
    """Return the month after a day's."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
