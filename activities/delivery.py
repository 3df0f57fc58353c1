"""Activities on endpoints: send what each is to hear, and find those that have something to hear.

A message goes out at least once: an activity whose worker was killed after the answer and before the record is tried
again and sends it twice, under the same webhook-id or Message-ID.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import responses
from typing import TypeVar

import httpx
import sqlalchemy as sa
from temporalio import activity

from activities.mail import MailServer, mail_of, send_mail
from activities.slack import slack_body
from activities.webhook_targets import host_and_port, target_addresses
from ledger.errors import MeterbookError, StateError
from ledger.notices import notice_of
from ledger.webhook_signatures import headers_of
from ledger.webhook_targets import MAILTO
from ledger.webhooks import (
    Attempt,
    DueDelivery,
    Endpoint,
    due_deliveries,
    due_endpoints,
    get_endpoint,
    next_due,
    record_attempt,
    signing_secrets,
)

T = TypeVar("T")

DELIVERIES = 50
"""How many one activity sends at most."""
AT_A_TIME = 10
"""How many go to one endpoint at a time, so that one that hangs is through with a batch in under a minute."""
ANSWER_WITHIN = timedelta(seconds=10)
"""The whole attempt: resolving the name, connecting, sending and the first line of the answer."""
LEDGER_THREADS = 4
MAIL_THREADS = 20
"""A mail server that hangs holds up e-mail only."""
NAME_THREADS = 64
"""Looking up names has threads of its own: a name server that hangs holds up nobody else."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Send what is due at an endpoint by now, or by `at` (UTC) where the asker's clock is ahead."""

    endpoint_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Delivered:
    """How many attempts were made, and when the next is due (UTC; None: nothing waits, or the endpoint is paused)."""

    attempts: int
    next_due: datetime | None
    removed: bool = False


@dataclass(frozen=True, slots=True)
class FindDueEndpoints:
    """Find the endpoints that have something to hear by `at` (UTC)."""

    at: datetime


@dataclass(frozen=True, slots=True)
class DueEndpoints:
    """The endpoints to wake."""

    endpoint_ids: tuple[str, ...]


class OutboxActivities:
    """Activities on the outbox, one database transaction each."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @activity.defn
    def find_due_endpoints(self, request: FindDueEndpoints) -> DueEndpoints:
        """List the endpoints whose workflow should be awake."""
        with self._engine.begin() as connection:
            return DueEndpoints(due_endpoints(connection, at=request.at))


class DeliveryActivities:
    """The activity that speaks to endpoints; each waits for its own receiver only, many of them in one thread."""

    def __init__(
        self,
        engine: sa.Engine,
        *,
        allow_private: bool,
        mail: MailServer | None = None,
        answer_within: timedelta = ANSWER_WITHIN,
    ) -> None:
        self._engine, self._allow_private, self._answer_within = engine, allow_private, answer_within
        self._mail = mail
        self._certificates = ssl.create_default_context()
        self._ledger = ThreadPoolExecutor(LEDGER_THREADS, thread_name_prefix="delivery-ledger")
        self._names = ThreadPoolExecutor(NAME_THREADS, thread_name_prefix="delivery-names")
        self._mailing = ThreadPoolExecutor(MAIL_THREADS, thread_name_prefix="delivery-mail")

    @activity.defn
    async def deliver(self, request: Deliver) -> Delivered:
        """Send up to 50 due messages and record each attempt in a transaction of its own."""
        endpoint, secrets, due = await self._in_ledger(lambda connection: _due(connection, request))
        turns = asyncio.Semaphore(AT_A_TIME)

        async def send_one(delivery: DueDelivery) -> None:
            async with turns:
                attempt = await self._attempt(client, endpoint, secrets, delivery)
            at = datetime.now(UTC)
            await self._in_ledger(
                lambda connection: record_attempt(connection, endpoint.endpoint_id, delivery.sequence, attempt, at=at)
            )

        async with (
            httpx.AsyncClient(verify=self._certificates, trust_env=False, follow_redirects=False) as client,
            asyncio.TaskGroup() as sending,
        ):
            for delivery in due:
                sending.create_task(send_one(delivery))
        later = await self._in_ledger(lambda connection: next_due(connection, endpoint.endpoint_id))
        return Delivered(len(due), later, removed=endpoint.state == "removed")

    async def _attempt(
        self, client: httpx.AsyncClient, endpoint: Endpoint, secrets: tuple[str, ...], delivery: DueDelivery
    ) -> Attempt:
        """Send a message once; whatever goes wrong on the way is an attempt in vain, in words."""
        try:
            async with asyncio.timeout(self._answer_within.total_seconds()):
                if endpoint.channel == "email":
                    return await self._send_mail(endpoint, delivery)
                body, headers = _message(endpoint, secrets, delivery)
                status = await self._post(client, httpx.URL(endpoint.url), body, headers)
        except TimeoutError:
            return Attempt(None, f"no answer within {self._answer_within.total_seconds():g} seconds")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Attempt(None, f"no answer: {str(error) or type(error).__name__}")
        except MeterbookError as error:
            return Attempt(None, f"not sent: {error}")
        return Attempt(status, _words(status))

    async def _send_mail(self, endpoint: Endpoint, delivery: DueDelivery) -> Attempt:
        server = self._mail
        if server is None:
            raise StateError("the workers have no mail server; set METERBOOK_SMTP_URL and METERBOOK_MAIL_FROM for them")
        message = mail_of(
            notice_of(delivery.fact),
            sequence=delivery.sequence,
            endpoint_id=endpoint.endpoint_id,
            sender=server.sender,
            recipient=endpoint.url.removeprefix(MAILTO),
            at=datetime.now(UTC),
        )
        return await asyncio.get_running_loop().run_in_executor(
            self._mailing, lambda: send_mail(server, message, within=self._answer_within)
        )

    async def _post(self, client: httpx.AsyncClient, url: httpx.URL, body: bytes, headers: Mapping[str, str]) -> int:
        """Return the status that is answered by the first of the URL's addresses that can be connected to."""
        host, _ = host_and_port(url)
        addresses = await target_addresses(url, self._names, allow_private=self._allow_private)
        named = {
            **headers,
            "Content-Type": "application/json",
            "User-Agent": "Meterbook-Webhooks/1",
            "Host": url.netloc.decode("ascii"),
        }
        for index, address in enumerate(addresses):
            request = client.build_request(
                "POST",
                url.copy_with(host=address),  # the checked address itself: a second look-up could lead elsewhere
                content=body,
                headers=named,
                timeout=None,
                extensions={"sni_hostname": host},  # the name that the certificate must have
            )
            try:
                response = await client.send(request, stream=True)
            except httpx.ConnectError:
                if index == len(addresses) - 1:
                    raise
                continue
            await response.aclose()  # the body is not read: it could be endless
            return response.status_code
        raise AssertionError("a name without addresses is refused before")

    async def _in_ledger(self, work: Callable[[sa.Connection], T]) -> T:
        """Do a short transaction in a thread."""

        def transaction() -> T:
            with self._engine.begin() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._ledger, transaction)


def _due(connection: sa.Connection, request: Deliver) -> tuple[Endpoint, tuple[str, ...], tuple[DueDelivery, ...]]:
    now = datetime.now(UTC)
    return (
        get_endpoint(connection, request.endpoint_id),
        signing_secrets(connection, request.endpoint_id, at=now),
        due_deliveries(connection, request.endpoint_id, at=max(now, request.at), limit=DELIVERIES),
    )


def _message(endpoint: Endpoint, secrets: tuple[str, ...], delivery: DueDelivery) -> tuple[bytes, Mapping[str, str]]:
    """Return what is posted, and the headers that sign it; Slack knows who posts by the URL."""
    if endpoint.channel == "slack":
        return slack_body(notice_of(delivery.fact)), {}
    return delivery.body, headers_of(delivery.message_id, delivery.body, secrets, at=datetime.now(UTC))


def _words(status: int) -> str:
    words = f"{status} {responses.get(status, '')}".strip()
    return f"{words}: redirects are not followed; correct the url" if 300 <= status < 400 else words  # noqa: PLR2004
