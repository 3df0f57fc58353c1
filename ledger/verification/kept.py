"""Kept readings: what accruals go by without reading the usage again must be what the events come to."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from ledger import schema
from ledger.accrual import lots_left
from ledger.contracts import get_contract, terms_of
from ledger.errors import MeterbookError
from ledger.increments import basis_of
from ledger.verification.check import Check, Key, compare_facts, exact_text
from ledger.verification.counting import Usage
from ledger.verification.metering import Life
from ledger.verification.raw import Contract
from ledger.verification.timeline import Timeline
from pricing.aggregation import Groups
from pricing.errors import PricingError

Facts = dict[Key, tuple[str, ...]]


def check_kept(connection: sa.Connection, timelines: Sequence[Timeline], usage: Usage) -> Check:
    """Compare the readings that hold with the events, where no usage waits for its accrual.

    Whether they hold is asked of the accrual itself: readings of other terms, or of an earlier day, are never used.
    """
    stored = {
        row.contract_id: bytes(row.digest)
        for row in connection.execute(sa.select(schema.kept_basis.c.contract_id, schema.kept_basis.c.digest))
    }
    wanted: Facts = {}
    found: Facts = {}
    for timeline in timelines:
        contract = timeline.contract
        digest = stored.get(contract.contract_id)
        if digest is None or contract.marks or contract.accrued_at is None:
            continue
        if digest != _digest(connection, contract, contract.accrued_at):
            continue
        wanted |= _recomputed(timeline, usage)
        found |= _kept(connection, timeline)
    return compare_facts("kept readings are those of the events", "recomputed", wanted, "kept", found)


def _digest(connection: sa.Connection, contract: Contract, accrued_at: datetime) -> bytes | None:
    name = contract.contract_id
    periods = [one.period for one in contract.periods if one.state == "open"]
    try:
        terms, lots = terms_of(connection, name), lots_left(connection, name)
        return basis_of(connection, get_contract(connection, name), terms, lots, periods, as_of=accrued_at).digest
    except (MeterbookError, PricingError):
        return None  # what cannot be rated is a difference of its own


def _recomputed(timeline: Timeline, usage: Usage) -> Facts:
    open_intervals = {one.period.start: one for one in timeline.intervals if one.recorded.state == "open"}
    facts: Facts = {}
    for place, there in usage.readings_of(timeline, _counts_now).items():
        interval = open_intervals.get(place.interval_start)
        if interval is not None and place.metric_id in interval.metrics:
            key = _key(timeline, place.metric_id, place.groups, place.interval_start)
            _put(facts, key, there.quantity, there.events, there.amount)
    return facts


def _kept(connection: sa.Connection, timeline: Timeline) -> Facts:
    kept = schema.kept_reading
    facts: Facts = {}
    own = kept.c.contract_id == timeline.contract.contract_id
    for row in connection.execute(sa.select(kept).where(own)):
        groups: Mapping[str, str] = row.groups
        for start, quantity, events, amount in zip(row.starts, row.quantities, row.events, row.amounts, strict=True):
            key = _key(timeline, row.metric_id, tuple(sorted(groups.items())), start)
            _put(facts, key, quantity, events, amount)
    return facts


def _put(facts: Facts, key: Key, quantity: Decimal, events: int, amount: Decimal) -> None:
    """Note figures; none are the same as nothing."""
    if quantity or events or amount:
        facts[key] = (exact_text(quantity), str(events), exact_text(amount))


def _key(timeline: Timeline, metric_id: str, groups: Groups, start: datetime) -> Key:
    words = (f"{name}={value}" for name, value in groups)
    return timeline.contract.contract_id, metric_id, start.isoformat(), *words


def _counts_now(life: Life) -> bool:
    return life[1] is None
