"""Counting usage again from its events: when its customer or metric appears after it, moves, or its buckets change.

`attribute_aliases` and `build_rule` are for usage that came first; both pair with intake's locks, so that an event
is counted by its batch or here, never by both and never by neither.
"""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from ledger.intake.archived import archived_until
from ledger.intake.changes import (
    Act,
    Correction,
    begin,
    carry_out,
    draw_batch,
    lock_customers,
    share_corrections,
)
from ledger.intake.rollup import ALIAS_LOCK_SPACE, add_past, forget, share_metrics
from ledger.intake.rules import Rule, read_rules
from ledger.intake.store import alias_locks

AUTOMATIC = "meterbook"
"""Who gives a customer the usage that came in under its names before it was recorded."""


def attribute_aliases(connection: sa.Connection, customer_id: str, aliases: Sequence[str]) -> None:
    """Give a customer the events that came in under its aliases while nobody had them, and count them.

    The aliases are recorded before: batches under way are waited for, later ones find the customer. The events belong
    to it from a batch of its own on, so that readings as of an earlier one leave them out.
    """
    share_corrections(connection)
    for number in alias_locks(aliases):
        connection.execute(_LOCK_ALIASES, {"space": ALIAS_LOCK_SPACE, "number": number})
    bounds = connection.execute(_TALLIED, {"aliases": list(aliases)}).one()
    if bounds.first is None:
        return
    lock_customers(connection, [customer_id])
    share_metrics(connection)
    facts = {"aliases": list(aliases), "first": bounds.first, "last": bounds.last}
    found = connection.execute(_STRANGERS, facts).one()
    if not found.events:
        return
    act = Act("alias", ", ".join(aliases), f"customer {customer_id} has this name", AUTOMATIC, found.at)
    batch_id = draw_batch(connection, act, added=0, amended=found.events, withdrawn=0)
    connection.execute(_ATTRIBUTE, {**facts, "customer_id": customer_id, "batch_id": batch_id})
    _rebuild(connection, customer_id)
    connection.execute(_MARK_BATCH, {"customer_id": customer_id, "batch_id": batch_id})


def move_alias(
    connection: sa.Connection, alias: str, customer_id: str, *, reason: str, by: str, at: datetime
) -> Correction:
    """Give a customer an alias that another one, or nobody, has: its past and future usage goes with it.

    Events of archived months stay with the customer they had. The same again is harmless.
    """
    act = Act("alias", alias, reason, by, at)
    begin(connection)
    for number in alias_locks([alias]):
        connection.execute(_LOCK_ALIASES, {"space": ALIAS_LOCK_SPACE, "number": number})
    facts = {"alias": alias, "customer_id": customer_id}
    before = connection.execute(_OWNER, facts).scalar_one_or_none()
    lock_customers(connection, {customer_id, before or customer_id})
    connection.execute(_GIVE, facts)
    connection.execute(_WANT, facts)
    return carry_out(connection, act, measured=False, moving=True)


def build_rule(connection: sa.Connection, rule: Rule) -> None:
    """Count the events that came in before a rule was recorded, instead of what the metric's rule before made of them.

    The caller holds the metrics exclusively.
    """
    since = rule.version.effective_from
    connection.execute(_MARK_METRIC, {"metric_id": rule.metric_id, "since": since})
    readable = [moment for moment in (since, archived_until(connection)) if moment is not None]
    forget(connection, metric_id=rule.metric_id, since=max(readable, default=None))
    add_past(connection, [rule])
    connection.execute(_MARK_METRIC, {"metric_id": rule.metric_id, "since": since})


def rebuild_customer(connection: sa.Connection, customer_id: str) -> None:
    """Count all events of a customer anew, in its buckets of now; locks the customer, so that intake waits.

    Archived months keep their totals: their events are gone.
    """
    lock_customers(connection, [customer_id])
    share_metrics(connection)
    _rebuild(connection, customer_id)
    connection.execute(_MARK_CUSTOMER, {"customer_id": customer_id})


def _rebuild(connection: sa.Connection, customer_id: str) -> None:
    forget(connection, customer_id=customer_id, since=archived_until(connection))
    add_past(connection, read_rules(connection), customer_id=customer_id)


def mark_contract(connection: sa.Connection, contract_id: str) -> None:
    """Mark a contract so that it is accrued, though no batch brought anything (the mark's batch is 0)."""
    connection.execute(_MARK_CONTRACT, {"contract_id": contract_id})


_LOCK_ALIASES = sa.text("select pg_advisory_xact_lock(:space, :number)")

_TALLIED = sa.text("""
select min(bucket_start) as first, max(bucket_start) + interval '15 minutes' as last
from usage_tally where customer_alias = any(:aliases)
""")

_STRANGERS = sa.text("""
select count(*) as events, clock_timestamp() as at from usage_event
where customer_id is null and customer_alias = any(:aliases) and ts >= :first and ts < :last
    and ended_batch_id is null
""")

_ATTRIBUTE = sa.text("""
update usage_event set customer_id = :customer_id, attributed_batch_id = :batch_id
where customer_id is null and customer_alias = any(:aliases) and ts >= :first and ts < :last
    and ended_batch_id is null
""")

_OWNER = sa.text("select customer_id from customer_alias where alias = :alias")

_GIVE = sa.text("""
insert into customer_alias (alias, customer_id) values (:alias, :customer_id)
on conflict (alias) do update set customer_id = excluded.customer_id
""")

_WANT = sa.text("""
insert into usage_wanted (key_hash, source, key, ts, customer_alias, type, properties)
select key_hash, source, key, ts, customer_alias, type, properties from usage_event
where customer_alias = :alias and ended_batch_id is null and customer_id is distinct from :customer_id
    and ts >= (select min(bucket_start) from usage_tally where customer_alias = :alias)
    and ts < (select max(bucket_start) + interval '15 minutes' from usage_tally where customer_alias = :alias)
""")

_MARK = """
insert into usage_dirty (contract_id, batch_id, received_at)
select contract_id, 0, clock_timestamp() from contract where {which} order by contract_id
"""

_MARK_CONTRACT = sa.text(_MARK.format(which="contract_id = :contract_id"))

_MARK_CUSTOMER = sa.text(_MARK.format(which="customer_id = :customer_id"))

_MARK_BATCH = sa.text("""
insert into usage_dirty (contract_id, batch_id, received_at)
select k.contract_id, b.batch_id, b.received_at from contract k, usage_batch b
where k.customer_id = :customer_id and b.batch_id = :batch_id order by k.contract_id
""")

_MARK_METRIC = sa.text(
    _MARK.format(
        which="customer_id in (select customer_id from usage_rollup where metric_id = :metric_id"
        " and (cast(:since as timestamptz) is null or bucket_start >= :since))"
    )
)
