"""Gates with a local memory: may a customer use a feature now, answered without the server where that is safe."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import Self

from meterbook_client.answers import gate_of
from meterbook_client.async_client import AsyncClient
from meterbook_client.client import Client
from meterbook_client.errors import UnavailableError
from meterbook_client.gate_memory import Decision, Doubt, Memory, Question
from meterbook_client.requests import gate_request

TIMEOUT_SECONDS = 0.5
SETTLE_SECONDS = 30.0


def _now() -> datetime:
    return datetime.now(UTC)


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
        timeout_seconds: float = TIMEOUT_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._client = Client(url, api_key=api_key, attempts=1, timeout_seconds=timeout_seconds)
        self._memory = Memory(doubt or {}, settle=timedelta(seconds=settle_seconds), now=now)

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
        question = Question(customer_id, feature_id, units, amount)
        recalled = self._memory.recalled(question)
        if recalled is not None:
            return recalled
        try:
            gate = gate_of(self._client.ask(gate_request(question)))
        except UnavailableError:
            return self._memory.doubted(question)
        return self._memory.learned(question, gate)

    def forget(self, customer_id: str) -> None:
        """Ask the server again about a customer, because what is left was changed, as by a hold."""
        self._memory.forget(customer_id)


class AsyncGates:
    """Asks gates and remembers their answers as `Gates` does, for programs of asyncio."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str,
        doubt: Mapping[str, Doubt] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._client = AsyncClient(url, api_key=api_key, attempts=1, timeout_seconds=timeout_seconds)
        self._memory = Memory(doubt or {}, settle=timedelta(seconds=settle_seconds), now=now)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def check(
        self, customer_id: str, feature_id: str, *, units: Decimal | None = None, amount: Decimal | None = None
    ) -> Decision:
        """Decide as `Gates.check` does."""
        question = Question(customer_id, feature_id, units, amount)
        recalled = self._memory.recalled(question)
        if recalled is not None:
            return recalled
        try:
            gate = gate_of(await self._client.ask(gate_request(question)))
        except UnavailableError:
            return self._memory.doubted(question)
        return self._memory.learned(question, gate)

    def forget(self, customer_id: str) -> None:
        """Ask the server again about a customer, because what is left was changed, as by a hold."""
        self._memory.forget(customer_id)
