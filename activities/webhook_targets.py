"""Where a webhook's name leads: resolved and checked at each attempt, so that it cannot change in between."""

import asyncio
import socket
from concurrent.futures import Executor

import httpx

from activities.mail import mail_server
from activities.settings import Settings
from ledger.errors import InvalidError, StateError
from ledger.webhook_targets import check_addresses, check_mailto, check_url
from ledger.webhooks import Channel

PORTS = {"https": 443, "http": 80}


def check_target(url: str, *, allow_private: bool) -> None:
    """Refuse a URL that webhooks may not go to: `InvalidError`, or `StateError` when its name leads nowhere."""
    check_url(url, allow_private=allow_private)
    check_addresses(url, _resolve(*host_and_port(httpx.URL(url))), allow_private=allow_private)


def check_channel(channel: Channel, url: str, settings: Settings) -> None:
    """Refuse a target that an endpoint of this channel may not have, and e-mail where no mail server is set."""
    if channel != "email":
        check_target(url, allow_private=settings.meterbook_webhook_allow_private)
        return
    check_mailto(url)
    if mail_server(settings) is None:
        raise StateError(
            "no e-mail can be sent from here; set METERBOOK_SMTP_URL (smtp://user:password@host:port) and "
            "METERBOOK_MAIL_FROM, also for the workers"
        )


async def target_addresses(url: httpx.URL, executor: Executor, *, allow_private: bool) -> tuple[str, ...]:
    """Return the addresses of a URL, all of them checked; raises as `check_target` does."""
    host, port = host_and_port(url)
    addresses = await asyncio.get_running_loop().run_in_executor(executor, _resolve, host, port)
    check_addresses(str(url), addresses, allow_private=allow_private)
    return addresses


def host_and_port(url: httpx.URL) -> tuple[str, int]:
    """Return the host as names are looked up and certificates name it (ASCII), and the port."""
    return url.raw_host.decode("ascii"), url.port or PORTS.get(url.scheme, 443)


def _resolve(host: str, port: int) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise StateError(f"the name {host} leads to no address ({error}); correct the url, or its DNS") from error
    addresses = tuple(dict.fromkeys(str(address[0]) for *_, address in found))
    if not addresses:
        raise InvalidError(f"the name {host} leads to no address; correct the url")
    return addresses
