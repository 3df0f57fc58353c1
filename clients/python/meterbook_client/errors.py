"""What can go wrong.

MeterbookError
├── InvalidEventError   an event that cannot be sent: corrected where it is made
├── RefusedError        the server will not take the request, however often it is sent
│   ├── UnauthorisedError
│   ├── NotFoundError
│   └── ConflictError
├── UnavailableError    the server does not answer, or is too busy; sending again is safe
├── FullError           so much waits in a sender that no more fits
├── ClosedError         a sender that is closed was given an event
└── JournalError        the journal belongs to another process, or cannot be read
"""


class MeterbookError(Exception):
    """The root of all errors of this package."""


class InvalidEventError(MeterbookError, ValueError):
    """An event that cannot be sent; the message names field, value and remedy."""


class RefusedError(MeterbookError):
    """The server refused a request, and would refuse it again; nothing of it is recorded."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class UnauthorisedError(RefusedError):
    """The API key is not known, or was revoked."""


class NotFoundError(RefusedError):
    """There is no such contract, receipt or hold."""


class ConflictError(RefusedError):
    """What is there stands against it: less is left than is to be held, or a hold is settled, or its id taken."""


class UnavailableError(MeterbookError):
    """The server did not answer, or said that it is away or too busy; sending again is safe.

    `retry_after_seconds` is what the server asked for, where it did.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class FullError(MeterbookError):
    """So many events wait in a sender that no more fits; none of those given was taken."""


class ClosedError(MeterbookError):
    """A sender that is closed was given an event."""


class JournalError(MeterbookError):
    """The journal belongs to another process, or is no journal."""
