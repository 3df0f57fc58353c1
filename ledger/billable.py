"""Which of a customer's readings a contract bills: those it prices, and those that nobody prices, so that they show."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from uuid import UUID

import sqlalchemy as sa

from ledger.contract_checks import metrics_of, spans_of_customer
from ledger.contracts import Contract
from ledger.intake.readings import Request, read_by_rules, read_metrics
from ledger.intake.rules import Rule, event_types_of, read_rules
from pricing.agreements import usage_products
from pricing.calendar import Period
from pricing.models import wants_values
from pricing.money import ZERO
from pricing.segments import terms_in_force
from pricing.terms import Reading, Terms


def billable_readings(
    connection: sa.Connection,
    contract: Contract,
    terms: Sequence[Terms],
    cuts: Sequence[datetime],
    *,
    rules: Sequence[Rule],
    until: datetime,
    priced_only: bool = False,
    restarts: Sequence[datetime] = (),
    groups: Collection[tuple[str, UUID]] | None = None,
) -> tuple[Reading, ...]:
    """Return what rating must see of the customer's usage between neighbouring cuts, which bound one billing period.

    `rules` are the recorded versions of all metrics. With `restarts` the cuts bound several periods, which begin there;
    `groups` are the metrics and group hashes to read, None all.
    Levels that last, such as servers that are up, count up to the last full hour before `until`.
    An event may be counted by several metrics, of which a contract prices some: the readings of the others are left out
    where this or another contract of the customer prices one of their event type. Where nobody does, they are kept:
    then rating refuses them as usage without a price. With `priced_only` they are left out in any case: of an invoiced
    period, whose terms no longer change.
    """
    priced: list[Reading] = []
    unpriced: list[Reading] = []
    full_hour = until.replace(minute=0, second=0, microsecond=0)
    request = Request(
        contract.customer_id,
        tuple(cuts),
        tuple(restarts),
        contract.time_zone,
        until=min(full_hour, cuts[-1]),
        values_of=metrics_with_values(terms),
        groups=None if groups is None else frozenset(groups),
    )
    for metric in read_by_rules(connection, request, rules):
        for reading in metric.readings:
            is_priced = reading.metric_id in metrics_of(terms_in_force(terms, reading.start))
            (priced if is_priced else unpriced).append(reading)
    if unpriced and not priced_only:
        priced.extend(_without_any_price(connection, contract, terms, unpriced, event_types_of(rules)))
    return tuple(priced)


def earlier_readings(
    connection: sa.Connection, contract: Contract, terms: Sequence[Terms], period: Period
) -> tuple[Reading, ...]:
    """Return what each billing period before this one used of the priced metrics, zero where it used nothing."""
    cuts = [before.start for before in contract.periods(period.start)]
    if len(cuts) <= 1:
        return ()
    wanted = {metric_id for version in terms for metric_id in metrics_of(version)}
    read = read_metrics(
        connection,
        contract.customer_id,
        cuts,
        restarts=cuts,
        time_zone=contract.time_zone,
        values_of=metrics_with_values(terms),
    )
    found = {metric.metric_id: metric.readings for metric in read}
    earlier: list[Reading] = []
    for metric_id in sorted(wanted):
        used = {(reading.groups, reading.start): reading for reading in found.get(metric_id, ())}
        for groups in sorted({groups for groups, _ in used} | {()}):
            for start, end in pairwise(cuts):
                nothing = Reading(metric_id, start, end, ZERO, groups)
                earlier.append(used.get((groups, start), nothing))
    return tuple(earlier)


def metrics_read_by_event(connection: sa.Connection, terms: Sequence[Terms]) -> frozenset[str]:
    """Return the priced metrics that only the events themselves can tell: single values, and percentiles."""
    percentiles = {rule.metric_id for rule in read_rules(connection) if rule.version.aggregation == "percentile"}
    priced = {metric_id for version in terms for metric_id in metrics_of(version)}
    return metrics_with_values(terms) | (percentiles & priced)


def metrics_with_values(terms: Sequence[Terms]) -> frozenset[str]:
    """Return the metrics of prices that look at single events."""
    return frozenset(
        product.metric_id
        for version in terms
        for product in usage_products(version)
        if product.metric_id is not None and wants_values(product.price)
    )


def _without_any_price(
    connection: sa.Connection,
    contract: Contract,
    terms: Sequence[Terms],
    unpriced: Sequence[Reading],
    event_types: Mapping[str, str],
) -> Iterator[Reading]:
    def has_price(reading: Reading, metrics: Iterable[str]) -> bool:
        return event_types[reading.metric_id] in {event_types[metric_id] for metric_id in metrics}

    doubtful = [one for one in unpriced if not has_price(one, metrics_of(terms_in_force(terms, one.start)))]
    others = spans_of_customer(connection, contract.customer_id, but=contract.contract_id) if doubtful else ()
    for reading in doubtful:
        spans = [s for s in others if s.start < reading.end and (s.end is None or reading.start < s.end)]
        if not has_price(reading, {span.metric_id for span in spans}):
            yield reading
