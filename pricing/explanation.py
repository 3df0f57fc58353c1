"""Explanation: how an amount came about, as a person would write it down, line by line.

The first line says what it is about and what it comes to. Each line below that ends in ` = ` and an amount adds that
much, exactly: together they come to the amount before it is rounded, once, to the currency.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

from pricing.adjustments import net_amount
from pricing.calendar import Period
from pricing.money import EXACT, Currency, round_to_currency
from pricing.prices import Composite
from pricing.rated import Charge, Draw, Fee, Line, RatedPeriod, Step
from pricing.wording import amount_text, counted

CREDITS = "credit"


def explained_period(rated: RatedPeriod, *, time_zone: str = "UTC") -> tuple[str, ...]:
    """Return the lines for every charge and fee of a rated period, and for what lots pay of them.

    Days are those of `time_zone`. Fees that another billing period bills are left out.
    """
    told: list[str] = []
    names = {line.product_id: line.description for line in rated.lines if line.kind == CREDITS}
    for charge in rated.charges:
        own = (charge.product_id, charge.segment.start, charge.groups)
        drawn = [d for d in rated.draws if (d.product_id, d.segment_start, d.groups) == own]
        told += [*explained(charge, rated.currency, time_zone=time_zone), *_drawn(drawn, names, rated.currency)]
    for fee in rated.fees:
        if fee.amount:
            told += explained_fee(fee, rated.currency, time_zone=time_zone)
    return tuple(told)


def explained(charge: Charge, currency: Currency, *, time_zone: str = "UTC") -> tuple[str, ...]:
    """Return how a charge came about: what was counted, each step, the adjustments, and where the price stands.

    The amounts of the steps are those of the charge; with the adjustments they come to what is rounded to the currency.
    """
    counts = not isinstance(charge.price, Composite | None)
    quantity = f"{counted(charge.quantity, charge.unit)}, " if counts else ""
    version = f"version {charge.terms_version} of the contract's terms"
    place = f"{charge.source}, by {version}" if charge.source else version
    what = "minimum" if charge.price is None else "price"
    adjusted = [(adjustment.name, adjustment.amount) for adjustment in charge.adjustments]
    return (
        f"{_named(charge.name, charge.groups)}: {quantity}{_rounded(net_amount(charge), currency)}",
        *_added(charge.steps, adjusted, currency),
        *_before_rounding(net_amount(charge), currency),
        f"  the {what} is that of {place}, for {_days(charge.segment, time_zone)}",
    )


def explained_fee(fee: Fee, currency: Currency, *, time_zone: str = "UTC") -> tuple[str, ...]:
    """Return how a fee came about, and which days it is for."""
    timing = "in advance" if fee.timing == "advance" else "in arrears"
    return (
        f"{fee.name}: {_rounded(fee.amount, currency)}",
        *_added(fee.steps, [], currency),
        *_before_rounding(fee.amount, currency),
        f"  {timing}, for {_days(fee.service, time_zone)}, by version {fee.terms_version} of the contract's terms",
    )


def explained_line(line: Line, currency: Currency, *, time_zone: str = "UTC") -> tuple[str, ...]:
    """Return how a line of an invoice came about, as far as the line itself tells."""
    quantity = f"{counted(line.quantity, line.unit)}, " if line.kind == "usage" else ""
    return (
        f"{_named(line.description, line.groups)}: {quantity}{_money(line.amount, currency)}",
        *_added(line.steps, [], currency),
        *_before_rounding(line.exact, currency, shown=line.amount),
        *([f"  the price is that of {line.source}"] if line.source else []),
        f"  for {_days(line.service, time_zone)}",
    )


def _named(name: str, groups: Sequence[tuple[str, str]]) -> str:
    told = ", ".join(f"{key} {value}" for key, value in groups)
    return f"{name} ({told})" if told else name


def _added(steps: Iterable[Step], more: Iterable[tuple[str, Decimal]], currency: Currency) -> Iterator[str]:
    for text, amount in (*((step.text, step.amount) for step in steps), *more):
        yield f"  {text} = {amount_text(amount, currency.exponent)}"


def _before_rounding(exact: Decimal, currency: Currency, *, shown: Decimal | None = None) -> Iterator[str]:
    """Tell the exact amount where it is not what is shown; None: what it is by itself, rounded."""
    told = round_to_currency(exact, currency) if shown is None else shown
    if exact != told:
        before, after = amount_text(exact, currency.exponent), amount_text(told, currency.exponent)
        yield f"  in all {before}, rounded to {after}"


def _rounded(exact: Decimal, currency: Currency) -> str:
    return _money(round_to_currency(exact, currency), currency)


def _money(amount: Decimal, currency: Currency) -> str:
    return f"{amount_text(amount, currency.exponent)} {currency.code}"


def _drawn(draws: Iterable[Draw], names: dict[str, str], currency: Currency) -> Iterator[str]:
    paid: dict[str, Decimal] = {}
    for draw in draws:
        paid[draw.lot_id] = EXACT.add(paid.get(draw.lot_id, Decimal(0)), draw.amount)
    for lot_id, amount in paid.items():
        name = names[lot_id].partition(", applied to ")[0]
        yield f"  of it {amount_text(amount, currency.exponent)} is paid by {name} ({lot_id})"


def _days(period: Period, time_zone: str) -> str:
    return f"{_moment(period.start, time_zone)} until {_moment(period.end, time_zone)}"


def _moment(moment: datetime, time_zone: str) -> str:
    """Write a local day, with the time where it is not midnight."""
    local = moment.astimezone(ZoneInfo(time_zone))
    return f"{local:%Y-%m-%d}" if local.time() == time() else f"{local:%Y-%m-%d %H:%M:%S}"
