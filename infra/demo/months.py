"""The months that the demo bills: two that are over, and the one under way."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

FURTHEST_EAST = timedelta(hours=14)
"""No month begins earlier than this before it begins in UTC."""


@dataclass(frozen=True, slots=True)
class Months:
    """The months around `now` (aware, UTC), each by its first day.

    The last month is over everywhere: on the first day of a month, somewhere it is not yet, so that day counts as the
    last one of the month before.
    """

    now: datetime

    @property
    def current(self) -> date:
        """Return the month under way."""
        return (self.now - timedelta(days=1)).date().replace(day=1)

    @property
    def last(self) -> date:
        """Return the last month that is over."""
        return (self.current - timedelta(days=1)).replace(day=1)

    @property
    def before_last(self) -> date:
        """Return the month before the last: the contracts start with it."""
        return (self.last - timedelta(days=1)).replace(day=1)

    @property
    def first_usage(self) -> datetime:
        """Return when usage begins, UTC: when the first month has begun in every time zone."""
        return datetime(self.before_last.year, self.before_last.month, 1, 12, tzinfo=UTC)
