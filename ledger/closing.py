"""Closing a month of an entity's books: which periods are due, what is missing, and the lock with its seals.

A month is the first day of a month in the entity's zone. Once it is closed the database refuses postings into it; a
fact that becomes known later is posted on the first open day.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from ledger import schema
from ledger.checks import check_text
from ledger.contracts import Contract, list_contracts
from ledger.database import Json, canonical_json
from ledger.entities import get_entity
from ledger.errors import InvalidError, NotFoundError, StateError
from ledger.months import closed_months, next_month
from pricing.calendar import Period, local_date, local_midnight

ISSUED = ("finalised", "paid", "uncollectible")


@dataclass(frozen=True, slots=True)
class ClosePlan:
    """What a close asks of each contract: to accrue up to the month's end, and to invoice these periods (starts)."""

    entity_id: str
    month: date
    contracts: tuple[tuple[str, tuple[datetime, ...]], ...]


@dataclass(frozen=True, slots=True)
class CloseProgress:
    """What a close still waits for; `ready` when nothing is left.

    `periods` are all periods due by the month: contract, start, invoice, and the state of the invoice or, without one,
    of the period.
    """

    periods: tuple[tuple[str, datetime, str | None, str], ...]
    waiting_review: tuple[str, ...]
    blocked: tuple[tuple[str, str], ...]
    """Contracts whose rating stopped, with the reason."""
    unaccrued: tuple[str, ...]
    ready: bool


@dataclass(frozen=True, slots=True)
class Close:
    """The closing of one month of one entity."""

    entity_id: str
    month: date
    state: Literal["running", "closed"]
    started_by: str
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Seal:
    """What a contract's transfers of a month were when it was closed: a digest over them in the order of their ids."""

    contract_id: str
    month: date
    transfers: int
    first_id: UUID | None
    last_id: UUID | None
    sha256: bytes


def begin_close(connection: sa.Connection, entity_id: str, month: date, *, by: str, at: datetime) -> ClosePlan:
    """Record that a month is being closed, and return what that takes; a repetition returns what is still to do.

    Raises `StateError` when the month or a due period is not over, it is closed already, or an earlier one is open.
    """
    check_text("by", by)
    month_end = _month_end(connection, entity_id, month)
    if at < month_end:
        raise StateError(
            f"month {month:%Y-%m} of {entity_id} is not over before {month_end.isoformat()}; close it then"
        )
    closed = closed_months(connection, entity_id)
    if month in closed:
        raise StateError(f"month {month:%Y-%m} of {entity_id} is closed already")
    earlier = _first_month(connection, entity_id)
    while earlier is not None and earlier < month:
        if earlier not in closed:
            raise StateError(f"month {earlier:%Y-%m} of {entity_id} is still open; close it before {month:%Y-%m}")
        earlier = next_month(earlier)
    due = [item for item in _due_periods(connection, entity_id, month) if item.state != "invoiced"]
    for item in due:
        if item.period.end > at:
            raise StateError(
                f"period {item.period.start.isoformat()} of contract {item.contract_id} belongs to {month:%Y-%m} and "
                f"is not over before {item.period.end.isoformat()}; close the month then"
            )
    row = insert(schema.close_run).values(
        entity_id=entity_id, month=month, state="running", started_by=by, started_at=at
    )
    connection.execute(row.on_conflict_do_nothing())
    starts: dict[str, list[datetime]] = {name: [] for name in _unaccrued(connection, entity_id, month)}
    for item in due:
        starts.setdefault(item.contract_id, []).append(item.period.start)
    return ClosePlan(entity_id, month, tuple((name, tuple(starts[name])) for name in sorted(starts)))


def close_progress(connection: sa.Connection, entity_id: str, month: date) -> CloseProgress:
    """Return what the close of a month still waits for."""
    due = _due_periods(connection, entity_id, month)
    blocked = tuple(
        (contract.contract_id, contract.problem)
        for contract in _contracts(connection, entity_id, month)
        if contract.problem is not None
    )
    unaccrued = _unaccrued(connection, entity_id, month)
    open_periods = [item for item in due if item.state != "invoiced"]
    return CloseProgress(
        periods=tuple(
            (item.contract_id, item.period.start, item.invoice_id, item.invoice_state or item.state) for item in due
        ),
        waiting_review=tuple(
            item.invoice_id for item in due if item.invoice_id is not None and item.invoice_state == "in_review"
        ),
        blocked=blocked,
        unaccrued=unaccrued,
        ready=not (open_periods or blocked or unaccrued),
    )


def finish_close(connection: sa.Connection, entity_id: str, month: date, *, at: datetime) -> Close:
    """Lock the month, seal every contract's transfers, and record the close; a repetition is harmless.

    Raises `StateError` while something is missing, `NotFoundError` when the close was not begun.
    """
    _hold_postings(connection, entity_id)
    run = get_close(connection, entity_id, month)
    if run.state == "closed":
        return run
    progress = close_progress(connection, entity_id, month)
    if not progress.ready:
        raise StateError(f"month {month:%Y-%m} of {entity_id} is not ready to close: {_missing(progress)}")
    connection.execute(
        insert(schema.accounting_period).values(
            entity_id=entity_id, month=month, state="closed", closed_at=at, closed_by=run.started_by
        )
    )
    for contract in list_contracts(connection, entity_id=entity_id):
        seal = compute_seal(connection, contract.contract_id, month)
        if seal.transfers:
            connection.execute(
                insert(schema.ledger_seal).values(
                    contract_id=seal.contract_id,
                    month=month,
                    transfers=seal.transfers,
                    first_id=seal.first_id,
                    last_id=seal.last_id,
                    sha256=seal.sha256,
                    sealed_at=at,
                )
            )
    connection.execute(
        schema.close_run.update()
        .where(schema.close_run.c.entity_id == entity_id)
        .where(schema.close_run.c.month == month)
        .values(state="closed", finished_at=at)
    )
    return get_close(connection, entity_id, month)


def get_close(connection: sa.Connection, entity_id: str, month: date) -> Close:
    """Return the close of a month; raise `NotFoundError` when none was begun."""
    run = schema.close_run.c
    query = sa.select(schema.close_run).where(run.entity_id == entity_id).where(run.month == month)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(f"the close of month {month:%Y-%m} of {entity_id} was not begun; begin it first")
    return Close(*row)


def list_closes(connection: sa.Connection, entity_id: str) -> tuple[Close, ...]:
    """Return the closes of an entity by month."""
    run = schema.close_run.c
    query = sa.select(schema.close_run).where(run.entity_id == entity_id).order_by(run.month)
    return tuple(Close(*row) for row in connection.execute(query))


def list_seals(connection: sa.Connection, entity_id: str, month: date) -> tuple[Seal, ...]:
    """Return the seals of a closed month by contract; a contract without transfers in the month has none."""
    seal, contract = schema.ledger_seal, schema.contract
    columns = (seal.c.contract_id, seal.c.month, seal.c.transfers, seal.c.first_id, seal.c.last_id, seal.c.sha256)
    query = (
        sa.select(*columns)
        .join(contract, contract.c.contract_id == seal.c.contract_id)
        .where(contract.c.entity_id == entity_id)
        .where(seal.c.month == month)
        .order_by(seal.c.contract_id)
    )
    return tuple(Seal(*row) for row in connection.execute(query))


def compute_seal(connection: sa.Connection, contract_id: str, month: date) -> Seal:
    """Compute the digest over a contract's transfers that are effective in a month, from the ledger as it is now."""
    digest = sha256(canonical_json({"contract_id": contract_id, "month": month}).encode()).digest()
    count, first, last = 0, None, None
    for row in _transfers(connection, contract_id, month):
        content = canonical_json({name: _sealed(value) for name, value in row._mapping.items()})  # noqa: SLF001 - public in all but name
        digest = sha256(digest + content.encode()).digest()
        first, last, count = first or row.transfer_id, row.transfer_id, count + 1
    return Seal(contract_id, month, count, first, last, digest)


@dataclass(frozen=True, slots=True)
class _Due:
    contract_id: str
    period: Period
    state: str
    invoice_id: str | None
    invoice_state: str | None


def _due_periods(connection: sa.Connection, entity_id: str, month: date) -> list[_Due]:
    """Return the periods whose last local day lies in the month or earlier, whether or not accrual has seen them."""
    known = {(row.contract_id, row.start_at): row for row in connection.execute(_PERIODS, {"entity_id": entity_id})}
    following = next_month(month)
    found = []
    for contract in _contracts(connection, entity_id, month):
        until = local_midnight(following, contract.time_zone)
        for period in contract.periods(until):
            if local_date(period.end - timedelta.resolution, contract.time_zone) < following:
                row = known.get((contract.contract_id, period.start))
                state = (row.period_state, row.invoice_id, row.invoice_state) if row else ("open", None, None)
                found.append(_Due(contract.contract_id, period, *state))
    return found


_PERIODS = sa.text(
    """
    select p.contract_id, p.start_at, p.state as period_state, i.invoice_id, i.state as invoice_state
    from contract_period p
    join contract c using (contract_id)
    left join invoice i on i.contract_id = p.contract_id and i.kind = 'period' and i.period_start = p.start_at
    where c.entity_id = :entity_id
    """
)


def _contracts(connection: sa.Connection, entity_id: str, month: date) -> list[Contract]:
    """Return the contracts that began before the month's end, by id."""
    month_end = _month_end(connection, entity_id, month)
    found = list_contracts(connection, entity_id=entity_id)
    return sorted((contract for contract in found if contract.start_at < month_end), key=lambda c: c.contract_id)


def _unaccrued(connection: sa.Connection, entity_id: str, month: date) -> tuple[str, ...]:
    """Return the contracts not accrued up to the month's end, or with usage received before the close was begun.

    Usage that comes for a contract whose periods are all frozen is in no balance, so nothing waits for it.
    """
    rows = connection.execute(
        sa.text(
            """
            select c.contract_id from contract c
            left join close_run r on r.entity_id = c.entity_id and r.month = :month
            where c.entity_id = :entity_id and c.start_at < :month_end and (
                coalesce(c.accrued_at < least(:month_end, c.end_at), true)
                or exists (select from contract_period p where p.contract_id = c.contract_id and p.state = 'open')
                and exists (
                    select from usage_dirty d where d.contract_id = c.contract_id
                    and d.received_at < greatest(cast(:month_end as timestamptz), r.started_at)
                )
            )
            order by c.contract_id
            """
        ),
        {"entity_id": entity_id, "month": month, "month_end": _month_end(connection, entity_id, month)},
    )
    return tuple(rows.scalars())


def _hold_postings(connection: sa.Connection, entity_id: str) -> None:
    """Let the postings under way finish and make others wait: each of them shares the entity's books."""
    connection.execute(sa.text("select hold_books(:entity_id)"), {"entity_id": entity_id})


def _transfers(connection: sa.Connection, contract_id: str, month: date) -> Iterator[sa.Row[tuple[object, ...]]]:
    own = sa.select(schema.account.c.account_id).where(schema.account.c.contract_id == contract_id)
    accounts = sa.literal([*connection.execute(own).scalars()], ARRAY(sa.BigInteger))
    transfer = schema.transfer.c
    # An array, not a subquery: so both indexes serve, and a close does not read the whole ledger for each contract.
    query = (
        sa.select(schema.transfer)
        .where((transfer.debit_id == sa.any_(accounts)) | (transfer.credit_id == sa.any_(accounts)))
        .where(transfer.effective_on >= month)
        .where(transfer.effective_on < next_month(month))
        .order_by(transfer.transfer_id)
    )
    yield from connection.execute(query, execution_options={"yield_per": 1000})


def _sealed(value: object) -> Json:
    match value:
        case UUID():
            return str(value)
        case bytes():
            return value.hex()
        case datetime():
            return value.astimezone(UTC)
        case str() | int() | Decimal() | date() | None:
            return value
        case _:
            raise TypeError(f"{type(value).__name__} has no form in a seal")


def _missing(progress: CloseProgress) -> str:
    waiting = [item for item in progress.periods if item[3] not in ISSUED]
    parts = {
        "periods not invoiced": [
            f"{contract} from {start.isoformat()} ({state})" for contract, start, _, state in waiting
        ],
        "contracts that cannot be rated": [f"{name} ({problem})" for name, problem in progress.blocked],
        "contracts not accrued": progress.unaccrued,
    }
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)


def _first_month(connection: sa.Connection, entity_id: str) -> date | None:
    """Return the first month in which the entity has a transfer, or a contract by the contract's own calendar."""
    first_day = connection.execute(
        sa.text(
            """
            select min(t.effective_on) from transfer t join account a on a.account_id = t.debit_id
            where a.entity_id = :entity_id
            """
        ),
        {"entity_id": entity_id},
    ).scalar_one()
    contracts = list_contracts(connection, entity_id=entity_id)
    starts = [local_date(contract.start_at, contract.time_zone) for contract in contracts]
    days = [*starts, first_day] if first_day else starts
    return min(days).replace(day=1) if days else None


def _month_end(connection: sa.Connection, entity_id: str, month: date) -> datetime:
    if month.day != 1:
        raise InvalidError(f"month {month} must be the first day of a month")
    return local_midnight(next_month(month), get_entity(connection, entity_id).time_zone)
