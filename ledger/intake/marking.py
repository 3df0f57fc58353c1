"""Rows of the rollup: how their groups are told apart, and how contracts are marked that read those a batch touched."""

MOST_PAIRS = 2_000

GROUP_HASH = "substr(encode(sha256(convert_to(groups::text, 'UTF8')), 'hex'), 1, 32)::uuid"
"""How the rollup tells groups apart, wherever it is written."""

MARK = """
insert into usage_dirty (contract_id, batch_id, received_at, metric_ids, group_hashes)
select contract_id, :batch_id, :received_at,
    case when count(*) <= :most_pairs then array_agg(metric_id order by metric_id, group_hash) end,
    case when count(*) <= :most_pairs then array_agg(group_hash order by metric_id, group_hash) end
from (
    select distinct k.contract_id, t.metric_id, t.group_hash
    from touched t
    join contract k on k.customer_id = t.customer_id
        and t.bucket_start >= k.start_at and (k.end_at is null or t.bucket_start < k.end_at)
) pairs
group by contract_id
order by contract_id
returning contract_id
"""
"""Goes on from a query `touched` of customers, metrics, group hashes and buckets, which lie wholly in a term or out.

Above `:most_pairs` (`MOST_PAIRS`) a mark says that everything may have changed.
"""
