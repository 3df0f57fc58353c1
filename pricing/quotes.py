"""Quotes: what a contract would charge for usage that is only said, by the same rating that bills it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from pricing.calendar import Anchor, Period
from pricing.commits import instalment_name, instalment_span, lots_of_commit
from pricing.errors import PricingError
from pricing.models import wants_values
from pricing.money import EXACT, ZERO, Currency, round_to_currency, total
from pricing.prices import Cadence, CellPrice, Dynamic, Matrix, Percentage, Price
from pricing.product_checks import group_keys
from pricing.rated import Fee, Line, RatedPeriod
from pricing.rating import rate_period, slice_cuts
from pricing.terms import Commit, Lot, ProductPrice, Reading, Terms

ChangeKind = Literal["discount", "minimum", "maximum", "credit"]
ORDER: Sequence[ChangeKind] = ("discount", "maximum", "minimum", "credit")
"""In which order they count."""
CHARGED = ("usage", "fee", "fee_in_arrears", "commit", "true_up")
"""The kinds of lines that a subtotal adds up; the others change it."""


@dataclass(frozen=True, slots=True)
class SaidUsage:
    """Usage of a metric for some group values. What is None is not said, and refused where a price asks for it.

    `events` are how many there were, `amount` is the money that they carried, `values` are each one's value, in order
    of time.
    """

    metric_id: str
    quantity: Decimal
    groups: tuple[tuple[str, str], ...] = ()
    events: int | None = None
    amount: Decimal | None = None
    values: tuple[Decimal, ...] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What discounts, minimums, maximums and credits of one name change of a subtotal, as rounded on the lines."""

    kind: ChangeKind
    name: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Quote:
    """What one billing period would bill, before tax: lines, what changes their subtotal, and the total."""

    period: Period
    currency: Currency
    lines: tuple[Line, ...]
    subtotal: Decimal
    changes: tuple[Change, ...]
    total: Decimal
    rated: RatedPeriod
    """How it came about."""


def quote_period(
    terms: Sequence[Terms],
    usage: Sequence[SaidUsage],
    period: Period,
    *,
    time_zone: str,
    contract_start: datetime,
    contract_end: datetime | None = None,
    cadence: Cadence = "month",
    anchor: Anchor | None = None,
) -> Quote:
    """Quote a billing period of terms (with the prices of their cards in place) that is over.

    All usage counts at the beginning of the period, and there is none before it. Commits are whole; those that begin in
    the period are billed, as are instalments due in it, and true-ups of those that end with it.
    The contract's zone stands for the entity's. Raises what `rate_period` raises, and
    `PricingError` for usage that no price of the terms can be asked about as it is said.
    """
    for said in usage:
        _refuse(said, terms)
    commits = {commit.commit_id: commit for version in terms for commit in version.commits}
    lots = tuple(
        lot
        for commit in commits.values()
        for lot in lots_of_commit(commit, commit.commit_id)
        if lot.start < period.end and (lot.end is None or lot.end > period.start)
    )
    first, second = slice_cuts(terms, lots, period, time_zone, time_zone=time_zone)[:2]
    rated = rate_period(
        terms,
        [_reading(said, Period(first, second)) for said in usage],
        lots,
        period,
        entity_time_zone=time_zone,
        time_zone=time_zone,
        contract_start=contract_start,
        contract_end=contract_end,
        cadence=cadence,
        anchor=anchor,
    )
    billed = (*rated.lines, *_fee_lines(rated), *_commit_lines([*commits.values()], lots, rated))
    lines = tuple(line for line in billed if line.kind in CHARGED)
    return Quote(
        period=period,
        currency=rated.currency,
        lines=lines,
        subtotal=total([line.amount for line in lines]),
        changes=tuple(_changes(rated, {lot.lot_id: lot.name for lot in lots})),
        total=total([line.amount for line in billed]),
        rated=rated,
    )


def _reading(said: SaidUsage, interval: Period) -> Reading:
    return Reading(
        said.metric_id,
        interval.start,
        interval.end,
        said.quantity,
        said.groups,
        said.events or 0,
        said.amount or ZERO,
        said.values or (),
    )


# --- lines --------------------------------------------------------------------------------------------------------


def _fee_lines(rated: RatedPeriod) -> Iterator[Line]:
    for fee in rated.fees:
        if fee.amount:
            yield _fee_line(fee, rated.currency)


def _fee_line(fee: Fee, currency: Currency) -> Line:
    return Line(
        kind="fee" if fee.timing == "advance" else "fee_in_arrears",
        product_id=fee.product_id,
        description=fee.name,
        service=fee.service,
        quantity=fee.quantity,
        unit="period",
        exact=fee.amount,
        amount=round_to_currency(fee.amount, currency),
        steps=fee.steps,
    )


def _commit_lines(commits: Sequence[Commit], lots: Sequence[Lot], rated: RatedPeriod) -> Iterator[Line]:
    """Bill prepaid lots that begin now, instalments due in it, and what postpaid lots have left at theirs."""
    left = dict(rated.lots_after)
    for lot in lots:
        service = Period(lot.start, lot.end or rated.period.end)
        kind: Literal["commit", "true_up"] = "true_up" if lot.is_postpaid else "commit"
        exact = left[lot.lot_id] if lot.is_postpaid else lot.amount
        is_over = lot.end is not None and lot.end <= rated.period.end
        is_due = is_over if lot.is_postpaid else lot.instalments_of is None and lot.start in rated.period
        if is_due and exact:
            amount = round_to_currency(exact, rated.currency)
            yield Line(kind, lot.lot_id, lot.name, service, Decimal(1), kind, exact, amount)
    for commit in commits:
        for number, one in enumerate(commit.invoices, start=1):
            if one.on in rated.period:
                name, service = instalment_name(commit, number), Period(*instalment_span(commit, number))
                amount = round_to_currency(one.amount, rated.currency)
                yield Line("commit", commit.commit_id, name, service, Decimal(1), "instalment", one.amount, amount)


def _changes(rated: RatedPeriod, lot_names: dict[str, str]) -> Iterator[Change]:
    """Add up what changes the subtotal under one name: discounts, bounds, then what each lot pays."""
    found: dict[tuple[ChangeKind, str], Decimal] = {}
    place: tuple[ChangeKind, str]
    for line in rated.lines:
        match line.kind:
            case "discount" | "minimum" | "maximum":
                place = (line.kind, line.description)
            case "credit":
                place = (line.kind, lot_names[line.product_id])
            case _:
                continue
        found[place] = EXACT.add(found.get(place, ZERO), line.amount)
    ordered = sorted(found.items(), key=lambda item: ORDER.index(item[0][0]))
    return (Change(kind, name, amount) for (kind, name), amount in ordered)


# --- what cannot be asked -----------------------------------------------------------------------------------------


def _refuse(said: SaidUsage, terms: Sequence[Terms]) -> None:
    """Raise `PricingError` for usage that nothing prices, that is told apart by other keys, or that says too little."""
    products = [product for version in terms for product in version.prices]
    own = [product for product in products if said.metric_id in _metrics(product)]
    if not own:
        known = ", ".join(dict.fromkeys(metric_id for product in products for metric_id in _metrics(product)))
        remedy = f"use one of {known}" if known else "its products count none"
        raise PricingError(f"metric {said.metric_id!r} is not priced by this contract; {remedy}")
    keys = {key for product in own for key in group_keys(product)}
    for key, _ in said.groups:
        if key not in keys:
            remedy = f"use {', '.join(sorted(keys))}" if keys else "leave the groups away"
            raise PricingError(f"no price of metric {said.metric_id!r} looks at {key!r}; {remedy}")
    for product in own:
        if said.quantity and product.metric_id == said.metric_id:
            _refuse_unsaid(product, said)


def _metrics(product: ProductPrice) -> Iterator[str]:
    if product.metric_id is not None:
        yield product.metric_id
    if product.allowance is not None and product.allowance.per_metric is not None:
        yield product.allowance.per_metric


def _refuse_unsaid(product: ProductPrice, said: SaidUsage) -> None:
    """Raise `PricingError` where a price wants to know more than is said: it would count as none."""
    asked = f"product {product.product_id!r} is priced by {{}} of metric {said.metric_id!r}; give its {{}}"
    if wants_values(product.price) and said.values is None:
        raise PricingError(asked.format("each event", "values in place of its quantity"))
    for price in _cell_prices(product.price):
        if isinstance(price, Percentage) and price.fee_per_event and said.events is None:
            raise PricingError(asked.format("the number of events", "events as well"))
        if isinstance(price, Dynamic) and price.source == "event_amount" and said.amount is None:
            raise PricingError(asked.format("the money in events", "amount as well"))


def _cell_prices(price: Price) -> Iterator[CellPrice]:
    match price:
        case Matrix(cells=cells, default=default):
            yield from (cell.price for cell in cells)
            if default is not None:
                yield default
        case _ if isinstance(price, CellPrice):
            yield price
