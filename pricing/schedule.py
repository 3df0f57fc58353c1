"""Schedule: where the periods of fees lie among the billing periods of a contract, one of which is being rated."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from pricing.calendar import (
    MONTHS,
    Anchor,
    Period,
    local_days,
    period_containing,
    period_number,
    period_starting,
    whole_period,
)
from pricing.prices import Cadence, Proration
from pricing.wording import counted

SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The rated billing period, with the contract's zone, cadence and anchor, and its term [start, end)."""

    period: Period
    time_zone: str
    entity_time_zone: str
    cadence: Cadence = "month"
    anchor: Anchor | None = None
    start: datetime | None = None
    """None: the rated period is taken alone, as a whole one with which everything begins."""
    end: datetime | None = None

    def fee_periods(self, cadence: Cadence | None) -> Iterator[tuple[Period, Period]]:
        """Yield the periods of a fee that touch the rated one, as far as the term reaches, each with its whole one.

        Without a cadence the fee's only period is the billing period.
        """
        if cadence is None:
            yield self.period, self._whole_billing_period()
            return
        start = self.period.start if self.start is None else self.start
        until = self.period.end if self.end is None else min(self.period.end, self.end)
        anchor = self._anchor_for(cadence)
        n = period_number(start, self.time_zone, self.period.start, cadence=cadence, anchor=anchor)
        while (fee_period := period_starting(start, self.time_zone, n, cadence=cadence, anchor=anchor)).start < until:
            whole = whole_period(start, self.time_zone, n, cadence=cadence, anchor=anchor)
            end = fee_period.end if self.end is None else min(fee_period.end, self.end)
            if fee_period.start < end:
                yield Period(fee_period.start, end), whole
            n += 1

    def billing_starts(self, span: Period) -> Iterator[datetime]:
        """Yield the start of each billing period that touches a fee's period, in order; the first may lie before it."""
        if self.start is None:
            yield self.period.start
            return
        moment = span.start
        while moment < span.end:
            billing = period_containing(self.start, self.time_zone, moment, cadence=self.cadence, anchor=self.anchor)
            yield billing.start
            moment = billing.end

    def touches(self, service: Period) -> bool:
        """Tell whether a service lies at least in part in the rated period."""
        return service.start < self.period.end and service.end > self.period.start

    def has_end_of(self, service: Period) -> bool:
        """Tell whether a service ends with the rated period or within it."""
        return self.period.start < service.end <= self.period.end

    def _whole_billing_period(self) -> Period:
        if self.start is None:
            return self.period
        place = (self.start, self.time_zone)
        n = period_number(*place, self.period.start, cadence=self.cadence, anchor=self.anchor)
        whole = whole_period(*place, n, cadence=self.cadence, anchor=self.anchor)
        # A recorded period that an earlier calendar made lies in no whole one of this; it is charged as it is.
        return whole if whole.start <= self.period.start and self.period.end <= whole.end else self.period

    def _anchor_for(self, cadence: Cadence) -> Anchor | None:
        """Return the contract's anchor for fees whose cadence counts in the same unit, weeks or months."""
        is_alike = (cadence in MONTHS) == (self.cadence in MONTHS) and cadence != "day"
        return self.anchor if is_alike else None


def part_text(part: Period, whole: Period, basis: Proration, time_zone: str) -> str:
    """Write which part of a whole period is charged, in the unit in which it is shared: 17 of 31 days."""
    of = local_days(whole, time_zone)
    if basis == "day" and of:
        return f"{local_days(part, time_zone)} of {counted(Decimal(of), 'day')}"
    seconds, of_seconds = ((span.end - span.start) // SECOND for span in (part, whole))
    return f"{seconds:,} of {of_seconds:,} seconds"
