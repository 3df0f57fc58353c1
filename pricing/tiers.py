"""Prices in tiers: graduated, volume and stair-step. Each tier holds what lies above the one before, up to its end.

Bounds may be fractions; a unit that lies above a tier's end, by however little, belongs to the next tier.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

from pricing.errors import PricingError
from pricing.money import EXACT, ZERO
from pricing.prices import Stair, Tier
from pricing.rated import Step
from pricing.steps import step
from pricing.wording import counted, number, price_text, unit_price_text

Words = Callable[[str, Decimal, Decimal], str]
"""Explains a part of a graduated price by its order (first, next), its units and the tier's unit price."""


def graduated_steps(tiers: Sequence[Tier], usage: Decimal, before: Decimal, words: Words, unit: str) -> Iterator[Step]:
    """Charge each tier's part of the units above `before` at its price, and its flat fee where they enter it."""
    end = EXACT.add(before, usage)
    over = ZERO
    for tier_number, tier in enumerate(tiers, start=1):
        first = max(over, before)
        last = end if tier.up_to is None else min(end, tier.up_to)
        if last > first:
            units = EXACT.subtract(last, first)
            flat_fee = tier.flat_fee if before <= over else ZERO  # else earlier units have entered the tier
            order = "first" if first == ZERO else "next"
            text = (
                _flat_text(f"{order} {counted(units, unit)}", flat_fee)
                if tier.unit_price is None
                else words(order, units, tier.unit_price)
            )
            part = step(text, units, tier.unit_price, flat_fee=flat_fee, over=over, up_to=tier.up_to, tier=tier_number)
            yield _capped(part, tier, EXACT.subtract(first, over))
        if tier.up_to is None or end <= tier.up_to:
            return
        over = tier.up_to
    raise beyond_last(end, over)


def volume_step(
    tiers: Sequence[Tier], usage: Decimal, before: Decimal, whole: Decimal, unit: str, *, owes_flat_fee: bool
) -> Step:
    """Charge all units at the price of the tier that the whole reaches, and its flat fee once."""
    position, over = reached([tier.up_to for tier in tiers], whole)
    tier = tiers[position]
    flat_fee = tier.flat_fee if owes_flat_fee else ZERO
    text = (
        _flat_text(counted(usage, unit), flat_fee)
        if tier.unit_price is None
        else f"{counted(usage, unit)} at {unit_price_text(tier.unit_price)}"
    )
    volume = f"{text} for a volume of {number(whole)}"
    part = step(volume, usage, tier.unit_price, flat_fee=flat_fee, over=over, up_to=tier.up_to, tier=position + 1)
    return _capped(part, tier, ZERO if owes_flat_fee else before)


def _capped(part: Step, tier: Tier, before: Decimal) -> Step:
    """Return a part of a tier that follows `before` units of it as it is within the tier's maximum (Meteroid's cap).

    A part beyond the maximum costs what is left of it, whatever its units.
    """
    price = ZERO if tier.unit_price is None else tier.unit_price
    reached_amount = EXACT.add(tier.flat_fee, EXACT.multiply(EXACT.add(before, part.quantity), price))
    if tier.maximum is None or reached_amount <= tier.maximum:
        return part
    earlier = EXACT.add(tier.flat_fee, EXACT.multiply(before, price)) if before else ZERO
    left = EXACT.subtract(tier.maximum, min(earlier, tier.maximum))
    text = f"{part.text}, at most {price_text(tier.maximum)}"
    return replace(part, text=text, unit_price=None, flat_fee=left, amount=left)


def stair_step(stairs: Sequence[Stair], usage: Decimal, whole: Decimal, unit: str, *, owes_flat_fee: bool) -> Step:
    """Charge the amount of the stair that the whole reaches, once."""
    position, over = reached([stair.up_to for stair in stairs], whole)
    stair = stairs[position]
    amount = stair.amount if owes_flat_fee else ZERO
    text = f"{_flat_text(counted(usage, unit), amount)} for a volume of {number(whole)}"
    return step(text, usage, None, flat_fee=amount, over=over, up_to=stair.up_to, tier=position + 1)


def flat_fee_at_zero(first: Tier) -> Iterator[Step]:
    """Charge the first tier's flat fee for a period without usage; a tier without one yields no step."""
    if first.flat_fee:
        text = f"flat fee of {price_text(first.flat_fee)} without usage"
        amount = first.flat_fee
        fee = Step(text, ZERO, first.unit_price, amount, amount, over=ZERO, up_to=first.up_to, tier=1)
        yield _capped(fee, first, ZERO)


def reached(ends: Sequence[Decimal | None], whole: Decimal) -> tuple[int, Decimal]:
    """Return the position of the tier in which a whole quantity lies, and where that tier begins."""
    over = ZERO
    for position, up_to in enumerate(ends):
        if up_to is None or whole <= up_to:
            return position, over
        over = up_to
    raise beyond_last(whole, over)


def beyond_last(quantity: Decimal, end: Decimal) -> PricingError:
    """Return the error for units that no tier holds."""
    return PricingError(
        f"quantity {number(quantity)} lies above the last tier, which ends at {number(end)}; "
        "give the price a last tier without an end"
    )


def _flat_text(text: str, flat_fee: Decimal) -> str:
    return f"{text} at a flat fee of {price_text(flat_fee)}" if flat_fee else f"{text} at no further charge"
