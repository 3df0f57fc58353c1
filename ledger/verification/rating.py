"""Rating again: every recorded period of every contract, from the raw events, compared with what is accrued and posted.

Lots are carried from the contract's first period on, so that nothing rests on what was posted before.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from ledger.contract_checks import metrics_of
from ledger.terms_codec import digest_of
from ledger.verification.check import (
    Check,
    Differences,
    Key,
    add_to,
    check_of_each,
    compare_amounts,
    compare_quantities,
)
from ledger.verification.lots import Figures, Share, breakage
from ledger.verification.metering import Counts, Life
from ledger.verification.raw import Contract, RecordedPeriod, Records
from ledger.verification.timeline import Timeline, priced_metrics
from ledger.verification.usage import Place, Sum, Usage
from pricing.aggregation import Groups
from pricing.calendar import Period, local_date
from pricing.commits import prepaid
from pricing.draws import holding, less_drawn
from pricing.errors import PricingError
from pricing.late import DayShare, LateKey, late_shares
from pricing.money import EXACT, ZERO, total
from pricing.rated import RatedPeriod
from pricing.rating import rate_period, wants_history
from pricing.terms import Lot, Reading, Terms


@dataclass(frozen=True, slots=True)
class RatedContract:
    """What the books of a contract must hold. `periods` are as rated, None where that was not possible.

    Frozen periods are as they were billed, with `billed` figures; `figures` are those of all usage of now. What cannot
    be judged while the contract waits for its accrual holds what is accrued, and `note` says why. `problem` says why
    rating stopped.
    """

    contract: Contract
    periods: tuple[RatedPeriod | None, ...]
    figures: Figures
    billed: Figures
    problem: str | None = None
    note: str | None = None


def rate_contracts(records: Records, timelines: Sequence[Timeline], usage: Usage) -> Mapping[str, RatedContract]:
    """Rate all contracts."""
    accrued: dict[str, _Accrued] = {name: _Accrued({}, {}) for name in records.contracts}
    for row in records.accrued:
        share = Share(row.period_start, row.product_id, row.lot_id, row.day, row.kind)
        accrued[row.contract_id].figures[share] = (row.quantity, row.amount)
        if row.frozen_amount is not None:
            accrued[row.contract_id].billed[share] = (row.frozen_quantity, row.frozen_amount)
    by_customer: dict[str, list[Contract]] = {}
    for contract in records.contracts.values():
        by_customer.setdefault(contract.customer_id, []).append(contract)
    event_types = {metric.metric_id: metric.event_type for metric in records.metrics}
    found = {}
    for timeline in timelines:
        name = timeline.contract.contract_id
        others = [other for other in by_customer[timeline.contract.customer_id] if other.contract_id != name]
        found[name] = _rate_contract(_Subject(timeline, others, event_types), usage, accrued[name])
    return found


def check_rating(records: Records, rated: Mapping[str, RatedContract]) -> tuple[Check, ...]:
    """Compare the rated figures with the accrued ones."""
    left: tuple[dict[Key, Decimal], dict[Key, Decimal]] = ({}, {})
    right: tuple[dict[Key, Decimal], dict[Key, Decimal]] = ({}, {})
    billed: dict[Key, Decimal] = {}
    frozen: dict[Key, Decimal] = {}
    for name, one in rated.items():
        for share, figures in one.figures.items():
            for sums, figure in zip(left, figures, strict=True):
                add_to(sums, _share_key(one.contract, name, share), figure)
        for share, (_, amount) in one.billed.items():
            add_to(billed, _share_key(one.contract, name, share), amount)
    for row in records.accrued:
        share = Share(row.period_start, row.product_id, row.lot_id, row.day, row.kind)
        contract = records.contracts[row.contract_id]
        if row.frozen_amount is not None:
            add_to(frozen, _share_key(contract, row.contract_id, share), row.frozen_amount)
        for sums, figure in zip(right, (row.quantity, row.amount), strict=True):
            add_to(sums, _share_key(contract, row.contract_id, share), figure)
    quantities = compare_quantities("rated quantities are accrued", "rated", left[0], "accrued", right[0])
    amounts = compare_amounts("rated amounts are accrued", "rated", left[1], "accrued", right[1])
    notes = "; ".join(one.note for one in rated.values() if one.note)
    return (
        _check_terms(records),
        _check_problems(rated),
        quantities,
        replace(amounts, detail=notes) if amounts.ok else amounts,
        compare_amounts("frozen periods stand as they were billed", "rated", billed, "kept", frozen),
    )


def _check_terms(records: Records) -> Check:
    """Recompute the digests of all terms."""
    differences = Differences()
    agreed = 0
    for name, contract in records.contracts.items():
        agreed += len(contract.agreed)
        for version, digest in zip(contract.agreed, contract.digests, strict=True):
            if digest_of(version) != digest:
                differences.add(f"terms {version.version} of contract {name} do not have the content that was agreed")
    return check_of_each(
        "terms are as they were agreed", "versions of terms", agreed, "with the digest of their content", differences
    )


def _check_problems(rated: Mapping[str, RatedContract]) -> Check:
    differences = Differences()
    for name, one in rated.items():
        for problem in dict.fromkeys(filter(None, (one.contract.problem, one.problem))):
            differences.add(f"contract {name}: {problem}")
    sound = sum(1 for one in rated.values() if not (one.contract.problem or one.problem))
    return Check(
        "every contract is rated",
        "contracts",
        str(len(rated)),
        "rated without a problem",
        str(sound),
        not differences.number,
        differences.text,
    )


def _share_key(contract: Contract, name: str, share: Share) -> Key:
    start = local_date(share.period_start, contract.time_zone)
    return contract.currency, name, start.isoformat(), share.kind, share.product_id, share.lot_id, share.day.isoformat()


# --- one contract -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Subject:
    """A contract to rate, the other contracts of its customer, and the event type of every metric."""

    timeline: Timeline
    others: Sequence[Contract]
    event_types: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Accrued:
    """What is accrued for a contract, and what of it was there when its period was frozen."""

    figures: dict[Share, tuple[Decimal, Decimal]]
    billed: dict[Share, tuple[Decimal, Decimal]]


_View = Mapping[datetime, Sequence[Reading]]
"""The readings of each recorded period, by its start."""


def _rate_contract(subject: _Subject, usage: Usage, accrued: _Accrued) -> RatedContract:
    """Rate a contract without the batches that wait for accrual.

    An accrual may have read usage whose mark came after it took the marks: the mark is still there, but the usage is in
    the books. So where the figures differ, those with all usage count too.
    """
    contract = subject.timeline.contract
    try:
        billed = _rate_billed(subject, usage)
        figures, periods = _rate_now(subject, usage, billed, _in_books(contract))
    except (PricingError, ValueError, ArithmeticError) as error:
        nothing = (None,) * len(contract.periods)
        return RatedContract(contract, nothing, accrued.figures, accrued.billed, problem=f"cannot be rated: {error}")
    as_billed = _figures(contract, billed)
    if any(one.state == "open" for one in contract.periods) and (0 in contract.marks or contract.accrued_at is None):
        note = f"contract {contract.contract_id} waits for its accrual, so its open periods are not compared"
        return RatedContract(contract, periods, accrued.figures, as_billed, note=note)
    if _without_zeros(figures) == _without_zeros(accrued.figures) or not contract.marks:
        return RatedContract(contract, periods, figures, as_billed)
    try:
        with_all, everything = _rate_now(subject, usage, billed, _counts_now)
    except (PricingError, ValueError, ArithmeticError):
        return RatedContract(contract, periods, figures, as_billed)  # what cannot be rated is not accrued yet
    if _without_zeros(with_all) == _without_zeros(accrued.figures):
        return RatedContract(contract, everything, with_all, as_billed)
    return RatedContract(contract, periods, figures, as_billed)


def _in_books(contract: Contract) -> Counts:
    """Return the view of the books: without the batches that wait for the contract's accrual."""

    def counts(life: Life) -> bool:
        begin, ended = life
        return begin not in contract.marks and (ended is None or ended in contract.marks)

    return counts


def _counts_now(life: Life) -> bool:
    return life[1] is None


def _as_of(batch: int) -> Counts:
    """Return the view of what counted as of a batch."""

    def counts(life: Life) -> bool:
        begin, ended = life
        return begin <= batch and (ended is None or ended > batch)

    return counts


Billed = Sequence[tuple[RecordedPeriod, RatedPeriod]]
"""Frozen periods in order of time, each as it was billed."""


def _rate_billed(subject: _Subject, usage: Usage) -> Billed:
    """Rate each frozen period as of its cut-off, with what the ones before had left of the lots by then."""
    contract = subject.timeline.contract
    billed: list[tuple[RecordedPeriod, RatedPeriod]] = []
    for recorded in contract.periods:
        if recorded.cutoff is None:
            continue
        view = _readings_by_period(subject, usage.readings_of(subject.timeline, _as_of(recorded.cutoff)))
        lots = _lots_after(contract.lots_while_open(recorded.period.start), billed)
        if contract.contract_id in usage.changing:
            _, lots = _late(subject, billed, view, lots)
        billed.append((recorded, _rate_one(subject, recorded, view, lots)))
    return billed


def _rate_now(
    subject: _Subject, usage: Usage, billed: Billed, counts: Counts
) -> tuple[Mapping[Share, tuple[Decimal, Decimal]], tuple[RatedPeriod, ...]]:
    """Return the figures of all periods in a view, and the periods: frozen ones as billed, open ones as they are."""
    contract = subject.timeline.contract
    view = _readings_by_period(subject, usage.readings_of(subject.timeline, counts))
    late, lots = dict(_figures(contract, billed)), _lots_after(contract.lots, billed)
    if contract.contract_id in usage.changing:
        late, lots = _late(subject, billed, view, lots)
    opened: list[tuple[RecordedPeriod, RatedPeriod]] = []
    for recorded in contract.periods:
        if recorded.cutoff is None:
            rated = _rate_one(subject, recorded, view, lots)
            lots = holding(lots, dict(rated.lots_after))
            opened.append((recorded, rated))
    figures = {share: figure for share, figure in _figures(contract, billed).items() if share.kind != "usage"}
    figures |= late
    figures |= _figures(contract, opened)
    figures |= breakage(contract, figures)
    return figures, tuple(rated for _, rated in (*billed, *opened))


def _late(
    subject: _Subject, billed: Billed, view: _View, lots: tuple[Lot, ...]
) -> tuple[dict[Share, tuple[Decimal, Decimal]], tuple[Lot, ...]]:
    """Return the usage of frozen periods in a view, and what late usage leaves of the lots."""
    contract = subject.timeline.contract
    found: dict[Share, tuple[Decimal, Decimal]] = {}
    for recorded, rated in billed:
        empty = tuple(replace(lot, amount=ZERO) for lot in lots)
        charges = _rate_one(subject, recorded, view, empty).charges
        before = _day_shares(_figures(contract, [(recorded, rated)]))
        shares, left = late_shares(charges, before, lots, contract.entity_zone, _terms_of(contract, recorded))
        if _is_small(contract, before, shares, lots):
            shares = before
        else:
            lots = holding(lots, left)
        for (product_id, day), share in shares.items():
            place = Share(recorded.period.start, product_id, "", day, "usage")
            found[place] = (share.quantity, share.undrawn)
            for lot_id, amount in share.drawn:
                found[place._replace(lot_id=lot_id)] = (ZERO, amount)
    return found, lots


def _is_small(
    contract: Contract,
    before: Mapping[LateKey, DayShare],
    shares: Mapping[LateKey, DayShare],
    lots: Sequence[Lot],
) -> bool:
    if contract.ignore_late_below is None:
        return False
    paying = {lot.lot_id for lot in prepaid(lots)}
    sums = [total([share.unpaid(paying) for share in each.values()]) for each in (before, shares)]
    return EXACT.abs(EXACT.subtract(sums[1], sums[0])) < contract.ignore_late_below


def _day_shares(figures: Mapping[Share, tuple[Decimal, Decimal]]) -> dict[LateKey, DayShare]:
    found: dict[LateKey, DayShare] = {}
    for share, (quantity, amount) in sorted(figures.items()):
        if share.kind == "usage":
            key = (share.product_id, share.day)
            there = found.get(key, DayShare(ZERO, ZERO))
            drawn = (*there.drawn, (share.lot_id, amount)) if share.lot_id and amount else there.drawn
            found[key] = DayShare(EXACT.add(there.quantity, quantity), EXACT.add(there.amount, amount), drawn)
    return found


def _lots_after(lots: Sequence[Lot], billed: Billed) -> tuple[Lot, ...]:
    """Return lots with what these periods, as they were billed, left of them."""
    drawn: dict[str, Decimal] = {}
    for _, rated in billed:
        for draw in rated.draws:
            drawn[draw.lot_id] = EXACT.add(drawn.get(draw.lot_id, ZERO), draw.amount)
    return less_drawn(lots, drawn)


def _readings_by_period(subject: _Subject, sums: Mapping[Place, Sum]) -> _View:
    found: dict[datetime, list[Reading]] = {}
    starts = [recorded.period.start for recorded in subject.timeline.contract.periods]
    for reading in _readings(subject, sums):
        found.setdefault(starts[bisect_right(starts, reading.start) - 1], []).append(reading)
    return found


def _terms_of(contract: Contract, recorded: RecordedPeriod) -> Sequence[Terms]:
    """Return the terms that a period was billed with, or is to be."""
    return contract.terms if recorded.billed_terms is None else recorded.billed_terms


def _rate_one(subject: _Subject, recorded: RecordedPeriod, view: _View, lots: Sequence[Lot]) -> RatedPeriod:
    contract = subject.timeline.contract
    terms = _terms_of(contract, recorded)
    own = view.get(recorded.period.start, ())
    earlier: list[Reading] = []
    if wants_history(terms):
        for before in contract.periods:
            if before.period.start < recorded.period.start:
                earlier += _in_one(view.get(before.period.start, ()), before.period, contract)
    return rate_period(
        terms,
        [*earlier, *own],
        lots,
        recorded.period,
        entity_time_zone=contract.entity_zone,
        time_zone=contract.time_zone,
        contract_start=contract.start_at,
        contract_end=contract.end_at,
        cadence=contract.cadence,
        anchor=contract.anchor,
        is_over=recorded.state != "open"
        or (contract.accrued_at is not None and recorded.period.end <= contract.accrued_at),
    )


def _in_one(readings: Sequence[Reading], period: Period, contract: Contract) -> Iterator[Reading]:
    """Add a period's readings up, for the periods after it; a metric without usage counts zero."""
    used: dict[tuple[str, Groups], Decimal] = {}
    for version in contract.terms:
        used |= {(metric_id, ()): ZERO for metric_id in metrics_of(version)}
    for reading in readings:
        place = (reading.metric_id, reading.groups)
        used[place] = EXACT.add(used.get(place, ZERO), reading.quantity)
    for (metric_id, groups), quantity in used.items():
        yield Reading(metric_id, period.start, period.end, quantity, groups)


def _readings(subject: _Subject, sums: Mapping[Place, Sum]) -> Iterator[Reading]:
    """Yield what rating must see: what the contract prices and, in open periods, what nobody prices, to be refused.

    An event may be counted by several metrics; one that is priced for its event type is enough. A metric that is built
    after the invoice finds no price in its period: that is told by the check that rated usage has a price.
    """
    event_types = subject.event_types
    there: dict[tuple[datetime, str], list[tuple[Groups, Sum]]] = {}
    for place, found in sums.items():
        there.setdefault((place.interval_start, place.metric_id), []).append((place.groups, found))
    for part in subject.timeline.intervals:
        interval, priced = part.period, part.metrics
        by_anyone = priced.union(*(_priced_during(other, interval) for other in subject.others))
        types = {event_types.get(metric_id) for metric_id in by_anyone}
        for metric_id, event_type in event_types.items():
            is_refused = part.recorded.state == "open" and event_type not in types
            if metric_id in priced or is_refused:
                for groups, found in there.get((interval.start, metric_id), ()):
                    values = tuple(value for _, _, value in sorted(found.values))
                    numbers = (found.quantity, groups, found.events, found.amount, values)
                    yield Reading(metric_id, interval.start, interval.end, *numbers)


def _priced_during(contract: Contract, interval: Period) -> set[str]:
    """Return the metrics that a contract prices at any moment of an interval."""
    moments = {max(interval.start, contract.start_at), *(version.effective_from for version in contract.terms)}
    within = [moment for moment in moments if moment in interval and contract.covers(moment)]
    return {metric_id for moment in within for metric_id in priced_metrics(contract.terms, moment)}


def _figures(
    contract: Contract, periods: Sequence[tuple[RecordedPeriod, RatedPeriod]]
) -> dict[Share, tuple[Decimal, Decimal]]:
    """Return what these periods put into the books: usage net of draws, draws by lot, and fees earned so far."""
    figures: dict[Share, tuple[Decimal, Decimal]] = {}

    def add(share: Share, quantity: Decimal, amount: Decimal) -> None:
        before = figures.get(share, (ZERO, ZERO))
        figures[share] = (EXACT.add(before[0], quantity), EXACT.add(before[1], amount))

    zone = contract.entity_zone
    accrued_through = None if contract.accrued_at is None else local_date(contract.accrued_at, zone)
    for recorded, rated in periods:
        start = recorded.period.start
        for charge in rated.charges:
            for part in charge.slices:
                share = Share(start, charge.product_id, "", local_date(part.start, zone), "usage")
                add(share, part.quantity, part.amount)
        for draw in rated.draws:
            day = local_date(draw.start, zone)
            add(Share(start, draw.product_id, draw.lot_id, day, "usage"), ZERO, draw.amount)
            add(Share(start, draw.product_id, "", day, "usage"), ZERO, EXACT.minus(draw.amount))
        for fee in rated.fees:
            for earned in fee.earned:
                if recorded.state != "open" or (accrued_through is not None and earned.day <= accrued_through):
                    kind = "fee" if fee.timing == "advance" else "fee_in_arrears"
                    add(Share(start, fee.product_id, "", earned.day, kind), ZERO, earned.amount)
    return figures


def _without_zeros(figures: Figures) -> dict[Share, tuple[Decimal, Decimal]]:
    return {share: figure for share, figure in figures.items() if any(figure)}
