"""How activities are called: queues, timeouts and retries, and which refusals are never retried."""

from datetime import timedelta
from typing import TypedDict

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from ledger.errors import (
        ConflictError,
        IdempotencyConflictError,
        InvalidError,
        NotFoundError,
        StateError,
    )
    from pricing.errors import MissingPriceError, NegativeQuantityError, PricingError, TermsError
    from workflows.names import LEDGER_QUEUE, PAYMENTS_QUEUE

NEVER_RETRIED = [
    *(error.__name__ for error in (NotFoundError, ConflictError, IdempotencyConflictError, InvalidError, StateError)),
    *(error.__name__ for error in (PricingError, TermsError, MissingPriceError, NegativeQuantityError)),
    "FileError",
    "StripeRefusedError",
]
"""Refusals that no repetition changes, by the name Temporal gives them. `ClosedPeriodError` is missing on purpose:
the next try finds the first open day where it has moved to. An unknown outcome at Stripe is asked about instead."""


SIGN_OF_LIFE = timedelta(seconds=6)
"""An activity that reports nothing for so long has lost its worker, and is tried again."""


class ActivityOptions(TypedDict):
    """The options of one kind of activity call, to be passed on as keywords."""

    task_queue: str
    start_to_close_timeout: timedelta
    schedule_to_close_timeout: timedelta | None
    heartbeat_timeout: timedelta | None
    retry_policy: RetryPolicy


class LocalActivityOptions(TypedDict):
    """The options of an activity that runs in the worker which has the workflow."""

    start_to_close_timeout: timedelta
    local_retry_threshold: timedelta
    retry_policy: RetryPolicy


_PATIENT = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(minutes=1),
    non_retryable_error_types=NEVER_RETRIED,
)

LEDGER: ActivityOptions = {
    "task_queue": LEDGER_QUEUE,
    "start_to_close_timeout": timedelta(minutes=2),
    "schedule_to_close_timeout": None,
    "heartbeat_timeout": SIGN_OF_LIFE,
    "retry_policy": _PATIENT,
}
"""One database transaction, safe to run twice: tried until it is through."""

LEDGER_INSISTENT: ActivityOptions = {
    **LEDGER,
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_interval=timedelta(minutes=1)
    ),
}
"""The same, where giving up would lose something: tried again whatever is answered, until a person has mended it."""

AT_HAND_LEDGER: LocalActivityOptions = {
    "start_to_close_timeout": timedelta(minutes=2),
    "local_retry_threshold": timedelta(seconds=5),  # longer waits are timers of the server, which outlive the worker
    "retry_policy": _PATIENT,
}
"""The same in the worker that has the workflow, where it is done so often that a task at the server would cost more."""

STRIPE_WRITE: ActivityOptions = {
    "task_queue": PAYMENTS_QUEUE,
    "start_to_close_timeout": timedelta(seconds=30),
    "schedule_to_close_timeout": timedelta(hours=20),  # Stripe forgets an idempotency key after 24 hours
    "heartbeat_timeout": SIGN_OF_LIFE,
    "retry_policy": _PATIENT,
}
"""A call that Stripe executes once per idempotency key: repeated with the same key and the same parameters."""

STRIPE_CREATE: ActivityOptions = {
    **STRIPE_WRITE,
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1),
        backoff_coefficient=2,
        maximum_attempts=4,
        non_retryable_error_types=NEVER_RETRIED,
    ),
}
"""The same for what can be looked for: Stripe repeats a failure under its key, so that more tries would be in vain."""

STRIPE_CHARGE: ActivityOptions = {
    "task_queue": PAYMENTS_QUEUE,
    "start_to_close_timeout": timedelta(seconds=30),
    "schedule_to_close_timeout": None,
    "heartbeat_timeout": None,  # a call that hangs is given its whole time, since nobody may try it again
    "retry_policy": RetryPolicy(maximum_attempts=1),
}
"""The call that moves money: one try. What became of it is then asked, never tried again."""

STRIPE_READ: ActivityOptions = {
    "task_queue": PAYMENTS_QUEUE,
    "start_to_close_timeout": timedelta(seconds=30),
    "schedule_to_close_timeout": None,
    "heartbeat_timeout": SIGN_OF_LIFE,
    "retry_policy": _PATIENT,
}
"""A question to Stripe: asked until it is answered."""

LONGEST_WAIT = timedelta(hours=1)


def growing_wait(tries: int) -> timedelta:
    """Return how long to wait after so many tries in vain: one second, doubled each time, at most an hour."""
    return min(timedelta(seconds=1 << min(tries, 12)), LONGEST_WAIT)


def refusal_in(error: BaseException | None) -> ApplicationError | None:
    """Return the refusal at the root of a failed activity, update or workflow; None when it failed otherwise."""
    while error is not None:
        if isinstance(error, ApplicationError):
            return error
        error = getattr(error, "cause", None)
    return None


def refused(error: BaseException) -> ApplicationError:
    """Return the refusal of a failed activity as an error that fails what asked for it, without a retry."""
    refusal = refusal_in(error)
    if refusal is None:
        return ApplicationError(str(error), type=type(error).__name__, non_retryable=True)
    return ApplicationError(refusal.message, type=refusal.type, non_retryable=True)
