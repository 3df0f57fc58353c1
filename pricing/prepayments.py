"""Prepayments: amounts paid before they are used, in instalments or at once, and how use is settled against them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from pricing.calendar import Period, periods
from pricing.money import EXACT, WIDE, ZERO, Currency, round_to_currency
from pricing.prices import Cadence
from pricing.progressive import increments
from pricing.quantities import divided


@dataclass(frozen=True, slots=True)
class AdvanceSettlement:
    """What is left to settle when the use of an amount paid in advance is known; one of both is zero."""

    refund: Decimal
    charge: Decimal


def settled_advance(advance: Decimal, used: Decimal) -> AdvanceSettlement:
    """Settle an advance against what was used: the unused part is refunded, use beyond it is charged."""
    rest = EXACT.subtract(advance, used)
    return AdvanceSettlement(refund=max(rest, ZERO), charge=max(-rest, ZERO))


@dataclass(frozen=True, slots=True)
class CommitUse:
    """Units as far as a commit covers them, and what lies beyond it."""

    covered: Decimal
    drawn: Decimal
    beyond: Decimal
    overage: Decimal


def at_commit_rate(units: Decimal, *, commit_rate: Decimal, list_rate: Decimal, balance: Decimal) -> CommitUse:
    """Price units at the commit's own rate while its balance lasts, and at the list rate beyond (Metronome's rates).

    The last unit may be covered in part. Amounts are exact.
    """
    wanted = EXACT.multiply(units, commit_rate)
    if wanted <= balance:
        return CommitUse(units, wanted, ZERO, ZERO)
    covered = divided(balance, commit_rate, "none")
    beyond = EXACT.subtract(units, covered)
    return CommitUse(covered, balance, beyond, EXACT.multiply(beyond, list_rate))


@dataclass(frozen=True, slots=True)
class Instalment:
    """A part of an amount and the moment (UTC) at which it is billed."""

    due: datetime
    amount: Decimal


def instalments(
    amount: Decimal, term: Period, cadence: Cadence, time_zone: str, unit: Currency
) -> tuple[Instalment, ...]:
    """Bill an amount in equal parts at the start of each period of a term.

    What does not divide evenly is rounded as it adds up, so that the parts come to the amount.
    """
    found = periods(term.start, term.end, time_zone, term.end - timedelta(microseconds=1), cadence=cadence)
    sums = [
        round_to_currency(WIDE.divide(EXACT.multiply(amount, Decimal(n)), Decimal(len(found))), unit)
        for n in range(1, len(found) + 1)
    ]
    return tuple(Instalment(period.start, part) for period, part in zip(found, increments(sums), strict=True))
