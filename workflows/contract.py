"""The contract: lives as long as the contract does; hears nudges, usage and amendments, accrues, starts invoices."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from temporalio import workflow
from temporalio.common import (
    RawValue,
    SearchAttributePair,
    SearchAttributeUpdate,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ActivityError, ApplicationError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.contracts import (
        AccruedUsage,
        AccrueUsage,
        AmendContract,
        AmendedContract,
        ContractActivities,
        EndContract,
        EndedContract,
        EndedPeriod,
    )
    from activities.usage import TakeInUsage, UsageActivities
    from workflows.hints import hint
    from workflows.invoice import InvoiceRequest, InvoiceWorkflow
    from workflows.names import (
        CONTRACT_STATUS,
        CONTRACTS_QUEUE,
        ENTITY_ID,
        OPENING,
        PERIOD_END,
        contract_workflow_id,
        invoice_workflow_id,
        recharge_workflow_id,
        webhook_workflow_id,
    )
    from workflows.policies import AT_HAND_LEDGER, LEDGER, LEDGER_INSISTENT, refused
    from workflows.recharge import RechargeRequest, RechargeWorkflow

MAX_SIGNAL_BYTES = 64 * 1024
MAX_TAKE_IN_BYTES = 400 * 1024
"""How much usage one activity takes in, about 2,000 events: a payload may have 2 MB."""
SIGNALS_PER_RUN = 5_000
"""After so many signals a run continues as new: Temporal refuses more than 10,000 and gives no hint before."""
LONGEST_SLEEP = timedelta(days=1)
"""Fees are earned by the day, so that a contract without usage accrues once a day."""
INTERVAL = "interval"
"""The change by which news of usage waits for the interval that the last accrual asked for."""
ALARM = "alarm"
"""The change by which a timer stays set from one accrual to the next."""
AT_HAND = "at-hand"
"""The change by which the worker that has the contract accrues it, without a task of its own at the server."""


@dataclass(slots=True)
class ContractState:
    """All that a contract's workflow knows; carried over unchanged when it continues as new.

    `pending_usage` are bodies of usage signals not taken in yet, `invoices_started` the invoices of periods that are
    not invoiced yet; periods that end by `close_through` are invoiced without grace. An accrual that is due comes at
    once; after news of usage (`nudged`) it waits until `quiet_until`. At `wake_at` a lot begins or ends next.
    """

    contract_id: str
    signals_per_run: int = SIGNALS_PER_RUN
    pending_usage: list[str] = field(default_factory=list)
    accrual_due: bool = True
    close_through: datetime | None = None
    opening_started: bool = False
    invoices_started: list[str] = field(default_factory=list)
    skipped_grace: list[str] = field(default_factory=list)
    runs: int = 1
    signals: int = 0
    accruals: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    next_boundary: datetime | None = None
    problem: str | None = None
    finished: bool = False
    nudged: bool = False
    quiet_until: datetime | None = None
    wake_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ContractStatus:
    """How a contract's workflow stands; the counts are of events by signal, over all its runs.

    `state` is `active`, `stopped` by a problem, or `ended`.
    """

    contract_id: str
    state: str
    problem: str | None
    next_boundary: datetime | None
    waiting_signals: int
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    signals: int
    accruals: int
    runs: int
    invoices_started: tuple[str, ...]


@workflow.defn(name="Contract")
class ContractWorkflow:
    """One contract, from its start until every period is invoiced."""

    @workflow.init
    def __init__(self, state: ContractState) -> None:
        self._state = state
        self._signals_this_run = 0
        self._accruals_begun = 0
        self._accruals_done = 0
        self._shown: tuple[str, ...] = ()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = datetime.max.replace(tzinfo=UTC)

    @workflow.run
    async def run(self, state: ContractState) -> ContractStatus:  # noqa: ARG002 - taken by __init__, before any signal
        """Take in, accrue, start invoices, sleep; until the contract has ended and is invoiced."""
        while True:
            if self._must_continue() and workflow.patched(AT_HAND):
                self._continue()  # before it accrues: a signal that comes meanwhile would have this step done again
            if self._state.pending_usage:
                await self._take_in_usage()
            if self._is_accrual_due():
                await self._accrue()
            if self._is_over():
                return self.status()
            if self._must_continue() and not workflow.patched(AT_HAND):
                self._continue()
            await self._wait()

    @workflow.signal
    def nudge(self) -> None:
        """Hear that the contract's usage changed: a hint, the database knows what."""
        self._count_signal()
        self._state.nudged = True

    @workflow.signal
    def usage(self, events: RawValue) -> None:
        """Hear usage: a JSON array of at most 100 events and 64 KB, kept as text so that its numbers stay exact."""
        self._count_signal()
        body = events.payload.data
        if len(body) > MAX_SIGNAL_BYTES:  # would outgrow the activity's payload; recorded as rejected instead
            body = f"a signal of {len(body)} bytes; send at most {MAX_SIGNAL_BYTES}".encode()
        self._state.pending_usage.append(body.decode("utf-8", errors="replace"))

    @workflow.signal
    def close_period(self, through: datetime) -> None:
        """Hear that finance closes: periods that end by `through` (UTC) are invoiced without grace."""
        self._count_signal()
        if through.tzinfo is None:
            through = through.replace(tzinfo=UTC)
        known = self._state.close_through
        self._state.close_through = through if known is None else max(known, through)
        self._state.accrual_due = True

    @workflow.update
    async def amend(self, request: AmendContract) -> AmendedContract:
        """Change the terms and return when the balance follows them."""
        try:
            amended = await workflow.execute_activity_method(ContractActivities.amend_contract, request, **LEDGER)
        except ActivityError as error:
            raise refused(error) from error
        return replace(amended, problem=await self._accrued_anew())

    @amend.validator
    def _may_amend(self, request: AmendContract) -> None:
        self._check_request(request.contract_id, request.effective_from, request.reason, request.by)
        if not request.definition.strip():
            raise _invalid("definition is empty; send the text of the whole contract file")

    @workflow.update
    async def end(self, request: EndContract) -> EndedContract:
        """End the contract and return when the balance follows."""
        try:
            ended = await workflow.execute_activity_method(ContractActivities.end_contract, request, **LEDGER)
        except ActivityError as error:
            raise refused(error) from error
        return replace(ended, problem=await self._accrued_anew())

    @end.validator
    def _may_end(self, request: EndContract) -> None:
        self._check_request(request.contract_id, request.end_at, request.reason, request.by)

    @workflow.query
    def status(self) -> ContractStatus:
        """Tell how the workflow stands."""
        state = self._state
        return ContractStatus(
            contract_id=state.contract_id,
            state="ended" if state.finished else "stopped" if state.problem else "active",
            problem=state.problem,
            next_boundary=state.next_boundary,
            waiting_signals=len(state.pending_usage),
            accepted=state.accepted,
            duplicate=state.duplicate,
            conflict=state.conflict,
            rejected=state.rejected,
            signals=state.signals,
            accruals=state.accruals,
            runs=state.runs,
            invoices_started=tuple(state.invoices_started),
        )

    async def _take_in_usage(self) -> None:
        """Take in as many pending signals as one activity should carry."""
        bodies, size = 0, 0
        for body in self._state.pending_usage:
            size += len(body)
            if bodies and size > MAX_TAKE_IN_BYTES:
                break
            bodies += 1
        taken = await workflow.execute_activity_method(
            UsageActivities.take_in_usage,
            TakeInUsage(self._state.contract_id, tuple(self._state.pending_usage[:bodies]), workflow.now()),
            **LEDGER_INSISTENT,
        )
        state = self._state
        del state.pending_usage[:bodies]
        state.accepted += taken.accepted
        state.duplicate += taken.duplicate
        state.conflict += taken.conflict
        state.rejected += taken.rejected
        state.nudged = state.nudged or state.contract_id in taken.contracts
        for contract_id in taken.contracts:
            if contract_id != state.contract_id:  # the marks are in the database: a nudge that fails is no loss
                await hint(contract_workflow_id(contract_id), "nudge")

    def _continue(self) -> NoReturn:
        self._state.runs += 1
        workflow.continue_as_new(self._state)

    async def _accrue(self) -> None:
        """Bring the balance up to now, then start what the accrual shows to be due."""
        self._state.accrual_due = self._state.nudged = False
        self._accruals_begun += 1
        number = self._accruals_begun
        request = AccrueUsage(self._state.contract_id, workflow.now())
        try:
            if workflow.patched(AT_HAND):
                accrued = await workflow.execute_local_activity_method(
                    ContractActivities.accrue_usage, request, **AT_HAND_LEDGER
                )
            else:
                accrued = await workflow.execute_activity_method(ContractActivities.accrue_usage, request, **LEDGER)
        except ActivityError as error:  # only a contract that is not recorded is refused
            raise refused(error) from error
        state = self._state
        state.accruals += 1
        state.problem = accrued.problem
        state.finished = accrued.finished
        if accrued.next_after and workflow.patched(INTERVAL):
            state.quiet_until = workflow.now() + accrued.next_after
        if accrued.problem is None:
            state.next_boundary = accrued.next_boundary
            state.wake_at = accrued.wake_at
            await self._start_invoices(accrued)
        if accrued.recharge is not None:
            await self._start_recharge(accrued.recharge)
        for endpoint_id in accrued.endpoints:  # what it is to hear is in the database: a wake that fails is no loss
            await hint(webhook_workflow_id(endpoint_id), "wake")
        self._show(accrued)
        self._accruals_done = number

    async def _start_invoices(self, accrued: AccruedUsage) -> None:
        state = self._state
        if not state.opening_started:
            opening = EndedPeriod(
                f"{state.contract_id}.{OPENING}", accrued.start_at, accrued.start_at, grace_until=accrued.start_at
            )
            await self._start_invoice(opening, accrued.entity_id, grace_until=accrued.start_at)
            state.opening_started = True
        for period in accrued.ended:
            closing = state.close_through is not None and period.period_end <= state.close_through
            if period.invoice_id not in state.invoices_started:
                await self._start_invoice(
                    period, accrued.entity_id, grace_until=period.period_end if closing else period.grace_until
                )
                state.invoices_started.append(period.invoice_id)
            elif closing and period.invoice_id not in state.skipped_grace:
                state.skipped_grace.append(period.invoice_id)
                await hint(invoice_workflow_id(period.invoice_id), "skip_grace")
        open_ids = {period.invoice_id for period in accrued.ended}
        state.invoices_started = [known for known in state.invoices_started if known in open_ids]
        state.skipped_grace = [known for known in state.skipped_grace if known in open_ids]

    async def _start_invoice(self, period: EndedPeriod, entity_id: str, *, grace_until: datetime) -> None:
        try:
            await workflow.start_child_workflow(
                InvoiceWorkflow.run,
                InvoiceRequest(
                    contract_id=self._state.contract_id,
                    invoice_id=period.invoice_id,
                    entity_id=entity_id,
                    period_start=period.period_start,
                    grace_until=grace_until,
                ),
                id=invoice_workflow_id(period.invoice_id),
                task_queue=CONTRACTS_QUEUE,
                parent_close_policy=ParentClosePolicy.ABANDON,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=TypedSearchAttributes(
                    [SearchAttributePair(ENTITY_ID, entity_id), SearchAttributePair(PERIOD_END, period.period_end)]
                ),
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("invoice %s is under way already", period.invoice_id)

    async def _start_recharge(self, number: int) -> None:
        try:
            await workflow.start_child_workflow(
                RechargeWorkflow.run,
                RechargeRequest(self._state.contract_id, number),
                id=recharge_workflow_id(self._state.contract_id, number),
                task_queue=CONTRACTS_QUEUE,
                parent_close_policy=ParentClosePolicy.ABANDON,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,  # one that found nothing due may be asked again
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("recharge %s is under way already", number)

    async def _accrued_anew(self) -> str | None:
        """Wait for an accrual that begins from now on; return the problem that stopped it."""
        begun = self._accruals_begun
        self._state.accrual_due = True
        await workflow.wait_condition(lambda: self._accruals_done > begun)
        return self._state.problem

    async def _wait(self) -> None:
        """Sleep until something is pending, a run must end, or the next boundary, interval or day is there."""
        now, boundary, quiet_until = workflow.now(), self._state.next_boundary, self._state.quiet_until
        wake_at = now + LONGEST_SLEEP
        is_quiet = self._state.nudged
        if is_quiet and quiet_until is not None and quiet_until > now:
            wake_at = min(wake_at, quiet_until)
        for moment in (boundary, self._state.wake_at):
            if moment is not None and moment > now:  # one that has passed was seen by an accrual that a problem stopped
                wake_at = min(wake_at, moment)

        def is_awake() -> bool:
            interval_begins = self._state.nudged and not is_quiet
            return self._has_work() or self._is_over() or self._must_continue() or interval_begins

        if workflow.patched(ALARM):
            self._set_alarm(wake_at)
            await workflow.wait_condition(is_awake)
            return
        try:
            await workflow.wait_condition(is_awake, timeout=wake_at - now)
        except TimeoutError:
            self._state.accrual_due = True

    def _set_alarm(self, at: datetime) -> None:
        """Have an accrual due by a moment: an earlier alarm stays, for timers cost more than one accrual too many."""
        if self._alarm is not None and self._alarm_at <= at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = asyncio.get_running_loop().call_later((at - workflow.now()).total_seconds(), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._state.accrual_due = True

    def _has_work(self) -> bool:
        return bool(self._state.pending_usage) or self._is_accrual_due()

    def _is_accrual_due(self) -> bool:
        state = self._state
        is_quiet = state.quiet_until is not None and workflow.now() < state.quiet_until and not state.finished
        return state.accrual_due or (state.nudged and not is_quiet)

    def _is_over(self) -> bool:
        return self._state.finished and not self._has_work() and workflow.all_handlers_finished()

    def _must_continue(self) -> bool:
        """Say whether the run is long enough and carries little enough to end here."""
        enough = self._signals_this_run >= self._state.signals_per_run or workflow.info().is_continue_as_new_suggested()
        carried = sum(len(body) for body in self._state.pending_usage)
        return enough and carried <= MAX_TAKE_IN_BYTES and workflow.all_handlers_finished()

    def _count_signal(self) -> None:
        self._signals_this_run += 1
        self._state.signals += 1

    def _check_request(self, contract_id: str, moment: datetime, reason: str, by: str) -> None:
        if contract_id != self._state.contract_id:
            raise _invalid(f"contract_id {contract_id!r} is not this contract; ask contract/{contract_id}")
        if moment.tzinfo is None:
            raise _invalid(f"the moment {moment.isoformat()} has no time zone; write it with one")
        if not reason.strip() or not by.strip():
            raise _invalid("reason and by must say why, and who asks")

    def _show(self, accrued: AccruedUsage) -> None:
        changes: list[SearchAttributeUpdate[Any]] = [
            CONTRACT_STATUS.value_set(self.status().state),
            ENTITY_ID.value_set(accrued.entity_id),
        ]
        if self._state.next_boundary is not None:
            changes.append(PERIOD_END.value_set(self._state.next_boundary))
        shown = tuple(str(change.value) for change in changes)
        if shown != self._shown:
            workflow.upsert_search_attributes(changes)
            self._shown = shown


def _invalid(message: str) -> ApplicationError:
    return ApplicationError(message, type="InvalidError", non_retryable=True)
