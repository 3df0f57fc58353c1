"""What every batch needs: its number, and the partitions of the months that its events lie in."""

from collections.abc import Iterable
from datetime import date

import sqlalchemy as sa


def next_batch(connection: sa.Connection) -> int:
    """Return the number of a batch; the customers that it touches are locked before, so that a cut-off is exact."""
    batch_id: int = connection.execute(_NEXT_BATCH).scalar_one()
    return batch_id


def make_partitions_of(connection: sa.Connection, months: Iterable[date]) -> None:
    """Make the partitions of months (UTC, by their first days) that have none yet, in order of time."""
    for month in sorted({*months}):
        connection.execute(_PARTITION, {"month": month})


_NEXT_BATCH = sa.text("select nextval(pg_get_serial_sequence('usage_batch', 'batch_id'))")

_PARTITION = sa.text("select usage_partition(cast(:month as date))")
