"""Which of a customer's readings a contract bills: those it prices, and those that nobody prices, so that they show."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import sqlalchemy as sa

from ledger.contract_checks import metrics_of, spans_of_customer
from ledger.contracts import Contract
from ledger.intake.readings import metric_event_types, read_metrics
from pricing.segments import terms_in_force
from pricing.terms import Reading, Terms


def billable_readings(
    connection: sa.Connection, contract: Contract, terms: Sequence[Terms], cuts: Sequence[datetime]
) -> tuple[Reading, ...]:
    """Return what rating must see of the customer's usage between neighbouring cuts.

    An event may be counted by several metrics, of which a contract prices some: the readings of the others are left out
    where this or another contract of the customer prices one of their event type. Where nobody does, they are kept:
    then rating refuses them as usage without a price.
    """
    priced: list[Reading] = []
    unpriced: list[Reading] = []
    for metric in read_metrics(connection, contract.customer_id, cuts, time_zone=contract.time_zone):
        for reading in metric.readings:
            is_priced = reading.metric_id in metrics_of(terms_in_force(terms, reading.start))
            (priced if is_priced else unpriced).append(reading)
    if unpriced:
        priced.extend(_without_any_price(connection, contract, terms, unpriced))
    return tuple(priced)


def _without_any_price(
    connection: sa.Connection, contract: Contract, terms: Sequence[Terms], unpriced: Sequence[Reading]
) -> Iterator[Reading]:
    event_types = metric_event_types(connection)
    others = spans_of_customer(connection, contract.customer_id, but=contract.contract_id)
    for reading in unpriced:
        metrics = {*metrics_of(terms_in_force(terms, reading.start))}
        metrics |= {s.metric_id for s in others if s.start < reading.end and (s.end is None or reading.start < s.end)}
        if event_types[reading.metric_id] not in {event_types[metric_id] for metric_id in metrics}:
            yield reading
