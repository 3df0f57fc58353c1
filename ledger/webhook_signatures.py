"""Secrets and signatures of webhooks, as the Standard Webhooks specification has them (version 1.0, scheme `v1`)."""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from ledger.errors import InvalidError

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
PREFIX = "whsec_"
SECRET_BYTES = 32
SHORTEST_SECRET, LONGEST_SECRET = 24, 64
"""Bytes, after the specification."""
TOLERANCE = timedelta(minutes=5)
"""How far a message's timestamp may be from the receiver's clock: what is older may have been recorded and replayed."""


def new_secret() -> str:
    """Return a secret that nobody has seen: `whsec_` and the base64 of random bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def check_secret(secret: str) -> None:
    """Refuse a secret that nothing can be signed with."""
    _key(secret)


def headers_of(message_id: str, body: bytes, signing_secrets: Iterable[str], *, at: datetime) -> dict[str, str]:
    """Return the three headers of a message that is sent at `at`, signed with each of the secrets."""
    timestamp = str(int(at.timestamp()))
    signatures = [_signature(secret, message_id, timestamp, body) for secret in signing_secrets]
    return {ID_HEADER: message_id, TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: " ".join(signatures)}


def verify(headers: Mapping[str, str], body: bytes, secret: str, *, at: datetime) -> None:
    """Check, as a receiver, that whoever knows the secret sent this message just now; raise `InvalidError` if not.

    Names of headers are in lower case. One signature that fits is enough: a secret may be in rotation.
    """
    missing = [name for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER) if not headers.get(name)]
    if missing:
        raise InvalidError(f"the header {missing[0]} is missing; only signed messages are taken")
    timestamp = headers[TIMESTAMP_HEADER]
    if not (timestamp.isascii() and timestamp.isdigit()):
        raise InvalidError(f"{TIMESTAMP_HEADER} {timestamp!r} is not a count of seconds since 1970")
    if abs(int(timestamp) - at.timestamp()) > TOLERANCE.total_seconds():
        raise InvalidError(f"{TIMESTAMP_HEADER} {timestamp} is not within 5 minutes of this clock; compare the clocks")
    expected = _signature(secret, headers[ID_HEADER], timestamp, body).encode()
    given = headers[SIGNATURE_HEADER].encode().split()
    if not any([hmac.compare_digest(expected, signature) for signature in given]):  # noqa: C419 - all, in equal time
        raise InvalidError(f"{SIGNATURE_HEADER} does not fit the secret; take the one that the endpoint was given")


def _signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    """Return the bytes of a secret; its text stays out of the refusal, which may be logged."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError(f"the secret is not {PREFIX} with base64 after it; copy it whole") from error
    if not SHORTEST_SECRET <= len(key) <= LONGEST_SECRET:
        raise InvalidError(
            f"the secret has {len(key)} bytes; Standard Webhooks has {SHORTEST_SECRET} to {LONGEST_SECRET}"
        )
    return key
