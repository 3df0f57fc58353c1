"""Counting a batch while its events are in hand: for metrics that add up or count, one row per group and bucket.

The statements of `ledger.intake.rollup` count everything else, and all metrics again from the recorded events; a test
holds the two to the same figures.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, localcontext

import msgspec
import sqlalchemy as sa

from ledger.database import driver_of
from ledger.intake.events import Keyed, UsageEvent, copied
from ledger.intake.marking import GROUP_HASH, MARK, MOST_PAIRS
from ledger.intake.rules import Rule
from pricing.metrics import passes
from pricing.money import EXACT, ZERO

QUARTER_SECONDS = 900
_ENCODER = msgspec.json.Encoder(decimal_format="number", order="sorted")


@dataclass(frozen=True, slots=True)
class Customers:
    """Who has which alias, and in what buckets (minutes) each customer's usage is counted."""

    by_alias: Mapping[str, str]
    bucket_minutes: Mapping[str, int]


def counts_plainly(rule: Rule) -> bool:
    """Say whether a rule's totals are the sum and the number of the events, without a look at expressions."""
    return not (rule.is_extended or rule.is_computed or rule.member is not None)


@dataclass(frozen=True, slots=True)
class Counted:
    """What new events come to: `rows` of the rollup as COPY reads them, and the tally by quarter of an hour.

    A key of the tally is alias, type, source and the quarter as a count since 1970.
    """

    rows: Sequence[str]
    tally: Mapping[tuple[str, str, str, int], int]


def count(rules: Mapping[str, Sequence[Rule]], fresh: Iterable[Keyed], customers: Customers) -> Counted:
    """Count new events by the plain rules of their types, which are all that `rules` hold."""
    kinds = {name: _Kind(own) for name, own in rules.items()}
    tallied: dict[tuple[str, str, str, int], int] = {}
    cells: dict[_Cell, list[Decimal | int]] = {}
    by_alias, minutes = customers.by_alias, customers.bucket_minutes
    with localcontext(EXACT):
        for one in fresh:
            event = one.event
            seconds = int(event.timestamp.timestamp())
            place = (event.customer, event.type, event.source, seconds // QUARTER_SECONDS)
            tallied[place] = tallied.get(place, 0) + 1
            kind, customer_id = kinds.get(event.type), by_alias.get(event.customer)
            if kind is None or customer_id is None:
                continue
            bucket = seconds - seconds % (60 * minutes[customer_id])
            key = (customer_id, event.type, bucket, kind.values_of(event))
            there = cells.get(key)
            if there is None:
                there = cells[key] = [0, *(ZERO for _ in kind.numbers)]
            there[0] += 1
            for n, name in enumerate(kind.numbers, start=1):
                value = event.properties.get(name)
                if isinstance(value, Decimal):
                    there[n] += value
    rows = [
        row
        for (customer_id, event_type, bucket, values), sums in cells.items()
        for row in kinds[event_type].rows(customer_id, bucket, values, sums)
    ]
    return Counted(rows, tallied)


def add_plainly(
    connection: sa.Connection, counted: Counted, *, batch_id: int, received_at: datetime
) -> tuple[str, ...]:
    """Add to the rollup what was counted, mark the contracts that read it, and return those."""
    if not counted.rows:
        return ()
    connection.execute(_COUNTED)
    with driver_of(connection).cursor() as cursor, cursor.copy(_COPY_COUNTED) as copy:
        copy.write("".join(counted.rows))
    facts = {"batch_id": batch_id, "received_at": received_at, "most_pairs": MOST_PAIRS}
    return tuple(connection.execute(_UPSERT, facts).scalars())


def tally(connection: sa.Connection, counted: Counted) -> None:
    """Add new events to the tally by alias, type, source and quarter of an hour."""
    aliases, types, sources, quarters = zip(*counted.tally, strict=True)
    connection.execute(
        _TALLY,
        {
            "aliases": list(aliases),
            "types": list(types),
            "sources": list(sources),
            "starts": [_moment(quarter * QUARTER_SECONDS) for quarter in quarters],
            "events": list(counted.tally.values()),
        },
    )


# --- counting -----------------------------------------------------------------------------------------------------

_Values = tuple[object, ...]
_Cell = tuple[str, str, int, _Values]
"""Customer, type, the bucket in seconds since 1970, and what all rules of the type tell events apart by."""


class _Kind:
    """The plain rules of a type: what tells its events apart for any of them, and the numbers that any adds up.

    Where a rule has filters or begins or ends, which of those it counts an event by is a part of what tells it apart.
    """

    __slots__ = ("choosy", "keys", "numbers", "rules")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.keys = tuple(sorted({key for rule in rules for key in rule.version.group_keys}))
        self.numbers = tuple(sorted({rule.number for rule in rules if rule.number is not None}))
        self.choosy = tuple(
            rule
            for rule in rules
            if rule.version.filters or rule.version.effective_from is not None or rule.until is not None
        )

    def values_of(self, event: UsageEvent) -> _Values:
        """Return what tells an event apart; to Python true is 1, so that what is no text stands with its kind."""
        properties = event.properties
        found: list[object] = []
        for key in self.keys:
            value = properties.get(key)
            found.append(value if value.__class__ is str else (value.__class__, value))
        found.extend(rule.covers(event.timestamp) and passes(rule.version, properties) for rule in self.choosy)
        return tuple(found)

    def rows(self, customer_id: str, bucket: int, values: _Values, sums: Sequence[Decimal | int]) -> Iterator[str]:
        """Yield the row of each rule that counts these events, as COPY reads it."""
        groups = dict(zip(self.keys, values, strict=False))
        counts = dict(zip(self.choosy, values[len(self.keys) :], strict=True))
        for rule in self.rules:
            if not counts.get(rule, True):
                continue
            quantity = sums[0] if rule.number is None else sums[1 + self.numbers.index(rule.number)]
            own = {key: _value(groups[key]) for key in rule.version.group_keys}
            text = _ENCODER.encode({key: value for key, value in own.items() if value is not None}).decode()
            yield (
                f"{copied(customer_id)}\t{copied(rule.metric_id)}\t{copied(text)}\t{_moment(bucket)}"
                f"\t{quantity}\t{sums[0]}\n"
            )


def _value(told: object) -> object:
    return told[1] if isinstance(told, tuple) else told


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


_COUNTED = sa.text("""
create temporary table if not exists usage_counted (
    customer_id text not null,
    metric_id text not null,
    groups jsonb not null,
    bucket_start timestamptz not null,
    quantity numeric not null,
    events bigint not null
) on commit delete rows;
delete from usage_counted
""")

_COPY_COUNTED = "copy usage_counted (customer_id, metric_id, groups, bucket_start, quantity, events) from stdin"

# Groups are told apart by their text in the database, where 1 and 1.0 are not the same: what Python parted meets here.
_COUNT = """
with counted as (
    select customer_id, metric_id, {group_hash} as group_hash, bucket_start, groups, sum(quantity) as quantity,
        sum(events)::bigint as events
    from usage_counted group by customer_id, metric_id, groups, bucket_start
),
touched as (
    insert into usage_rollup as r
        (customer_id, metric_id, group_hash, bucket_start, groups, quantity, events, max_received_at)
    select customer_id, metric_id, group_hash, bucket_start, groups, quantity, events, :received_at
    from counted order by customer_id, metric_id, group_hash, bucket_start
    on conflict (customer_id, metric_id, group_hash, bucket_start) do update set
        quantity = r.quantity + excluded.quantity,
        events = r.events + excluded.events,
        max_received_at = greatest(r.max_received_at, excluded.max_received_at)
    returning customer_id, metric_id, group_hash, bucket_start
)
"""

_UPSERT = sa.text(_COUNT.format(group_hash=GROUP_HASH) + MARK)

_TALLY = sa.text("""
insert into usage_tally as t (customer_alias, type, source, bucket_start, events)
select customer_alias, type, source, bucket_start, events
from unnest(cast(:aliases as text[]), cast(:types as text[]), cast(:sources as text[]),
    cast(:starts as timestamptz[]), cast(:events as bigint[]))
    as counted (customer_alias, type, source, bucket_start, events)
order by 1, 2, 3, 4
on conflict (customer_alias, type, source, bucket_start) do update set events = t.events + excluded.events
""")
