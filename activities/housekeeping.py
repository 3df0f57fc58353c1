"""Activities of housekeeping: partitions of usage made ahead, old months taken out, holds marked that have expired."""

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import sqlalchemy as sa
from temporalio import activity

from ledger.errors import StateError
from ledger.holds import expire_holds
from ledger.intake.partitions import archive, detach, make_partitions, months_to_archive


@dataclass(frozen=True, slots=True)
class Retention:
    """How many whole months of events the table keeps before the current one, and where older ones are exported.

    All months are kept where either is None.
    """

    keep_months: int | None = None
    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class PrepareMonths:
    """Make the partitions of the month of `at` (UTC) and of the next two."""

    at: datetime


@dataclass(frozen=True, slots=True)
class PreparedMonths:
    """The months that have their partition, and those that leave by policy, oldest first."""

    ready: tuple[date, ...]
    leaving: tuple[date, ...]


@dataclass(frozen=True, slots=True)
class ArchiveMonth:
    """Export a month and take it out of the table."""

    month: date
    at: datetime


@dataclass(frozen=True, slots=True)
class ArchivedMonth:
    """The events that left; `stays` says why the month could not leave, and then none did."""

    events: int
    stays: str | None = None


@dataclass(frozen=True, slots=True)
class ExpireHolds:
    """Mark the holds that have expired by `at` (UTC)."""

    at: datetime


@dataclass(frozen=True, slots=True)
class ExpiredHolds:
    """How many holds were marked."""

    holds: int


class HousekeepingActivities:
    """Activities of housekeeping, one database transaction each; holds take one for some contracts at a time."""

    def __init__(self, engine: sa.Engine, retention: Retention) -> None:
        self._engine, self._retention = engine, retention

    @activity.defn
    def prepare_months(self, request: PrepareMonths) -> PreparedMonths:
        """Make the partitions, and find the months that leave."""
        retention = self._retention
        with self._engine.begin() as connection:
            ready = make_partitions(connection, at=request.at)
            if retention.keep_months is None or retention.directory is None:
                return PreparedMonths(ready, ())
            return PreparedMonths(ready, months_to_archive(connection, keep=retention.keep_months, at=request.at))

    @activity.defn
    def archive_month(self, request: ArchiveMonth) -> ArchivedMonth:
        """Export a month, compare the file with the rows, and take it out; doing it twice exports it anew."""
        directory = self._retention.directory
        if directory is None:
            return ArchivedMonth(0, "METERBOOK_ARCHIVE_DIR is not set where this worker runs")
        try:
            with self._engine.begin() as connection:
                found = archive(connection, request.month, directory, at=request.at)
                detach(connection, request.month, at=request.at)
        except StateError as error:
            return ArchivedMonth(0, str(error))
        return ArchivedMonth(found.events)

    @activity.defn
    def expire_holds(self, request: ExpireHolds) -> ExpiredHolds:
        """Mark what has expired; the same again finds nothing. No answer rests on it: see `ledger.gates`."""
        marked = 0
        while True:
            with self._engine.begin() as connection:
                number = expire_holds(connection, request.at)
            if number == 0:
                return ExpiredHolds(marked)
            marked += number
            activity.heartbeat(marked)
