"""Activities on the close of a month: begin, look, finish."""

from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa
from temporalio import activity

from ledger.closing import begin_close, close_progress, finish_close
from ledger.contracts import get_contract
from ledger.errors import StateError
from pricing.calendar import local_midnight

MONTHS_PER_YEAR = 12


@dataclass(frozen=True, slots=True)
class BeginClose:
    """Begin to close an entity's month; `month` is its first day."""

    entity_id: str
    month: date
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DueContract:
    """A contract with periods to invoice: all that end by `through` (UTC)."""

    contract_id: str
    through: datetime


@dataclass(frozen=True, slots=True)
class BegunClose:
    """What the close has to bring about."""

    contracts: tuple[DueContract, ...]


@dataclass(frozen=True, slots=True)
class LookAtClose:
    """Ask how far the close of a month is."""

    entity_id: str
    month: date


@dataclass(frozen=True, slots=True)
class CloseState:
    """How far a close is: `open_invoices` are (contract, state) of due periods that are not invoiced."""

    periods: int
    open_periods: tuple[tuple[str, str], ...]
    waiting_review: tuple[str, ...]
    blocked: tuple[tuple[str, str], ...]
    unaccrued: tuple[str, ...]
    ready: bool


@dataclass(frozen=True, slots=True)
class FinishClose:
    """Lock the month at `at` (UTC) and seal it."""

    entity_id: str
    month: date
    at: datetime


@dataclass(frozen=True, slots=True)
class FinishedClose:
    """Whether the month is locked; `problem` says what came in between."""

    closed: bool
    problem: str | None = None


class ClosingActivities:
    """Activities on the close, one database transaction each."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @activity.defn
    def begin_close(self, request: BeginClose) -> BegunClose:
        """Record that a close runs and list what is due; raises `StateError` when it is too early or done."""
        with self._engine.begin() as connection:
            plan = begin_close(connection, request.entity_id, request.month, by=request.by, at=request.at)
            return BegunClose(
                tuple(
                    DueContract(
                        contract_id,
                        local_midnight(_following(request.month), get_contract(connection, contract_id).time_zone),
                    )
                    for contract_id, _ in plan.contracts
                )
            )

    @activity.defn
    def look_at_close(self, request: LookAtClose) -> CloseState:
        """Read how far the close is."""
        with self._engine.begin() as connection:
            progress = close_progress(connection, request.entity_id, request.month)
        return CloseState(
            periods=len(progress.periods),
            open_periods=tuple(
                (contract_id, state) for contract_id, _, _, state in progress.periods if state not in _INVOICED
            ),
            waiting_review=tuple(progress.waiting_review),
            blocked=tuple(progress.blocked),
            unaccrued=tuple(progress.unaccrued),
            ready=progress.ready,
        )

    @activity.defn
    def finish_close(self, request: FinishClose) -> FinishedClose:
        """Lock and seal the month; something that came in between is answered, and the close goes on."""
        try:
            with self._engine.begin() as connection:
                finish_close(connection, request.entity_id, request.month, at=request.at)
        except StateError as error:
            return FinishedClose(closed=False, problem=str(error))
        return FinishedClose(closed=True)


_INVOICED = {"finalised", "paid", "uncollectible", "invoiced"}


def _following(month: date) -> date:
    first = month.replace(day=1)
    return first.replace(year=first.year + first.month // MONTHS_PER_YEAR, month=first.month % MONTHS_PER_YEAR + 1)
