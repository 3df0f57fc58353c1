"""Activities on usage: take in what arrived by signal, and find what no nudge told."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from temporalio import activity

from ledger import schema
from ledger.errors import InvalidError
from ledger.intake.events import ParsedBatch, Rejection, UsageEvent, parse_json
from ledger.intake.store import take_in


@dataclass(frozen=True, slots=True)
class TakeInUsage:
    """Take in the events of signals; each body is one JSON array as it was sent, `received_at` (UTC) is their time."""

    contract_id: str
    bodies: tuple[str, ...]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What became of the events, and every contract whose usage changed."""

    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    contracts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FindStale:
    """Find contracts whose usage changed before `older_than` (UTC) and is not in the balance; at most `limit`."""

    older_than: datetime
    limit: int = 500


@dataclass(frozen=True, slots=True)
class StaleContracts:
    """The contracts to nudge; those stopped by a problem are left out, since a nudge would not mend it."""

    contract_ids: tuple[str, ...]


class UsageActivities:
    """Activities on usage, one database transaction each."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @activity.defn
    def take_in_usage(self, request: TakeInUsage) -> TakenIn:
        """Take in all bodies as one batch; what cannot be read is recorded as rejected and fails nothing else."""
        batch = _one_batch(request)
        with self._engine.begin() as connection:
            result = take_in(connection, batch, door="signal", received_at=request.received_at)
        return TakenIn(result.accepted, result.duplicate, result.conflict, result.rejected, tuple(result.contracts))

    @activity.defn
    def find_stale_contracts(self, request: FindStale) -> StaleContracts:
        """List contracts with marks that nobody took, the oldest first."""
        dirty, contract = schema.usage_dirty, schema.contract
        query = (
            sa.select(dirty.c.contract_id)
            .join(contract, contract.c.contract_id == dirty.c.contract_id)
            .where(dirty.c.received_at < request.older_than, contract.c.problem.is_(None))
            .group_by(dirty.c.contract_id)
            .order_by(sa.func.min(dirty.c.received_at), dirty.c.contract_id)
            .limit(request.limit)
        )
        with self._engine.begin() as connection:
            return StaleContracts(tuple(connection.execute(query).scalars()))


def _one_batch(request: TakeInUsage) -> ParsedBatch:
    events: list[tuple[int, UsageEvent]] = []
    rejections: list[Rejection] = []
    count = 0
    for body in request.bodies:
        try:
            batch = parse_json(body.encode(), received_at=request.received_at)
        except InvalidError as error:
            batch = ParsedBatch((), (_unreadable(body, error),))
        events.extend((count + index, event) for index, event in batch.events)
        rejections.extend(_moved(rejection, count) for rejection in batch.rejections)
        count += len(batch.events) + len(batch.rejections)
    return ParsedBatch(tuple(events), tuple(rejections))


def _unreadable(body: str, error: InvalidError) -> Rejection:
    return Rejection(
        index=0, source=None, key=None, field="signal", value=body[:80], reason=str(error), raw=body[:1000]
    )


def _moved(rejection: Rejection, by: int) -> Rejection:
    return Rejection(
        index=rejection.index + by,
        source=rejection.source,
        key=rejection.key,
        field=rejection.field,
        value=rejection.value,
        reason=rejection.reason,
        raw=rejection.raw,
    )
