"""Prices as a share of money: a percentage of a quantity or of each event, in tiers, or what the events carry.

Free events, free amounts and bounds per event follow Lago: events are taken in time order, the free ones first. An
event within the free amount costs nothing as long as it leaves some of that amount; the one that uses it up pays for
what lies above it, be that nothing, and its fee. The bounds apply to an event's share and its fee together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pricing.errors import PricingError
from pricing.measures import Measure
from pricing.money import EXACT, ZERO, share_of_percent
from pricing.prices import Dynamic, Percentage, PercentTier, Tier
from pricing.rated import Step
from pricing.steps import step
from pricing.tiers import flat_fee_at_zero, graduated_steps
from pricing.wording import counted, number, percent_text, price_text, unit_price_text


def wants_values(price: Percentage) -> bool:
    """Tell whether a percentage must see each event's own value: with bounds per event, free events or free amount."""
    bounded = price.minimum_per_event is not None or price.maximum_per_event is not None
    return bounded or _grants(price)


def percentage_steps(price: Percentage, usage: Measure, before: Measure, whole: Measure) -> Iterator[Step]:
    """Charge a share of the quantity and a fee per event, or each event alone where the price asks for it.

    As with Lago, events that come to a quantity of zero in all cost nothing, not even their fees.
    """
    if whole.quantity == ZERO:
        return
    if wants_values(price):
        yield from _steps_by_event(price, usage, before)
        return
    yield from _plain_steps(price, usage.quantity, usage.events)


def share_of(price: Percentage) -> Decimal:
    """Return the share that a percentage charges of one unit of money."""
    return share_of_percent(price.rate_percent)


@dataclass(frozen=True, slots=True)
class FreeUse:
    """What the allowances of a percentage cover: so many events wholly, and so much of their amount."""

    events: int
    amount: Decimal


def free_use(price: Percentage, values: Sequence[Decimal]) -> FreeUse:
    """Return what of events, by their values in time order, is free."""
    events, covered = 0, ZERO
    for position, value in enumerate(values):
        free = _free_part(price, position, value, covered)
        if free is None:
            break
        events += free.is_whole
        covered = EXACT.add(covered, free.amount)
    return FreeUse(events, covered)


def graduated_percentage_steps(
    tiers: Sequence[PercentTier], usage: Decimal, before: Decimal, unit: str
) -> Iterator[Step]:
    """Charge each tier's part of an amount of money at its percentage, and its flat fee where it is entered."""
    return graduated_steps(_as_tiers(tiers), usage, before, _share_of_part, unit)


def percentage_flat_fee_at_zero(first: PercentTier) -> Iterator[Step]:
    """Charge the first tier's flat fee for a period without usage."""
    return flat_fee_at_zero(_as_tiers([first])[0])


def dynamic_steps(price: Dynamic, usage: Measure, before: Measure, unit: str) -> Iterator[Step]:
    """Charge the quantity, or the money that events carry, times the multiplier.

    Carried money counts once the quantity is above zero; what came before counts with the usage that lifts it there.
    """
    if price.source == "quantity":
        if usage.quantity:
            yield step(
                f"{counted(usage.quantity, unit)} times {number(price.multiplier)}", usage.quantity, price.multiplier
            )
        return
    charged_before = before.amount if before.quantity > ZERO else ZERO
    has_quantity = EXACT.add(before.quantity, usage.quantity) > ZERO
    charged = EXACT.add(before.amount, usage.amount) if has_quantity else ZERO
    carried = EXACT.subtract(charged, charged_before)
    if carried:
        text = f"{price_text(carried)} carried by events of {counted(usage.quantity, unit)}"
        times = "" if price.multiplier == 1 else f", times {number(price.multiplier)}"
        yield step(text + times, carried, price.multiplier)


def _as_tiers(tiers: Sequence[PercentTier]) -> tuple[Tier, ...]:
    return tuple(Tier(tier.up_to, share_of_percent(tier.rate_percent), tier.flat_fee) for tier in tiers)


def _grants(price: Percentage) -> bool:
    return bool(price.free_events) or bool(price.free_amount)


def _share_of_part(order: str, part: Decimal, share: Decimal) -> str:
    return f"{percent_text(EXACT.scaleb(share, 2))} of the {order} {number(part)}"


def _plain_steps(price: Percentage, amount: Decimal, events: int) -> Iterator[Step]:
    if amount:
        yield step(
            f"{percent_text(price.rate_percent)} of {number(amount)}", amount, share_of_percent(price.rate_percent)
        )
    if events and price.fee_per_event:
        text = f"{counted(Decimal(events), 'event')} at {unit_price_text(price.fee_per_event)}"
        yield step(text, Decimal(events), price.fee_per_event)


@dataclass(slots=True)
class _Tally:
    """What events come to, kept apart by the rule that makes their fees."""

    free_amount: Decimal = ZERO
    share_amount: Decimal = ZERO
    events: int = 0
    at_minimum: int = 0
    at_maximum: int = 0


def _steps_by_event(price: Percentage, usage: Measure, before: Measure) -> Iterator[Step]:
    tally = _tally(price, usage, before)
    if tally.free_amount:
        yield step(f"{number(tally.free_amount)} free", tally.free_amount, ZERO)
    yield from _plain_steps(price, tally.share_amount, tally.events)
    for bound, count, name in (
        (price.minimum_per_event, tally.at_minimum, "minimum"),
        (price.maximum_per_event, tally.at_maximum, "maximum"),
    ):
        if bound is not None and count:
            text = f"{counted(Decimal(count), 'event')} at the {name} of {price_text(bound)}"
            yield step(text, Decimal(count), bound)


def _tally(price: Percentage, usage: Measure, before: Measure) -> _Tally:
    for measure in (before, usage) if _grants(price) else (usage,):
        if not measure.values and measure.quantity != ZERO:
            raise PricingError(
                f"usage of {number(measure.quantity)} came without the values of its events, which a percentage with "
                "bounds, free events or a free amount needs; price it by a metric that sums single events"
            )
    tally, covered, skipped = _Tally(), _covered(price, before.values), len(before.values)
    for position, value in enumerate(usage.values, start=skipped):
        free = _free_part(price, position, value, covered)
        covered = covered if free is None else EXACT.add(covered, free.amount)
        _count(tally, price, value, free)
    return tally


def _covered(price: Percentage, values: Sequence[Decimal]) -> Decimal:
    """Return how much of the first events was free; once nothing is free any more, later events need not be seen."""
    covered = ZERO
    for position, value in enumerate(values):
        free = _free_part(price, position, value, covered)
        if free is None:
            break
        covered = EXACT.add(covered, free.amount)
    return covered


@dataclass(frozen=True, slots=True)
class _Free:
    """What of an event is free, and whether that frees it of its fee too."""

    amount: Decimal
    is_whole: bool


def _free_part(price: Percentage, position: int, value: Decimal, covered: Decimal) -> _Free | None:
    """Return what of an event is free, `covered` having been used of the free amount; None where nothing is.

    Free events and a free amount end each other, so that the one that covers less applies; zero grants nothing.
    """
    if not _grants(price):
        return None
    if price.free_events and position >= price.free_events:
        return None
    if not price.free_amount:
        return _Free(value, is_whole=True)
    left = EXACT.subtract(price.free_amount, covered)
    if left <= ZERO:
        return None
    return _Free(min(value, left), is_whole=value < left)


def _count(tally: _Tally, price: Percentage, value: Decimal, free: _Free | None) -> None:
    if free is not None:
        tally.free_amount = EXACT.add(tally.free_amount, free.amount)
        if free.is_whole:
            return
        value = EXACT.subtract(value, free.amount)
    fee = EXACT.add(EXACT.multiply(value, share_of_percent(price.rate_percent)), price.fee_per_event)
    if price.minimum_per_event is not None and fee < price.minimum_per_event:
        tally.at_minimum += 1
    elif price.maximum_per_event is not None and fee > price.maximum_per_event:
        tally.at_maximum += 1
    else:
        tally.share_amount = EXACT.add(tally.share_amount, value)
        tally.events += 1
