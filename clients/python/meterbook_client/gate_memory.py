"""What is remembered of gates: the last answers, what was let through since, and what is let through in doubt."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from meterbook_client.answers import Gate

LONGEST_KEEP_SECONDS = 5.0
FORGET = timedelta(minutes=5)
"""After which what was let through counts no more: a watermark stands still where nobody uses anything."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """What to do while the server is away: let at most so many calls through, or so many units or so much money.

    Each bound that is given counts for one customer and feature, from the first doubt until the server answers again.
    Without any, nothing is let through.
    """

    most_calls: int | None = None
    most_units: Decimal | None = None
    most_amount: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the feature may be used; `source` says whether the server, the memory or the policy for doubt told so.

    `reason` is the server's where it denied, and `doubt` where the server is away and the policy lets no more through.
    """

    allowed: bool
    reason: str | None
    source: Literal["server", "memory", "doubt"]


@dataclass(frozen=True, slots=True)
class Question:
    """Whether a customer may use a feature, for so many units or so much money where an estimate is known."""

    customer_id: str
    feature_id: str
    units: Decimal | None = None
    amount: Decimal | None = None


@dataclass(frozen=True, slots=True)
class _Let:
    """What was let through."""

    at: datetime
    units: Decimal
    amount: Decimal


@dataclass(slots=True)
class _Known:
    """The last answer about a customer and a feature, what was let through since, and in doubt."""

    gate: Gate | None = None
    until: float = 0.0
    let: list[_Let] = field(default_factory=list)
    doubted: tuple[int, Decimal, Decimal] = (0, Decimal(0), Decimal(0))


class Memory:
    """Decides from answers that may be kept, and by policy in doubt; threads may share it.

    An answer is kept until its `keep_until`, and `LONGEST_KEEP_SECONDS` at most. What was let through counts against it
    and against later ones until their watermark has passed it by `settle`. An answer that was overtaken by one with a
    later watermark changes nothing.
    """

    def __init__(self, doubt: Mapping[str, Doubt], *, settle: timedelta, now: Callable[[], datetime]) -> None:
        self._doubt = dict(doubt)
        self._settle = settle
        self._now = now
        self._known: dict[tuple[str, str], _Known] = {}
        self._lock = threading.Lock()

    def recalled(self, question: Question) -> Decision | None:
        """Allow what the last answer and what was let through since leave room for; None: ask the server."""
        with self._lock:
            known = self._known_of(question)
            if known.gate is None or not self._may_be_kept(known):
                return None
            decision = self._decided(known, question, "memory")
            return decision if decision is not None and decision.allowed else None

    def learned(self, question: Question, gate: Gate) -> Decision:
        """Decide by an answer of the server, and remember it."""
        with self._lock:
            known = self._known_of(question)
            known.doubted = (0, Decimal(0), Decimal(0))
            if not self._is_overtaken(known, gate):
                known.gate, known.until = gate, time.monotonic() + LONGEST_KEEP_SECONDS
                settled = self._now() - FORGET
                if gate.watermark is not None:
                    settled = max(settled, gate.watermark - self._settle)
                known.let = [one for one in known.let if one.at > settled]
            if known.gate is not None and not known.gate.allowed:
                reason, known.gate = known.gate.reason, None  # asked again each time, so that it opens at once
                return Decision(allowed=False, reason=reason, source="server")
            decision = self._decided(known, question, "server")
            if decision is None:
                self._count(known, question)
                return Decision(allowed=True, reason=None, source="server")
            return decision

    def doubted(self, question: Question) -> Decision:
        """Decide by the policy for doubt, while the server is away."""
        with self._lock:
            return self._doubted(self._known_of(question), self._doubt.get(question.feature_id, Doubt()), question)

    def forget(self, customer_id: str) -> None:
        """Keep no answer about a customer; what was let through still counts."""
        with self._lock:
            for (name, _), known in self._known.items():
                if name == customer_id:
                    known.gate = None

    def _known_of(self, question: Question) -> _Known:
        return self._known.setdefault((question.customer_id, question.feature_id), _Known())

    def _may_be_kept(self, known: _Known) -> bool:
        return known.gate is not None and time.monotonic() < known.until and self._now() < known.gate.keep_until

    def _is_overtaken(self, known: _Known, gate: Gate) -> bool:
        before = None if known.gate is None or not self._may_be_kept(known) else known.gate.watermark
        return before is not None and gate.watermark is not None and gate.watermark < before

    def _decided(self, known: _Known, question: Question, source: Literal["server", "memory"]) -> Decision | None:
        """Decide from what is known, less what was let through; None where there is no estimate to decide by."""
        gate = known.gate
        if gate is None:
            return None
        for left, wanted, let, reason in (
            (gate.left_units, question.units, [one.units for one in known.let], "units_spent"),
            (gate.left_amount, question.amount, [one.amount for one in known.let], "balance_spent"),
        ):
            if left is None:
                continue
            if wanted is None:
                return None
            if sum(let, wanted) > left:
                return Decision(allowed=False, reason=reason, source=source)
        self._count(known, question)
        return Decision(allowed=True, reason=None, source=source)

    def _count(self, known: _Known, question: Question) -> None:
        if question.units is not None or question.amount is not None:
            known.let.append(_Let(self._now(), question.units or Decimal(0), question.amount or Decimal(0)))

    def _doubted(self, known: _Known, doubt: Doubt, question: Question) -> Decision:
        calls, all_units, all_amount = known.doubted
        after = (calls + 1, all_units + (question.units or 0), all_amount + (question.amount or 0))
        bounds: list[tuple[Decimal | int | None, bool, Decimal | int]] = [
            (doubt.most_calls, True, after[0]),
            (doubt.most_units, question.units is not None, after[1]),
            (doubt.most_amount, question.amount is not None, after[2]),
        ]
        fits = [is_told and reached <= most for most, is_told, reached in bounds if most is not None]
        if not fits or not all(fits):
            return Decision(allowed=False, reason="doubt", source="doubt")
        known.doubted = after
        self._count(known, question)
        return Decision(allowed=True, reason=None, source="doubt")
