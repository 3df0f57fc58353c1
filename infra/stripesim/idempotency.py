"""Idempotency keys, version 1: the first executed answer is kept and replayed, a changed request is refused.

Kept are answers once execution began, declines and injected 500s included; not kept are refused parameters, 401 and
429. A key is free again after 24 hours of the simulator's time.
"""

import hashlib

from infra.stripesim.errors import RefusedError
from infra.stripesim.state import Answer, State


class Keys:
    """The keys whose requests are being executed right now."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._in_use: set[str] = set()

    def begin(self, key: str, digest: str) -> Answer | None:
        """Return the kept answer, or take the key; raise a refusal if it is in use or was used for something else."""
        kept = self._state.answer(key)
        if kept is not None:
            if kept.digest != digest:
                raise RefusedError(
                    400,
                    "Keys for idempotent requests can only be used with the same parameters they were first used "
                    f"with. Try using a key other than '{key}' if you meant to execute a different request.",
                    type="idempotency_error",
                )
            return kept
        if key in self._in_use:
            raise RefusedError(
                409,
                f"There is currently another in-progress request using this Idempotent Key: {key}.",
                type="idempotency_error",
                code="idempotency_key_in_use",
            )
        self._in_use.add(key)
        return None

    def end(self, key: str) -> None:
        """Give the key back."""
        self._in_use.discard(key)


def digest_of(method: str, path: str, body: bytes) -> str:
    """Return what tells the same request from another one under the same key."""
    return hashlib.sha256(b"\n".join((method.encode(), path.encode(), body))).hexdigest()
