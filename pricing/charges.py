"""Charges: the usage of each stretch of one price, rated exactly, and the share of each interval in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import groupby

from pricing.calendar import Period
from pricing.commitments import window_steps
from pricing.errors import TermsError
from pricing.measures import NOTHING, joined
from pricing.models import Standing, price_steps, steps_unit
from pricing.money import EXACT, ZERO, to_ledger_scale, total
from pricing.prices import CellPrice, PerUnit, UsagePrice
from pricing.rated import Charge, ChargeSlice, Step
from pricing.series import Count, Frame, Series
from pricing.standing import Place, standings
from pricing.terms import ProductPrice, Terms, WindowedCommitment
from pricing.windows import local_hour
from pricing.wording import counted, price_text, unit_price_text


def usage_charges(frame: Frame, all_series: Sequence[Series]) -> tuple[Charge, ...]:
    """Rate all series; a stretch that neither has usage nor costs anything without yields no charge."""
    standing = standings(all_series)
    found: list[Charge] = []
    for s, series in enumerate(all_series):
        placed = [_Placed(count, standing[Place(s, c)]) for c, count in enumerate(series.counts)]
        for stretch in _stretches(placed):
            charge = _charge(frame, series, stretch)
            if charge is not None:
                found.append(charge)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Placed:
    count: Count
    standing: Standing


def _stretches(placed: Sequence[_Placed]) -> Iterator[tuple[_Placed, ...]]:
    """Part the counts of a series where its price, or how it is counted, changes."""
    part: list[_Placed] = []
    for one in placed:
        if part and not _continues(part[-1].count, one.count):
            yield tuple(part)
            part = []
        part.append(one)
    if part:
        yield tuple(part)


def _continues(before: Count, count: Count) -> bool:
    if before.agreement.interval.end != count.agreement.interval.start:
        return False
    # Of one version a series has one price; comparing that is dear, so it is done between versions only.
    return before.agreement.terms is count.agreement.terms or _rule(before) == _rule(count)


def _rule(count: Count) -> tuple[ProductPrice, Decimal | None]:
    """Return what decides an amount, without how it is told: of a matrix only the price that fits the group values."""
    product = count.agreement.product
    told = replace(product, name="", unit="", tags=(), price=count.price, minimum=None, maximum=None, source="")
    return told, _money_per_unit(product, count.agreement.terms)


def _charge(frame: Frame, series: Series, stretch: Sequence[_Placed]) -> Charge | None:
    first = stretch[0].count
    product = first.agreement.product
    windows = [tuple(part) for _, part in groupby(stretch, key=lambda one: one.count.window)]
    rate = _money_per_unit(product, first.agreement.terms)
    if product.commitment is not None:
        steps, amounts = _committed(frame, product.commitment, windows)
    else:
        steps, amounts = _by_price(windows)
    used = total([one.count.used for one in stretch])
    if not steps and not used and not any(amounts):
        return None
    if product.allowance is not None:
        steps = (*_free_steps(used, stretch, product.unit), *steps)
    if rate is not None:
        steps = _in_money(steps, product, rate)
        amounts = [EXACT.multiply(amount, rate) for amount in amounts]
    amount = total([step.amount for step in steps])
    return Charge(
        product_id=product.product_id,
        name=product.name,
        unit=product.unit,
        segment=Period(first.agreement.interval.start, stretch[-1].count.agreement.interval.end),
        terms_version=first.agreement.terms.version,
        price=_agreed_price(product),
        quantity=used,
        amount=amount,
        steps=steps,
        slices=tuple(_slices(stretch, amounts, amount)),
        groups=series.groups,
        source=product.source,
    )


def _by_price(windows: Sequence[tuple[_Placed, ...]]) -> tuple[tuple[Step, ...], list[Decimal]]:
    """Return the steps of all windows, and what each count adds to the exact amount."""
    steps: list[tuple[Step, ...]] = []
    amounts: list[Decimal] = []
    unit = windows[0][0].count.agreement.product.unit
    for window in windows:
        own = [_amount(one, unit, is_first=n == 0) for n, one in enumerate(window)]
        amounts += own
        steps.append(_window_steps(window, unit))
    return _merged(steps, windows[0][0].count), amounts


def _amount(one: _Placed, unit: str, *, is_first: bool) -> Decimal:
    count = one.count
    if isinstance(count.price, PerUnit):
        return EXACT.multiply(count.charged.quantity, count.price.unit_price)
    if not is_first and count.charged == NOTHING:
        return ZERO
    return total([step.amount for step in price_steps(count.price, count.charged, one.standing, unit)])


def _window_steps(window: Sequence[_Placed], unit: str) -> tuple[Step, ...]:
    """Return how the usage of one window comes to its amount: in one go where it stands on itself alone."""
    first, last = window[0], window[-1]
    usage = joined(one.count.charged for one in window)
    whole = joined((last.standing.before, last.count.charged))
    if joined((first.standing.before, usage)) == whole:
        owes = first.standing.owes_flat_fee
        return price_steps(first.count.price, usage, replace(first.standing, owes_flat_fee=owes), unit)
    parts = [price_steps(one.count.price, one.count.charged, one.standing, unit) for one in window]
    return _merged(parts, first.count)


def _merged(parts: Sequence[tuple[Step, ...]], count: Count) -> tuple[Step, ...]:
    """Add up the steps of several windows that are at the same tier and price."""
    if len(parts) <= 1:
        return parts[0] if parts else ()
    found: dict[tuple[int | None, Decimal | None, Decimal | None], list[Step]] = {}
    for steps in parts:
        for step in steps:
            found.setdefault((step.tier, step.unit_price, step.over), []).append(step)
    return tuple(_sum_of(same, count.price, count.agreement.product.unit) for same in found.values())


def _sum_of(steps: Sequence[Step], model: CellPrice, unit: str) -> Step:
    if len(steps) == 1:
        return steps[0]
    quantity, fees = total([step.quantity for step in steps]), total([step.flat_fee for step in steps])
    price = steps[0].unit_price
    at = "" if price is None else f" at {unit_price_text(price)}"
    fee = f"{' plus' if at else ' at'} flat fees of {price_text(fees)}" if fees else ""
    tier = "" if steps[0].tier is None else f" in tier {steps[0].tier}"
    text = f"{counted(quantity, steps_unit(model, steps[0], unit))}{tier}{at}{fee}, in {len(steps)} parts"
    return replace(steps[0], text=text, quantity=quantity, flat_fee=fees, amount=total([s.amount for s in steps]))


# --- allowances, commitments, custom units ------------------------------------------------------------------------


def _free_steps(used: Decimal, stretch: Sequence[_Placed], unit: str) -> Iterator[Step]:
    free = EXACT.subtract(used, total([one.count.charged.quantity for one in stretch]))
    if free:
        yield Step(f"{counted(free, unit)} of the allowance, free", free, ZERO, ZERO)


def _committed(
    frame: Frame, commitment: WindowedCommitment, windows: Sequence[tuple[_Placed, ...]]
) -> tuple[tuple[Step, ...], list[Decimal]]:
    """Rate each window against its commitment; its amount stands at the last interval of the window."""
    price, unit = windows[0][0].count.price, windows[0][0].count.agreement.product.unit
    if not isinstance(price, PerUnit):
        raise TermsError(f"a commitment per {commitment.window} needs a price per unit; give the product one")
    amounts: list[Decimal] = []
    given: list[tuple[int, Decimal]] = []
    for window in windows:
        hour = local_hour(window[0].count.window, frame.time_zone)
        quantity = total([one.count.charged.quantity for one in window])
        given.append((hour, quantity))
        steps = window_steps(price, commitment, [given[-1]], unit, true_up=frame.is_over)
        amounts += [ZERO] * (len(window) - 1) + [total([step.amount for step in steps])]
    return tuple(window_steps(price, commitment, given, unit, true_up=frame.is_over)), amounts


def _money_per_unit(product: ProductPrice, version: Terms) -> Decimal | None:
    if product.pricing_unit is None:
        return None
    for unit in version.units:
        if unit.code == product.pricing_unit:
            return unit.money_per_unit
    raise TermsError(
        f"product {product.product_id!r} is priced in {product.pricing_unit!r}, which is no unit of the terms; "
        "define what it costs in money"
    )


def _in_money(steps: Sequence[Step], product: ProductPrice, rate: Decimal) -> tuple[Step, ...]:
    """Tell the amount in the custom unit as one step, which its rate turns into money."""
    amount = total([step.amount for step in steps])
    told = "; ".join(step.text for step in steps)
    unit = product.pricing_unit or ""
    text = f"{told}: {counted(amount, unit)} at {unit_price_text(rate)}"
    return (Step(text, amount, rate, EXACT.multiply(amount, rate)),)


def _agreed_price(product: ProductPrice) -> UsagePrice:
    price = product.price
    if isinstance(price, UsagePrice):
        return price
    raise TypeError(f"product {product.product_id!r} counts no usage")


# --- slices -------------------------------------------------------------------------------------------------------


def _slices(stretch: Sequence[_Placed], amounts: Sequence[Decimal], whole: Decimal) -> Iterator[ChargeSlice]:
    """Each slice is what its interval adds to the rounded amount so far, so that nothing is lost between slices.

    Raises `AssertionError` where the intervals do not come to the amount that the steps of the charge explain.
    """
    exact, reached = ZERO, ZERO
    for one, amount in zip(stretch, amounts, strict=True):
        if one.count.used or amount:
            exact = EXACT.add(exact, amount)
            now = to_ledger_scale(exact)
            interval = one.count.agreement.interval
            yield ChargeSlice(interval.start, interval.end, one.count.used, EXACT.subtract(now, reached))
            reached = now
    if exact != whole:
        product_id = stretch[0].count.agreement.product.product_id
        raise AssertionError(f"the intervals of product {product_id!r} come to {exact}, its steps to {whole}")
