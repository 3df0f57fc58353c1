"""Refusals on their way back from a workflow: turned into the ledger's errors by their name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from ledger.errors import ConflictError, InvalidError, MeterbookError, NotFoundError, StateError
from workflows.policies import refusal_in

_BY_NAME: dict[str, type[MeterbookError]] = {
    "NotFoundError": NotFoundError,
    "ConflictError": ConflictError,
    "IdempotencyConflictError": ConflictError,
    "InvalidError": InvalidError,
    "FileError": InvalidError,
    "StateError": StateError,
    "ClosedPeriodError": StateError,
}

_NOT_NOW = {
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.FAILED_PRECONDITION,  # a query of a workflow that no worker has begun yet
}


class TemporalAwayError(Exception):
    """Temporal or its workers did not answer in time; the same request again is harmless."""


@asynccontextmanager
async def refusals(not_found: str) -> AsyncIterator[None]:
    """Raise what a workflow or Temporal answered as the ledger's errors; `not_found` says what is missing."""
    try:
        yield
    except (WorkflowUpdateFailedError, WorkflowFailureError) as error:
        refusal = refusal_in(error.cause)
        if refusal is None:
            raise
        raise _BY_NAME.get(refusal.type or "", StateError)(refusal.message) from error
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            raise NotFoundError(not_found) from error
        if error.status in _NOT_NOW:
            raise _away() from error
        raise
    except WorkflowUpdateRPCTimeoutOrCancelledError as error:
        raise _away() from error


def _away() -> TemporalAwayError:
    return TemporalAwayError(
        "Temporal or its workers did not answer in time; see that `python -m workers` runs, then ask again: "
        "the same request twice is harmless"
    )
