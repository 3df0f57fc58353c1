"""Increments: what the usage that changed adds to a balance, found without reading what did not change.

A full computation keeps the readings that it rated. As long as what they were cut and rated by stays the same, an
accrual reads only the groups that the marks name, rates their series with the readings of before and of now, and adds
the difference to what stands in the books; lots are drawn anew from what each product comes to in each interval. The
first accrual of each day is a full computation, so that nothing that differs can last.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256

import sqlalchemy as sa

from ledger import kept
from ledger.billable import billable_readings
from ledger.contract_checks import metrics_of
from ledger.contracts import Contract
from ledger.intake.rules import Rule, read_rules
from ledger.marks import Mark
from ledger.shares import ACCRUED, Place, Share, Standing
from pricing.calendar import Period, local_date
from pricing.draws import holding
from pricing.money import EXACT, ZERO, to_ledger_scale
from pricing.rated import RatedPeriod
from pricing.segments import terms_in_force
from pricing.separable import Separated, draw_products, separated, series_amounts
from pricing.terms import Lot, Reading, Terms
from pricing.usage import Groups

BY_THEMSELVES = frozenset({"sum", "count", "max", "min", "latest", "average", "unique"})
"""The aggregations that only usage changes; levels that last change by the hour, percentiles need all events."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What the open periods of a contract are rated by; `lots` hold what is left at the start of the first one.

    `rules` are the recorded versions of all metrics, `keys` the group keys of each priced one, `parts` how each period
    is rated series by series; None: only as a whole.
    """

    contract: Contract
    terms: tuple[Terms, ...]
    lots: tuple[Lot, ...]
    zone: str
    periods: tuple[Period, ...]
    as_of: datetime
    rules: tuple[Rule, ...]
    keys: Mapping[str, frozenset[str]]
    parts: tuple[Separated, ...] | None
    digest: bytes


def basis_of(
    connection: sa.Connection,
    contract: Contract,
    terms: Sequence[Terms],
    lots: Sequence[Lot],
    periods: Sequence[Period],
    *,
    as_of: datetime,
) -> Basis:
    """Return what open periods are rated by at a moment; its digest is another one each day of the entity."""
    zone = contract.entity_zone
    wanted = {metric_id for version in terms for metric_id in metrics_of(version)}
    all_rules = read_rules(connection)
    rules = [rule for rule in all_rules if rule.metric_id in wanted]
    windows = [(lot.lot_id, lot.start, lot.end, lot.products) for lot in lots]
    span = contract.customer_id, contract.start_at, contract.end_at, contract.time_zone, contract.cadence
    today = local_date(as_of, zone)
    over = [(period, period.end <= as_of) for period in periods]
    facts = repr((span, contract.anchor, zone, today, over, windows, rules, tuple(terms)))
    keys: dict[str, frozenset[str]] = {}
    for rule in rules:
        keys[rule.metric_id] = keys.get(rule.metric_id, frozenset()) | {*rule.version.group_keys}
    parts: list[Separated] = []
    if all(rule.version.aggregation in BY_THEMSELVES and not rule.version.carry_over for rule in rules):
        for period, is_over in over:
            part = separated(terms, lots, period, zone, time_zone=contract.time_zone, is_over=is_over)
            if part is not None:
                parts.append(part)
    return Basis(
        contract,
        tuple(terms),
        tuple(lots),
        zone,
        tuple(periods),
        as_of,
        all_rules,
        keys,
        tuple(parts) if periods and len(parts) == len(periods) else None,
        sha256(facts.encode()).digest(),
    )


def changed_shares(
    connection: sa.Connection, basis: Basis, marks: Sequence[Mark], posted: Mapping[Place, Standing]
) -> Mapping[Place, Share] | None:
    """Return all that is to stand in the books for the usage of the open periods, from what the marks say has changed.

    The contract is locked, and `posted` is what is posted for that usage. None: what is kept does not hold, or does not
    suffice; compute it in full. Fees are those of the last full computation of the day. Raises `PricingError` when what
    has changed cannot be rated.
    """
    pairs = kept.pairs_of(marks)
    if basis.parts is None or pairs is None or not kept.holds(connection, basis.contract.contract_id, basis.digest):
        return None
    changes = _changes(connection, basis, pairs, basis.parts) if pairs else ()
    if changes is None:
        return None
    stands = _by_day(posted)
    differences = dict(_differences(connection, basis, changes, stands))
    if any(to_ledger_scale(quantity) != quantity for quantity, _ in differences.values()):
        return None
    for place, (quantity, amount) in differences.items():
        before = stands.get(place, (ZERO, ZERO))
        stands[place] = EXACT.add(before[0], quantity), EXACT.add(before[1], amount)
    known = {product_id for parts in basis.parts for product_id in parts.products}
    if not {place.product_id for place in stands} <= known:
        return None
    kept.replace_readings(connection, basis.contract.contract_id, changes)
    return _shares(basis, basis.parts, stands)


def keep_readings(
    connection: sa.Connection, basis: Basis, readings: Sequence[Sequence[Reading]], rated: Sequence[RatedPeriod]
) -> None:
    """Keep the readings of each open period that a full computation has rated, if single series can be rated anew.

    Quantities finer than the books hold them are not kept: their sum cannot be told from what stands there.
    """
    if basis.parts is None:
        return
    quantities = (part.quantity for period in rated for charge in period.charges for part in charge.slices)
    if any(to_ledger_scale(quantity) != quantity for quantity in quantities):
        kept.forget(connection, basis.contract.contract_id)
        return
    found = {period.start: own for period, own in zip(basis.periods, readings, strict=True)}
    kept.keep_all(connection, basis.contract.contract_id, basis.contract.customer_id, basis.digest, found)


# --- what has changed ---------------------------------------------------------------------------------------------


def _changes(
    connection: sa.Connection, basis: Basis, pairs: frozenset[kept.Pair], parts: Sequence[Separated]
) -> tuple[kept.Change, ...] | None:
    """Compare the readings of now with the kept ones; None where there is usage without a price."""
    contract = basis.contract
    known = kept.kept_groups(connection, contract.contract_id, contract.customer_id, pairs)
    cuts = sorted(
        {cut for part in parts for interval in part.frame.intervals for cut in (interval.start, interval.end)}
    )
    hashes = {(group.metric_id, one) for group in known for one in group.rollup_hashes}
    readings = billable_readings(
        connection,
        contract,
        basis.terms,
        cuts,
        rules=basis.rules,
        until=basis.as_of,
        restarts=[period.start for period in basis.periods],
        groups=hashes,
    )
    if any(one.metric_id not in metrics_of(terms_in_force(basis.terms, one.start)) for one in readings):
        return None
    now: dict[tuple[datetime, str, Groups], list[Reading]] = defaultdict(list)
    for reading in readings:
        start = max(period.start for period in basis.periods if period.start <= reading.start)
        now[start, reading.metric_id, reading.groups].append(reading)
    return tuple(
        kept.Change(group, part.frame.period.start, before, current)
        for part in parts
        for group in known
        if (before := _cut_as(part, group, group.before.get(part.frame.period.start, ())))
        != (current := tuple(now.get((part.frame.period.start, group.metric_id, group.groups), ())))
    )


def _cut_as(part: Separated, group: kept.Group, kept_rows: Sequence[kept.Figures]) -> tuple[Reading, ...]:
    ends = {interval.start: interval.end for interval in part.frame.intervals}
    return tuple(
        Reading(group.metric_id, start, ends[start], quantity, group.groups, events, amount)
        for start, quantity, events, amount in kept_rows
    )


def _differences(
    connection: sa.Connection,
    basis: Basis,
    changes: Sequence[kept.Change],
    stands: Mapping[Place, tuple[Decimal, Decimal]],
) -> Iterator[tuple[Place, tuple[Decimal, Decimal]]]:
    """Yield what the changes add to the quantity and the amount of each product and day."""
    for part in basis.parts or ():
        start = part.frame.period.start
        own = [change for change in changes if change.period_start == start]
        for product_id, counted in part.products.items() if own else ():
            before, now = _series(connection, basis, part, product_id, own)
            if not before and not now:
                continue
            found = _by_place(basis, part, product_id, now)
            if counted.keys:
                stood = _by_place(basis, part, product_id, before)
            else:  # all that stands for the product is its one series
                stood = {p: figures for p, figures in stands.items() if p[:2] == (start, product_id)}
            for place in {**stood, **found}:
                (q, a), (quantity, amount) = stood.get(place, (ZERO, ZERO)), found.get(place, (ZERO, ZERO))
                yield place, (EXACT.subtract(quantity, q), EXACT.subtract(amount, a))


def _by_place(
    basis: Basis, part: Separated, product_id: str, readings: Sequence[Reading]
) -> dict[Place, tuple[Decimal, Decimal]]:
    """Rate whole series of a product, and return what they come to each day."""
    found: dict[Place, tuple[Decimal, Decimal]] = {}
    for start, (quantity, amount) in series_amounts(part, product_id, readings).items() if readings else ():
        place = Place(part.frame.period.start, product_id, "", local_date(start, basis.zone))
        stands = found.get(place, (ZERO, ZERO))
        found[place] = EXACT.add(stands[0], quantity), EXACT.add(stands[1], amount)
    return found


def _series(
    connection: sa.Connection, basis: Basis, part: Separated, product_id: str, changes: Sequence[kept.Change]
) -> tuple[list[Reading], list[Reading]]:
    """Return the readings of the product's series that changed, as they were and as they are, whole."""
    counted = part.products[product_id]
    series: dict[Groups, list[kept.Change]] = defaultdict(list)
    for change in changes:
        if change.group.metric_id == counted.metric_id:
            series[counted.series(change.group.groups)].append(change)
    before: list[Reading] = []
    now: list[Reading] = []
    shares_series = not basis.keys.get(counted.metric_id, frozenset()) <= {*counted.keys}
    contract_id, start = basis.contract.contract_id, part.frame.period.start
    for groups, own in series.items():
        others: tuple[Reading, ...] = ()
        if shares_series:
            figures = kept.sum_of_others(connection, contract_id, start, counted, groups=groups, changes=own)
            others = _cut_as(part, replace(own[0].group, groups=groups), figures)
        before += [*others, *(replace(one, groups=groups) for change in own for one in change.before)]
        now += [*others, *(replace(one, groups=groups) for change in own for one in change.now)]
    return before, now


# --- what is to stand in the books --------------------------------------------------------------------------------


def _by_day(posted: Mapping[Place, Standing]) -> dict[Place, tuple[Decimal, Decimal]]:
    """Return what stands for the usage of each product and day, drawn from lots or not."""
    found: dict[Place, tuple[Decimal, Decimal]] = {}
    for place, stood in posted.items():
        quantity, amount = found.get(place._replace(lot_id=""), (ZERO, ZERO))
        found[place._replace(lot_id="")] = EXACT.add(quantity, stood.quantity), EXACT.add(amount, stood.amount)
    return {place: figures for place, figures in found.items() if any(figures)}


def usage_of_open(basis: Basis) -> sa.ColumnElement[bool]:
    """Return the condition for the rows of `accrued` that `changed_shares` says everything about."""
    starts = [period.start for period in basis.periods]
    return ACCRUED.c.period_start.in_(starts) & (ACCRUED.c.kind == "usage")


def _shares(
    basis: Basis, all_parts: Sequence[Separated], stands: Mapping[Place, tuple[Decimal, Decimal]]
) -> dict[Place, Share]:
    """Draw what each product comes to from the lots, period by period in order of time."""
    lots = basis.lots
    shares: dict[Place, Share] = {}
    for parts in all_parts:
        start = parts.frame.period.start
        own = {place: figures for place, figures in stands.items() if place.period_start == start}
        for place, (quantity, amount) in own.items():
            shares[place] = Share("usage", quantity, amount, parts.version)
        if not lots:
            continue
        starts = _starts(parts, basis.zone)
        amounts = {(place.product_id, starts[place.day]): amount for place, (_, amount) in own.items() if amount}
        drawn, left = draw_products(parts, amounts, lots)
        for (lot_id, product_id, begin), amount in drawn.items():
            place = Place(start, product_id, "", local_date(begin, basis.zone))
            shares[place._replace(lot_id=lot_id)] = Share("usage", ZERO, amount, parts.version)
            undrawn = EXACT.subtract(shares[place].amount, amount)
            shares[place] = replace(shares[place], amount=undrawn)
        lots = holding(lots, left)
    return shares


def _starts(parts: Separated, zone: str) -> Mapping[date, datetime]:
    """Return when the one interval of each day begins."""
    return {local_date(interval.start, zone): interval.start for interval in parts.frame.intervals}
