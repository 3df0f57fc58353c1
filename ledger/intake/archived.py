"""Archived months: up to when the events of usage have left the database."""

from datetime import UTC, date, datetime

import sqlalchemy as sa

from ledger import schema
from pricing.calendar import Period

ARCHIVE = schema.usage_archive


def month_span(month: date) -> Period:
    """Return the half-open span of a month in UTC; `month` is any day of it."""
    first = datetime(month.year, month.month, 1, tzinfo=UTC)
    return Period(first, datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC))


def archived_until(connection: sa.Connection) -> datetime | None:
    """Return the end of the last detached month: no event before it can be read; None while all can."""
    last: date | None = connection.execute(
        sa.select(sa.func.max(ARCHIVE.c.month)).where(ARCHIVE.c.detached_at.is_not(None))
    ).scalar_one()
    return None if last is None else month_span(last).end
