"""The billing periods of a contract as they are recorded: open, then frozen with a cut-off, then invoiced.

Periods are frozen in order of time. An open one follows the contract's term; a frozen one never changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from ledger import schema
from ledger.errors import NotFoundError, StateError
from ledger.terms_codec import terms_to_json
from pricing.calendar import Period
from pricing.terms import Terms

PeriodState = Literal["open", "frozen", "invoiced"]


@dataclass(frozen=True, slots=True)
class ContractPeriod:
    """A period of a contract; usage of batches after `cutoff_batch_id` is not in its invoice (None while open)."""

    contract_id: str
    period: Period
    state: PeriodState
    cutoff_batch_id: int | None
    frozen_at: datetime | None


def list_periods(connection: sa.Connection, contract_id: str) -> tuple[ContractPeriod, ...]:
    """Return the recorded periods of a contract in order of time."""
    columns = [
        _PERIOD.c[name] for name in ("contract_id", "start_at", "end_at", "state", "cutoff_batch_id", "frozen_at")
    ]
    rows = connection.execute(
        sa.select(*columns).where(_PERIOD.c.contract_id == contract_id).order_by(_PERIOD.c.start_at)
    )
    return tuple(
        ContractPeriod(row.contract_id, Period(row.start_at, row.end_at), row.state, row.cutoff_batch_id, row.frozen_at)
        for row in rows
    )


def get_period(connection: sa.Connection, contract_id: str, period_start: datetime) -> ContractPeriod:
    """Return the period that starts at a moment; raise `NotFoundError`."""
    for period in list_periods(connection, contract_id):
        if period.period.start == period_start:
            return period
    raise NotFoundError(
        f"contract {contract_id} has no period that begins at {period_start.isoformat()}; list the periods it has"
    )


def record_periods(connection: sa.Connection, contract_id: str, begun: Sequence[Period]) -> tuple[ContractPeriod, ...]:
    """Make the open periods those of `begun` that are not frozen, and return all that are recorded then.

    New ones appear, others are cut, moved on or gone. The caller holds the contract.
    """
    recorded = list_periods(connection, contract_id)
    frozen = {one.period.start for one in recorded if one.state != "open"}
    if [one.period for one in recorded if one.state == "open"] == [one for one in begun if one.start not in frozen]:
        return recorded  # as nearly always: nothing is written for each accrual
    _rewrite(connection, contract_id, begun)
    return list_periods(connection, contract_id)


def _rewrite(connection: sa.Connection, contract_id: str, begun: Sequence[Period]) -> None:
    starts = [period.start for period in begun]
    connection.execute(
        _PERIOD.delete().where(
            _PERIOD.c.contract_id == contract_id, _PERIOD.c.state == "open", _PERIOD.c.start_at.not_in(starts)
        )
    )
    if not begun:
        return
    rows = [{"contract_id": contract_id, "start_at": period.start, "end_at": period.end} for period in begun]
    upsert = insert(_PERIOD).values(rows)
    connection.execute(
        upsert.on_conflict_do_update(
            index_elements=[_PERIOD.c.contract_id, _PERIOD.c.start_at],
            set_={"end_at": upsert.excluded.end_at},
            where=(_PERIOD.c.state == "open") & (_PERIOD.c.end_at != upsert.excluded.end_at),
        )
    )


def record_frozen(
    connection: sa.Connection,
    contract_id: str,
    period_start: datetime,
    *,
    cutoff_batch_id: int,
    billed_terms: Sequence[Terms],
    billed_types: Sequence[str],
    at: datetime,
) -> None:
    """Freeze an open period with the terms that it is billed with, and the types of events that they price.

    Raises `StateError` when it is not open.
    """
    changed = connection.execute(
        _PERIOD.update()
        .where(_PERIOD.c.contract_id == contract_id, _PERIOD.c.start_at == period_start, _PERIOD.c.state == "open")
        .values(
            state="frozen",
            cutoff_batch_id=cutoff_batch_id,
            frozen_at=at,
            billed_terms=[terms_to_json(version) for version in billed_terms],
            billed_types=[*billed_types],
        )
    )
    if changed.rowcount != 1:
        raise StateError(f"period {period_start.isoformat()} of contract {contract_id} is not open; it is frozen once")


def record_invoiced(connection: sa.Connection, contract_id: str, period_start: datetime) -> None:
    """Note that a frozen period's invoice is final; harmless when repeated, `StateError` while the period is open."""
    changed = connection.execute(
        _PERIOD.update()
        .where(_PERIOD.c.contract_id == contract_id, _PERIOD.c.start_at == period_start, _PERIOD.c.state != "open")
        .values(state="invoiced")
    )
    if changed.rowcount != 1:
        raise StateError(
            f"period {period_start.isoformat()} of contract {contract_id} is not frozen; draft its invoice first"
        )


def frozen_until(connection: sa.Connection, contract_id: str) -> datetime | None:
    """Return the end of the last period that is frozen or invoiced: nothing before it may change. None: nothing is."""
    end: datetime | None = connection.execute(
        sa.select(sa.func.max(_PERIOD.c.end_at)).where(_PERIOD.c.contract_id == contract_id, _PERIOD.c.state != "open")
    ).scalar_one()
    return end


_PERIOD = schema.contract_period
