"""Temporal for the doors: one connection, and its failures as one sentence.

Raises the ledger's errors as `workflows.starting` does, and `AwayError` when Temporal or its workers do not answer.
"""

# ruff: noqa: PLC0415 - Temporal's client takes half a second to import, and most commands never speak to it

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from activities.settings import Settings
from admin.connections import settings
from admin.errors import AwayError

if TYPE_CHECKING:
    from temporalio.client import Client

    from activities.contracts import AmendedContract, EndedContract
    from activities.invoices import ApprovedInvoice

T = TypeVar("T")

CONNECT_SECONDS = 5.0
HEALTH_TIMEOUT = timedelta(seconds=2)


class Durable:
    """A connection to Temporal that is made when it is first needed, and shared from then on."""

    def __init__(self, chosen: Settings) -> None:
        self._settings = chosen
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def client(self) -> "Client":
        """Return the connected client; raise `AwayError` when Temporal does not answer."""
        from workflows import starting

        async with self._connecting:
            if self._client is None:
                with _explained(self._settings):
                    async with asyncio.timeout(CONNECT_SECONDS):
                        self._client = await starting.connect(self._settings)
            return self._client

    async def nudge(self, contract_ids: Sequence[str]) -> None:
        """Tell contracts that their usage changed; one without a workflow is told by its start."""
        from workflows import starting

        client = await self.client()
        with _explained(self._settings):
            await starting.nudge(client, contract_ids)

    async def signal_usage(self, contract_id: str, objects: Sequence[object]) -> None:
        """Send a few events into a contract's workflow."""
        from workflows import starting

        client = await self.client()
        with _explained(self._settings):
            await starting.signal_usage(client, contract_id, objects)

    async def stripe_event(self, invoice_id: str) -> bool:
        """Tell an invoice's collection that Stripe has news."""
        from workflows import starting

        client = await self.client()
        with _explained(self._settings):
            return await starting.stripe_event(client, invoice_id)

    async def wake_webhook(self, endpoint_id: str) -> None:
        """Have an endpoint's delivery look for what is due; it is started where it does not run."""
        from workflows import starting

        client = await self.client()
        with _explained(self._settings):
            await starting.ensure_webhook(client, endpoint_id)

    async def is_healthy(self) -> bool:
        """Return whether Temporal answers."""
        from temporalio.service import RPCError

        try:
            client = await self.client()
            return await client.service_client.check_health(timeout=HEALTH_TIMEOUT)
        except (AwayError, RPCError):
            return False


def start_contract(contract_id: str) -> None:
    """Start the workflow of a recorded contract; harmless when it runs."""
    from workflows import starting

    _ask(lambda client: starting.start_contract(client, contract_id))


def contract_state(contract_id: str) -> object:
    """Ask a contract's workflow how it stands."""
    from workflows import starting

    return _ask(lambda client: starting.contract_status(client, contract_id))


def amend_contract(
    contract_id: str, definition: str, *, effective_from: datetime, reason: str, by: str
) -> "AmendedContract":
    """Change a contract's terms through its workflow."""
    from workflows import starting

    return _ask(
        lambda client: starting.amend(
            client, contract_id, definition=definition, effective_from=effective_from, reason=reason, by=by
        )
    )


def end_contract(contract_id: str, *, end_at: datetime, reason: str, by: str) -> "EndedContract":
    """End a contract through its workflow."""
    from workflows import starting

    return _ask(lambda client: starting.end(client, contract_id, end_at=end_at, reason=reason, by=by))


def approve_invoice(invoice_id: str, *, by: str) -> "ApprovedInvoice":
    """Approve an invoice that waits for review."""
    from workflows import starting

    return _ask(lambda client: starting.approve_invoice(client, invoice_id, by=by))


def retry_invoice(invoice_id: str) -> None:
    """Tell an invoice that a problem stopped to try again."""
    from workflows import starting

    _ask(lambda client: starting.retry_invoice(client, invoice_id))


def payment_recorded(invoice_id: str) -> bool:
    """Tell an invoice's collection to look at the books again."""
    from workflows import starting

    return _ask(lambda client: starting.payment_recorded(client, invoice_id))


def start_close(entity_id: str, month: date, *, by: str) -> str:
    """Start closing an entity's month, or find the close that runs."""
    from workflows import starting

    return _ask(lambda client: starting.start_close(client, entity_id, month, by=by))


def wake_webhook(endpoint_id: str) -> None:
    """Have a webhook endpoint's delivery look for what is due; it is started where it does not run."""
    from workflows import starting

    _ask(lambda client: starting.ensure_webhook(client, endpoint_id))


def run(work: Callable[[Durable], Coroutine[object, object, T]]) -> T:
    """Run something longer that speaks to Temporal, or may find it away."""
    return asyncio.run(_with_connection(work))


async def _with_connection(work: Callable[[Durable], Coroutine[object, object, T]]) -> T:
    return await work(Durable(settings()))


def _ask(question: Callable[["Client"], Awaitable[T]]) -> T:
    async def connected() -> T:
        client = await Durable(settings()).client()
        with _explained(settings()):
            return await question(client)

    return asyncio.run(connected())


@contextmanager
def _explained(chosen: Settings) -> Iterator[None]:
    from temporalio.service import RPCError, RPCStatusCode

    from workflows.refusals import TemporalAwayError

    try:
        yield
    except (RuntimeError, TimeoutError) as error:  # what the client raises when it cannot connect
        raise _away(chosen) from error
    except TemporalAwayError as error:
        what, _, remedy = str(error).partition("; ")
        raise AwayError(what, remedy or "repeat it: it is safe to repeat") from error
    except RPCError as error:
        if error.status not in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED):
            raise
        raise _away(chosen) from error


def _away(chosen: Settings) -> AwayError:
    return AwayError(
        f"Temporal at {chosen.temporal_address} does not answer",
        "start it with `meterbook up` or correct TEMPORAL_ADDRESS, then repeat: it is safe to repeat",
    )
