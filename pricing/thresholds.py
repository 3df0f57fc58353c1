"""Thresholds: whether a figure crosses one, and when it has gone back far enough to cross it again."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Literal

from pricing.money import EXACT, LEDGER_SCALE, WIDE, ZERO, to_ledger_scale

Crossing = Literal["raised", "cleared"]
Direction = Literal["rising", "falling", "above"]

HUNDRED = Decimal(100)
A_DAY = timedelta(days=1)
AN_INSTANT = timedelta(microseconds=1)
MOST_DAYS = Decimal(36_500)
"""What a balance lasts at most, in days: a hundred years stand for any time longer, and for no draws at all."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A bound that a figure crosses upwards (`rising`: spend, usage) or downwards (`falling`: balances).

    The bound itself is crossed, but not by `above`, which only more than it crosses: the end of a band. `rearm` (zero
    or more) is how far a figure must go back beyond the bound before the alert clears; with zero it clears as soon as
    the bound is not crossed.
    """

    bound: Decimal
    rearm: Decimal
    direction: Direction


def crossing(threshold: Threshold, observed: Decimal, *, raised: bool) -> Crossing | None:
    """Return what a figure does to an alert that is, or is not, raised; None: it stays as it is."""
    if raised:
        return "cleared" if _is_back(threshold, observed) else None
    return "raised" if _is_crossed(threshold, observed) else None


def percent_left(left: Decimal, granted: Decimal) -> Decimal:
    """Return what is left of what was granted in percent, in twelve decimals; 0 where nothing was granted."""
    if not granted:
        return ZERO
    return to_ledger_scale(WIDE.divide(EXACT.multiply(left, HUNDRED), granted))


def days_left(left: Decimal, drawn: Decimal, *, days: int) -> Decimal:
    """Return for how many days a balance lasts when as much is drawn as was `drawn` in so many whole days.

    In twelve decimals, and at most `MOST_DAYS`; 0 where nothing is left.
    """
    if left <= 0:
        return ZERO
    if drawn <= 0 or days <= 0:
        return MOST_DAYS
    lasts = WIDE.divide(EXACT.multiply(left, Decimal(days)), drawn)
    return MOST_DAYS if lasts >= MOST_DAYS else lasts.quantize(LEDGER_SCALE, context=WIDE)


def forecast(spent: Decimal, lately: Decimal, *, days: int, left: timedelta) -> Decimal:
    """Return what a period comes to when each day that is `left` costs as much as a day did `lately`, in whole `days`.

    That is spent + lately / days x left, in twelve decimals; only what is spent where there was no whole day, or no
    time is left.
    """
    if days <= 0 or left <= timedelta():
        return spent
    instants, in_days = left // AN_INSTANT, days * (A_DAY // AN_INSTANT)
    return EXACT.add(spent, to_ledger_scale(WIDE.divide(EXACT.multiply(lately, Decimal(instants)), Decimal(in_days))))


def hours_of(span: timedelta) -> Decimal:
    """Return the hours of a span, in whole seconds and twelve decimals; 0 for one below zero."""
    seconds = max(span, timedelta()) // timedelta(seconds=1)
    return to_ledger_scale(WIDE.divide(Decimal(seconds), Decimal(3600)))


def _is_crossed(threshold: Threshold, observed: Decimal) -> bool:
    if threshold.direction == "above":
        return observed > threshold.bound
    if threshold.direction == "rising":
        return observed >= threshold.bound
    return observed <= threshold.bound


def _is_back(threshold: Threshold, observed: Decimal) -> bool:
    if threshold.direction == "above":
        return observed <= EXACT.subtract(threshold.bound, threshold.rearm)
    if threshold.direction == "rising":
        return observed < EXACT.subtract(threshold.bound, threshold.rearm)
    return observed > EXACT.add(threshold.bound, threshold.rearm)
