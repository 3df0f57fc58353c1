"""The Stripe simulator as a process, shared by the tests of a session; every test makes customers of its own."""

from collections.abc import Iterator

import pytest
import stripe

from tests.simulator import RunningSimulator, running_simulator


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[RunningSimulator]:
    with running_simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(shared_simulator: RunningSimulator) -> Iterator[RunningSimulator]:
    """The shared simulator, without faults before and after."""
    shared_simulator.disarm()
    yield shared_simulator
    shared_simulator.disarm()


@pytest.fixture
def client(simulator: RunningSimulator) -> stripe.StripeClient:
    """The real SDK, speaking to the simulator."""
    return simulator.client()
