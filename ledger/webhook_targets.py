"""Where webhooks may go: public addresses by https; what is not public only where the settings allow it."""

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from ledger.errors import InvalidError

LONGEST_URL = 2000
TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 through NAT64 (RFC 6052): the last 32 bits are where a packet goes."""

MAILTO = "mailto:"
LONGEST_MAIL_ADDRESS = 254
MAIL_ADDRESS = re.compile(r"[A-Za-z0-9.!$*+^_`{|}~'-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
"""One address without a name, in ASCII; nothing in it can end a header or add a recipient."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_url(url: str, *, allow_private: bool) -> None:
    """Refuse a URL that no webhook may go to, as far as its text shows; names are resolved at each attempt."""
    if len(url) > LONGEST_URL or not url.isprintable() or " " in url:
        raise InvalidError(f"url {url[:80]!r} must be at most {LONGEST_URL} printable characters without spaces")
    parts = _split(url)
    if parts.username is not None or parts.password is not None:
        raise InvalidError("url must not hold a name or password; the signature proves who sends")
    if parts.fragment:
        raise InvalidError(f"url {url} has a fragment, which is never sent; take #{parts.fragment} out")
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:  # a name
        if parts.scheme == "http" and not allow_private:
            raise _unencrypted(url) from None
    else:
        check_addresses(url, [str(address)], allow_private=allow_private)


def check_mailto(url: str) -> None:
    """Refuse what is not `mailto:` and one address."""
    if not url.startswith(MAILTO):
        raise InvalidError(f"url {url[:80]!r} must name an e-mail address; write it as mailto:someone@example.com")
    check_mail_address("url", url.removeprefix(MAILTO))


def check_mail_address(field: str, address: str) -> None:
    """Refuse what is not one plain e-mail address."""
    if len(address) > LONGEST_MAIL_ADDRESS or not MAIL_ADDRESS.fullmatch(address):
        raise InvalidError(f"{field} {address[:80]!r} is not an e-mail address; write it as someone@example.com")


def check_addresses(url: str, addresses: Sequence[str], *, allow_private: bool) -> None:
    """Refuse a target of which any address is not public, unless that is allowed; and http to a public one.

    All of a name's addresses count, so that nobody gets in by one of several.
    """
    closed = [text for text in addresses if not is_public(text)]
    if closed and not allow_private:
        raise InvalidError(
            f"url {url} leads to {closed[0]}, which is not a public address; "
            "set METERBOOK_WEBHOOK_ALLOW_PRIVATE=true where webhooks may stay in your network"
        )
    if urlsplit(url).scheme == "http" and len(closed) < len(addresses):
        raise _unencrypted(url)


def is_public(text: str) -> bool:
    """Say whether an address is one of the open Internet: not private, loopback, link-local, multicast or unspecified.

    An IPv6 address that carries an IPv4 address (mapped, translated, 6to4, Teredo) is as public as what it carries.
    """
    address = ipaddress.ip_address(text)
    carried = _carried(address)
    if carried:
        return all(is_public(str(inner)) for inner in carried)
    return address.is_global and not address.is_multicast and not address.is_reserved and not _is_site_local(address)


def _carried(address: Address) -> tuple[ipaddress.IPv4Address, ...]:
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if address in TRANSLATED:
        return (ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF),)
    return ()


def _is_site_local(address: Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.is_site_local


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise InvalidError(f"url {url} cannot be read ({error}); write it as https://example.com/webhooks") from error
    if not is_whole:
        raise InvalidError(f"url {url} must name a host by https; write it as https://example.com/webhooks")
    return parts


def _unencrypted(url: str) -> InvalidError:
    return InvalidError(
        f"url {url} is not encrypted; use https, or set METERBOOK_WEBHOOK_ALLOW_PRIVATE=true for http within a network"
    )
