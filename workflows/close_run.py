"""The close of a month: has every due period invoiced, waits for reviews and accruals, then locks the books."""

import asyncio
import hashlib
from dataclasses import dataclass, replace
from datetime import date, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.closing import (
        BeginClose,
        CloseState,
        ClosingActivities,
        DueContract,
        FinishClose,
        LookAtClose,
    )
    from workflows.hints import hint
    from workflows.names import ENTITY_ID, contract_workflow_id
    from workflows.policies import LEDGER, LEDGER_INSISTENT, refused

FEW_CONTRACTS = 50
"""Up to so many contracts are told at once; more are spread over some seconds."""
SPREAD = timedelta(seconds=5)
TOLD_TOGETHER = 50
LONGEST_WAIT = timedelta(seconds=15)
TELL_AGAIN_EVERY = 5


@dataclass(frozen=True, slots=True)
class CloseRequest:
    """Close an entity's month (its first day); the other fields are carried when the workflow continues as new."""

    entity_id: str
    month: date
    by: str
    contracts: tuple[DueContract, ...] | None = None
    looks: int = 0


@dataclass(frozen=True, slots=True)
class CloseStatus:
    """How a close stands: `beginning`, `waiting`, `closed` or `refused`.

    `open_periods` are (contract, state) of due periods without a final invoice, `waiting_review` invoices that a person
    must approve, `blocked` (contract, problem), `unaccrued` contracts whose usage is not in the balance yet,
    `unreachable` contracts without a running workflow.
    """

    entity_id: str
    month: date
    state: str
    periods: int
    open_periods: tuple[tuple[str, str], ...]
    waiting_review: tuple[str, ...]
    blocked: tuple[tuple[str, str], ...]
    unaccrued: tuple[str, ...]
    unreachable: tuple[str, ...]
    problem: str | None


@dataclass(frozen=True, slots=True)
class CloseResult:
    """A closed month."""

    entity_id: str
    month: date
    periods: int


@workflow.defn(name="CloseRun")
class CloseRunWorkflow:
    """One entity's month, from the wish to close it to the lock."""

    @workflow.init
    def __init__(self, request: CloseRequest) -> None:
        self._carried = request
        self._progress: CloseState | None = None
        self._unreachable: tuple[str, ...] = ()
        self._problem: str | None = None
        self._refusal: ApplicationError | None = None
        self._state = "beginning"

    @workflow.run
    async def run(self, request: CloseRequest) -> CloseResult:
        """Begin, tell the contracts, wait until all is invoiced and accrued, lock."""
        workflow.upsert_search_attributes([ENTITY_ID.value_set(request.entity_id)])
        contracts = request.contracts if request.contracts is not None else await self._begin()
        self._carried = replace(self._carried, contracts=contracts)
        self._state = "waiting"
        while not await self._finished():
            if workflow.info().is_continue_as_new_suggested() and workflow.all_handlers_finished():
                workflow.continue_as_new(self._carried)
            await workflow.sleep(min(timedelta(seconds=1.5 ** min(self._carried.looks, 8)), LONGEST_WAIT))
            self._carried = replace(self._carried, looks=self._carried.looks + 1)
        self._state = "closed"
        await workflow.wait_condition(workflow.all_handlers_finished)
        return CloseResult(request.entity_id, request.month, self._progress.periods if self._progress else 0)

    @workflow.update
    async def begun(self) -> CloseStatus:
        """Answer once the close has begun; a refusal fails the workflow, and with it this question."""
        await workflow.wait_condition(lambda: self._state != "beginning")
        if self._refusal is not None:
            raise self._refusal
        return self.status()

    @workflow.query
    def status(self) -> CloseStatus:
        """Tell how the close stands."""
        progress = self._progress
        return CloseStatus(
            entity_id=self._carried.entity_id,
            month=self._carried.month,
            state=self._state,
            periods=progress.periods if progress else 0,
            open_periods=progress.open_periods if progress else (),
            waiting_review=progress.waiting_review if progress else (),
            blocked=progress.blocked if progress else (),
            unaccrued=progress.unaccrued if progress else (),
            unreachable=self._unreachable,
            problem=self._problem,
        )

    async def _begin(self) -> tuple[DueContract, ...]:
        carried = self._carried
        try:
            begun = await workflow.execute_activity_method(
                ClosingActivities.begin_close,
                BeginClose(carried.entity_id, carried.month, carried.by, workflow.now()),
                **LEDGER,
            )
        except ActivityError as error:
            self._refusal = refused(error)
            self._problem, self._state = self._refusal.message, "refused"
            await workflow.wait_condition(workflow.all_handlers_finished)
            raise self._refusal from error
        return begun.contracts

    async def _finished(self) -> bool:
        """Look how far the close is, tell whom it waits for, and lock the month when it waits for nobody."""
        carried = self._carried
        if carried.looks % TELL_AGAIN_EVERY == 0:
            await self._tell_contracts()
        self._progress = await workflow.execute_activity_method(
            ClosingActivities.look_at_close, LookAtClose(carried.entity_id, carried.month), **LEDGER_INSISTENT
        )
        if not self._progress.ready:
            await _tell([(contract_id, "nudge", ()) for contract_id in self._progress.unaccrued])
            return False
        finished = await workflow.execute_activity_method(
            ClosingActivities.finish_close,
            FinishClose(carried.entity_id, carried.month, workflow.now()),
            **LEDGER_INSISTENT,
        )
        self._problem = finished.problem
        return finished.closed

    async def _tell_contracts(self) -> None:
        """Ask every contract that still has a period to invoice; those that are not running are listed."""
        contracts = self._carried.contracts or ()
        if self._progress is not None:
            waiting = {contract_id for contract_id, _ in self._progress.open_periods}
            contracts = tuple(contract for contract in contracts if contract.contract_id in waiting)
        if len(contracts) > FEW_CONTRACTS and self._progress is None:
            contracts = tuple(sorted(contracts, key=lambda contract: _place(contract.contract_id)))
        unreachable: list[str] = []
        batches = [contracts[i : i + TOLD_TOGETHER] for i in range(0, len(contracts), TOLD_TOGETHER)]
        for number, batch in enumerate(batches):
            if number:
                await workflow.sleep(SPREAD / len(batches))
            heard = await _tell([(due.contract_id, "close_period", (due.through,)) for due in batch])
            unreachable.extend(due.contract_id for due, ok in zip(batch, heard, strict=True) if not ok)
        self._unreachable = tuple(unreachable)


async def _tell(messages: list[tuple[str, str, tuple[object, ...]]]) -> list[bool]:
    """Signal contracts, some at a time; return who heard."""
    heard: list[bool] = []
    for start in range(0, len(messages), TOLD_TOGETHER):
        batch = messages[start : start + TOLD_TOGETHER]
        heard += await asyncio.gather(
            *(hint(contract_workflow_id(contract_id), signal, *arguments) for contract_id, signal, arguments in batch)
        )
    return heard


def _place(contract_id: str) -> bytes:
    """Return a contract's place in the spread: by its hash, so that no customer's contracts come all at once."""
    return hashlib.sha256(contract_id.encode()).digest()
