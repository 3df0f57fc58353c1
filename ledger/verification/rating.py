"""Rating again: every recorded period of every contract, from the raw events, compared with what is accrued and posted.

Lots are carried from the contract's first period on, so that nothing rests on what was posted before.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from ledger.contract_checks import metrics_of
from ledger.terms_codec import digest_of
from ledger.verification.check import Check, Differences, Key, add_to, compare_amounts, compare_quantities
from ledger.verification.raw import Contract, Records
from ledger.verification.timeline import Timeline, priced_metrics
from ledger.verification.usage import Place, Sum, Usage
from pricing.aggregation import Groups
from pricing.calendar import Period, local_date
from pricing.errors import PricingError
from pricing.money import EXACT, ZERO
from pricing.rated import RatedPeriod
from pricing.rating import rate_period, wants_history
from pricing.terms import Reading


class Share(NamedTuple):
    """Where an amount belongs; `lot_id` is empty for what is not drawn from a lot."""

    period_start: datetime
    product_id: str
    lot_id: str
    day: date
    kind: str


Figures = Mapping[Share, tuple[Decimal, Decimal]]
"""Quantity and exact amount."""


@dataclass(frozen=True, slots=True)
class RatedContract:
    """What the books of a contract must hold. `periods` are as rated, None where that was not possible.

    Where open periods cannot be judged, `figures` holds what is accrued for them and `note` says why. `problem` says
    why rating stopped.
    """

    contract: Contract
    periods: tuple[RatedPeriod | None, ...]
    figures: Figures
    problem: str | None = None
    note: str | None = None


def rate_contracts(records: Records, timelines: Sequence[Timeline], usage: Usage) -> Mapping[str, RatedContract]:
    """Rate all contracts."""
    accrued: dict[str, dict[Share, tuple[Decimal, Decimal]]] = {name: {} for name in records.contracts}
    for row in records.accrued:
        share = Share(row.period_start, row.product_id, row.lot_id, row.day, row.kind)
        accrued[row.contract_id][share] = (row.quantity, row.amount)
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
    for name, one in rated.items():
        for share, figures in one.figures.items():
            for sums, figure in zip(left, figures, strict=True):
                add_to(sums, _share_key(one.contract, name, share), figure)
    for row in records.accrued:
        share = Share(row.period_start, row.product_id, row.lot_id, row.day, row.kind)
        contract = records.contracts[row.contract_id]
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
    return Check(
        "terms are as they were agreed",
        "versions of terms",
        str(agreed),
        "with the digest of their content",
        str(agreed - differences.number),
        not differences.number,
        differences.text,
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


def _rate_contract(subject: _Subject, usage: Usage, accrued: Figures) -> RatedContract:
    """Rate a contract without the batches that wait for accrual.

    An accrual may have read usage whose mark came after it took the marks: the mark is still there, but the usage is in
    the books. So where the figures differ, those with all usage count too.
    """
    contract = subject.timeline.contract
    try:
        periods = _rate(subject, usage.readings)
    except (PricingError, ValueError, ArithmeticError) as error:
        return RatedContract(contract, (None,) * len(contract.periods), accrued, problem=f"cannot be rated: {error}")
    is_open = any(one.state == "open" for one in contract.periods)
    if is_open and (0 in contract.marks or contract.accrued_at is None):
        frozen = {one.period.start for one in contract.periods if one.state != "open"}
        figures = {
            share: figure for share, figure in _figures(contract, periods).items() if share.period_start in frozen
        }
        figures |= {share: figure for share, figure in accrued.items() if share.period_start not in frozen}
        note = f"contract {contract.contract_id} waits for its accrual, so its open periods are not compared"
        return RatedContract(contract, periods, figures, note=note)
    figures = _figures(contract, periods)
    if _without_zeros(figures) == _without_zeros(accrued) or not contract.marks:
        return RatedContract(contract, periods, figures)
    try:
        everything = _rate(subject, _joined(usage.readings, usage.waiting))
    except (PricingError, ValueError, ArithmeticError):
        return RatedContract(contract, periods, figures)  # the usage that cannot be rated is not accrued yet
    with_all = _figures(contract, everything)
    if _without_zeros(with_all) == _without_zeros(accrued):
        return RatedContract(contract, everything, with_all)
    return RatedContract(contract, periods, figures)


def _rate(subject: _Subject, sums: Mapping[Place, Sum]) -> tuple[RatedPeriod, ...]:
    contract = subject.timeline.contract
    lots = contract.lots
    readings = [*_readings(subject, sums)]
    rated: list[RatedPeriod] = []
    earlier: list[Reading] = []
    for recorded in contract.periods:
        own = [reading for reading in readings if reading.start in recorded.period]
        rated.append(
            rate_period(
                contract.terms,
                [*earlier, *own] if wants_history(contract.terms) else own,
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
        )
        earlier += _in_one(own, recorded.period, contract)
        left = dict(rated[-1].lots_after)
        lots = tuple(replace(lot, amount=left[lot.lot_id]) for lot in lots)
    return tuple(rated)


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
    contract, event_types = subject.timeline.contract, subject.event_types
    there: dict[tuple[datetime, str], list[tuple[Groups, Sum]]] = {}
    for place, found in sums.items():
        if place.contract_id == contract.contract_id:
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


def _figures(contract: Contract, periods: Sequence[RatedPeriod]) -> dict[Share, tuple[Decimal, Decimal]]:
    """Return what these periods put into the books: usage net of draws, draws by lot, and fees earned so far."""
    figures: dict[Share, tuple[Decimal, Decimal]] = {}

    def add(share: Share, quantity: Decimal, amount: Decimal) -> None:
        before = figures.get(share, (ZERO, ZERO))
        figures[share] = (EXACT.add(before[0], quantity), EXACT.add(before[1], amount))

    zone = contract.entity_zone
    accrued_through = None if contract.accrued_at is None else local_date(contract.accrued_at, zone)
    for recorded, rated in zip(contract.periods, periods, strict=True):
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


def _joined(one: Mapping[Place, Sum], other: Mapping[Place, Sum]) -> dict[Place, Sum]:
    joined: dict[Place, Sum] = {}
    for sums in (one, other):
        for place, found in sums.items():
            there = joined.setdefault(place, Sum())
            there.add(found.quantity, found.events, found.amount)
            there.values.extend(found.values)
    return joined


def _without_zeros(figures: Figures) -> dict[Share, tuple[Decimal, Decimal]]:
    return {share: figure for share, figure in figures.items() if any(figure)}
