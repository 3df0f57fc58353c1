"""The delivery to one endpoint: a workflow of its own, so that a slow or dead one holds up no other."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.delivery import Deliver, DeliveryActivities
    from workflows.names import DELIVERY_QUEUE
    from workflows.policies import LEDGER, ActivityOptions, refused

ROUNDS_PER_RUN = 200
WAKES_PER_RUN = 2_000
"""After so many rounds or signals a run continues as new, long before its history is too long."""
LONGEST_SLEEP = timedelta(days=1)
"""A wake that was lost, such as that of an endpoint that was removed, is made good for by then."""

DELIVERY: ActivityOptions = {
    **LEDGER,
    "task_queue": DELIVERY_QUEUE,
    "start_to_close_timeout": timedelta(minutes=5),
}
"""Up to 50 calls of up to 10 seconds, 10 at a time."""


@dataclass(slots=True)
class WebhookState:
    """What the workflow of an endpoint knows; carried over when it continues as new.

    `woken` says that something may be due; `next_due` is when something is known to be.
    """

    endpoint_id: str
    woken: bool = True
    next_due: datetime | None = None
    attempts: int = 0
    runs: int = 1
    rounds_per_run: int = ROUNDS_PER_RUN


@dataclass(frozen=True, slots=True)
class WebhookStatus:
    """How the delivery to an endpoint stands; `attempts` counts over all runs."""

    endpoint_id: str
    next_due: datetime | None
    attempts: int
    runs: int


@workflow.defn(name="Webhook")
class WebhookWorkflow:
    """One endpoint, until it is removed."""

    @workflow.init
    def __init__(self, state: WebhookState) -> None:
        self._state = state
        self._rounds = 0
        self._wakes = 0

    @workflow.run
    async def run(self, state: WebhookState) -> WebhookStatus:  # noqa: ARG002 - taken by __init__, before any signal
        """Deliver what is due, and sleep until something is."""
        while True:
            if self._is_due() and await self._deliver():
                return self.status()
            if self._must_continue():
                self._state.runs += 1
                workflow.continue_as_new(self._state)
            await self._wait()

    @workflow.signal
    def wake(self) -> None:
        """Hear that something may be due, or that the endpoint changed: a hint, the database knows what."""
        self._wakes += 1
        self._state.woken = True

    @workflow.query
    def status(self) -> WebhookStatus:
        """Tell how the delivery stands."""
        state = self._state
        return WebhookStatus(state.endpoint_id, state.next_due, state.attempts, state.runs)

    async def _deliver(self) -> bool:
        """Make one round; return whether the endpoint is removed."""
        state = self._state
        state.woken = False
        self._rounds += 1
        try:
            delivered = await workflow.execute_activity_method(
                DeliveryActivities.deliver, Deliver(state.endpoint_id, workflow.now()), **DELIVERY
            )
        except ActivityError as error:  # only an endpoint that is not recorded is refused
            raise refused(error) from error
        state.attempts += delivered.attempts
        state.next_due = delivered.next_due
        return delivered.removed

    async def _wait(self) -> None:
        """Sleep until something is due, or news comes."""
        if self._is_due():
            return
        due, now = self._state.next_due, workflow.now()
        wait = LONGEST_SLEEP if due is None else min(due - now, LONGEST_SLEEP)
        try:
            await workflow.wait_condition(lambda: self._state.woken or self._must_continue(), timeout=wait)
        except TimeoutError:
            self._state.woken = True

    def _is_due(self) -> bool:
        due = self._state.next_due
        return self._state.woken or (due is not None and due <= workflow.now())

    def _must_continue(self) -> bool:
        enough = self._rounds >= self._state.rounds_per_run or self._wakes >= WAKES_PER_RUN
        return enough or workflow.info().is_continue_as_new_suggested()
