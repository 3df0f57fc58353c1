"""Spooled requests in the database: entered once, and their answers kept under their receipts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
import sqlalchemy as sa

from ledger import schema
from ledger.checks import check_aware
from ledger.database import Json
from ledger.intake.spool_records import Record
from ledger.intake.store import BatchResult
from ledger.intake.together import take_in_together


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a spooled request; `answer` holds its counts and, in `results`, every event."""

    receipt_id: str
    batch_id: int
    answer: dict[str, Json]
    spooled_at: datetime
    entered_at: datetime


def enter_records(connection: sa.Connection, records: Sequence[Record], *, entered_at: datetime) -> tuple[str, ...]:
    """Take records in as one batch with an answer each, and return the contracts that have something new to accrue.

    Records that were entered before, by a process that died before it could forget them, are left out.
    """
    check_aware("entered_at", entered_at)
    known = sa.select(_RECEIPT.c.receipt_id).where(_RECEIPT.c.receipt_id.in_([one.receipt_id for one in records]))
    entered = {*connection.execute(known).scalars()}
    fresh = [one for one in records if one.receipt_id not in entered]
    if not fresh:
        return ()
    received_at = min(one.received_at for one in fresh)
    results = take_in_together(connection, [one.batch for one in fresh], door="spool", received_at=received_at)
    rows = [
        {
            "receipt_id": one.receipt_id,
            "batch_id": result.batch_id,
            "answer": _answer(result),
            "spooled_at": one.received_at,
            "entered_at": entered_at,
        }
        for one, result in zip(fresh, results, strict=True)
    ]
    connection.execute(_RECEIPT.insert(), rows)
    return results[0].contracts


def find_receipt(connection: sa.Connection, receipt_id: str) -> Receipt | None:
    """Return what became of a spooled request; None when it is not entered."""
    found = sa.select(
        _RECEIPT.c.receipt_id, _RECEIPT.c.batch_id, _RECEIPT.c.answer, _RECEIPT.c.spooled_at, _RECEIPT.c.entered_at
    ).where(_RECEIPT.c.receipt_id == receipt_id)
    row = connection.execute(found).one_or_none()
    return None if row is None else Receipt(*row)


def _answer(result: BatchResult) -> dict[str, Json]:
    return {
        "accepted": result.accepted,
        "duplicate": result.duplicate,
        "conflict": result.conflict,
        "rejected": result.rejected,
        "results": [msgspec.structs.asdict(one) for one in result.results],
    }


_RECEIPT = schema.usage_receipt
