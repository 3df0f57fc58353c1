"""Splits: what one of several lines of a period bills, by where it stands in the period (OpenMeter's split lines)."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from pricing.differences import BookedLine, billed_lines, bounded, differences
from pricing.measures import NOTHING, Measure
from pricing.models import Standing, price_steps
from pricing.money import EXACT, ZERO, Currency, total
from pricing.prices import CellPrice, Graduated, Volume
from pricing.quantities import converted
from pricing.terms import Conversion

Part = Literal["whole", "first", "middle", "last"]
"""Which part of the period a line covers: all of it, or one of the parts that it was split into."""


@dataclass(frozen=True, slots=True)
class Use:
    """Units that are charged and free, of a line and of what comes before it in the period."""

    charged: Decimal
    charged_before: Decimal
    free: Decimal
    free_before: Decimal


@dataclass(frozen=True, slots=True)
class SplitPrice:
    """What all lines of a period share: the price, how units are counted for it, and the bounds of the period."""

    price: CellPrice
    currency: Currency
    conversion: Conversion | None = None
    free_units: Decimal = ZERO
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    percent_off: Decimal | None = None

    def use(self, quantity: Decimal, before: Decimal, *, convert_alone: bool = False) -> "Use":
        """Return what is charged and what is free of a quantity, free units being taken from the earliest.

        `convert_alone` converts, and so rounds, each line's quantity by itself, as OpenMeter does; otherwise what is
        cumulative is converted.
        """
        start = self._converted(before)
        reached = (
            EXACT.add(start, self._converted(quantity))
            if convert_alone
            else self._converted(EXACT.add(before, quantity))
        )
        free_before = min(start, self.free_units)
        free = EXACT.subtract(min(reached, self.free_units), free_before)
        charged = EXACT.subtract(EXACT.subtract(reached, start), free)
        return Use(charged, EXACT.subtract(start, free_before), free, free_before)

    def _converted(self, quantity: Decimal) -> Decimal:
        return quantity if self.conversion is None else converted(quantity, self.conversion)


def split_lines(
    split: SplitPrice,
    quantity: Decimal,
    *,
    part: Part,
    before: Decimal = ZERO,
    billed_before: Decimal = ZERO,
    convert_alone: bool = False,
) -> tuple[BookedLine, ...]:
    """Return the lines that bill a quantity which follows `before` in its period.

    Volume prices bill nothing before the last part, because only the whole decides their tier; then they bill all that
    the parts have. A flat fee that is due without usage is billed with the first part, a minimum with the last.
    """
    use = split.use(quantity, before, convert_alone=convert_alone)
    lines = _lines(split, use.charged_before, use.charged, part)
    is_end = part in ("whole", "last")
    return bounded(
        lines,
        billed_before=billed_before,
        minimum=split.minimum if is_end else None,
        maximum=split.maximum,
        percent_off=split.percent_off,
        currency=split.currency,
    )


def rebilled_lines(
    split: SplitPrice, quantity: Decimal, booked: tuple[BookedLine, ...], *, is_last: bool
) -> tuple[BookedLine, ...]:
    """Return what turns booked lines into the period's cumulative quantity rated anew; the last adds a minimum."""
    return differences(booked, rated_lines(split, quantity, is_last=is_last))


def rated_lines(split: SplitPrice, quantity: Decimal, *, is_last: bool) -> tuple[BookedLine, ...]:
    """Return the lines of a period's cumulative quantity, as if it were billed in one."""
    return bounded(
        _lines(split, ZERO, split.use(quantity, ZERO).charged, "whole"),
        billed_before=ZERO,
        minimum=split.minimum if is_last else None,
        maximum=split.maximum,
        percent_off=split.percent_off,
        currency=split.currency,
    )


def _lines(split: SplitPrice, before: Decimal, units: Decimal, part: Part) -> tuple[BookedLine, ...]:
    price = split.price
    if isinstance(price, Volume):
        if part in ("first", "middle"):
            return ()
        before, units = ZERO, EXACT.add(before, units)
    paid_at_first = isinstance(price, Graduated) and price.flat_fee_at_zero and part in ("middle", "last")
    whole = EXACT.add(before, units)
    if isinstance(price, Graduated) and not whole:
        return _without_usage(price, split.currency, is_paid=paid_at_first)
    standing = Standing(Measure(before), Measure(whole))
    lines = billed_lines(price, price_steps(price, Measure(units), standing, "unit"), split.currency)
    if paid_at_first and not before:
        lines = tuple(line for line in lines if line.tier != 1 or line.kind != "tier_flat")
    return lines


def _without_usage(price: Graduated, currency: Currency, *, is_paid: bool) -> tuple[BookedLine, ...]:
    """Return the first tier's lines for no units: its usage of zero, and its flat fee unless that was paid before."""
    steps = price_steps(price, NOTHING, Standing(NOTHING, NOTHING), "unit")
    lines = [line for line in billed_lines(price, steps, currency) if not (is_paid and line.kind == "tier_flat")]
    first = price.tiers[0]
    is_told = any(line.kind == "tier_usage" for line in lines)
    if price.flat_fee_at_zero and first.unit_price is not None and not is_told:
        lines.insert(0, BookedLine("tier_usage", first.unit_price, ZERO, ZERO, 1))
    return tuple(lines)


def total_of(lines: tuple[BookedLine, ...]) -> Decimal:
    """Return what lines add to their invoice."""
    return total([line.total for line in lines])
