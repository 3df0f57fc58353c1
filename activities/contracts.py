"""Activities on a contract: bring its balance up to date, amend it, end it."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import thread_time

import sqlalchemy as sa
from temporalio import activity

from ledger.accrual import Accrual, accrue
from ledger.amendments import amend_contract, read_amendment
from ledger.contracts import Contract, end_contract, get_contract, set_problem
from ledger.errors import ClosedPeriodError, MeterbookError, NotFoundError
from ledger.gates import note_problem, project_gates
from ledger.pace import next_after
from ledger.periods import list_periods
from ledger.recharges import next_recharge
from ledger.webhooks import due_endpoints
from pricing.calendar import local_date
from pricing.errors import PricingError


@dataclass(frozen=True, slots=True)
class AccrueUsage:
    """Bring a contract's balance up to `as_of` (UTC)."""

    contract_id: str
    as_of: datetime


@dataclass(frozen=True, slots=True)
class EndedPeriod:
    """A period that is over and not invoiced; its invoice may be drafted from `grace_until` (UTC) on."""

    invoice_id: str
    period_start: datetime
    period_end: datetime
    grace_until: datetime


@dataclass(frozen=True, slots=True)
class AccruedUsage:
    """What the contract's workflow needs to know after an accrual; `problem` says why rating stopped.

    `next_boundary` is when a period ends or begins next; `finished` means ended with every period invoiced. News of
    usage may wait for `next_after`. `endpoints` are those of webhooks that have alerts to hear, `recharge`
    is the number of the one that the balance asks for, and at `wake_at` a lot begins or ends next.
    """

    entity_id: str
    start_at: datetime
    transfers_posted: int
    next_boundary: datetime | None
    ended: tuple[EndedPeriod, ...]
    finished: bool
    problem: str | None
    next_after: timedelta = timedelta()
    endpoints: tuple[str, ...] = ()
    recharge: int | None = None
    wake_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AmendContract:
    """Change a contract's terms from `effective_from` (UTC) on; `definition` is the text of its whole file."""

    contract_id: str
    definition: str
    effective_from: datetime
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class AmendedContract:
    """The version that the new terms have; `problem` says why the balance could not follow them."""

    contract_id: str
    version: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class EndContract:
    """End a contract at `end_at` (UTC)."""

    contract_id: str
    end_at: datetime
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class EndedContract:
    """When the contract ends; `problem` says why the balance could not follow."""

    contract_id: str
    end_at: datetime
    problem: str | None = None


class ContractActivities:
    """Activities on contracts, one database transaction each."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @activity.defn
    def accrue_usage(self, request: AccrueUsage) -> AccruedUsage:
        """Rate a contract's open periods and post the difference; a problem of its terms is recorded and answered."""
        begin = (
            thread_time()
        )  # what it works, not what it waits for: a busy machine must not slow balances down further
        try:
            with self._engine.begin() as connection:
                accrual = accrue(connection, request.contract_id, as_of=request.as_of)
                took = timedelta(seconds=thread_time() - begin)
                wait = next_after(connection, request.contract_id, took=took, has_lots=accrual.has_lots)
                accrued = _accrued(connection, accrual, wait)
                told = due_endpoints(connection, at=datetime.now(UTC)) if accrual.crossings else ()
                recharge = next_recharge(connection, accrual.contract, at=request.as_of)
                return replace(accrued, endpoints=told, recharge=recharge)
        except (ClosedPeriodError, NotFoundError):
            raise
        except (PricingError, MeterbookError) as error:
            with self._engine.begin() as connection:
                set_problem(connection, request.contract_id, str(error))
                note_problem(connection, request.contract_id, str(error))
                return _stopped(get_contract(connection, request.contract_id), str(error))

    @activity.defn
    def amend_contract(self, request: AmendContract) -> AmendedContract:
        """Record a new version of a contract's terms; the same again is the same version."""
        with self._engine.begin() as connection:
            definition = read_amendment(connection, request.contract_id, request.definition)
            version = amend_contract(
                connection,
                request.contract_id,
                definition,
                effective_from=request.effective_from,
                reason=request.reason,
                by=request.by,
            )
        return AmendedContract(request.contract_id, version)

    @activity.defn
    def end_contract(self, request: EndContract) -> EndedContract:
        """Record when a contract ends; the same again is harmless."""
        with self._engine.begin() as connection:
            contract = end_contract(
                connection, request.contract_id, end_at=request.end_at, by=request.by, reason=request.reason
            )
            project_gates(connection, contract, as_of=datetime.now(UTC))
        return EndedContract(request.contract_id, request.end_at)


def _accrued(connection: sa.Connection, accrual: Accrual, wait: timedelta) -> AccruedUsage:
    contract = accrual.contract
    grace = contract.policy.invoicing.grace
    recorded = list_periods(connection, contract.contract_id) if accrual.ended_periods else ()
    ended = [
        EndedPeriod(
            invoice_id=f"{contract.contract_id}.{local_date(recorded_period.period.start, contract.time_zone)}",
            period_start=recorded_period.period.start,
            period_end=recorded_period.period.end,
            grace_until=max(recorded_period.period.end, contract.created_at) + grace,
        )
        for recorded_period in recorded
        if recorded_period.period.start in accrual.ended_periods
    ]
    return AccruedUsage(
        entity_id=contract.entity_id,
        start_at=contract.start_at,
        transfers_posted=accrual.transfers_posted,
        next_boundary=accrual.next_boundary,
        ended=tuple(ended),
        finished=accrual.finished,
        problem=None,
        next_after=wait,
        wake_at=accrual.wake_at,
    )


def _stopped(contract: Contract, problem: str) -> AccruedUsage:
    return AccruedUsage(
        entity_id=contract.entity_id,
        start_at=contract.start_at,
        transfers_posted=0,
        next_boundary=None,
        ended=(),
        finished=False,
        problem=problem,
    )
