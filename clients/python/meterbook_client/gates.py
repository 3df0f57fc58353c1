"""Gates with a local memory: may a customer use a feature now, answered without the server where that is safe."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import Literal, Self

from meterbook_client.answers import Gate, gate_of
from meterbook_client.client import Client
from meterbook_client.errors import UnavailableError
from meterbook_client.requests import gate_request

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


class Gates:
    """Asks gates and remembers their answers, at most five seconds and never past `keep_until`; threads may share it.

    What this process lets through counts against an answer from the memory, and against later ones until their
    watermark has passed it by `settle_seconds`: the time within which its usage is sent. An estimate is wanted in the
    measure that limits the feature; without one the memory is not used. `doubt` names the policy by feature; the others
    are closed while the server is away. Clocks must agree with the server's to a second.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str,
        doubt: Mapping[str, Doubt] | None = None,
        timeout_seconds: float = 0.5,
        settle_seconds: float = 30.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = Client(url, api_key=api_key, attempts=1, timeout_seconds=timeout_seconds)
        self._doubt = dict(doubt or {})
        self._settle = timedelta(seconds=settle_seconds)
        self._now = now
        self._known: dict[tuple[str, str], _Known] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def check(
        self, customer_id: str, feature_id: str, *, units: Decimal | None = None, amount: Decimal | None = None
    ) -> Decision:
        """Decide whether a customer may use a feature, and count what is let through.

        Raises `RefusedError` for a question that the server will not answer, such as one without a valid API key.
        """
        place = (customer_id, feature_id)
        with self._lock:
            known = self._known.setdefault(place, _Known())
            if known.gate is not None and time.monotonic() < known.until and self._now() < known.gate.keep_until:
                decision = self._decided(known, units, amount, "memory")
                if decision is not None and decision.allowed:
                    return decision
        try:
            gate = gate_of(self._client.ask(gate_request(customer_id, feature_id, units, amount)))
        except UnavailableError:
            with self._lock:
                return self._doubted(known, self._doubt.get(feature_id, Doubt()), units, amount)
        with self._lock:
            return self._learned(known, gate, units, amount)

    def _learned(self, known: _Known, gate: Gate, units: Decimal | None, amount: Decimal | None) -> Decision:
        known.gate, known.until = gate, time.monotonic() + LONGEST_KEEP_SECONDS
        known.doubted = (0, Decimal(0), Decimal(0))
        settled = self._now() - FORGET
        if gate.watermark is not None:
            settled = max(settled, gate.watermark - self._settle)
        known.let = [one for one in known.let if one.at > settled]
        if not gate.allowed:
            known.gate = None  # asked again each time, so that it opens at once
            return Decision(allowed=False, reason=gate.reason, source="server")
        decision = self._decided(known, units, amount, "server")
        if decision is None:
            self._count(known, units, amount)
            return Decision(allowed=True, reason=None, source="server")
        return decision

    def _decided(
        self, known: _Known, units: Decimal | None, amount: Decimal | None, source: Literal["server", "memory"]
    ) -> Decision | None:
        """Decide from what is known, less what was let through; None where there is no estimate to decide by."""
        gate = known.gate
        if gate is None:
            return None
        for left, wanted, let, reason in (
            (gate.left_units, units, [one.units for one in known.let], "units_spent"),
            (gate.left_amount, amount, [one.amount for one in known.let], "balance_spent"),
        ):
            if left is None:
                continue
            if wanted is None:
                return None
            if sum(let, wanted) > left:
                return Decision(allowed=False, reason=reason, source=source)
        self._count(known, units, amount)
        return Decision(allowed=True, reason=None, source=source)

    def _count(self, known: _Known, units: Decimal | None, amount: Decimal | None) -> None:
        if units is not None or amount is not None:
            known.let.append(_Let(self._now(), units or Decimal(0), amount or Decimal(0)))

    def _doubted(self, known: _Known, doubt: Doubt, units: Decimal | None, amount: Decimal | None) -> Decision:
        calls, all_units, all_amount = known.doubted
        after = (calls + 1, all_units + (units or 0), all_amount + (amount or 0))
        bounds: list[tuple[Decimal | int | None, bool, Decimal | int]] = [
            (doubt.most_calls, True, after[0]),
            (doubt.most_units, units is not None, after[1]),
            (doubt.most_amount, amount is not None, after[2]),
        ]
        fits = [is_told and reached <= most for most, is_told, reached in bounds if most is not None]
        if not fits or not all(fits):
            return Decision(allowed=False, reason="doubt", source="doubt")
        known.doubted = after
        self._count(known, units, amount)
        return Decision(allowed=True, reason=None, source="doubt")
