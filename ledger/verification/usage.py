"""Usage: every event is read once, and what keys, batches, rollups, status and rating must say follows from it."""

import json
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from ledger.intake.events import PropertyValue, UsageEvent, key_hash, payload_hash
from ledger.intake.rules import VERSION, Measure, Rule, UnmeasurableError, groups_of, measure, rules_of
from ledger.intake.status import UsageStatus
from ledger.verification.check import (
    Check,
    Differences,
    Key,
    add_to,
    compare_counts,
    compare_facts,
    compare_quantities,
)
from ledger.verification.metering import Counts, Life, Meter, meter_of
from ledger.verification.raw import RecordedPeriod, Records, Row
from ledger.verification.timeline import Timeline
from ledger.verification.totals import Totals, group_text, moment_text, properties_in
from pricing.aggregation import Groups
from pricing.money import EXACT, ZERO

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
RATED = "rated"
WITHDRAWN = "withdrawn"
HOUR = 60


class Place(NamedTuple):
    """Where usage counts: an interval of a contract, a metric, and group values."""

    contract_id: str
    interval_start: datetime
    metric_id: str
    groups: Groups


@dataclass(slots=True)
class Sum:
    """What stands at a place; `values` are those of the events with their time and key, in no order yet."""

    quantity: Decimal = ZERO
    events: int = 0
    amount: Decimal = ZERO
    values: list[tuple[datetime, str, Decimal]] = field(default_factory=list)

    def add(self, quantity: Decimal, events: int = 1, amount: Decimal = ZERO) -> None:
        """Add to the sum."""
        self.quantity = EXACT.add(self.quantity, quantity)
        self.events += events
        self.amount = EXACT.add(self.amount, amount)

    def join(self, other: "Sum") -> None:
        """Add another sum."""
        self.add(other.quantity, other.events, other.amount)
        self.values.extend(other.values)

    def copy(self) -> "Sum":
        """Return a sum of its own."""
        return Sum(self.quantity, self.events, self.amount, [*self.values])


class Special(NamedTuple):
    """An event that does not count in every view: its place, its life, and what it adds."""

    place: Place
    life: Life
    sum: Sum


@dataclass(slots=True)
class Usage:
    """What all events add up to.

    `readings` hold, by contract, what counts in every view of a place: in the books of now, and for a frozen period
    also on its invoice. `special` are the events that count in some views only: late, corrected, not accrued yet;
    `changing` names the contracts that have any. `became` counts the events by what became of them: rated, unmatched
    for a reason, or withdrawn.
    """

    keys: int = 0
    events: int = 0
    rows: int = 0
    sound_payloads: int = 0
    key_differences: Differences = field(default_factory=Differences)
    payload_differences: Differences = field(default_factory=Differences)
    customers: Counter[Key] = field(default_factory=Counter)
    known_customers: Counter[Key] = field(default_factory=Counter)
    by_batch: Counter[Key] = field(default_factory=Counter)
    by_source: Counter[Key] = field(default_factory=Counter)
    rollup_events: Counter[Key] = field(default_factory=Counter)
    rollup_quantities: dict[Key, Decimal] = field(default_factory=dict)
    became: Counter[Key] = field(default_factory=Counter)
    totals: Totals = field(default_factory=Totals)
    unpriced: Differences = field(default_factory=Differences)
    readings: dict[str, dict[Place, Sum]] = field(default_factory=dict)
    special: dict[str, list[Special]] = field(default_factory=dict)
    changing: set[str] = field(default_factory=set)
    meter: Meter = field(default_factory=lambda: Meter({}))
    counting: int = 0
    corrected: dict[Key, Hashable] = field(default_factory=dict)

    def readings_of(self, timeline: Timeline, counts: Counts) -> Mapping[Place, Sum]:
        """Return what a contract reads in a view of the usage."""
        name = timeline.contract.contract_id
        found = self.readings.get(name, {})
        special = [one for one in self.special.get(name, ()) if counts(one.life)]
        metered = [*self.meter.metered(timeline, counts)]
        if not special and not metered:
            return found
        joined = {place: there.copy() for place, there in found.items()}
        for one in special:
            joined.setdefault(one.place, Sum()).join(one.sum)
        for start, metric_id, groups, quantity, events in metered:
            joined.setdefault(Place(name, start, metric_id, groups), Sum()).add(quantity, events)
        return joined


def count_usage(records: Records, timelines: Sequence[Timeline], events: Iterator[Row], *, keys: int) -> Usage:
    """Read the events and add them up."""
    usage = Usage(keys=keys)
    rules = _rules(records.metrics)
    usage.meter = meter = meter_of(rules)
    by_type: dict[str, list[Rule]] = {}
    for rule in rules:
        by_type.setdefault(rule.version.event_type, []).append(rule)
    by_customer: dict[str, list[Timeline]] = {}
    for timeline in timelines:
        by_customer.setdefault(timeline.contract.customer_id, []).append(timeline)
    for row in events:
        if row.key_hash is None:
            usage.key_differences.add(f"key {row.known_hash} of {row.known_ts.isoformat()} has no event")
            continue
        properties = properties_in(row.properties)
        own = by_customer.get(row.customer_id, [])
        counted = by_type.get(row.type, [])
        _count_event(usage, records, row, properties)
        if row.ended is not None:
            _count_ended(usage, row, own, counted, properties)
            continue
        became = _outcome(records, row, own, is_counted=bool(counted))
        usage.became[became,] += 1
        if became == RATED and not _has_price(row, own, {rule.metric_id for rule in counted}):
            usage.unpriced.add(f"{_name(row)} is in an invoiced period, and no contract bills it there")
        for rule in counted if row.customer_id is not None else ():
            measured = _measured(rule, row, properties)
            if measured is None:
                continue
            groups = {name: properties[name] for name in rule.version.group_keys if name in properties}
            _add_to_rollup(usage, records, row, rule, groups=groups, measured=measured)
            if rule.metric_id in meter.runs:
                _add_to_meter(usage, rule, row, own, measured=measured, properties=properties)
            else:
                _add_to_readings(usage, row, own, Counted(rule, measured, groups_of(rule, properties)))
    usage.became[WITHDRAWN,] = usage.events - usage.counting
    return usage


def check_usage(records: Records, usage: Usage, status: UsageStatus) -> tuple[Check, ...]:
    """Compare what the events add up to with keys, batches, rollups and the intake's own account."""
    return (
        Check(
            "each event has one key",
            "events",
            str(usage.events),
            "keys",
            str(usage.keys),
            usage.events == usage.keys and not usage.key_differences.number,
            usage.key_differences.text or ("" if usage.events == usage.keys else "events share a key"),
        ),
        Check(
            "events are as they were sent",
            "events",
            str(usage.rows),
            "with the digest of their content",
            str(usage.sound_payloads),
            not usage.payload_differences.number,
            usage.payload_differences.text,
        ),
        compare_counts(
            "events belong to who has their alias", "by alias", usage.known_customers, "by event", usage.customers
        ),
        compare_counts(
            "rollups count the events",
            "raw events",
            usage.rollup_events,
            "rollups",
            {_rollup_key(row): row.events for row in records.rollups},
        ),
        compare_quantities(
            "rollups hold the quantities",
            "raw events",
            usage.rollup_quantities,
            "rollups",
            {_rollup_key(row): row.quantity for row in records.rollups},
        ),
        _check_corrections(records, usage),
        *_check_outcomes(records, usage),
        *_check_what_became(records, usage, status),
    )


# --- one event ----------------------------------------------------------------------------------------------------


def _count_event(usage: Usage, records: Records, row: Row, properties: Mapping[str, PropertyValue]) -> None:
    usage.rows += 1
    usage.events += row.revision == 0
    if row.known_hash is None:
        usage.key_differences.add(f"{_name(row)} has no key")
    elif key_hash(row.source, row.key) != row.key_hash:
        usage.key_differences.add(f"{_name(row)} stands under the key {row.key_hash} of another")
    elif row.known_ts != row.ts:
        usage.key_differences.add(f"{_name(row)} has a key of {row.known_ts.isoformat()}")
    event = UsageEvent(row.source, row.key, row.customer_alias, row.type, row.ts.astimezone(UTC), properties)
    if row.known_hash is None or payload_hash(event) == row.known_payload:
        usage.sound_payloads += 1
    else:
        usage.payload_differences.add(f"{_name(row)} does not have the content that was accepted")
    if row.ended is None:
        customer_id = records.aliases.get(row.customer_alias)
        usage.customers[(row.customer_alias, str(row.customer_id))] += 1
        usage.known_customers[(row.customer_alias, str(customer_id))] += 1
        usage.counting += 1
    if row.revision or row.ended is not None:
        usage.corrected[str(row.key_hash), str(row.revision)] = (row.batch_id if row.revision else None, row.ended)
    if not row.revision:
        usage.by_batch["accepted", f"batch {row.batch_id}"] += 1
        usage.by_source["accepted", row.source, _hour(row.received_at)] += 1


def _outcome(records: Records, row: Row, timelines: Sequence[Timeline], *, is_counted: bool) -> str:
    """Return what became of an event: `rated`, or the first reason why not."""
    if row.customer_alias not in records.aliases:
        return "unknown_customer"
    if not is_counted:
        return "no_metric"
    covering = [timeline for timeline in timelines if timeline.contract.covers(row.ts)]
    if not covering:
        return "no_contract"
    return RATED


def _has_price(row: Row, timelines: Sequence[Timeline], metrics: set[str]) -> bool:
    """Say whether a contract bills an event, or may still: an open period without the price is refused by rating."""
    for timeline in timelines:
        if not timeline.contract.covers(row.ts):
            continue
        found = timeline.find(row.ts)
        if found is None or found.recorded.state == "open" or metrics & found.metrics:
            return True
    return False


def _name(row: Row) -> str:
    return f"event {row.source} {row.key} of {moment_text(row.ts)}"


def _rules(rows: Sequence[Row]) -> tuple[Rule, ...]:
    """Return the recorded versions of all metrics, by metric and time."""
    ordered = sorted(rows, key=lambda row: (row.metric_id, row.version))
    return tuple(
        rule
        for metric_id, own in groupby(ordered, key=lambda row: str(row.metric_id))
        for rule in rules_of(metric_id, [VERSION.validate_json(json.dumps(row.definition)) for row in own])
    )


def _measured(rule: Rule, row: Row, properties: Mapping[str, PropertyValue]) -> Measure | None:
    """Return what an event is to a rule; None where it is not in force, leaves it out, or cannot measure it."""
    if not rule.covers(row.ts):
        return None
    try:
        return measure(rule, properties)
    except UnmeasurableError:
        return None


def _add_to_rollup(
    usage: Usage, records: Records, row: Row, rule: Rule, *, groups: Mapping[str, PropertyValue], measured: Measure
) -> None:
    width = timedelta(minutes=records.bucket_minutes.get(row.customer_id, HOUR))
    bucket = EPOCH + (row.ts - EPOCH) // width * width
    key = (row.customer_id, rule.metric_id, group_text(groups), moment_text(bucket))
    usage.rollup_events[key] += 1
    add_to(usage.rollup_quantities, key, measured.value)
    usage.totals.add(rule, row, measured, key)


class Counted(NamedTuple):
    """What an event is to a rule."""

    rule: Rule
    measured: Measure
    groups: Groups


def _add_to_readings(usage: Usage, row: Row, timelines: Sequence[Timeline], counted: Counted) -> None:
    rule, measured, groups = counted
    for timeline in timelines:
        found = timeline.find(row.ts)
        if found is None:
            continue
        name = timeline.contract.contract_id
        place = Place(name, found.period.start, rule.metric_id, groups)
        if _counts_always(timeline, found.recorded, row):
            there = usage.readings.setdefault(name, {}).setdefault(place, Sum())
        else:
            there = Sum()
            usage.changing.add(name)
            usage.special.setdefault(name, []).append(Special(place, (row.begin, row.ended), there))
        there.add(measured.value, 1, ZERO if measured.amount is None else measured.amount)
        if rule.metric_id in timeline.metrics_with_values:
            there.values.append((row.ts, str(row.key_hash), measured.value))


def _add_to_meter(
    usage: Usage,
    rule: Rule,
    row: Row,
    timelines: Sequence[Timeline],
    *,
    measured: Measure,
    properties: Mapping[str, PropertyValue],
) -> None:
    usage.meter.add(rule, row, measured, properties)
    for timeline in timelines:
        found = timeline.find(row.ts)
        if found is not None and not _counts_always(timeline, found.recorded, row):
            usage.changing.add(timeline.contract.contract_id)


def _counts_always(timeline: Timeline, recorded: RecordedPeriod, row: Row) -> bool:
    """Say whether an event counts in every view of its period: in the books, and on the invoice of a frozen one."""
    if row.ended is not None:
        return False
    if recorded.cutoff is None:
        return row.begin not in timeline.contract.marks
    return bool(row.begin <= recorded.cutoff)


def _count_ended(
    usage: Usage,
    row: Row,
    timelines: Sequence[Timeline],
    counted: Sequence[Rule],
    properties: Mapping[str, PropertyValue],
) -> None:
    """Remember an event that does not count any more where it counted before."""
    for rule in counted if row.customer_id is not None else ():
        measured = _measured(rule, row, properties)
        if measured is None:
            continue
        if rule.metric_id in usage.meter.runs:
            _add_to_meter(usage, rule, row, timelines, measured=measured, properties=properties)
        else:
            _add_to_readings(usage, row, timelines, Counted(rule, measured, groups_of(rule, properties)))


@lru_cache(maxsize=1024)
def _hour(moment: datetime) -> str:
    return moment_text(moment.replace(minute=0, second=0, microsecond=0))


# --- what is compared ---------------------------------------------------------------------------------------------


def _rollup_key(row: Row) -> Key:
    return row.customer_id, row.metric_id, group_text(properties_in(row.groups)), moment_text(row.bucket_start)


def _check_outcomes(records: Records, usage: Usage) -> Iterator[Check]:
    names = ("accepted", "duplicate", "conflict", "rejected")
    batches: Counter[Key] = Counter({(name,): sum(getattr(row, name) for row in records.batches) for name in names})
    sources: Counter[Key] = Counter({(name,): sum(getattr(row, name) for row in records.outcomes) for name in names})
    yield compare_counts(
        "received = accepted + duplicate + conflict + rejected", "batches", batches, "sources", sources
    )
    kept = ("accepted", "rejected")
    told: dict[Key, int] = {
        (name, f"batch {row.batch_id}"): getattr(row, name) for name in kept for row in records.batches
    }
    stored = Counter(usage.by_batch)
    stored.update(("rejected", f"batch {row.batch_id}") for row in records.rejections)
    yield compare_counts("batches hold what was stored", "accepted and rejected", told, "events and refusals", stored)
    told = {(n, row.source, _hour(row.received_hour)): getattr(row, n) for n in kept for row in records.outcomes}
    stored = Counter(usage.by_source)
    stored.update(("rejected", row.source or "", _hour(row.received_at)) for row in records.rejections)
    yield compare_counts("sources hold what was stored", "accepted and rejected", told, "events and refusals", stored)
    yield _check_conflicts(records)


def _check_corrections(records: Records, usage: Usage) -> Check:
    """Demand that each content of a key ends by the correction after it, and that each correction has its content."""
    batches = {(row.key_hash, row.revision): row.batch_id for row in records.corrections}
    wanted: dict[Key, Hashable] = {}
    for row in records.corrections:
        if row.revision == 1:
            wanted[str(row.key_hash), "0"] = (None, row.batch_id)
        if row.payload_hash is not None:
            ended = batches.get((row.key_hash, row.revision + 1))
            wanted[str(row.key_hash), str(row.revision)] = (row.batch_id, ended)
    found = dict(usage.corrected)
    for row in records.changes:
        name = f"change {row.batch_id}"
        own = [one for one in records.corrections if one.batch_id == row.batch_id]
        wanted[name,] = (row.amended, row.withdrawn)
        withdrawn = sum(1 for one in own if one.payload_hash is None)
        found[name,] = (len(own) - withdrawn, withdrawn)
    return compare_facts("corrections are accounted for", "corrections", wanted, "events", found)


def _check_conflicts(records: Records) -> Check:
    """Compare the conflicts answered with those kept: one that is sent again is kept once, so these may be fewer."""
    answered = Counter({row.batch_id: row.conflict for row in records.batches})
    kept = Counter(row.batch_id for row in records.conflicts)
    differences = Differences()
    for batch_id in sorted(kept):
        if kept[batch_id] > answered[batch_id]:
            differences.add(f"batch {batch_id}: {answered[batch_id]} answered, {kept[batch_id]} kept")
    if answered.total() and not kept:
        differences.add("conflicts were answered, and none is kept")
    return Check(
        "conflicts are kept for a person",
        "answered, at least",
        str(answered.total()),
        "kept",
        str(kept.total()),
        not differences.number,
        differences.text,
    )


def _check_what_became(records: Records, usage: Usage, status: UsageStatus) -> Iterator[Check]:
    accepted = sum(row.accepted for row in records.outcomes)
    rated, withdrawn = usage.became[RATED,], usage.became[WITHDRAWN,]
    unmatched = usage.became.total() - rated - withdrawn
    missing = accepted - rated - unmatched - withdrawn
    yield Check(
        "accepted = rated + unmatched + withdrawn",
        "accepted",
        str(accepted),
        "rated + unmatched + withdrawn",
        f"{rated} + {unmatched} + {withdrawn}",
        not missing,
        f"{missing} accepted events are not accounted for" if missing else "",
    )
    yield Check(
        "rated usage has a price",
        "rated",
        str(rated),
        "billed, or in an open period",
        str(rated - usage.unpriced.number),
        not usage.unpriced.number,
        usage.unpriced.text,
    )
    said: dict[Key, int] = {
        (RATED,): status.matched,
        (WITHDRAWN,): status.withdrawn,
        **{(reason,): number for reason, number in status.unmatched.items()},
    }
    yield compare_counts("usage status tells what became of events", "recomputed", usage.became, "status", said)
