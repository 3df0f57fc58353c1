"""Nudges: coalesced, in the background, never lost while the process lives."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from admin.errors import AwayError
from admin.nudges import Nudges


class Contracts:
    """Contracts that hear nudges, unless Temporal is away."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, ...]] = []
        self.is_away = False

    async def deliver(self, contract_ids: Sequence[str]) -> None:
        if self.is_away:
            raise AwayError("Temporal does not answer", "start it")
        self.heard.append(tuple(contract_ids))


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; a second is long enough on a busy machine."""
    async with asyncio.timeout(1):
        while not holds():  # noqa: ASYNC110 - what is waited for knows nothing of this test
            await asyncio.sleep(0.005)


async def test_a_thousand_nudges_in_an_instant_are_two_deliveries_at_most() -> None:
    contracts = Contracts()
    async with Nudges(contracts.deliver, interval=0.2) as nudges:
        for _ in range(1000):
            nudges.add(["a", "b"])
        await until(lambda: contracts.heard == [("a", "b")])
        nudges.add(["a"])
        await asyncio.sleep(0.02)
        assert contracts.heard == [("a", "b")]  # the interval is not over
        await until(lambda: contracts.heard == [("a", "b"), ("a",)])


async def test_leaving_delivers_what_is_pending() -> None:
    contracts = Contracts()
    async with Nudges(contracts.deliver, interval=60) as nudges:
        nudges.add(["a"])
        await until(lambda: contracts.heard == [("a",)])
        nudges.add(["b"])
    assert contracts.heard == [("a",), ("b",)]


async def test_while_temporal_is_away_nudges_wait_and_nothing_fails() -> None:
    contracts = Contracts()
    contracts.is_away = True
    async with Nudges(contracts.deliver, interval=0.01) as nudges:
        nudges.add(["a"])
        await until(lambda: nudges.away is not None)
        assert nudges.pending == ("a",)
        contracts.is_away = False
        await until(lambda: nudges.away is None)
        assert contracts.heard == [("a",)]
        assert not nudges.pending


async def test_a_fault_in_one_delivery_does_not_end_the_next() -> None:
    heard: list[tuple[str, ...]] = []

    async def deliver(contract_ids: Sequence[str]) -> None:
        heard.append(tuple(contract_ids))
        if len(heard) == 1:
            raise ZeroDivisionError

    async with Nudges(deliver, interval=0.01) as nudges:
        nudges.add(["a"])
        await until(lambda: len(heard) == 1)
        nudges.add(["b"])
        await until(lambda: len(heard) == 2)
    assert heard == [("a",), ("b",)]


async def test_a_contract_that_has_its_oldest_mark_before_it_is_not_told_again_until_that_is_taken() -> None:
    contracts = Contracts()
    marks = {"a": 1, "b": 2}

    async def oldest(contract_ids: Sequence[str]) -> Mapping[str, int]:
        return {name: marks[name] for name in contract_ids if name in marks}

    async with Nudges(contracts.deliver, interval=0.01, oldest=oldest) as nudges:
        nudges.add(["a", "b", "has no mark"])
        await until(lambda: contracts.heard == [("a", "b")])
        nudges.add(["a", "b"])
        await asyncio.sleep(0.05)
        assert contracts.heard == [("a", "b")]
        marks["a"] = 3  # the first is taken, a later one is there: nobody needs to say so
        await until(lambda: contracts.heard == [("a", "b"), ("a",)])
