"""Billing a period in several invoices: what a later one bills, given what earlier ones have booked.

Progressive billing, re-rating and late usage are the same question: the period is rated cumulatively, and only the
difference to what is booked is billed (OpenMeter's delta against booked lines). Amounts are those of one currency,
each line rounded once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from pricing.errors import PricingError
from pricing.money import EXACT, WIDE, ZERO, Currency, round_to_currency, share_of_percent, total
from pricing.prices import CellPrice, Dynamic, Graduated, Percentage, StairStep, Volume
from pricing.rated import Step

LineKind = Literal["usage", "tier_usage", "tier_flat", "flat", "minimum_commitment"]


@dataclass(frozen=True, slots=True)
class BookedLine:
    """A line as an invoice books it: `amount` less `discount` and credits, plus what a minimum adds."""

    kind: LineKind
    unit_amount: Decimal
    quantity: Decimal
    amount: Decimal
    tier: int | None = None
    discount: Decimal = ZERO
    commitment_charge: Decimal = ZERO
    credits_applied: Decimal = ZERO
    is_correction: bool = False

    @property
    def total(self) -> Decimal:
        """What the line adds to its invoice."""
        less = total([self.discount, self.credits_applied])
        return EXACT.subtract(EXACT.add(self.amount, self.commitment_charge), less)


def billed_lines(price: CellPrice, steps: Sequence[Step], currency: Currency) -> tuple[BookedLine, ...]:
    """Turn the steps of an amount into lines: usage and flat fee of a tier apart, each rounded to the currency.

    What a price does not charge by the unit (carried amounts, percentages) is one unit of the rounded amount.
    """
    return tuple(line for step in steps for line in _lines_of(price, step, currency))


def differences(booked: Sequence[BookedLine], rated: Sequence[BookedLine]) -> tuple[BookedLine, ...]:
    """Return the lines that turn what is booked into what was rated.

    Lines of one kind, tier and unit amount are the same line, of which the difference is billed. A booked line whose
    unit amount is gone is reversed whole, as a correction, which stands where that line stood. Of lines that stand at
    one place, flat fees come before usage, and a correction after what takes its place (OpenMeter's order). Lines that
    move no money are left out.
    """
    before, after = _by_place(booked), _by_place(rated)
    found: list[tuple[int, BookedLine]] = []
    for position, (place, line) in enumerate(after.items()):
        found.append((position, _difference(line, before[place]) if place in before else line))
    for position, (place, line) in enumerate(before.items()):
        if place not in after:
            found.append((position, replace(_negated(line), is_correction=True)))
    found.sort(key=lambda placed: (placed[0], placed[1].kind == "tier_usage", placed[1].is_correction))
    return tuple(line for _, line in found if _moves_money(line))


def bounded(
    lines: Sequence[BookedLine],
    *,
    billed_before: Decimal,
    minimum: Decimal | None = None,
    maximum: Decimal | None = None,
    percent_off: Decimal | None = None,
    currency: Currency,
) -> tuple[BookedLine, ...]:
    """Discount lines by a percentage, then hold the period's sum within its bounds, `billed_before` included.

    What lies above the maximum is a discount of the lines that pass it, in order, each at most as much as it comes to;
    what is missing to the minimum is a line of its own. Give the minimum with the last invoice of the period only.
    """
    found: list[BookedLine] = []
    reached = billed_before
    for line in lines:
        off = ZERO
        if percent_off is not None:
            off = round_to_currency(EXACT.multiply(line.amount, share_of_percent(percent_off)), currency)
        if maximum is not None:
            rest = EXACT.subtract(line.amount, off)
            beyond = EXACT.subtract(EXACT.add(reached, rest), maximum)
            off = EXACT.add(off, min(max(beyond, ZERO), rest))
        found.append(replace(line, discount=off))
        reached = EXACT.add(EXACT.add(reached, line.amount), EXACT.minus(off))
    if minimum is not None and reached < minimum:
        missing = EXACT.subtract(minimum, reached)
        charged = BookedLine("minimum_commitment", missing, Decimal(1), ZERO, commitment_charge=missing)
        found.append(charged)
    return tuple(found)


def with_credits(lines: Sequence[BookedLine], credits_given: Sequence[Decimal]) -> tuple[BookedLine, ...]:
    """Pay lines with credits, in order; raise `PricingError` for credits that are above what the lines come to."""
    left = total(credits_given)
    found: list[BookedLine] = []
    for line in lines:
        used = min(left, max(line.total, ZERO))
        found.append(replace(line, credits_applied=used))
        left = EXACT.subtract(left, used)
    if left:
        raise PricingError(f"credits of {left:f} are left after all lines are paid; give at most what the lines cost")
    return tuple(found)


# --- lines --------------------------------------------------------------------------------------------------------


def _lines_of(price: CellPrice, step: Step, currency: Currency) -> Iterator[BookedLine]:
    if isinstance(price, Graduated | Volume | StairStep):
        lines = list(_tier_lines(price, step, currency))
        yield from lines if isinstance(price, Graduated) else reversed(lines)
        return
    amount = round_to_currency(step.amount, currency)
    if not step.quantity and not amount:
        return  # a package that earlier usage has begun
    if isinstance(price, Dynamic | Percentage) or step.unit_price is None:
        yield BookedLine("usage", _plain(amount), Decimal(1), amount, step.tier)
    else:
        yield BookedLine("usage", step.unit_price, step.quantity, amount, step.tier)


def _tier_lines(price: Graduated | Volume | StairStep, step: Step, currency: Currency) -> Iterator[BookedLine]:
    """Yield the usage of a tier and then its flat fee, as OpenMeter orders graduated lines; it turns volume's round."""
    if step.unit_price is not None and (step.quantity or not isinstance(price, Volume)):
        usage = round_to_currency(EXACT.multiply(step.quantity, step.unit_price), currency)
        yield BookedLine("tier_usage", step.unit_price, step.quantity, usage, step.tier)
    if step.flat_fee:
        fee = round_to_currency(step.flat_fee, currency)
        yield BookedLine("tier_flat", step.flat_fee, Decimal(1), fee, step.tier)


def _plain(amount: Decimal) -> Decimal:
    return amount.normalize(WIDE)


Place = tuple[LineKind, int | None, Decimal]


def _by_place(lines: Sequence[BookedLine]) -> dict[Place, BookedLine]:
    found: dict[Place, BookedLine] = {}
    for line in lines:
        place = (line.kind, line.tier, _plain(line.unit_amount))
        found[place] = _sum(found[place], line) if place in found else line
    return found


def _sum(one: BookedLine, other: BookedLine) -> BookedLine:
    return replace(
        one,
        quantity=EXACT.add(one.quantity, other.quantity),
        amount=EXACT.add(one.amount, other.amount),
        discount=EXACT.add(one.discount, other.discount),
        commitment_charge=EXACT.add(one.commitment_charge, other.commitment_charge),
        credits_applied=EXACT.add(one.credits_applied, other.credits_applied),
    )


def _difference(after: BookedLine, before: BookedLine) -> BookedLine:
    return _sum(after, _negated(before))


def _negated(line: BookedLine) -> BookedLine:
    return replace(
        line,
        quantity=EXACT.minus(line.quantity),
        amount=EXACT.minus(line.amount),
        discount=EXACT.minus(line.discount),
        commitment_charge=EXACT.minus(line.commitment_charge),
        credits_applied=EXACT.minus(line.credits_applied),
    )


def _moves_money(line: BookedLine) -> bool:
    return any((line.amount, line.discount, line.commitment_charge, line.credits_applied))
