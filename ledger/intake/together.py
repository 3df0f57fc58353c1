"""Several requests in one transaction: one batch for the ledger, an answer for each sender."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from ledger.intake.events import ParsedBatch, Rejection
from ledger.intake.store import BatchResult, EventResult, take_in


def take_in_together(
    connection: sa.Connection,
    batches: Sequence[ParsedBatch],
    *,
    door: Literal["http", "spool"],
    received_at: datetime,
) -> tuple[BatchResult, ...]:
    """Take the batches in as one, in their order, and answer each as if it had come alone, with its own positions.

    They share the number of the batch and its contracts; `received_at` is when the first of them came.
    """
    if len(batches) == 1:
        return (take_in(connection, batches[0], door=door, received_at=received_at),)
    firsts = _firsts(batches)
    result = take_in(connection, _joined(batches, firsts), door=door, received_at=received_at)
    return tuple(_split(result, firsts))


def length(batch: ParsedBatch) -> int:
    """Return how many events were sent in a batch, readable or not."""
    return len(batch.events) + len(batch.rejections)


def _firsts(batches: Sequence[ParsedBatch]) -> list[int]:
    """Return where each batch begins in all of them together, and where the last one ends."""
    firsts = [0]
    for batch in batches:
        indexes = [*(index for index, _ in batch.events), *(refused.index for refused in batch.rejections)]
        firsts.append(firsts[-1] + max(indexes, default=-1) + 1)
    return firsts


def _joined(batches: Sequence[ParsedBatch], firsts: Sequence[int]) -> ParsedBatch:
    placed = list(zip(batches, firsts, strict=False))
    return ParsedBatch(
        tuple((first + index, event) for batch, first in placed for index, event in batch.events),
        tuple(_moved(refused, first) for batch, first in placed for refused in batch.rejections),
    )


def _moved(refused: Rejection, first: int) -> Rejection:
    return Rejection(
        refused.index + first,
        refused.source,
        refused.key,
        refused.field,
        refused.value,
        refused.reason,
        refused.raw,
    )


def _split(result: BatchResult, firsts: Sequence[int]) -> Iterator[BatchResult]:
    """Give each batch the results that lie in it; `result.results` are in the order of their positions."""
    position = 0
    for first, end in itertools.pairwise(firsts):
        own: list[EventResult] = []
        while position < len(result.results) and result.results[position].index < end:
            one = result.results[position]
            own.append(
                EventResult(one.index - first, one.outcome, one.source, one.key, one.field, one.value, one.reason)
            )
            position += 1
        counted = Counter(one.outcome for one in own)
        yield BatchResult(
            batch_id=result.batch_id,
            results=tuple(own),
            accepted=counted["accepted"],
            duplicate=counted["duplicate"],
            conflict=counted["conflict"],
            rejected=counted["rejected"],
            contracts=result.contracts,
        )
