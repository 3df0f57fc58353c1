"""How events become quantities: the same statements for a batch as it comes in and for events that came before."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID

import sqlalchemy as sa

from ledger.database import driver_of
from ledger.intake.events import properties_of
from ledger.intake.marking import GROUP_HASH, MARK, MOST_PAIRS
from ledger.intake.rules import Rule, UnmeasurableError, measure, read_rules, rules_json
from pricing.calendar import Period

ALIAS_LOCKS = 64
ALIAS_LOCK_SPACE = 0x6D626B
"""Aliases share this many advisory locks, so that a batch of ten thousand strangers does not exhaust the lock table."""

EVENTS_AT_ONCE = 5000

COUNTED_THROUGH = timedelta(hours=6)
"""Buckets that lie closer together than this are counted again in one stretch, with whatever lies between them."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The tables that hold what was counted: those of the books, or temporary ones of a trial."""

    rollup: Literal["usage_rollup", "trial_rollup"] = "usage_rollup"
    member: Literal["usage_member", "trial_member"] = "usage_member"


BOOKS = Totals()
TRIAL = Totals("trial_rollup", "trial_member")


@dataclass(frozen=True, slots=True)
class _Past:
    """Which of the recorded events that count now are counted."""

    customer_id: str | None
    span: Period | None

    @property
    def condition(self) -> str:
        """The condition on the rows e of `usage_event`."""
        conditions = ["e.ended_batch_id is null"]
        if self.customer_id is not None:
            conditions.append("e.customer_id = :customer_id")
        if self.span is not None:
            conditions.append("e.ts >= :since and e.ts < :until")
        return " and ".join(conditions)

    @property
    def facts(self) -> dict[str, object]:
        """The parameters of the condition."""
        facts: dict[str, object] = {} if self.customer_id is None else {"customer_id": self.customer_id}
        return facts if self.span is None else {**facts, "since": self.span.start, "until": self.span.end}


Computed = tuple[UUID, str, Decimal | None]
"""An event by its key hash, a metric whose condition it meets, and the value of the metric's expression, if any."""


def add_batch(
    connection: sa.Connection,
    rules: Sequence[Rule],
    computed: Iterable[Computed],
    *,
    batch_id: int,
    received_at: datetime,
) -> tuple[str, ...]:
    """Count the events of `usage_incoming` by the rules of their types, mark contracts, and return those.

    `computed` covers the rules that need Python.
    """
    if any(rule.is_computed for rule in rules):
        connection.execute(_COMPUTED)
        _copy(connection, computed)
    facts = {"batch_id": batch_id, "received_at": received_at, "most_pairs": MOST_PAIRS}
    return _add(connection, "usage_incoming", rules, totals=BOOKS, past=None, marks=facts)


def add_past(
    connection: sa.Connection,
    rules: Sequence[Rule],
    *,
    customer_id: str | None = None,
    span: Period | None = None,
    totals: Totals = BOOKS,
) -> None:
    """Count the recorded events that count now, or only a customer's, or only those of a span of time.

    Those that a rule cannot measure do not count for it. The totals of these rules (customer, span) are empty before.
    """
    past = _Past(customer_id, span)
    if any(rule.is_computed for rule in rules):
        connection.execute(_COMPUTED)
        connection.execute(sa.text("delete from usage_computed"))
        for found in _computed_past(connection, [rule for rule in rules if rule.is_computed], past):
            _copy(connection, found)
    _add(connection, "usage_event", rules, totals=totals, past=past)


def recount(connection: sa.Connection, customer_id: str, buckets: Sequence[datetime]) -> None:
    """Count buckets of a customer again from the events that count now; the caller holds the customer and the metrics.

    `buckets` are the starts of the customer's buckets in any order, none of them in an archived month.
    """
    width = timedelta(minutes=connection.execute(_BUCKET_MINUTES, {"customer_id": customer_id}).scalar_one())
    rules = read_rules(connection)
    for span in _stretches(buckets, width):
        forget(connection, customer_id=customer_id, since=span.start, until=span.end)
        add_past(connection, rules, customer_id=customer_id, span=span)


def forget(
    connection: sa.Connection,
    *,
    customer_id: str | None = None,
    metric_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> None:
    """Empty the totals of a customer or a metric, from a moment on, or until one, on the grid of all buckets."""
    facts = {"customer_id": customer_id, "metric_id": metric_id, "since": since, "until": until}
    for table, column in (("usage_rollup", "bucket_start"), ("usage_member", "slot_start")):
        connection.execute(sa.text(_FORGET.format(table=table, column=column)), facts)


def share_metrics(connection: sa.Connection) -> None:
    """Hold the metrics as they are until the transaction ends; pairs with the exclusive lock of `create_metric`."""
    connection.execute(sa.text("lock table metric in row share mode"))


def open_trial(connection: sa.Connection) -> None:
    """Make empty totals that only this transaction sees."""
    for trial, table in ((TRIAL.rollup, BOOKS.rollup), (TRIAL.member, BOOKS.member)):
        connection.execute(
            sa.text(
                f"create temporary table {trial} (like {table} including defaults including indexes) on commit drop"
            )
        )


def _add(
    connection: sa.Connection,
    source: Literal["usage_event", "usage_incoming"],
    rules: Sequence[Rule],
    *,
    totals: Totals,
    past: _Past | None,
    marks: Mapping[str, object] | None = None,
) -> tuple[str, ...]:
    """Count by the rules; with the facts of `marks` mark the contracts that read what changed, and return those.

    Rows are written in key order, so that batches wait for each other in line; a bucket is counted by one statement.
    """
    contracts: set[str] = set()
    for statement, wanted in (
        (_PLAIN, [rule for rule in rules if not rule.is_extended]),
        (_EXTENDED, [rule for rule in rules if rule.is_extended]),
        (_MEMBERS, [rule for rule in rules if rule.member is not None]),
    ):
        if not wanted:
            continue
        is_computed = any(rule.is_computed for rule in wanted)
        events = _EVENTS.format(
            source=source,
            only="true" if past is None else past.condition,
            computed_join=_COMPUTED_JOIN if is_computed else "",
            computed_value="x.value," if is_computed else "",
            computed_only="and (not m.is_computed or x.key_hash is not null)" if is_computed else "",
        )
        text = statement.format(
            rollup=totals.rollup,
            member=totals.member,
            rules=_RULES,
            events=events,
            bucket=_BUCKET,
            group_hash=GROUP_HASH,
        )
        facts = {**({} if past is None else past.facts), "rules": rules_json(wanted)}
        if marks is None or statement is _MEMBERS:  # whose rows of the rollup are marked
            connection.execute(sa.text(text), facts)
        else:
            marked = connection.execute(sa.text(_AND_MARK.format(count=text, mark=MARK)), {**facts, **marks})
            contracts.update(marked.scalars())
    return tuple(sorted(contracts))


def _stretches(buckets: Sequence[datetime], width: timedelta) -> list[Period]:
    """Return the spans that cover the buckets, in order of time."""
    spans: list[Period] = []
    for start in sorted({*buckets}):
        if spans and start <= spans[-1].end + COUNTED_THROUGH:
            spans[-1] = Period(spans[-1].start, start + width)
        else:
            spans.append(Period(start, start + width))
    return spans


def _computed_past(connection: sa.Connection, rules: Sequence[Rule], past: _Past) -> Iterable[list[Computed]]:
    query = sa.text(_PAST.format(only=past.condition))
    types = sorted({rule.version.event_type for rule in rules})
    streamed = query.execution_options(yield_per=EVENTS_AT_ONCE)
    for rows in connection.execute(streamed, {**past.facts, "types": types}).partitions():
        yield [one for row in rows for one in computed_of(rules, row)]


def computed_of(rules: Sequence[Rule], row: sa.Row[UUID, datetime, str, str]) -> Iterable[Computed]:
    """Yield what the computed rules make of a recorded event."""
    properties = properties_of(row.properties)
    for rule in rules:
        if rule.version.event_type == row.type and rule.covers(row.ts):
            try:
                found = measure(rule, properties)
            except UnmeasurableError:
                continue  # the event came before the metric that cannot measure it
            if found is not None:
                yield row.key_hash, rule.metric_id, None if rule.version.expression is None else found.value


def _copy(connection: sa.Connection, rows: Iterable[Computed]) -> None:
    with (
        driver_of(connection).cursor() as cursor,
        cursor.copy("copy usage_computed (key_hash, metric_id, value) from stdin") as copy,
    ):
        for row in rows:
            copy.write_row(row)


_COMPUTED = sa.text("""
create temporary table if not exists usage_computed (key_hash uuid not null, metric_id text not null, value numeric)
on commit delete rows
""")

_COMPUTED_JOIN = "left join usage_computed x on x.key_hash = e.key_hash and x.metric_id = m.metric_id"

_PAST = """
select key_hash, ts, type, properties::text as properties from usage_event e
where type = any(:types) and customer_id is not null and {only}
"""

_FORGET = """
delete from {table}
where (cast(:customer_id as text) is null or customer_id = :customer_id)
    and (cast(:metric_id as text) is null or metric_id = :metric_id)
    and (cast(:since as timestamptz) is null or {column} >= :since)
    and (cast(:until as timestamptz) is null or {column} < :until)
"""

_BUCKET_MINUTES = sa.text("select bucket_minutes from customer where customer_id = :customer_id")

# The rules come as data, so that a trial of a rule that is not recorded counts in the same way.
_RULES = """
with m as materialized (
    select * from jsonb_to_recordset(cast(:rules as jsonb)) as rule (
        metric_id text, event_type text, number text, member text, operation text, amount text, group_keys text[],
        filters jsonb, is_computed boolean, by_moment boolean, valid_from timestamptz, valid_until timestamptz)
)
"""

_EVENTS = """
    from {source} e
    join customer c on c.customer_id = e.customer_id
    join m on m.event_type = e.type and e.ts >= m.valid_from and e.ts < m.valid_until
    {computed_join}
    cross join lateral (
        select coalesce(jsonb_object_agg(k, e.properties -> k) filter (where e.properties ? k), '{{}}') as groups
        from unnest(m.group_keys) k
    ) g
    cross join lateral (select coalesce({computed_value} (e.properties ->> m.number)::numeric, 1) as value) v
    where (m.filters is null or not exists (
            select from jsonb_array_elements(m.filters) f cross join lateral (
                select e.properties -> (f ->> 'property') as value, e.properties ->> (f ->> 'property') as written
            ) p
            where not coalesce(case
                when f ->> 'exists' is not null then (p.value is not null) = (f ->> 'exists')::boolean
                when jsonb_typeof(f -> 'values') = 'array' then f -> 'values' @> p.value
                when jsonb_typeof(p.value) = 'number' or p.written ~ '^[+-]?[0-9]+([.][0-9]+)?$'
                    then coalesce(p.written::numeric >= (f ->> 'at_least')::numeric, true)
                        and coalesce(p.written::numeric < (f ->> 'below')::numeric, true)
            end, false)
        ))
        and (m.number is null or jsonb_typeof(e.properties -> m.number) = 'number')
        and (m.amount is null or jsonb_typeof(e.properties -> m.amount) = 'number')
        and (m.member is null or e.properties ? m.member)
        and (m.operation is null or coalesce(e.properties -> m.operation, '"add"') in ('"add"', '"remove"'))
        {computed_only} and {only}
"""

_BUCKET = "date_bin(make_interval(mins => c.bucket_minutes), e.ts, timestamptz '2000-01-01 00:00:00Z')"

_PLAIN = """
insert into {rollup} as r
    (customer_id, metric_id, group_hash, bucket_start, groups, quantity, events, max_received_at)
{rules}
select customer_id, metric_id,
    {group_hash} as group_hash,
    bucket_start, groups, quantity, events, max_received_at
from (
    select c.customer_id, m.metric_id, g.groups, {bucket} as bucket_start,
        sum(v.value) as quantity, count(*) as events, max(e.received_at) as max_received_at
    {events}
    group by c.customer_id, m.metric_id, g.groups, bucket_start
) counted
order by customer_id, metric_id, group_hash, bucket_start
on conflict (customer_id, metric_id, group_hash, bucket_start) do update set
    quantity = r.quantity + excluded.quantity,
    events = r.events + excluded.events,
    max_received_at = greatest(r.max_received_at, excluded.max_received_at)
"""

_EXTENDED = """
insert into {rollup} as r
    (customer_id, metric_id, group_hash, bucket_start, groups, quantity, events, max_received_at,
    amount, highest, lowest, weighted, latest_value, latest_at, latest_key)
{rules}
select customer_id, metric_id,
    {group_hash} as group_hash,
    bucket_start, groups, quantity, events, max_received_at,
    amount, highest, lowest, weighted, latest_value, latest_at, latest_key
from (
    select c.customer_id, m.metric_id, g.groups, {bucket} as bucket_start,
        sum(v.value) as quantity, count(*) as events, max(e.received_at) as max_received_at,
        coalesce(sum((e.properties ->> m.amount)::numeric), 0) as amount,
        max(v.value) as highest, min(v.value) as lowest,
        sum(v.value * extract(epoch from e.ts - timestamptz '2000-01-01 00:00:00Z')) as weighted,
        (array_agg(v.value order by e.ts desc, e.key_hash desc))[1] as latest_value,
        max(e.ts) as latest_at,
        (array_agg(e.key_hash order by e.ts desc, e.key_hash desc))[1] as latest_key
    {events}
    group by c.customer_id, m.metric_id, g.groups, bucket_start
) counted
order by customer_id, metric_id, group_hash, bucket_start
on conflict (customer_id, metric_id, group_hash, bucket_start) do update set
    quantity = r.quantity + excluded.quantity,
    events = r.events + excluded.events,
    max_received_at = greatest(r.max_received_at, excluded.max_received_at),
    amount = r.amount + excluded.amount,
    highest = greatest(r.highest, excluded.highest),
    lowest = least(r.lowest, excluded.lowest),
    weighted = r.weighted + excluded.weighted,
    latest_value = case when (excluded.latest_at, excluded.latest_key) > (r.latest_at, r.latest_key)
        then excluded.latest_value else r.latest_value end,
    latest_key = case when (excluded.latest_at, excluded.latest_key) > (r.latest_at, r.latest_key)
        then excluded.latest_key else r.latest_key end,
    latest_at = greatest(r.latest_at, excluded.latest_at)
"""

_AND_MARK = """
with touched as (
{count}
returning customer_id, metric_id, group_hash, bucket_start
)
{mark}
"""

# Members weighted by time have a row for each moment, so that operations may come in any order.
_MEMBERS = """
insert into {member} as r
    (customer_id, metric_id, group_hash, member_hash, slot_start, additions, last_is_addition, last_at, last_key)
{rules}
select customer_id, metric_id,
    {group_hash} as group_hash,
    substr(encode(sha256(convert_to(member_text, 'UTF8')), 'hex'), 1, 32)::uuid as member_hash,
    slot_start, additions, last_is_addition, last_at, last_key
from (
    select c.customer_id, m.metric_id, g.groups, e.properties ->> m.member as member_text,
        case when m.by_moment then e.ts else {bucket} end as slot_start,
        count(*) filter (where coalesce(e.properties ->> m.operation, 'add') = 'add') as additions,
        (array_agg(coalesce(e.properties ->> m.operation, 'add') = 'add' order by e.ts desc, e.key_hash desc))[1]
            as last_is_addition,
        max(e.ts) as last_at,
        (array_agg(e.key_hash order by e.ts desc, e.key_hash desc))[1] as last_key
    {events}
    group by c.customer_id, m.metric_id, g.groups, member_text, slot_start
) counted
order by customer_id, metric_id, group_hash, member_hash, slot_start
on conflict (customer_id, metric_id, group_hash, member_hash, slot_start) do update set
    additions = r.additions + excluded.additions,
    last_is_addition = case when (excluded.last_at, excluded.last_key) > (r.last_at, r.last_key)
        then excluded.last_is_addition else r.last_is_addition end,
    last_key = case when (excluded.last_at, excluded.last_key) > (r.last_at, r.last_key)
        then excluded.last_key else r.last_key end,
    last_at = greatest(r.last_at, excluded.last_at)
"""
