"""Marks: what changed in a contract's usage and is not in its balance yet; written by intake, taken by accrual."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Mark:
    """What a batch changed for a contract: pairs of a metric and a group's hash; None: everything may have changed.

    Batch 0 stands for what is no usage, such as new terms or a metric that counts the past.
    """

    batch_id: int
    pairs: frozenset[tuple[str, UUID]] | None


def take_marks(connection: sa.Connection, contract_id: str) -> tuple[tuple[Mark, ...], int]:
    """Delete the marks that are there, and note for their batches that they reached the balance.

    Returns them, and how many batches were noted for the first time.
    """
    rows = connection.execute(_TAKE, {"contract_id": contract_id}).all()
    return _marks(rows), len({row.batch_id for row in rows if row.is_first})


def list_marks(connection: sa.Connection, contract_id: str) -> tuple[Mark, ...]:
    """Return the marks that are there, and leave them."""
    return _marks(connection.execute(_LIST, {"contract_id": contract_id}).all())


def _marks(rows: Iterable[sa.Row[tuple[object, ...]]]) -> tuple[Mark, ...]:
    return tuple(
        Mark(
            row.batch_id,
            None if row.metric_ids is None else frozenset(zip(row.metric_ids, row.group_hashes, strict=True)),
        )
        for row in rows
    )


_TAKE = sa.text("""
with taken as (
    delete from usage_dirty where contract_id = :contract_id
    returning batch_id, received_at, metric_ids, group_hashes
),
noted as (
    insert into usage_accrual (batch_id, contract_id, received_at, accrued_at)
    select batch_id, :contract_id, min(received_at), clock_timestamp() from taken where batch_id > 0 group by batch_id
    on conflict (batch_id, contract_id) do nothing
    returning batch_id
)
select batch_id, metric_ids, group_hashes, batch_id in (select batch_id from noted) as is_first from taken
""")

_LIST = sa.text("select batch_id, metric_ids, group_hashes from usage_dirty where contract_id = :contract_id")
