"""Usage to Meterbook, spend and gates from it: typed, sync and async, each event once whatever fails on the way."""

from meterbook_client.answers import Answer, Capture, EventResult, Hold, ProductSpend, Receipt, Spend
from meterbook_client.async_client import AsyncClient, AsyncSender
from meterbook_client.client import Client, Sender
from meterbook_client.errors import (
    ClosedError,
    ConflictError,
    FullError,
    InvalidEventError,
    JournalError,
    MeterbookError,
    NotFoundError,
    RefusedError,
    UnauthorisedError,
    UnavailableError,
)
from meterbook_client.events import Event
from meterbook_client.gate_memory import Decision, Doubt
from meterbook_client.gates import AsyncGates, Gates

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncGates",
    "AsyncSender",
    "Capture",
    "Client",
    "ClosedError",
    "ConflictError",
    "Decision",
    "Doubt",
    "Event",
    "EventResult",
    "FullError",
    "Gates",
    "Hold",
    "InvalidEventError",
    "JournalError",
    "MeterbookError",
    "NotFoundError",
    "ProductSpend",
    "Receipt",
    "RefusedError",
    "Sender",
    "Spend",
    "UnauthorisedError",
    "UnavailableError",
]
