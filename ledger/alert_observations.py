"""Observations: the figure that each rule on a contract sees in each span, from what is posted in this transaction."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal

import sqlalchemy as sa

from ledger.alert_groups import group_figures
from ledger.alert_kinds import ADDED_UP, OF_LOTS, SILENT_DAYS
from ledger.alert_lots import PACE_DAYS, lot_figure, lots_begun, next_expiring
from ledger.alert_rules import AlertRule
from ledger.anomalies import hours_watched, is_due, newcomers_watched
from ledger.contracts import Contract, terms_of
from ledger.database import Json
from ledger.periods import list_periods
from pricing.calendar import local_date, local_midnight
from pricing.money import EXACT, ZERO, to_ledger_scale, total
from pricing.thresholds import Threshold, forecast, hours_of


@dataclass(frozen=True, slots=True)
class Observed:
    """What a rule sees in the span that begins at a moment; `details` are told beside the figure."""

    rule: AlertRule
    span_start: datetime
    figure: Decimal
    bounds: Threshold
    details: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observations:
    """All that rules see, and when to look again though nothing happens (None: not before something does)."""

    figures: tuple[Observed, ...]
    look_again_at: datetime | None


def observe(
    connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule], *, as_of: datetime
) -> Observations:
    """Return what the rules on a contract see as it stands accrued to `as_of`."""
    seen = [*_in_periods(connection, contract, rules, as_of), *_in_days(connection, contract, rules)]
    seen += _in_groups(connection, contract, rules, as_of)
    of_lots, expiring_at = _of_lots(connection, contract, rules, as_of)
    of_silence, silent_at = _of_silence(connection, contract, rules, as_of)
    seen += [*of_lots, *of_silence, *of_payments(connection, contract, rules)]
    if is_due(contract, as_of):
        seen += [*_in_hours(connection, contract, rules, as_of), *_of_newcomers(connection, contract, rules, as_of)]
    moments = [moment for moment in (expiring_at, silent_at) if moment is not None]
    return Observations(tuple(seen), min(moments, default=None))


def of_payments(connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule]) -> Iterator[Observed]:
    """Yield how many attempts to collect failed, of invoices that are not paid; a payment takes them all back."""
    own = [rule for rule in rules if rule.kind == "payment_failed"]
    rows = connection.execute(_FAILED, {"contract_id": contract.contract_id}).all() if own else []
    for rule in own:
        failed: dict[datetime, int] = defaultdict(int)
        for row in rows:
            failed[_span_of(contract, rule, row.settled_at)] += 0 if row.is_paid else 1
        yield from (Observed(rule, start, Decimal(number), rule.bounds) for start, number in failed.items())


def full_days(contract: Contract, as_of: datetime) -> int:
    """Return over how many full days of the entity the pace of a contract's spend is taken, the last seven at most."""
    zone = contract.entity_zone
    first = local_date(contract.start_at, zone)
    if local_midnight(first, zone) < contract.start_at:
        first += timedelta(days=1)
    return max(0, min(PACE_DAYS, (local_date(as_of, zone) - first).days))


# --- spend and usage ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ProductFigures:
    """A product's amount and units of usage in the span that begins at a moment, or in a part of it."""

    span_start: datetime
    product_id: str
    amount: Decimal
    quantity: Decimal


Sums = Mapping[str | None, Mapping[datetime, Decimal]]
"""What was added up, by product and start of the span; of all products together under None."""


def _sums(parts: Iterable[_ProductFigures]) -> tuple[Sums, Sums]:
    """Add up the amounts and the units of products in each span."""
    amounts: dict[str | None, dict[datetime, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    quantities: dict[str | None, dict[datetime, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for part in parts:
        for product_id in (part.product_id, None):
            amounts[product_id][part.span_start] = EXACT.add(amounts[product_id][part.span_start], part.amount)
        units = quantities[part.product_id]
        units[part.span_start] = EXACT.add(units[part.span_start], part.quantity)
    return amounts, quantities


def _added_up(rules: Sequence[AlertRule], amounts: Sums, quantities: Sums) -> Iterator[Observed]:
    """Yield what each rule observes in each span, from the figures of the products in it."""
    for rule in rules:
        figures = (quantities if rule.kind == "usage" else amounts).get(rule.product_id, {})
        yield from (Observed(rule, start, figure, rule.bounds) for start, figure in figures.items())


def _in_periods(
    connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule], as_of: datetime
) -> Iterator[Observed]:
    own = [rule for rule in rules if rule.span == "period" and rule.kind in ADDED_UP and rule.group_key is None]
    forecasts = [rule for rule in rules if rule.kind == "forecast"]
    if not own and not forecasts:
        return
    rows = connection.execute(_BY_PERIOD, {"contract_id": contract.contract_id})
    amounts, quantities = _sums(_ProductFigures(*row) for row in rows)
    yield from _added_up(own, amounts, quantities)
    if forecasts:
        yield from _forecasts(connection, contract, forecasts, amounts, as_of)


def _forecasts(
    connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule], amounts: Sums, as_of: datetime
) -> Iterator[Observed]:
    """Yield what the running period comes to at the pace of the last full days; of one that is over, its spend."""
    begun = contract.periods(as_of)
    if not begun:
        return
    zone, running = contract.entity_zone, begun[-1]
    today = local_date(as_of, zone)
    days = full_days(contract, as_of)
    since = local_midnight(today - timedelta(days=days), zone)
    reaching = [period.start for period in begun if since < period.end]
    facts = {"contract_id": contract.contract_id, "starts": reaching, "today": today, "days": days}
    lately: dict[str, Decimal] = dict(connection.execute(_LATELY, facts).all())
    for rule in rules:
        spent = {running.start: ZERO, **amounts.get(rule.product_id, {})}
        pace = total([*lately.values()]) if rule.product_id is None else lately.get(rule.product_id, ZERO)
        for start, amount in spent.items():
            left = running.end - as_of if start == running.start else timedelta()
            yield Observed(rule, start, forecast(amount, pace, days=days, left=left), rule.bounds)


def _in_days(connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule]) -> Iterator[Observed]:
    own = [rule for rule in rules if rule.span == "day" and rule.kind in ADDED_UP and rule.group_key is None]
    if own:
        zone = contract.entity_zone
        rows = connection.execute(_BY_DAY, {"contract_id": contract.contract_id, "zone": zone})
        parts = [_ProductFigures(local_midnight(day, zone), *figures) for day, *figures in rows]
        yield from _added_up(own, *_sums(parts))


def _in_groups(
    connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule], as_of: datetime
) -> Iterator[Observed]:
    own = [rule for rule in rules if rule.group_key is not None]
    if not own:
        return
    recorded = list_periods(connection, contract.contract_id)
    terms = terms_of(connection, contract.contract_id) if any(rule.kind == "spend" for rule in own) else ()
    for rule in own:
        figures: dict[datetime, Decimal] = defaultdict(Decimal)
        for one in group_figures(connection, contract, rule, recorded, terms, as_of=as_of):
            start = one.period_start
            if rule.span == "day":
                start = local_midnight(one.day, contract.entity_zone)
            figures[start] = EXACT.add(figures[start], one.figure)
        group: dict[str, Json] = {"group_key": rule.group_key, "group_value": rule.group_value}
        yield from (Observed(rule, start, figure, rule.bounds, group) for start, figure in figures.items())


# --- lots and silence ---------------------------------------------------------------------------------------------


def _of_lots(
    connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule], as_of: datetime
) -> tuple[list[Observed], datetime | None]:
    own = [rule for rule in rules if rule.kind in OF_LOTS]
    if not own:
        return [], None
    lots = lots_begun(connection, contract, as_of=as_of)
    figures = [(rule, lot_figure(rule, contract, lots, as_of=as_of)) for rule in own]
    seen = [Observed(rule, contract.start_at, figure, rule.bounds) for rule, figure in figures if figure is not None]
    return seen, next_expiring(contract, own, lots, as_of=as_of)


def _of_silence(
    connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule], as_of: datetime
) -> tuple[list[Observed], datetime | None]:
    """Return for how many hours no usage came, of a contract that is in use, and when a rule is to look again."""
    own = [rule for rule in rules if rule.kind == "usage_silent"]
    last = connection.execute(_LAST_USAGE, {"contract_id": contract.contract_id}).scalar_one() if own else None
    if last is None:
        return [], None
    if contract.end_at is not None and contract.end_at <= as_of:
        return [Observed(rule, contract.start_at, ZERO, rule.bounds) for rule in own], None  # nothing is to come
    if as_of - last > timedelta(days=SILENT_DAYS):
        return [], None
    silent = hours_of(as_of - last)
    moments = [last + _hours(rule.threshold) for rule in own if rule.threshold > silent]
    seen = [Observed(rule, contract.start_at, silent, rule.bounds) for rule in own]
    return seen, min((moment for moment in moments if moment > as_of), default=None)


def _hours(number: Decimal) -> timedelta:
    """Return so many hours, up to the next whole second."""
    return timedelta(seconds=int(EXACT.multiply(number, Decimal(3600)).to_integral_value(ROUND_CEILING)))


# --- what is unusual ----------------------------------------------------------------------------------------------


def _in_hours(
    connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule], as_of: datetime
) -> Iterator[Observed]:
    for rule in rules:
        if rule.kind == "anomaly":
            for one in hours_watched(connection, contract, rule, as_of=as_of):
                band = {name: to_ledger_scale(getattr(one.judgement, name)) for name in ("expected", "low", "high")}
                figure = one.judgement.observed
                # few events may use whatever they use
                bound = band["high"] if one.is_raised else max(band["high"], figure)
                yield Observed(rule, one.hour, figure, Threshold(bound, ZERO, "above"), band)


def _of_newcomers(
    connection: sa.Connection, contract: Contract, rules: Sequence[AlertRule], as_of: datetime
) -> Iterator[Observed]:
    for rule in rules:
        if rule.kind == "new_group":
            for day, found in newcomers_watched(connection, contract, rule, as_of=as_of):
                group: dict[str, Json] = {"group_key": None, "group_value": None}
                if found is not None:
                    group = {"group_key": found.key, "group_value": found.value}
                yield Observed(rule, day, found.percent if found else ZERO, rule.bounds, group)


def _span_of(contract: Contract, rule: AlertRule, moment: datetime) -> datetime:
    """Return when the span that a moment belongs to begins; before the term that is its first, after it its last."""
    if rule.span == "day":
        return local_midnight(local_date(moment, contract.entity_zone), contract.entity_zone)
    return contract.periods(max(moment, contract.start_at))[-1].start


_BY_PERIOD = sa.text("""
select period_start, product_id, sum(amount) as amount,
    coalesce(sum(quantity) filter (where kind = 'usage'), 0) as quantity
from accrued
where contract_id = :contract_id and kind <> 'breakage' and period_start >= (
    select min(start_at) from contract_period where contract_id = :contract_id and state <> 'invoiced'
)
group by period_start, product_id
""")

# A day may stand in two periods where the contract has another zone than the entity: its part of the period before
# the first that is not invoiced counts too.
_BY_DAY = sa.text("""
with first as (
    select min(start_at) as start_at from contract_period where contract_id = :contract_id and state <> 'invoiced'
), before as (
    select max(start_at) as start_at from contract_period
    where contract_id = :contract_id and start_at < (select start_at from first)
)
select day, product_id, sum(amount) as amount, coalesce(sum(quantity) filter (where kind = 'usage'), 0) as quantity
from accrued
where contract_id = :contract_id and kind <> 'breakage'
    and period_start >= (select coalesce(before.start_at, first.start_at) from first, before)
    and (period_start >= (select start_at from first)
        or day >= (select cast(start_at at time zone :zone as date) from first))
group by day, product_id
""")

_LATELY = sa.text("""
select product_id, sum(amount) from accrued
where contract_id = :contract_id and kind <> 'breakage' and period_start = any(:starts)
    and day < :today and day >= cast(:today as date) - cast(:days as integer)
group by product_id
""")

_LAST_USAGE = sa.text("select max(received_at) from usage_accrual where contract_id = :contract_id and batch_id > 0")

# Attempts since the first period that is not invoiced, of a contract that is all invoiced since its last one began;
# an opening invoice may be collected before its contract begins.
_FAILED = sa.text("""
with since as (
    select coalesce(min(start_at) filter (where state <> 'invoiced'), max(start_at)) as start_at, min(start_at) as first
    from contract_period where contract_id = :contract_id
)
select a.settled_at, i.state = 'paid' as is_paid
from since, invoice i join payment_attempt a on a.invoice_id = i.invoice_id and a.state = 'declined'
where i.contract_id = :contract_id
    and (since.start_at is null or since.start_at = since.first or a.settled_at >= since.start_at)
""")
