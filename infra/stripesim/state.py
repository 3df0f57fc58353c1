"""What the simulator remembers: objects, cards, kept answers and its clock, written ahead to one file.

Every request that changes something appends one line of JSON to the file and flushes it before the answer leaves, so
an answered charge outlives the process (SIGKILL), though not the power. A torn last line was never answered and is
dropped. The file is rewritten without its history when the simulator starts.
"""

import json
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from infra.stripesim.errors import StripeJson, no_such

KEY_LIFETIME_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer kept under an idempotency key, with the digest of the request that it answers."""

    key: str
    digest: str
    status: int
    body: str
    at: int


class State:
    """The memory of one simulator; `file` is where it survives the process, None keeps it in memory."""

    def __init__(self, file: Path | None) -> None:
        self._objects: dict[str, dict[str, StripeJson]] = defaultdict(dict)
        self._cards: dict[str, StripeJson] = {}
        self._answers: dict[str, Answer] = {}
        self._offset = 0
        self._changed: dict[str, Any] = {}
        self._journal = self._open(file) if file is not None else None

    def now(self) -> int:
        """Return the simulator's time in Unix seconds."""
        return int(time.time()) + self._offset

    def advance(self, seconds: int) -> None:
        """Move the simulator's clock forward."""
        self._offset += seconds
        self._changed["offset"] = self._offset

    def new_id(self, prefix: str) -> str:
        """Return an id that no object has, also after a restart without a file."""
        return f"{prefix}_{secrets.token_hex(12)}"

    def get(self, kind: str, object_id: str, *, param: str = "id") -> StripeJson:
        """Return a copy of an object; raise the refusal for a missing one, naming `param`."""
        found = self._objects[kind].get(object_id)
        if found is None:
            raise no_such(kind, object_id, param)
        copied: StripeJson = json.loads(json.dumps(found))
        return copied

    def newest_first(self, kind: str) -> Iterator[StripeJson]:
        """Yield the objects of a kind, the latest made first; they are to be read only."""
        return reversed(self._objects[kind].values())

    def find(self, object_id: str) -> StripeJson | None:
        """Return the object of any kind with that id."""
        return next((kept[object_id] for kept in self._objects.values() if object_id in kept), None)

    def put(self, thing: StripeJson) -> None:
        """Keep an object as it is now; `commit` makes it durable."""
        self._objects[thing["object"]][thing["id"]] = thing
        self._changed.setdefault("objects", []).append(thing)

    def card(self, payment_method: str) -> StripeJson:
        """Return how the card behind a payment method behaves: its test id and the declines that it has left."""
        return dict(self._cards[payment_method])

    def put_card(self, payment_method: str, card: StripeJson) -> None:
        """Keep how a card behaves from now on."""
        self._cards[payment_method] = card
        self._changed.setdefault("cards", {})[payment_method] = card

    def answer(self, key: str) -> Answer | None:
        """Return what was answered under an idempotency key in the last 24 hours of the simulator's time."""
        kept = self._answers.get(key)
        return kept if kept is not None and self.now() - kept.at < KEY_LIFETIME_SECONDS else None

    def put_answer(self, answer: Answer) -> None:
        """Keep an answer under its key."""
        self._answers[answer.key] = answer
        self._changed.setdefault("answers", []).append(asdict(answer))

    @property
    def is_changed(self) -> bool:
        """Say whether something changed since the last commit."""
        return bool(self._changed)

    def commit(self) -> None:
        """Write what changed since the last commit as one line."""
        if self._changed and self._journal is not None:
            self._journal.write(json.dumps(self._changed, separators=(",", ":")) + "\n")
            self._journal.flush()
        self._changed = {}

    def _open(self, file: Path) -> IO[str]:
        if file.exists():
            for line in file.read_text(encoding="utf-8").split("\n")[:-1]:
                self._replay(json.loads(line))
        whole = {
            "objects": [thing for kept in self._objects.values() for thing in kept.values()],
            "cards": self._cards,
            "answers": [asdict(answer) for answer in self._answers.values() if self.answer(answer.key)],
            "offset": self._offset,
        }
        rewritten = file.with_name(file.name + ".new")
        rewritten.write_text(json.dumps(whole, separators=(",", ":")) + "\n", encoding="utf-8")
        rewritten.replace(file)
        return file.open("a", encoding="utf-8")

    def _replay(self, line: dict[str, Any]) -> None:
        for thing in line.get("objects", []):
            self._objects[thing["object"]][thing["id"]] = thing
        self._cards.update(line.get("cards", {}))
        self._answers.update({answer["key"]: Answer(**answer) for answer in line.get("answers", [])})
        self._offset = line.get("offset", self._offset)
