"""API keys that worked lately, by the digests of their secrets: who may send while the database cannot be asked.

They are kept beside the spool, so that a server that starts while the database is away knows them as well.
"""

import hashlib
import os
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import structlog

from ledger.api_keys import ApiKey

MOST = 1_000
LIFE = timedelta(days=1)
FRESH = timedelta(hours=1)
"""The file need not tell the last sight of a key more exactly."""
FILE = "known-keys.json"

log = structlog.get_logger(__name__)


class _Sight(msgspec.Struct, frozen=True):
    key: ApiKey
    seen_at: datetime


class KnownKeys:
    """The thousand keys that worked last. Only digests of secrets are kept, as in the database."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / FILE
        self._sights: OrderedDict[str, _Sight] = OrderedDict()
        if self._path is not None and self._path.exists():
            self._sights.update(_read(self._path))

    def learn(self, secret: str, key: ApiKey | None) -> None:
        """Remember what the database says of a secret: which key it is, or that it is none that works."""
        digest = _digest(secret)
        known = self._sights.pop(digest, None)
        if key is None:
            if known is not None:
                self._save()
            return
        now = datetime.now(UTC)
        is_told = known is not None and known.key == key and now - known.seen_at < FRESH
        self._sights[digest] = known if known is not None and is_told else _Sight(key, now)
        while len(self._sights) > MOST:
            self._sights.popitem(last=False)
        if not is_told:
            self._save()

    def find(self, secret: str) -> ApiKey | None:
        """Return the key if it worked within the last day."""
        sight = self._sights.get(_digest(secret))
        return sight.key if sight is not None and datetime.now(UTC) - sight.seen_at < LIFE else None

    def _save(self) -> None:
        if self._path is None:
            return
        draft = self._path.with_suffix(f".{os.getpid()}")
        try:
            draft.touch(mode=0o600)
            draft.write_bytes(msgspec.json.encode(self._sights))
            draft.replace(self._path)
        except OSError:  # a full disk must not refuse a key that works
            log.exception("the known keys could not be kept for a restart while the database is away")


def _read(path: Path) -> dict[str, _Sight]:
    try:
        return _SIGHTS.decode(path.read_bytes())
    except msgspec.MsgspecError:  # half written before a power cut; it is made anew from the keys that come
        log.exception("the known keys could not be read", path=str(path))
        return {}


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


_SIGHTS = msgspec.json.Decoder(dict[str, _Sight])
