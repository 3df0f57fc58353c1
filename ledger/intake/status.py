"""What became of all usage: accepted = matched + unmatched + withdrawn, and each unmatched event has its reason."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

import sqlalchemy as sa

from ledger.database import Json

UnmatchedReason = Literal["unknown_customer", "no_metric", "no_contract", "no_price"]

REASON = """case
    when a.customer_id is null then 'unknown_customer'
    when t.type not in (select event_type from metric) then 'no_metric'
    when not exists (
        select from contract k
        where k.customer_id = a.customer_id
            and t.bucket_start >= k.start_at and (k.end_at is null or t.bucket_start < k.end_at)
    ) then 'no_contract'
    when not exists (
        select from contract k
        left join contract_period p on p.contract_id = k.contract_id
            and t.bucket_start >= p.start_at and t.bucket_start < p.end_at
        where k.customer_id = a.customer_id
            and t.bucket_start >= k.start_at and (k.end_at is null or t.bucket_start < k.end_at)
            and (p.billed_types is null or t.type = any(p.billed_types))
    ) then 'no_price'
end"""
"""Why a row t of the tally, whose alias is a, is rated by nobody; null where it is. One place for all who tell.

A bucket of the tally lies wholly inside or outside a contract's term, because terms begin and end on the grid. Of a
frozen period the terms that it was billed with decide; in an open one what has no price stops the contract.
"""


@dataclass(frozen=True, slots=True)
class SourceHour:
    """What came from a source in the hour (UTC) of arrival; the source is empty where none could be read."""

    source: str
    received_hour: datetime
    accepted: int
    duplicate: int
    conflict: int
    rejected: int

    @property
    def received(self) -> int:
        """All events, whatever became of them."""
        return self.accepted + self.duplicate + self.conflict + self.rejected


@dataclass(frozen=True, slots=True)
class UsageStatus:
    """The state of the intake at one instant.

    `matched` events are rated by a contract, `withdrawn` ones were taken back by a person; `unmatched` counts the rest
    by the first reason that applies. The delays run from the arrival of a batch to its posting, in seconds; None while
    nothing was posted.
    """

    hours: tuple[SourceHour, ...]
    matched: int
    unmatched: Mapping[UnmatchedReason, int]
    withdrawn: int
    delay_p50_seconds: float | None
    delay_p99_seconds: float | None

    @property
    def received(self) -> int:
        """All events, whatever became of them."""
        return sum(hour.received for hour in self.hours)

    @property
    def accepted(self) -> int:
        """New events."""
        return sum(hour.accepted for hour in self.hours)

    @property
    def duplicate(self) -> int:
        """Events sent again."""
        return sum(hour.duplicate for hour in self.hours)

    @property
    def conflict(self) -> int:
        """Events sent again with other content."""
        return sum(hour.conflict for hour in self.hours)

    @property
    def rejected(self) -> int:
        """Events that cannot be read or counted."""
        return sum(hour.rejected for hour in self.hours)


@dataclass(frozen=True, slots=True)
class Conflict:
    """An event whose key was accepted with other content before; it does not count."""

    conflict_id: int
    source: str
    key: str
    event: Mapping[str, Json]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that was refused, as it came (shortened), and why."""

    rejected_id: int
    source: str | None
    key: str | None
    field: str
    value: str
    reason: str
    raw: str
    received_at: datetime


def usage_status(connection: sa.Connection) -> UsageStatus:
    """Return what became of everything that arrived."""
    hours: list[SourceHour] = []
    events: Counter[str] = Counter()
    for row in connection.execute(_STATUS):
        if row.reason is None:
            hours.append(SourceHour(row.source, row.hour, row.accepted, row.duplicate, row.conflict, row.rejected))
        else:
            events[row.reason] += row.accepted
    reasons: tuple[UnmatchedReason, ...] = ("unknown_customer", "no_metric", "no_contract", "no_price")
    p50, p99 = connection.execute(_DELAYS).one()
    return UsageStatus(
        hours=tuple(hours),
        matched=events["covered"],
        unmatched={reason: events[reason] for reason in reasons if events[reason]},
        withdrawn=events["withdrawn"],
        delay_p50_seconds=p50,
        delay_p99_seconds=p99,
    )


def list_conflicts(connection: sa.Connection, *, limit: int = 100) -> tuple[Conflict, ...]:
    """Return the latest conflicts, newest first."""
    return tuple(
        Conflict(row.conflict_id, row.source, row.key, json.loads(row.event, parse_float=Decimal), row.received_at)
        for row in connection.execute(_CONFLICTS, {"limit": limit})
    )


def list_rejected(connection: sa.Connection, *, limit: int = 100) -> tuple[RejectedEvent, ...]:
    """Return the latest rejected events, newest first."""
    return tuple(RejectedEvent(*row) for row in connection.execute(_REJECTED, {"limit": limit}))


# One statement, so that all its figures are of one instant. What is withdrawn is counted by itself, so that the sum of
# all three is a proof.
_TEXT = """
with covered as (
    select t.events, coalesce({reason}, 'covered') as reason
    from usage_tally t left join customer_alias a on a.alias = t.customer_alias
),
last as (select distinct on (key_hash) payload_hash from usage_correction order by key_hash, revision desc)
select null as reason, source, received_hour as hour, accepted, duplicate, conflict, rejected from usage_outcome
union all
select reason, null, null, sum(events)::bigint, 0, 0, 0 from covered group by reason
union all
select 'withdrawn', null, null, count(*), 0, 0, 0 from last where payload_hash is null
order by hour desc, source
"""
_STATUS = sa.text(_TEXT.format(reason=REASON))

_DELAYS = sa.text("""
select percentile_cont(0.5) within group (order by seconds), percentile_cont(0.99) within group (order by seconds)
from (select extract(epoch from accrued_at - received_at)::float8 as seconds from usage_accrual where batch_id > 0) d
""")

_CONFLICTS = sa.text("""
select conflict_id, source, key, event::text as event, received_at
from usage_conflict order by conflict_id desc limit :limit
""")

_REJECTED = sa.text("""
select rejected_id, source, key, field, value, reason, raw, received_at
from usage_rejected order by rejected_id desc limit :limit
""")
