"""The past as it was known: what usage, metrics and terms were recorded by a moment.

Nothing recorded is ever changed, so an earlier state is a matter of leaving out what came later. Within `as_known`,
tables of that state stand in front of those of the books under the same names, so that everything that reads the books
reads the past, by the same rules. It ends with the block; nothing of it is kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import sqlalchemy as sa

from ledger.checks import check_aware
from ledger.database import undone
from ledger.intake.rollup import add_past
from ledger.intake.rules import read_rules


def batch_at(connection: sa.Connection, moment: datetime) -> int:
    """Return the last batch that had come by a moment: what counted then is what counted as of it. 0: none had.

    It is the one before the first that came later. A batch from the spool came when it entered, not when it was sent.
    """
    check_aware("moment", moment)
    batch_id: int = connection.execute(_BATCH_AT, {"moment": moment}).scalar_one()
    return batch_id


@contextmanager
def as_known(connection: sa.Connection, moment: datetime, *, customer_id: str) -> Iterator[None]:
    """Let the connection read a customer's usage and all metrics, terms, cards and lots as they were recorded then.

    Totals are counted again from the events; for archived months they are those of the archive. Periods and what is
    accrued are empty. Whatever the block writes is undone.
    """
    batch_id = batch_at(connection, moment)
    with undone(connection):
        # The path is another one than usual, so that PostgreSQL plans anew what it has prepared for the books' tables.
        connection.execute(sa.text("set local search_path = pg_temp, public"))
        connection.execute(_REMEMBER, {"moment": moment.isoformat(), "batch_id": str(batch_id)})
        for statement in _SHADOWS:
            connection.execute(sa.text(statement))
        add_past(connection, read_rules(connection), customer_id=customer_id)
        for table, column in (("usage_rollup", "bucket_start"), ("usage_member", "slot_start")):
            connection.execute(
                sa.text(_ARCHIVED.format(table=table, column=column)),
                {"customer_id": customer_id, "batch_id": batch_id},
            )
        yield


_BATCH_AT = sa.text("""
select coalesce(
    (
        select min(b.batch_id) - 1 from usage_batch b
        where coalesce(
            case b.door
                when 'spool' then (select min(r.entered_at) from usage_receipt r where r.batch_id = b.batch_id)
            end,
            b.received_at
        ) > :moment
    ),
    (select max(batch_id) from usage_batch), 0
)
""")

_REMEMBER = sa.text("""
select set_config('meterbook.as_of_moment', :moment, true), set_config('meterbook.as_of_batch', :batch_id, true)
""")

_EVENTS = """
create temporary view usage_event as
select ts, key_hash, source, key, customer_alias, customer_id, type, properties, received_at, batch_id, revision,
    attributed_batch_id, null::bigint as ended_batch_id
from public.usage_event
where coalesce(attributed_batch_id, batch_id) <= current_setting('meterbook.as_of_batch')::bigint
    and (ended_batch_id is null or ended_batch_id > current_setting('meterbook.as_of_batch')::bigint)
"""

_RECORDED_BY_THEN = """
create temporary view {table} as
select * from public.{table} where {column} <= current_setting('meterbook.as_of_moment')::timestamptz
"""

_EMPTY = "create temporary table {table} (like public.{table} including defaults including indexes) on commit drop"

_SHADOWS = (
    _EVENTS,
    *(
        _RECORDED_BY_THEN.format(table=table, column="created_at")
        for table in ("metric", "rate_card", "rate_card_version", "contract_terms", "lot")
    ),
    _RECORDED_BY_THEN.format(table="lot_change", column="changed_at"),
    *(_EMPTY.format(table=table) for table in ("usage_rollup", "usage_member", "accrued", "contract_period")),
)

# Months that are archived after a moment had the same totals then, but for corrections, which they no longer take.
_ARCHIVED = """
insert into {table}
select * from public.{table}
where customer_id = :customer_id and :batch_id > 0 and {column} < (
    select (max(month) + interval '1 month') at time zone 'UTC' from usage_archive where detached_at is not null
)
on conflict do nothing
"""
