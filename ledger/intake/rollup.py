"""How events become quantities: one statement, used for a batch as it comes in and for events that came before."""

from typing import Literal

import sqlalchemy as sa

ALIAS_LOCKS = 64
ALIAS_LOCK_SPACE = 0x6D626B
"""Aliases share this many advisory locks, so that a batch of ten thousand strangers does not exhaust the lock table."""


def add_to_rollup(
    connection: sa.Connection,
    source: Literal["usage_event", "usage_incoming"],
    *,
    only: Literal["true", "e.customer_id = :customer_id", "m.metric_id = :metric_id"] = "true",
    customer_id: str | None = None,
    metric_id: str | None = None,
) -> None:
    """Count the events of a table, or only those of a customer or a metric, into `usage_rollup`.

    An event counts for every metric of its type; for a sum only if it carries the property as a number, which intake
    demands once the metric is known. Rows are written in key order, so that batches wait for each other in line.
    """
    statement = sa.text(_ADD.format(source=source, only=only))
    facts = {"customer_id": customer_id, "metric_id": metric_id}
    connection.execute(statement, {name: fact for name, fact in facts.items() if fact is not None})


def share_metrics(connection: sa.Connection) -> None:
    """Hold the metrics as they are until the transaction ends; pairs with the exclusive lock of `create_metric`."""
    connection.execute(sa.text("lock table metric in row share mode"))


_ADD = """
insert into usage_rollup as r
    (customer_id, metric_id, group_hash, bucket_start, groups, quantity, events, max_received_at)
select customer_id, metric_id,
    substr(encode(sha256(convert_to(groups::text, 'UTF8')), 'hex'), 1, 32)::uuid as group_hash, bucket_start,
    groups, sum(quantity), sum(events), max(max_received_at)
from (
    select c.customer_id, m.metric_id, g.groups,
        date_bin(make_interval(mins => c.bucket_minutes), e.ts, timestamptz '2000-01-01 00:00:00Z') as bucket_start,
        sum(case m.aggregation when 'sum' then (e.properties ->> m.property)::numeric else 1 end) as quantity,
        count(*) as events, max(e.received_at) as max_received_at
    from {source} e
    join customer c on c.customer_id = e.customer_id
    join metric m on m.event_type = e.type
    cross join lateral (
        select coalesce(jsonb_object_agg(k, e.properties -> k) filter (where e.properties ? k), '{{}}') as groups
        from unnest(m.group_keys) k
    ) g
    where (m.aggregation = 'count' or jsonb_typeof(e.properties -> m.property) = 'number') and {only}
    group by c.customer_id, m.metric_id, g.groups, bucket_start
) counted
group by customer_id, metric_id, group_hash, bucket_start, groups
order by customer_id, metric_id, group_hash, bucket_start
on conflict (customer_id, metric_id, group_hash, bucket_start) do update set
    quantity = r.quantity + excluded.quantity,
    events = r.events + excluded.events,
    max_received_at = greatest(r.max_received_at, excluded.max_received_at)
"""
