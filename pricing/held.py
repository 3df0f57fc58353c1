"""Units held for a part of the period: whole units pick the tier, their prorated share is priced (Lago's semantics)."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from pricing.models import effective_unit_price as average_price
from pricing.money import WIDE, ZERO, total
from pricing.prices import Tier
from pricing.quantities import QUOTIENT_PLACES
from pricing.rated import Step
from pricing.steps import step
from pricing.tiers import beyond_last, flat_fee_at_zero
from pricing.wording import counted, number, price_text


@dataclass(frozen=True, slots=True)
class Movement:
    """Units that come (or go: below zero) at one moment, and what they amount to, prorated to the period."""

    full: Decimal
    prorated: Decimal


def held_steps(
    tiers: Sequence[Tier], movements: Sequence[Movement], unit: str, *, flat_fee_at_zero_units: bool = False
) -> tuple[Step, ...]:
    """Charge the prorated units of movements, in the order of time, in the tiers that their full units pass through.

    Units that go pass back through the tiers from the top; units below zero belong to the first tier. The share of a
    movement that lies in a tier is prorated as the whole movement is. A tier's flat fee is charged whole, once the full
    units have entered the tier, even if they leave it again. If they end below zero, nothing is charged; if the
    prorated units of all tiers cost less than nothing, only flat fees are. Movements without any prorated units reach
    no tier. Quantities without end are rounded half up to twenty decimals, so that they add up to the prorated units.

    This is Lago's prorated graduated charge. Raises `PricingError` for units above a last tier that has an end.
    """
    held = _held(movements)
    if total([movement.full for movement in held]) < ZERO:
        return ()
    if not total([movement.prorated for movement in held]):
        return tuple(flat_fee_at_zero(tiers[0])) if flat_fee_at_zero_units else ()
    quantities, peak = _by_tier(tiers, held)
    steps = [
        _tier_step(tiers, n, quantity, unit, owes_flat_fee=peak > over or (n == 0 and flat_fee_at_zero_units))
        for n, (quantity, over) in enumerate(zip(quantities, _floors(tiers), strict=True))
    ]
    flat_fees = total([each.flat_fee for each in steps])
    if total([each.amount for each in steps]) < flat_fees:
        steps = [_flat_step(each) for each in steps]
    return tuple(each for each in steps if each.quantity or each.flat_fee)


def effective_unit_price(steps: Sequence[Step], movements: Sequence[Movement]) -> Decimal:
    """Return what one full unit held at the end costs; zero where none is."""
    units = total([movement.full for movement in movements])
    return average_price(total([each.amount for each in steps]), max(units, ZERO))


def _held(movements: Sequence[Movement]) -> list[Movement]:
    """Leave out what is held for no time: units that come so, and units that go so without having come."""
    held: list[Movement] = []
    reached = ZERO
    for movement in movements:
        after = total([reached, movement.full])
        is_never_held = not movement.prorated and (movement.full > ZERO or after < ZERO)
        if movement.full and not is_never_held:
            held.append(movement)
            reached = after
    return held


def _by_tier(tiers: Sequence[Tier], held: Sequence[Movement]) -> tuple[list[Decimal], Decimal]:
    """Return the prorated units in each tier, and the most full units that were reached."""
    shares = [Fraction(0)] * len(tiers)
    reached = peak = ZERO
    for movement in held:
        after = total([reached, movement.full])
        peak = max(peak, after)
        low, high = sorted((reached, after))
        for n, part in enumerate(_parts(tiers, low, high)):
            shares[n] += Fraction(part) * Fraction(movement.prorated) / abs(Fraction(movement.full))
        reached = after
    return _decimals(shares), peak


def _parts(tiers: Sequence[Tier], low: Decimal, high: Decimal) -> list[Decimal]:
    """Return how many of the units between low and high lie in each tier."""
    parts = []
    last_end = tiers[-1].up_to
    if last_end is not None and high > last_end:
        raise beyond_last(high, last_end)
    for n, (tier, over) in enumerate(zip(tiers, _floors(tiers), strict=True)):
        first = low if n == 0 else max(low, over)
        last = high if tier.up_to is None else min(high, tier.up_to)
        parts.append(max(total([last, -first]), ZERO))
    return parts


def _floors(tiers: Sequence[Tier]) -> list[Decimal]:
    return [ZERO, *(tier.up_to for tier in tiers[:-1] if tier.up_to is not None)]


def _decimals(shares: Sequence[Fraction]) -> list[Decimal]:
    """Round running sums, so that the parts add up to the rounded whole."""
    parts = []
    running, before = Fraction(0), ZERO
    for share in shares:
        running += share
        quotient = WIDE.divide(Decimal(running.numerator), Decimal(running.denominator))
        reached = quotient.quantize(QUOTIENT_PLACES, context=WIDE)
        parts.append(total([reached, -before]))
        before = reached
    return parts


def _tier_step(tiers: Sequence[Tier], n: int, quantity: Decimal, unit: str, *, owes_flat_fee: bool) -> Step:
    tier = tiers[n]
    flat_fee = tier.flat_fee if owes_flat_fee else ZERO
    over = _floors(tiers)[n]
    at_price = "at no unit price" if tier.unit_price is None else f"at {price_text(tier.unit_price)}"
    place = f"above {number(over)}" if tier.up_to is None else f"from {number(over)} to {number(tier.up_to)}"
    text = f"{counted(quantity, unit)} {at_price}, prorated, held {place}"
    return step(text, quantity, tier.unit_price, flat_fee=flat_fee, over=over, up_to=tier.up_to, tier=n + 1)


def _flat_step(priced: Step) -> Step:
    text = f"flat fee of {price_text(priced.flat_fee)}; the prorated units come to less than nothing"
    return Step(text, ZERO, priced.unit_price, priced.flat_fee, priced.flat_fee, priced.over, priced.up_to, priced.tier)
