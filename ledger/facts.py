"""The facts of the outbox in the order of their sequence, so that whoever asks on from the last one misses none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ledger import schema
from ledger.contracts import get_contract
from ledger.outbox import OPENING, OPENINGS


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact as it was put out, of no contract where `contract_id` is None.

    In `data` amounts are text, and moments ISO 8601 in UTC.
    """

    sequence: int
    kind: str
    contract_id: str | None
    customer_id: str | None
    created_at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FactPage:
    """Facts in the order of their sequence. Ask on with `next_after`, at once where `has_more`, else after a while."""

    facts: tuple[Fact, ...]
    next_after: int
    has_more: bool


def list_facts(
    connection: sa.Connection,
    *,
    after: int = 0,
    kinds: Sequence[str] = (),
    contract_id: str | None = None,
    limit: int = 100,
) -> FactPage:
    """Return the settled facts after a sequence number, of some kinds (empty: all) and of a contract (None: of all).

    A fact whose predecessors may still be committed waits for them. The transaction must be one of READ COMMITTED.
    Raises `NotFoundError` for a contract that there is not.
    """
    if contract_id is not None:
        get_contract(connection, contract_id)
    settled = settled_until(connection)
    query = (
        FACTS.where(_outbox.sequence > after, _outbox.sequence <= settled).order_by(_outbox.sequence).limit(limit + 1)
    )
    if kinds:
        query = query.where(_outbox.kind.in_(kinds))
    if contract_id is not None:
        query = query.where(_outbox.contract_id == contract_id)
    found = [fact_of(row) for row in connection.execute(query).mappings()]
    if len(found) > limit:
        return FactPage(tuple(found[:limit]), found[limit - 1].sequence, has_more=True)
    return FactPage(tuple(found), max(after, settled), has_more=False)


def settled_until(connection: sa.Connection) -> int:
    """Return the sequence number up to which no further fact will appear; 0 when there is none."""
    # Sequence numbers commit out of order: 8 may be there while the transaction of 7 is still open. Before its first
    # number a transaction locks the highest it sees (`put_out`), until it is over; all its own are greater. So what is
    # visible to this statement's snapshot, and not above any such lock held after that snapshot, is complete.
    found: int = connection.execute(_SETTLED, {"opening": OPENING, "openings": OPENINGS}).scalar_one()
    return found


def fact_of(row: sa.RowMapping) -> Fact:
    """Return the fact of a row of `FACTS`."""
    return Fact(row["sequence"], row["kind"], row["contract_id"], row["customer_id"], row["created_at"], row["payload"])


_outbox = schema.outbox.c

FACTS = sa.select(
    _outbox.sequence,
    _outbox.kind,
    _outbox.contract_id,
    schema.contract.c.customer_id,
    _outbox.created_at,
    _outbox.payload,
).select_from(schema.outbox.outerjoin(schema.contract, schema.contract.c.contract_id == _outbox.contract_id))
"""Facts with the customer of their contract; read rows with `fact_of`."""

_SETTLED = sa.text("""
select least(
    (select coalesce(max(sequence), 0) from outbox),
    (
        select min(((classid::bigint << 32) | objid::bigint) - :opening) from pg_locks
        where locktype = 'advisory' and objsubid = 1 and classid::bigint >> 16 = :openings
        and database = (select oid from pg_database where datname = current_database())
    )
)
""")
