"""What the ledger refuses: expected errors, each one clear sentence with the field, the value and the remedy.

    MeterbookError
    ├── NotFoundError               nothing has that id
    ├── ConflictError               the id exists with other content
    │   └── IdempotencyConflictError    a posting key exists with another payload
    ├── InvalidError                a value that can never be accepted
    └── StateError                  right in itself, but not now
        └── ClosedPeriodError           the month of the books is closed

Anything else that is raised is a broken invariant or a failing machine and is not caught.
"""


class MeterbookError(Exception):
    """An expected refusal; its text is meant for the person or program that asked."""


class NotFoundError(MeterbookError):
    """Nothing is recorded under that id."""


class ConflictError(MeterbookError):
    """The same id was used before with other content."""


class InvalidError(MeterbookError):
    """A value that no state of the books could accept."""


class StateError(MeterbookError):
    """The request is well formed, but the state of its object does not allow it."""


class ClosedPeriodError(StateError):
    """A transfer is effective in a month that its entity has closed."""


class IdempotencyConflictError(ConflictError):
    """A transfer's key was posted before with another payload: a fault in the caller, never a repetition."""
