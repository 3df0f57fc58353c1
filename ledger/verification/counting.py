"""Counting: every event is read once and added where it belongs; what lies in one bucket is placed only once.

Digests, measures and buckets are computed here from the raw row. Between the boundaries of contracts, prices and rules
all events of a customer and a type have the same fate, so that is found once for each bucket (a spot), and boundaries
within a bucket cut it to single moments.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

import msgspec

from ledger.intake.events import PropertyValue
from ledger.intake.rules import VERSION, Measure, Rule, UnmeasurableError, groups_of, measure, rules_of
from ledger.verification.check import Differences, Key, add_to
from ledger.verification.metering import Counts, Life, Meter, meter_of
from ledger.verification.raw import Event, RecordedPeriod, Records, Row
from ledger.verification.timeline import Interval, Timeline
from ledger.verification.totals import Totals, group_text, moment_text
from pricing.aggregation import Groups
from pricing.money import EXACT, ZERO

RATED = "rated"
WITHDRAWN = "withdrawn"
HOUR = 60
TOLD_EVERY = 10_000

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number", order="sorted")


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
    """Events that do not count in every view: their place, their life, and what they add."""

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
    attributed: Counter[int] = field(default_factory=Counter)

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


@dataclass(frozen=True, slots=True, eq=False)
class _Use:
    """A rule at a spot, and what of it needs more than a sum: its totals, its place in the meter, single values."""

    rule: Rule
    is_plain: bool
    has_totals: bool
    is_metered: bool
    has_values: bool


_Cell = tuple[_Use, tuple[object, ...], Life | None]
"""A rule, the raw values of its group keys, and the life of events that do not count in every view."""


@dataclass(slots=True)
class _Spot:
    """A bucket (or a moment in it) of a customer and a type: what becomes of its events, and what they add up to.

    Events that begin after batch `cutoff`, or in one of `marks`, do not count in every view.
    """

    bucket: datetime
    customer_id: str | None
    uses: tuple[_Use, ...]
    views: tuple[tuple[Timeline, Interval], ...]
    cutoff: int | None
    marks: frozenset[int]
    outcome: str
    has_price: bool
    sums: dict[_Cell, Sum] = field(default_factory=dict)
    groups: dict[_Cell, Mapping[str, PropertyValue]] = field(default_factory=dict)


@dataclass(slots=True)
class _Kind:
    """The events of a customer, alias and type: the width of its buckets in seconds, and its spots."""

    customer_id: str | None
    alias: str
    type: str
    width: int
    timelines: Sequence[Timeline]
    uses: Sequence[_Use]
    boundaries: frozenset[int]
    """The buckets, by number, in which something begins or ends that cuts them."""
    spots: dict[object, _Spot] = field(default_factory=dict)


class Counting:
    """Takes events one by one, and returns what they add up to."""

    def __init__(self, records: Records, timelines: Sequence[Timeline]) -> None:
        """Begin with nothing; `timelines` are those of the contracts whose readings are wanted."""
        self._records = records
        self._usage = Usage()
        rules = rules_in(records.metrics)
        self._usage.meter = meter_of(rules)
        self._rules: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            self._rules[rule.version.event_type].append(rule)
        self._timelines: dict[str | None, list[Timeline]] = defaultdict(list)
        for timeline in timelines:
            self._timelines[timeline.contract.customer_id].append(timeline)
        self._kinds: dict[tuple[str | None, str, str], _Kind] = {}
        self._arrivals: Counter[tuple[str, datetime, int]] = Counter()
        self._owners: Counter[tuple[str, str | None]] = Counter()

    def take(self, event: Event) -> None:
        """Add an event, or note a key that has none."""
        usage = self._usage
        if event.key_hash is None:
            known = UUID(bytes=event.known_hash or b"")
            usage.key_differences.add(f"key {known} of {moment_text(event.known_ts or event.ts)} has no event")
            return
        properties = properties_of(event.properties)
        usage.rows += 1
        self._check_digests(event, properties)
        if not event.revision:
            usage.events += 1
            self._arrivals[event.source, event.received_at, event.batch_id] += 1
        if event.begin != event.batch_id:
            usage.attributed[event.begin] += 1
        if event.revision or event.ended is not None:
            key = (str(UUID(bytes=event.key_hash)), str(event.revision))
            usage.corrected[key] = (event.batch_id if event.revision else None, event.ended)
        spot = self._spot(event)
        if event.ended is None:
            usage.counting += 1
            self._owners[event.customer_alias, event.customer_id] += 1
            usage.became[spot.outcome,] += 1
            if not spot.has_price:
                usage.unpriced.add(f"{_name(event)} is in an invoiced period, and no contract bills it there")
        if spot.uses:
            self._add(spot, event, properties)

    def result(self, keys: int) -> Usage:
        """Return what all events add up to; `keys` is the number of keys."""
        usage = self._usage
        usage.keys = keys
        usage.became[WITHDRAWN,] = usage.events - usage.counting
        for (source, received_at, batch_id), number in self._arrivals.items():
            usage.by_batch["accepted", f"batch {batch_id}"] += number
            usage.by_source["accepted", source, hour_text(received_at)] += number
        for (alias, customer_id), number in self._owners.items():
            usage.customers[alias, str(customer_id)] += number
            usage.known_customers[alias, str(self._records.aliases.get(alias))] += number
        for kind in self._kinds.values():
            for spot in kind.spots.values():
                self._place(spot)
        return usage

    def _check_digests(self, event: Event, properties: Mapping[str, PropertyValue]) -> None:
        usage = self._usage
        if event.known_hash is None:
            usage.key_differences.add(f"{_name(event)} has no key")
        elif event.key_hash is not None and _digest((event.source, event.key)) != event.key_hash:
            usage.key_differences.add(f"{_name(event)} stands under the key {UUID(bytes=event.key_hash)} of another")
        elif event.known_ts != event.ts:
            usage.key_differences.add(f"{_name(event)} has a key of {event.known_ts}")
        content = (event.customer_alias, event.type, event.ts.astimezone(UTC), properties)
        if event.known_hash is None or _digest(content) == event.known_payload:
            usage.sound_payloads += 1
        else:
            usage.payload_differences.add(f"{_name(event)} does not have the content that was accepted")

    # --- where an event belongs -----------------------------------------------------------------------------------

    def _spot(self, event: Event) -> _Spot:
        name = (event.customer_id, event.customer_alias, event.type)
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = self._kind(*name)
        bucket = int(event.ts.timestamp()) // kind.width
        spot = kind.spots.get(bucket)
        if spot is None:
            place: object = event.ts if bucket in kind.boundaries else bucket
            spot = kind.spots.get(place)
            if spot is None:
                spot = kind.spots[place] = self._new_spot(kind, event.ts, bucket)
        return spot

    def _kind(self, customer_id: str | None, alias: str, event_type: str) -> _Kind:
        width = self._records.bucket_minutes.get(customer_id or "", HOUR) * 60
        timelines = self._timelines.get(customer_id, [])
        rules = self._rules.get(event_type, [])
        moments = [moment for rule in rules for moment in (rule.version.effective_from, rule.until)]
        for timeline in timelines:
            moments += [timeline.contract.start_at, timeline.contract.end_at, *timeline.starts]
            moments += [one.period.end for one in timeline.intervals]
        cut = {int(moment.timestamp()) // width for moment in moments if moment and moment.timestamp() % width}
        uses = [_use(rule, timelines, self._usage.meter) for rule in rules]
        return _Kind(customer_id, alias, event_type, width, timelines, uses, frozenset(cut))

    def _new_spot(self, kind: _Kind, moment: datetime, bucket: int) -> _Spot:
        found = ((timeline, timeline.find(moment)) for timeline in kind.timelines)
        views = tuple((timeline, interval) for timeline, interval in found if interval is not None)
        cutoffs = [view.recorded.cutoff for _, view in views if view.recorded.cutoff is not None]
        uses = kind.uses if kind.customer_id is not None else ()
        outcome = self._outcome(kind, moment)
        metrics = {use.rule.metric_id for use in kind.uses}
        return _Spot(
            datetime.fromtimestamp(bucket * kind.width, UTC),
            kind.customer_id,
            tuple(use for use in uses if use.rule.covers(moment)),
            views,
            min(cutoffs) if cutoffs else None,
            frozenset().union(*(line.contract.marks for line, view in views if view.recorded.cutoff is None)),
            outcome,
            outcome != RATED or _has_price(moment, kind.timelines, metrics),
        )

    def _outcome(self, kind: _Kind, moment: datetime) -> str:
        """Return what becomes of an event: `rated`, or the first reason why not."""
        if kind.alias not in self._records.aliases:
            return "unknown_customer"
        if not kind.uses:
            return "no_metric"
        covering = [timeline for timeline in kind.timelines if timeline.contract.covers(moment)]
        if not covering:
            return "no_contract"
        return RATED if any(_prices(timeline, moment, kind.type) for timeline in covering) else "no_price"

    # --- what an event adds ---------------------------------------------------------------------------------------

    def _add(self, spot: _Spot, event: Event, properties: Mapping[str, PropertyValue]) -> None:
        begin, ended = event.begin, event.ended
        is_special = ended is not None or (spot.cutoff is not None and begin > spot.cutoff) or (begin in spot.marks)
        life = (begin, ended) if is_special else None
        for use in spot.uses:
            rule = use.rule
            amount = ZERO
            if use.is_plain:
                number = rule.number
                value = _ONE if number is None else properties.get(number)
                if not isinstance(value, Decimal):
                    continue
            else:
                measured = _measured(rule, properties)
                if measured is None:
                    continue
                value, amount = measured.value, measured.amount or ZERO
                self._add_more(spot, event, use, measured, properties)
            cell = (use, _raw_groups(rule, properties), life)
            there = spot.sums.get(cell)
            if there is None:
                there = spot.sums[cell] = Sum()
                spot.groups[cell] = {name: properties[name] for name in rule.version.group_keys if name in properties}
            there.quantity = EXACT.add(there.quantity, value)
            there.events += 1
            if amount:
                there.amount = EXACT.add(there.amount, amount)
            if use.has_values:
                there.values.append((event.ts, (event.key_hash or b"").hex(), value))

    def _add_more(
        self, spot: _Spot, event: Event, use: _Use, measured: Measure, properties: Mapping[str, PropertyValue]
    ) -> None:
        if use.has_totals and event.ended is None:
            groups = {name: properties[name] for name in use.rule.version.group_keys if name in properties}
            key = (spot.customer_id or "", use.rule.metric_id, group_text(groups), moment_text(spot.bucket))
            self._usage.totals.add(use.rule, event, measured, key)
        if use.is_metered:
            self._usage.meter.add(use.rule, event, measured, properties)

    def _place(self, spot: _Spot) -> None:
        """Add what a spot holds to rollups and readings."""
        usage = self._usage
        bucket = moment_text(spot.bucket)
        for cell, there in spot.sums.items():
            use, _, life = cell
            groups = spot.groups[cell]
            if life is None or life[1] is None:
                key = (spot.customer_id or "", use.rule.metric_id, group_text(groups), bucket)
                usage.rollup_events[key] += there.events
                add_to(usage.rollup_quantities, key, there.quantity)
            for timeline, interval in spot.views:
                name = timeline.contract.contract_id
                is_always = life is None or counts_always(timeline, interval.recorded, life)
                if not is_always:
                    usage.changing.add(name)
                if use.is_metered:
                    continue
                place = Place(name, interval.period.start, use.rule.metric_id, groups_of(use.rule, groups))
                if is_always:
                    usage.readings.setdefault(name, {}).setdefault(place, Sum()).join(there)
                elif life is not None:
                    usage.special.setdefault(name, []).append(Special(place, life, there))


def counts_always(timeline: Timeline, recorded: RecordedPeriod, life: Life) -> bool:
    """Say whether an event counts in every view of its period: in the books, and on the invoice of a frozen one."""
    begin, ended = life
    if ended is not None:
        return False
    if recorded.cutoff is None:
        return begin not in timeline.contract.marks
    return begin <= recorded.cutoff


def rules_in(rows: Sequence[Row]) -> tuple[Rule, ...]:
    """Return the recorded versions of all metrics, by metric and time."""
    ordered = sorted(rows, key=lambda row: (row.metric_id, row.version))
    return tuple(
        rule
        for metric_id, own in groupby(ordered, key=lambda row: str(row.metric_id))
        for rule in rules_of(metric_id, [VERSION.validate_json(msgspec.json.encode(row.definition)) for row in own])
    )


def properties_of(text: str) -> dict[str, PropertyValue]:
    """Read properties as intake keeps them: numbers exact and without trailing zeros."""
    decoded: dict[str, str | bool | int | Decimal] = _DECODER.decode(text)
    return {name: value if isinstance(value, str | bool) else _number(value) for name, value in decoded.items()}


@lru_cache(maxsize=1024)
def hour_text(moment: datetime) -> str:
    """Write the hour in which a moment lies."""
    return moment_text(moment.replace(minute=0, second=0, microsecond=0))


_ONE = Decimal(1)


@lru_cache(maxsize=65_536)
def _number(value: int | Decimal) -> Decimal:
    return EXACT.normalize(Decimal(value)) or ZERO


def _digest(value: object) -> bytes:
    return sha256(_ENCODER.encode(value)).digest()[:16]


def _name(event: Event) -> str:
    return f"event {event.source} {event.key} of {moment_text(event.ts)}"


def _measured(rule: Rule, properties: Mapping[str, PropertyValue]) -> Measure | None:
    """Return what an event is to a rule in force; None where it leaves it out, or cannot measure it."""
    try:
        return measure(rule, properties)
    except UnmeasurableError:
        return None


def _raw_groups(rule: Rule, properties: Mapping[str, PropertyValue]) -> tuple[object, ...]:
    """Return the values of a rule's group keys so that equal ones are equal: true and 1 are not."""
    values = tuple(map(properties.get, rule.version.group_keys))
    for value in values:
        if isinstance(value, bool):
            return tuple((type(one), one) for one in values)
    return values


def _use(rule: Rule, timelines: Sequence[Timeline], meter: Meter) -> _Use:
    has_totals = rule.is_extended or rule.member is not None
    is_metered = rule.metric_id in meter.runs
    version = rule.version
    needs_more = rule.is_computed or version.filters or version.amount_property is not None or has_totals or is_metered
    return _Use(
        rule,
        not needs_more,
        has_totals,
        is_metered,
        any(rule.metric_id in timeline.metrics_with_values for timeline in timelines),
    )


def _prices(timeline: Timeline, moment: datetime, event_type: str) -> bool:
    """Say whether the terms that a moment was billed with price a type of events; those of an open period may still."""
    found = timeline.find(moment)
    return found is None or found.recorded.billed_types is None or event_type in found.recorded.billed_types


def _has_price(moment: datetime, timelines: Sequence[Timeline], metrics: set[str]) -> bool:
    """Say whether a contract bills usage of a moment, or may still: an open period without the price is refused."""
    for timeline in timelines:
        if not timeline.contract.covers(moment):
            continue
        found = timeline.find(moment)
        if found is None or found.recorded.state == "open" or metrics & found.metrics:
            return True
    return False
