"""Counting usage again from its events: when its customer or metric appears after it, or its buckets change.

`attribute_aliases` and `build_rule` are for usage that came first; both pair with intake's locks, so that an event
is counted by its batch or here, never by both and never by neither.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from ledger.intake.rollup import ALIAS_LOCK_SPACE, add_past, forget, share_metrics
from ledger.intake.rules import Rule, read_rules
from ledger.intake.store import alias_locks


def attribute_aliases(connection: sa.Connection, customer_id: str, aliases: Sequence[str]) -> None:
    """Give a customer the events that came in under its aliases while nobody had them, and count them.

    The aliases are recorded before: batches under way are waited for, later ones find the customer.
    """
    for number in alias_locks(aliases):
        connection.execute(_LOCK_ALIASES, {"space": ALIAS_LOCK_SPACE, "number": number})
    share_metrics(connection)
    bounds = connection.execute(_TALLIED, {"aliases": list(aliases)}).one()
    if bounds.first is None:
        return
    facts = {"customer_id": customer_id, "aliases": list(aliases), "first": bounds.first, "last": bounds.last}
    connection.execute(_ATTRIBUTE, facts)
    rebuild_customer(connection, customer_id)


def build_rule(connection: sa.Connection, rule: Rule) -> None:
    """Count the events that came in before a rule was recorded, instead of what the metric's rule before made of them.

    The caller holds the metrics exclusively.
    """
    since = rule.version.effective_from
    connection.execute(_MARK_METRIC, {"metric_id": rule.metric_id, "since": since})
    forget(connection, metric_id=rule.metric_id, since=since)
    add_past(connection, [rule])
    connection.execute(_MARK_METRIC, {"metric_id": rule.metric_id, "since": since})


def rebuild_customer(connection: sa.Connection, customer_id: str) -> None:
    """Count all events of a customer anew, in its buckets of now; locks the customer, so that intake waits."""
    connection.execute(_LOCK_CUSTOMER, {"customer_id": customer_id})
    share_metrics(connection)
    forget(connection, customer_id=customer_id)
    add_past(connection, read_rules(connection), customer_id=customer_id)
    connection.execute(_MARK_CUSTOMER, {"customer_id": customer_id})


def mark_contract(connection: sa.Connection, contract_id: str) -> None:
    """Mark a contract so that it is accrued, though no batch brought anything (the mark's batch is 0)."""
    connection.execute(_MARK_CONTRACT, {"contract_id": contract_id})


_LOCK_ALIASES = sa.text("select pg_advisory_xact_lock(:space, :number)")

_LOCK_CUSTOMER = sa.text("select customer_id from customer where customer_id = :customer_id for update")

_TALLIED = sa.text("""
select min(bucket_start) as first, max(bucket_start) + interval '15 minutes' as last
from usage_tally where customer_alias = any(:aliases)
""")

_ATTRIBUTE = sa.text("""
update usage_event set customer_id = :customer_id
where customer_id is null and customer_alias = any(:aliases) and ts >= :first and ts < :last
""")

_MARK = """
insert into usage_dirty (contract_id, batch_id, received_at)
select contract_id, 0, clock_timestamp() from contract where {which} order by contract_id
"""

_MARK_CONTRACT = sa.text(_MARK.format(which="contract_id = :contract_id"))

_MARK_CUSTOMER = sa.text(_MARK.format(which="customer_id = :customer_id"))

_MARK_METRIC = sa.text(
    _MARK.format(
        which="customer_id in (select customer_id from usage_rollup where metric_id = :metric_id"
        " and (cast(:since as timestamptz) is null or bucket_start >= :since))"
    )
)
