"""Billing periods: half-open intervals in UTC, computed in the contract's time zone from its anchor."""

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """A half-open interval [start, end) in UTC, so that no instant is billed twice or never."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


def local_midnight(day: date, time_zone: str) -> datetime:
    """Return the first instant of a local day as UTC."""
    raise NotImplementedError
