"""Recurring grants: the windows in which a contract gives credit that was agreed, and how much in each.

Windows turn as billing periods do: at local midnights of the days counted from the contract's start, or from its
anchor, so that they tile the time without gap or overlap.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Literal

from pricing.calendar import MONTHS, Anchor, Period, local_date, local_midnight, period_number, whole_period
from pricing.calendar import period_starting as turn_of
from pricing.money import Currency, round_to_currency
from pricing.prices import Cadence
from pricing.proration import prorated, share

Every = Literal["week", "month", "quarter", "year", "once"]


@dataclass(frozen=True, slots=True)
class Grant:
    """A promotional credit of `amount`, in the contract's currency, that is granted with `every` window, or once.

    The first begins at `starts` (UTC), the last before `ends` (None: it goes on with the contract). What is granted
    `lasts` for so many windows, or where it is granted once for so many days (a `timedelta`). `products` limits it to
    those ids or tags, empty serves all usage; `groups` limits it to usage with all these group values. Lower `priority`
    burns first. With `first` prorated, a first window that is a part of one is granted its share by local days.
    """

    grant_id: str
    name: str
    amount: Decimal
    every: Every
    starts: datetime
    ends: datetime | None = None
    lasts: int | timedelta | Literal["never"] = 1
    products: tuple[str, ...] = ()
    priority: int = 100
    first: Literal["full", "prorated"] = "full"
    groups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class GrantedWindow:
    """What is granted with the `number`-th window, from 1 on: it pays usage in [start, end), None being without end."""

    number: int
    start: datetime
    end: datetime | None
    amount: Decimal


def granted_windows(
    grant: Grant,
    contract_start: datetime,
    contract_end: datetime | None,
    time_zone: str,
    until: datetime,
    *,
    unit: Currency,
    cadence: Cadence = "month",
    anchor: Anchor | None = None,
) -> tuple[GrantedWindow, ...]:
    """Return the windows of a grant that have begun by `until` (inclusive), in order.

    `cadence` and `anchor` are those of the contract's periods. None begins at or after the contract's end or the
    grant's; one that began before keeps its own end. A share is rounded half up to the currency `unit`; where nothing
    of it is left, nothing is granted with that window. Raises `ValueError` for a grant from before the contract.
    """
    limits = [moment for moment in (contract_end, grant.ends) if moment is not None]
    found: list[GrantedWindow] = []
    for window in _windows(grant, contract_start, time_zone, unit, _turning(grant.every, cadence, anchor)):
        if window.start > until or any(limit <= window.start for limit in limits):
            break
        if window.amount > 0:
            found.append(window)
    return tuple(found)


def _windows(
    grant: Grant, contract_start: datetime, time_zone: str, unit: Currency, anchor: Anchor | None
) -> Iterator[GrantedWindow]:
    """Yield all windows of a grant, without end unless it is granted once."""
    if grant.every == "once":
        yield GrantedWindow(1, grant.starts, _end_of_days(grant, time_zone), grant.amount)
        return
    every: Cadence = grant.every
    first = period_number(contract_start, time_zone, grant.starts, cadence=every, anchor=anchor)
    for n in count(first):
        turn = turn_of(contract_start, time_zone, n, cadence=every, anchor=anchor)
        part = Period(max(turn.start, grant.starts), turn.end)
        amount = grant.amount
        if n == first and grant.first == "prorated":
            whole = whole_period(contract_start, time_zone, n, cadence=every, anchor=anchor)
            amount = _share(grant.amount, part, whole, time_zone, unit)
        end = None
        if isinstance(grant.lasts, int):
            end = turn_of(contract_start, time_zone, n + grant.lasts - 1, cadence=every, anchor=anchor).end
        yield GrantedWindow(n - first + 1, part.start, end, amount)


def _share(amount: Decimal, part: Period, whole: Period, time_zone: str, unit: Currency) -> Decimal:
    by_days = share(part, whole, "day", time_zone)
    return amount if by_days == 1 else round_to_currency(prorated(amount, by_days), unit)


def _end_of_days(grant: Grant, time_zone: str) -> datetime | None:
    """Return the local midnight so many days after the day of the start; None: it has no end."""
    if not isinstance(grant.lasts, timedelta):
        return None
    return local_midnight(local_date(grant.starts, time_zone) + grant.lasts, time_zone)


def _turning(every: Every, cadence: Cadence, anchor: Anchor | None) -> Anchor | None:
    """Return the contract's anchor where it means something for windows: a day of the month, or one of the week."""
    return anchor if (cadence in MONTHS) == (every in MONTHS) else None
