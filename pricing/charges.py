"""Charges: the usage of each segment, rated exactly, and the share of each interval in it."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from pricing.models import Standing, price_steps
from pricing.money import EXACT, ZERO, to_ledger_scale, total
from pricing.prices import Volume
from pricing.rated import Charge, ChargeSlice
from pricing.segments import Segment


def charges_of_product(segments: Sequence[Segment]) -> tuple[Charge, ...]:
    """Rate the segments of one product, in time order; one without usage yields no charge.

    Units of another metric are of another kind, so only segments of the same metric stand on each other.
    """
    used = [segment for segment in segments if segment.quantities]
    return tuple(_charge(segment, _standing(used, position)) for position, segment in enumerate(used))


def _standing(used: Sequence[Segment], position: int) -> Standing:
    metric_id = used[position].metric_id
    earlier = [segment for segment in used[:position] if segment.metric_id == metric_id]
    return Standing(
        before=total([segment.quantity for segment in earlier]),
        whole=total([segment.quantity for segment in used if segment.metric_id == metric_id]),
        owes_flat_fee=not any(isinstance(segment.price, Volume) for segment in earlier),
    )


def _charge(segment: Segment, standing: Standing) -> Charge:
    steps = price_steps(segment.price, segment.quantity, standing, segment.product.unit)
    return Charge(
        product_id=segment.product.product_id,
        name=segment.product.name,
        unit=segment.product.unit,
        segment=segment.period,
        terms_version=segment.terms_version,
        price=segment.price,
        quantity=segment.quantity,
        amount=total([step.amount for step in steps]),
        steps=steps,
        slices=tuple(_slices(segment, standing)),
    )


def _slices(segment: Segment, standing: Standing) -> Iterator[ChargeSlice]:
    """Each slice is what its units add to the rounded amount so far, so that nothing is lost between slices."""
    units, amount = ZERO, ZERO
    for interval, quantity in segment.quantities:
        units = EXACT.add(units, quantity)
        reached = _ledger_amount(segment, units, standing)
        yield ChargeSlice(interval.start, interval.end, quantity, EXACT.subtract(reached, amount))
        amount = reached


def _ledger_amount(segment: Segment, units: Decimal, standing: Standing) -> Decimal:
    steps = price_steps(segment.price, units, standing, segment.product.unit)
    return to_ledger_scale(total([step.amount for step in steps]))
