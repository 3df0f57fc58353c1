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
from functools import reduce
from hashlib import sha256
from typing import Self

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
    windows = [(lot.lot_id, lot.start, lot.end, lot.products, lot.groups) for lot in lots]
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
    cuts = [_Cuts.of(part, basis) for part in basis.parts]
    stands = _standing(connection, basis, cuts, posted)
    if stands is None:
        return None
    differences = dict(_differences(connection, basis, cuts, changes, stands))
    if any(to_ledger_scale(quantity) != quantity for quantity, _ in differences.values()):
        return None
    for part, figures in differences.items():
        stands[part] = _sum(stands.get(part, NOTHING), figures)
    known = {product_id for parts in basis.parts for product_id in parts.products}
    if not {product_id for _, product_id, _ in stands} <= known:
        return None
    kept.replace_readings(connection, basis.contract.contract_id, changes)
    within = {start for cut in cuts for start in cut.within_days}
    changed = {part: stands[part] for part in differences if part[2] in within}
    kept.replace_parts(connection, basis.contract.contract_id, changed)
    return _shares(basis, cuts, stands)


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
    within = {start for part in basis.parts for start in _Cuts.of(part, basis).within_days}
    parts: dict[kept.Part, kept.Amounts] = {}
    for period in rated:
        for charge in period.charges:
            for one in charge.slices:
                if one.start in within:
                    part = period.period.start, charge.product_id, one.start
                    parts[part] = _sum(parts.get(part, NOTHING), (one.quantity, one.amount))
    contract = basis.contract
    kept.keep_all(
        connection, contract.contract_id, contract.customer_id, digest=basis.digest, readings=found, parts=parts
    )


NOTHING: kept.Amounts = (ZERO, ZERO)


@dataclass(frozen=True, slots=True)
class _Cuts:
    """How a period is cut: what is known of a product in each interval is known by its start in `by_start`.

    Where lots draw, that is the interval's own, else the first one of its day. `of_days` are the starts that the days
    are known by, and `within_days` those of days with several: `accrued` holds what a day comes to, and no more.
    """

    part: Separated
    by_start: Mapping[datetime, datetime]
    of_days: Mapping[date, tuple[datetime, ...]]

    @classmethod
    def of(cls, part: Separated, basis: Basis) -> Self:
        """Cut a period where lots of its contract make a difference."""
        days: dict[date, list[datetime]] = defaultdict(list)
        by_start: dict[datetime, datetime] = {}
        for interval in part.frame.intervals:
            own = days[local_date(interval.start, basis.zone)]
            if basis.lots or not own:
                own.append(interval.start)
            by_start[interval.start] = own[-1]
        return cls(part, by_start, {day: tuple(starts) for day, starts in days.items()})

    @property
    def period_start(self) -> datetime:
        """When the period begins."""
        return self.part.frame.period.start

    @property
    def within_days(self) -> frozenset[datetime]:
        """The starts of what is less than a day."""
        return frozenset(start for starts in self.of_days.values() if len(starts) > 1 for start in starts)


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
    cuts: Sequence[_Cuts],
    changes: Sequence[kept.Change],
    stands: Mapping[kept.Part, kept.Amounts],
) -> Iterator[tuple[kept.Part, kept.Amounts]]:
    """Yield what the changes add to the quantity and the amount of each product in each interval."""
    for cut in cuts:
        own = [change for change in changes if change.period_start == cut.period_start]
        for product_id, counted in cut.part.products.items() if own else ():
            before, now = _series(connection, basis, cut.part, product_id, own)
            if not before and not now:
                continue
            found = _by_part(cut, product_id, now)
            if counted.keys:
                stood = _by_part(cut, product_id, before)
            else:  # all that stands for the product is its one series
                place = (cut.period_start, product_id)
                stood = {part: figures for part, figures in stands.items() if part[:2] == place}
            for part in {**stood, **found}:
                (q, a), (quantity, amount) = stood.get(part, NOTHING), found.get(part, NOTHING)
                yield part, (EXACT.subtract(quantity, q), EXACT.subtract(amount, a))


def _by_part(cut: _Cuts, product_id: str, readings: Sequence[Reading]) -> dict[kept.Part, kept.Amounts]:
    """Rate whole series of a product, and return what they come to in each interval."""
    found: dict[kept.Part, kept.Amounts] = {}
    for start, figures in series_amounts(cut.part, product_id, readings).items() if readings else ():
        part = cut.period_start, product_id, cut.by_start[start]
        found[part] = _sum(found.get(part, NOTHING), figures)
    return found


def _sum(one: kept.Amounts, other: kept.Amounts) -> kept.Amounts:
    return EXACT.add(one[0], other[0]), EXACT.add(one[1], other[1])


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


def _standing(
    connection: sa.Connection, basis: Basis, cuts: Sequence[_Cuts], posted: Mapping[Place, Standing]
) -> dict[kept.Part, kept.Amounts] | None:
    """Return what stands for the usage of each product in each interval, drawn from lots or not.

    None where a day that is cut is not known by its parts.
    """
    of_days = {cut.period_start: cut.of_days for cut in cuts}
    is_cut = any(cut.within_days for cut in cuts)
    parts = kept.parts_of_days(connection, basis.contract.contract_id) if is_cut else {}
    found: dict[kept.Part, kept.Amounts] = {}
    for place, figures in _by_day(posted).items():
        starts = of_days[place.period_start].get(place.day, ())
        names = [(place.period_start, place.product_id, start) for start in starts]
        known = parts if len(names) > 1 else dict.fromkeys(names, figures)
        own = {name: known[name] for name in names if name in known}
        if reduce(_sum, own.values(), NOTHING) != figures:
            return None
        found.update(own)
    return found


def _by_day(posted: Mapping[Place, Standing]) -> dict[Place, kept.Amounts]:
    found: dict[Place, kept.Amounts] = {}
    for place, stood in posted.items():
        whole = place._replace(lot_id="")
        found[whole] = _sum(found.get(whole, NOTHING), (stood.quantity, stood.amount))
    return {place: figures for place, figures in found.items() if any(figures)}


def usage_of_open(basis: Basis) -> sa.ColumnElement[bool]:
    """Return the condition for the rows of `accrued` that `changed_shares` says everything about."""
    starts = [period.start for period in basis.periods]
    return ACCRUED.c.period_start.in_(starts) & (ACCRUED.c.kind == "usage")


def _shares(basis: Basis, cuts: Sequence[_Cuts], stands: Mapping[kept.Part, kept.Amounts]) -> dict[Place, Share]:
    """Draw what each product comes to from the lots, period by period in order of time."""
    lots = basis.lots
    shares: dict[Place, Share] = {}
    for cut in cuts:
        own = {part: figures for part, figures in stands.items() if part[0] == cut.period_start and any(figures)}
        for (period_start, product_id, start), (quantity, amount) in own.items():
            place = Place(period_start, product_id, "", local_date(start, basis.zone))
            _add(shares, place, Share("usage", quantity, amount, cut.part.version))
        if not lots:
            continue
        amounts = {(product_id, start): amount for (_, product_id, start), (_, amount) in own.items() if amount}
        drawn, left = draw_products(cut.part, amounts, lots)
        for (lot_id, product_id, start), amount in drawn.items():
            place = Place(cut.period_start, product_id, lot_id, local_date(start, basis.zone))
            _add(shares, place, Share("usage", ZERO, amount, cut.part.version))
            _add(shares, place._replace(lot_id=""), Share("usage", ZERO, EXACT.minus(amount), cut.part.version))
        lots = holding(lots, left)
    return shares


def _add(shares: dict[Place, Share], place: Place, share: Share) -> None:
    stands = shares.get(place, Share("usage"))
    quantity, amount = _sum((stands.quantity, stands.amount), (share.quantity, share.amount))
    shares[place] = replace(share, quantity=quantity, amount=amount)
