"""Fixtures of the workflow tests."""

from collections.abc import AsyncIterator, Iterator

import pytest
from temporalio.client import Client

from tests.simulator import RunningSimulator, running_simulator
from tests.workflows.clocks import Clocks, skipping_server
from tests.workflows.world import dev_server


@pytest.fixture
async def temporal() -> AsyncIterator[Client]:
    """A client of a Temporal server that only this test uses."""
    async with dev_server() as client:
        yield client


@pytest.fixture
async def clocks() -> AsyncIterator[Clocks]:
    """The clocks of a Temporal server that only this test uses, and whose time can be skipped."""
    async with skipping_server() as clocks:
        yield clocks


@pytest.fixture
def simulator() -> Iterator[RunningSimulator]:
    """A Stripe simulator of the test's own: idempotency keys of tests would collide."""
    with running_simulator() as simulator:
        yield simulator
