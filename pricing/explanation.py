"""Explanation: how an amount came about, as a person would write it down, line by line."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from pricing.money import EXACT, Currency, round_to_currency, total
from pricing.rated import Charge, Draw, Fee, RatedPeriod, Step
from pricing.wording import counted, price_text


def explained_period(rated: RatedPeriod) -> tuple[str, ...]:
    """Return the sentences for every charge and fee of a rated period, and for what lots paid of them."""
    told: list[str] = []
    for charge in rated.charges:
        own = (charge.product_id, charge.segment.start, charge.groups)
        drawn = [d for d in rated.draws if (d.product_id, d.segment_start, d.groups) == own]
        told += [*explained(charge, rated.currency), *_drawn(drawn)]
    for fee in rated.fees:
        if fee.amount:
            told += explained_fee(fee, rated.currency)
    return tuple(told)


def explained(charge: Charge, currency: Currency) -> tuple[str, ...]:
    """Return how a charge came about: its reading, each step with its numbers, where the price stands, adjustments.

    The amounts of the steps add up to the exact amount; with the adjustments they come to what is rounded, once, to the
    currency.
    """
    told = [f"{_what(charge)}: {_steps(charge.steps)}"] if charge.steps else []
    told += [f"  the price is that of {_place(charge)}"]
    told += [f"  {a.name}: {_signed(a.amount)}" for a in charge.adjustments]
    net = EXACT.add(charge.amount, total([a.amount for a in charge.adjustments]))
    told.append(f"  {_rounded(net, currency)}")
    return tuple(told)


def explained_fee(fee: Fee, currency: Currency) -> tuple[str, ...]:
    """Return how a fee came about, and which days it is for."""
    days = f"{fee.service.start:%Y-%m-%d %H:%M} to {fee.service.end:%Y-%m-%d %H:%M} UTC"
    how = _steps(fee.steps) if fee.steps else price_text(fee.amount)
    return f"{fee.name}, in {fee.timing}, for {days}: {how}", f"  {_rounded(fee.amount, currency)}"


def amount_text(amount: Decimal, least_places: int = 2) -> str:
    """Write an amount exactly, with at least so many decimals: 2.00, 0.00012."""
    plain = amount.normalize(EXACT)
    exponent = plain.as_tuple().exponent
    places = max(-exponent if isinstance(exponent, int) else 0, least_places)
    return f"{plain:,.{places}f}"


def _what(charge: Charge) -> str:
    groups = ", ".join(f"{key} {value}" for key, value in charge.groups)
    return f"{charge.name}{f' ({groups})' if groups else ''}, {counted(charge.quantity, charge.unit)}"


def _steps(steps: Sequence[Step]) -> str:
    return "; ".join(f"{step.text} = {amount_text(step.amount)}" for step in steps)


def _place(charge: Charge) -> str:
    version = f"version {charge.terms_version} of the contract's terms"
    since = f", in force from {charge.segment.start:%Y-%m-%d %H:%M} to {charge.segment.end:%Y-%m-%d %H:%M} UTC"
    return (f"{charge.source}, by {version}" if charge.source else version) + since


def _rounded(exact: Decimal, currency: Currency) -> str:
    shown = round_to_currency(exact, currency)
    before = amount_text(exact, currency.exponent)
    after = amount_text(shown, currency.exponent)
    if before == after:
        return f"comes to {after} {currency.code}"
    return f"comes to {before}, rounded to {after} {currency.code}"


def _signed(amount: Decimal) -> str:
    return f"{'+' if amount > 0 else '-'}{amount_text(abs(amount))}"


def _drawn(draws: Sequence[Draw]) -> Iterator[str]:
    paid: dict[str, Decimal] = {}
    for draw in draws:
        paid[draw.lot_id] = EXACT.add(paid.get(draw.lot_id, Decimal(0)), draw.amount)
    for lot_id, amount in paid.items():
        yield f"  of which {amount_text(amount)} is paid by {lot_id}"
