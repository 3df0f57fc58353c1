"""Usage to Meterbook, spend and gates from it: typed, sync and async, each event once whatever fails on the way."""

from meterbook_client.answers import Answer, EventResult, ProductSpend, Receipt, Spend
from meterbook_client.async_client import AsyncClient, AsyncSender
from meterbook_client.client import Client, Sender
from meterbook_client.errors import (
    ClosedError,
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
from meterbook_client.gates import Decision, Doubt, Gates

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncSender",
    "Client",
    "ClosedError",
    "Decision",
    "Doubt",
    "Event",
    "EventResult",
    "FullError",
    "Gates",
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
