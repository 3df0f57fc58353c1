"""Windows: the stretches of time in which tiers, allowances and commitments begin anew."""

from datetime import UTC, datetime, timedelta
from typing import assert_never
from zoneinfo import ZoneInfo

from pricing.calendar import Period, local_date, local_midnight
from pricing.terms import ProductPrice, TierPeriod

HOUR = timedelta(hours=1)


def window_start(moment: datetime, tier_period: TierPeriod, period: Period, time_zone: str) -> datetime:
    """Return when the window of a moment begins, in UTC; never before the billing period.

    Hours, days and months are those of the contract's zone. The window of a contract goes back before the period.
    """
    match tier_period:
        case "billing_period" | "contract":
            return period.start
        case "month":
            first = local_date(moment, time_zone).replace(day=1)
            return max(local_midnight(first, time_zone), period.start)
        case "day":
            return max(local_midnight(local_date(moment, time_zone), time_zone), period.start)
        case "hour":
            return max(_local_hour(moment, time_zone), period.start)
        case _:
            assert_never(tier_period)


def window_cuts(period: Period, tier_period: TierPeriod, time_zone: str) -> set[datetime]:
    """Return the moments within a period at which windows begin."""
    step = {"hour": HOUR, "day": HOUR, "month": timedelta(days=1)}.get(tier_period)
    found: set[datetime] = set()
    moment = period.start
    while step is not None and moment < period.end:
        start = window_start(moment, tier_period, period, time_zone)
        found.add(start)
        moment = max(moment, start) + step
    last = window_start(period.end - timedelta.resolution, tier_period, period, time_zone)
    return found | {last}


def tier_period_of(product: ProductPrice) -> TierPeriod:
    """Return how often a product begins anew: with each window of its commitment, if it has one."""
    return product.tier_period if product.commitment is None else product.commitment.window


def local_hour(moment: datetime, time_zone: str) -> int:
    """Return the hour of the day of a moment."""
    return moment.astimezone(ZoneInfo(time_zone)).hour


def _local_hour(moment: datetime, time_zone: str) -> datetime:
    """Return the start of a moment's local hour: zones differ from UTC by quarters of an hour."""
    local = moment.astimezone(ZoneInfo(time_zone))
    since = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return (moment - since).astimezone(UTC)
