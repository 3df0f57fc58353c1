"""Commitments: a spend or quantity promised for each hour or day, for a period, or for the term of a contract."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pricing.money import EXACT, ZERO, Currency, round_to_currency, total
from pricing.prices import PerUnit
from pricing.rated import Step
from pricing.terms import HoursOfDay, WindowedCommitment
from pricing.wording import amount_text, counted


@dataclass(frozen=True, slots=True)
class WindowCharge:
    """What one window comes to: usage within its commitment, usage above it, and what is missing to it."""

    utilized: Decimal
    overage: Decimal = ZERO
    true_up: Decimal = ZERO

    @property
    def amount(self) -> Decimal:
        """The three together."""
        return total([self.utilized, self.overage, self.true_up])


def window_charge(
    price: PerUnit, commitment: WindowedCommitment, hour: int, quantity: Decimal, *, true_up: bool = True
) -> WindowCharge:
    """Return what a quantity costs in a window that begins in a local hour of the day (Flexprice's semantics).

    Usage above the commitment costs the overage factor times its price; usage below is charged up to the commitment
    only where that says so, and `true_up` does.
    """
    rule: WindowedCommitment | HoursOfDay = commitment
    unit_price = price.unit_price
    for hours in commitment.hours:
        if hours.start <= hour < hours.end:
            rule, unit_price = hours, hours.unit_price
            break
    used = EXACT.multiply(quantity, unit_price)
    committed = _committed(rule, unit_price)
    if committed is None:
        return WindowCharge(used)
    above = max(EXACT.subtract(used, committed), ZERO)
    missing = max(EXACT.subtract(committed, used), ZERO) if rule.true_up and true_up else ZERO
    return WindowCharge(min(used, committed), EXACT.multiply(above, rule.overage_factor), missing)


def window_steps(
    price: PerUnit,
    commitment: WindowedCommitment,
    windows: Sequence[tuple[int, Decimal]],
    unit: str,
    *,
    true_up: bool = True,
) -> tuple[Step, ...]:
    """Return the steps by which windows, each with its local hour and quantity, come to their amount together."""
    found = [window_charge(price, commitment, hour, quantity, true_up=true_up) for hour, quantity in windows]
    used = total([quantity for _, quantity in windows])
    return tuple(_steps(found, f"{counted(used, unit)} in {counted(Decimal(len(windows)), commitment.window)}"))


def _steps(found: Sequence[WindowCharge], usage: str) -> Iterator[Step]:
    utilized = total([charge.utilized for charge in found])
    overage = total([charge.overage for charge in found])
    missing = total([charge.true_up for charge in found])
    if utilized or overage:
        yield Step(f"{usage}: {amount_text(utilized)} within the commitment", ZERO, None, utilized, utilized)
    if overage:
        yield Step(f"{amount_text(overage)} above the commitment", ZERO, None, overage, overage)
    if missing:
        yield Step(f"{amount_text(missing)} missing to the commitment", ZERO, None, missing, missing)


def true_up(committed: Decimal, used: Decimal, currency: Currency) -> Decimal:
    """Return what is missing to a commitment once the used amount is rounded to the currency; zero where nothing is."""
    return max(EXACT.subtract(committed, round_to_currency(used, currency)), ZERO)


def _committed(rule: WindowedCommitment | HoursOfDay, unit_price: Decimal) -> Decimal | None:
    """Return a window's commitment as an amount; None without one."""
    if rule.amount is not None:
        return rule.amount
    return None if rule.quantity is None else EXACT.multiply(rule.quantity, unit_price)


def shortfall(committed: Decimal, billed: Sequence[Decimal], currency: Currency) -> Decimal | None:
    """Return what a minimum still charges after fees and usage are billed, each amount rounded once; None for nothing.

    Discounts of the document do not change it (Lago's rule): give what is billed before them.
    """
    used = total([round_to_currency(amount, currency) for amount in billed])
    missing = EXACT.subtract(round_to_currency(committed, currency), used)
    return missing if missing > 0 else None
